/* data/bpe: the ids of one piece.
 *
 * A piece begins as its bytes, in SPM as its characters; of all neighbours that have a merge, the
 * pair with the lowest rank, the leftmost of equals, is joined, until none has. Short pieces look
 * for the best pair in an array; for long ones (a megabyte without a space is legal) a heap of
 * rank << 32 | position over a linked list makes that O(n log n): an entry whose pair has changed
 * since is recognised by its rank and dropped.
 *
 * Text repeats its words, so each encoder remembers the ids of short pieces; when the memory is
 * full it begins anew.
 */
#include <string.h>
#include "data/tokenizer_int.h"

enum { SHORT = 64, CACHE_MAX = 1 << 16, CACHE_FIRST = 1 << 8 };

void aa__encoder_release(aa__encoder *e) {
    aa_heap_free(e->table);
    aa_text_release(&e->keys);
    aa_ids_release(&e->ids);
    aa_heap_free(e->symbols);
    aa_heap_free(e->heap);
    aa_text_release(&e->normal);
}

/* ---- merging --------------------------------------------------------------------------------- */

static bool has_bytes(const aa_tokenizer *t, const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[p[i]] < 0) return false;
    return true;
}

/* The symbols a piece begins as, at most n, into out. SPM: the pieces of its characters, or the
 * byte tokens of those that are none. What has no id is the unknown token, or left out where there
 * is none, as the `tokenizers` library does. */
static size_t symbols_of(const aa_tokenizer *t, const unsigned char *p, size_t n, int32_t *out) {
    bool spm = t->kind == AA_TOKENIZER_SPM, unknown = false;
    size_t k = 0;
    for (size_t i = 0, size = 1; i < n; i += size) {
        uint32_t code;
        if (spm && !(size = aa__utf8_decode(p + i, n - i, &code))) size = 1;
        int32_t id = spm ? aa__piece_id(t, p + i, size) : -1;
        bool before = unknown;
        unknown = false;
        if (id >= 0) out[k++] = id;
        else if (has_bytes(t, p + i, size))
            for (size_t b = 0; b < size; b++) out[k++] = t->byte_id[p[i + b]];
        else {
            unknown = true;
            if (t->unk >= 0 && !(before && t->fuse_unk)) out[k++] = t->unk;
        }
    }
    return k;
}

static size_t merge_short(const aa_tokenizer *t, int32_t *id, size_t n) {
    static const aa__pair none = {.rank = UINT32_MAX};
    uint32_t rank[SHORT];
    int32_t joined[SHORT];
    for (size_t i = 0; i + 1 < n; i++) {
        const aa__pair *p = aa__pair_find(t, id[i], id[i + 1]);
        if (!p) p = &none;
        rank[i] = p->rank;
        joined[i] = p->id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == UINT32_MAX) break;
        id[best] = joined[best];
        n--;
        for (size_t i = best + 1; i < n; i++) id[i] = id[i + 1];
        for (size_t i = best; i + 1 < n; i++) {
            rank[i] = rank[i + 1];
            joined[i] = joined[i + 1];
        }
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const aa__pair *p = aa__pair_find(t, id[i], id[i + 1]);
            if (!p) p = &none;
            rank[i] = p->rank;
            joined[i] = p->id;
        }
    }
    return n;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t v) {
    size_t i = (*n)++;
    for (size_t up; i && heap[up = (i - 1) / 2] > v; i = up) heap[i] = heap[up];
    heap[i] = v;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], v = heap[--*n];
    size_t i = 0, down;
    while ((down = 2 * i + 1) < *n) {
        if (down + 1 < *n && heap[down + 1] < heap[down]) down++;
        if (heap[down] >= v) break;
        heap[i] = heap[down];
        i = down;
    }
    heap[i] = v;
    return top;
}

static bool grow(void **p, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return true;
    void *q = aa_heap_realloc(*p, need, size);
    if (!q) return false;
    *p = q;
    *capacity = need;
    return true;
}

/* ids, next, prev: three stretches of e->symbols; n symbols lie in the first. Every join pushes at
 * most two pairs, so the heap never holds more than 3n. */
static size_t merge_long(aa__encoder *e, size_t n, size_t stride) {
    int32_t *id = e->symbols, *next = id + stride, *prev = next + stride;
    uint64_t *heap = e->heap;
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        prev[i] = (int32_t)i - 1;
        const aa__pair *p = i + 1 < n ? aa__pair_find(e->t, id[i], id[i + 1]) : NULL;
        if (p) heap_push(heap, &n_heap, (uint64_t)p->rank << 32 | i);
    }
    while (n_heap) {
        uint64_t top = heap_pop(heap, &n_heap);
        int32_t at = (int32_t)(top & UINT32_MAX), right = id[at] < 0 ? -1 : next[at];
        const aa__pair *p = right < 0 ? NULL : aa__pair_find(e->t, id[at], id[right]);
        if (!p || p->rank != top >> 32) continue;
        id[at] = p->id;
        id[right] = -1;
        next[at] = next[right];
        if (next[at] >= 0) prev[next[at]] = at;
        p = next[at] >= 0 ? aa__pair_find(e->t, id[at], id[next[at]]) : NULL;
        if (p) heap_push(heap, &n_heap, (uint64_t)p->rank << 32 | (uint32_t)at);
        p = prev[at] >= 0 ? aa__pair_find(e->t, id[prev[at]], id[at]) : NULL;
        if (p) heap_push(heap, &n_heap, (uint64_t)p->rank << 32 | (uint32_t)prev[at]);
    }
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (id[i] >= 0) id[k++] = id[i];
    return k;
}

static void append(aa__encoder *e, const int32_t *ids, size_t n) {
    if (!aa__ids_reserve(e->out, n)) {
        e->failed = true;
        return;
    }
    memcpy(e->out->data + e->out->len, ids, n * sizeof *ids);
    e->out->len += n;
}

static void encode_long(aa__encoder *e, const unsigned char *p, size_t n) {
    void *symbols = e->symbols, *heap = e->heap;
    bool ok = n < INT32_MAX && grow(&symbols, &e->symbols_capacity, 3 * n, sizeof *e->symbols);
    e->symbols = symbols;
    ok = ok && grow(&heap, &e->heap_capacity, 3 * n, sizeof *e->heap);
    e->heap = heap;
    if (!ok) {
        e->failed = true;
        return;
    }
    size_t k = symbols_of(e->t, p, n, e->symbols);
    append(e, e->symbols, merge_long(e, k, n));
}

static void encode_short(aa__encoder *e, const unsigned char *p, size_t n) {
    int32_t id[SHORT];
    size_t k = symbols_of(e->t, p, n, id);
    if (k) append(e, id, merge_short(e->t, id, k));
}

/* ---- the memory of pieces -------------------------------------------------------------------- */

static bool cache_grow(aa__encoder *e) {
    size_t size = e->table ? 2 * (e->mask + 1) : CACHE_FIRST;
    struct aa__cached *table = aa_heap_alloc(size, sizeof *table);
    if (!table) return false;
    for (size_t i = 0; e->table && i <= e->mask; i++) {
        if (!e->table[i].key_len) continue;
        size_t at = e->table[i].hash & (size - 1);
        while (table[at].key_len) at = (at + 1) & (size - 1);
        table[at] = e->table[i];
    }
    aa_heap_free(e->table);
    e->table = table;
    e->mask = size - 1;
    return true;
}

static struct aa__cached *cache_slot(aa__encoder *e, uint64_t hash, const unsigned char *p,
                                     size_t n) {
    for (size_t i = hash & e->mask;; i = (i + 1) & e->mask) {
        struct aa__cached *c = &e->table[i];
        if (!c->key_len ||
            (c->hash == hash && c->key_len == n && memcmp(e->keys.data + c->key_at, p, n) == 0))
            return c;
    }
}

static void cache_clear(aa__encoder *e) {
    memset(e->table, 0, (e->mask + 1) * sizeof *e->table);
    e->n_cached = 0;
    aa_text_clear(&e->keys);
    e->ids.len = 0;
}

static void encode_remembering(aa__encoder *e, const unsigned char *p, size_t n) {
    uint64_t hash = aa__hash_bytes(p, n);
    if (!e->table || 2 * e->n_cached > e->mask) {
        if (e->n_cached >= CACHE_MAX) cache_clear(e);
        else if (!cache_grow(e)) {
            e->failed = true;
            return;
        }
    }
    struct aa__cached *c = cache_slot(e, hash, p, n);
    if (c->key_len) {
        append(e, e->ids.data + c->ids_at, c->n_ids);
        return;
    }
    size_t before = e->out->len;
    encode_short(e, p, n);
    size_t n_ids = e->out->len - before;
    struct aa__cached entry = {hash, (uint32_t)e->keys.len, (uint32_t)n, (uint32_t)e->ids.len,
                               (uint32_t)n_ids};
    aa_text_add_bytes(&e->keys, p, n);
    if (e->failed || e->keys.failed || !aa__ids_reserve(&e->ids, n_ids)) {
        e->failed = true;
        return;
    }
    if (n_ids) memcpy(e->ids.data + e->ids.len, e->out->data + before, n_ids * sizeof *e->ids.data);
    e->ids.len += n_ids;
    e->n_cached++;
    *c = entry;
}

void aa__encode_piece(aa__encoder *e, const unsigned char *p, size_t n) {
    const aa_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t id = aa__piece_id(t, p, n);
        if (id >= 0 && !aa_tokenizer_is_special(t, id)) {
            append(e, &id, 1);
            return;
        }
    }
    if (n == 1 && t->kind != AA_TOKENIZER_SPM && t->byte_id[*p] >= 0) append(e, &t->byte_id[*p], 1);
    else if (n <= SHORT) encode_remembering(e, p, n);
    else encode_long(e, p, n);
}
