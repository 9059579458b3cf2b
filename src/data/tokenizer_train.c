/* data/tokenizer_train: learning merges, merge for merge as the `tokenizers` library does.
 *
 * Pieces are counted once; from then on only distinct pieces ("words") with their counts matter.
 * Each pair of neighbours has a count and a queue entry with the words it occurs in. The entry with
 * the highest count, then the smaller pair of ids, is taken from a heap; if the count has fallen
 * since it was put there, it goes back with the true one; else the pair becomes a token and is
 * joined in the entry's words, which changes the counts of the neighbouring pairs only. Cost: the
 * sum over merges of the lengths of the words that hold them.
 *
 * NOTE: three habits of the library decide ids and are kept. The count of a pair is not lowered by
 * its own joins, only by its neighbours'. A pair that is born again later (a token can be made from
 * two different pairs, "a"+"bc" and "ab"+"c") gets a second entry for the new words alone, so that
 * the same merge can be learnt twice: it then has its later rank and makes no new token. And pairs
 * that occur once are merged too, until `vocab` ids exist or no pairs are left.
 *
 * Threads count pieces into tables of their own; sums do not depend on who added what, nor does
 * anything after them on the order of the words.
 */
#include <string.h>
#include "data/tokenizer_int.h"

enum { CHUNK_BYTES = 1 << 20, FIRST_TABLE = 1 << 12, ALPHABET = 256, LEAST_VOCAB = 257 };

/* ---- distinct pieces ------------------------------------------------------------------------- */

typedef struct word {
    const unsigned char *bytes;
    size_t n;
    uint64_t hash;
    int64_t count;
} word; /* count 0: empty */
typedef struct word_table {
    word *row;
    size_t mask, n;
    bool failed;
} word_table;

static bool table_grow(word_table *t) {
    size_t size = t->row ? 2 * (t->mask + 1) : FIRST_TABLE;
    word *row = aa_heap_alloc(size, sizeof *row);
    if (!row) return false;
    for (size_t i = 0; t->row && i <= t->mask; i++) {
        if (!t->row[i].count) continue;
        size_t at = t->row[i].hash & (size - 1);
        while (row[at].count) at = (at + 1) & (size - 1);
        row[at] = t->row[i];
    }
    aa_heap_free(t->row);
    t->row = row;
    t->mask = size - 1;
    return true;
}

static void table_add(word_table *t, const word *w) {
    if ((!t->row || 2 * t->n > t->mask) && !table_grow(t)) {
        t->failed = true;
        return;
    }
    for (size_t i = w->hash & t->mask;; i = (i + 1) & t->mask) {
        word *x = &t->row[i];
        if (!x->count) {
            *x = *w;
            t->n++;
            return;
        }
        if (x->hash == w->hash && x->n == w->n && memcmp(x->bytes, w->bytes, w->n) == 0) {
            x->count += w->count;
            return;
        }
    }
}

typedef struct counting {
    aa_split split;
    const unsigned char *text;
    size_t *cut;       /* chunk i is [cut[i], cut[i+1]) */
    word_table *table; /* of each thread */
} counting;

static void count_chunks(void *ctx, size_t first, size_t end, int thread) {
    counting *c = ctx;
    word_table *t = &c->table[thread];
    for (size_t i = first; i < end; i++) {
        for (size_t at = c->cut[i], stop = c->cut[i + 1]; at < stop && !t->failed;) {
            size_t next = aa__split_next(c->split, c->text, at, stop);
            word w = {c->text + at, next - at, aa__hash_bytes(c->text + at, next - at), 1};
            table_add(t, &w);
            at = next;
        }
    }
}

/* All words of the text into *out. */
static aa_status count_words(word_table *out, aa_pool *pool, const unsigned char *text, size_t n,
                             aa_split split, aa_err *err) {
    size_t n_chunks = 0, n_threads = (size_t)aa_pool_threads(pool);
    const aa_tokenizer cuts = {.kind = AA_TOKENIZER_BPE, .split = split};
    counting c = {.split = split, .text = text};
    c.cut = aa_heap_alloc(n / CHUNK_BYTES + 2, sizeof *c.cut);
    c.table = aa_heap_alloc(n_threads, sizeof *c.table);
    bool ok = c.cut && c.table;
    for (size_t at = 0; ok && at < n; c.cut[++n_chunks] = at)
        at = n - at > CHUNK_BYTES ? aa__split_cut(&cuts, text, at + CHUNK_BYTES, n) : n;
    if (ok) aa_pool_run(pool, n_chunks, count_chunks, &c);
    for (size_t k = 0; ok && k < n_threads; k++) {
        word_table *t = &c.table[k];
        out->failed |= t->failed;
        for (size_t i = 0; t->row && i <= t->mask; i++)
            if (t->row[i].count) table_add(out, &t->row[i]);
        aa_heap_free(t->row);
    }
    aa_heap_free(c.cut);
    aa_heap_free(c.table);
    return ok && !out->failed
               ? AA_OK
               : aa_fail_memory(err, "counting the pieces of a text", out->n * sizeof(word));
}

/* ---- pairs ----------------------------------------------------------------------------------- */

typedef struct list {
    uint32_t *word;
    uint32_t n, capacity;
} list; /* words, ascending by arrival, no repeats in a row */

typedef struct pair {
    uint64_t key;
    int64_t count;
    list pending;
    bool touched;
} pair;

typedef struct entry {
    int64_t count;
    uint64_t key;
    list words;
} entry;

typedef struct trainer {
    /* words: ids of word i are symbol[start[i]] .. for length[i] */
    int32_t *symbol;
    size_t *start;
    uint32_t *length;
    int64_t *count;
    size_t n_words;
    pair *pairs;
    size_t mask, n_pairs; /* open addressing, key UINT64_MAX is empty */
    uint64_t *touched;
    size_t n_touched, touched_capacity; /* keys with pending words */
    entry *heap;
    size_t n_heap, heap_capacity;
    char *bytes;
    size_t n_bytes, bytes_capacity; /* of all tokens, one after the other */
    size_t *token_at;
    uint32_t *token_len;
    size_t n_tokens;
    int32_t *token_table;
    size_t token_mask;
    int32_t (*merges)[2];
    size_t n_merges, merges_capacity;
    bool failed; /* out of memory: sticky */
} trainer;

static void *grow(trainer *t, void *p, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity) return p;
    size_t more = *capacity ? 2 * *capacity : 256;
    void *q = aa_heap_realloc(p, more, size);
    if (!q) {
        t->failed = true;
        return p;
    }
    *capacity = more;
    return q;
}

static void list_add(trainer *t, list *l, uint32_t w) {
    if (l->n && l->word[l->n - 1] == w) return;
    if (l->n == l->capacity) {
        uint32_t capacity = l->capacity ? l->capacity * 2 : 2;
        uint32_t *grown =
            capacity > l->capacity ? aa_heap_realloc(l->word, capacity, sizeof *grown) : NULL;
        if (!grown) {
            t->failed = true;
            return;
        }
        l->word = grown;
        l->capacity = capacity;
    }
    l->word[l->n++] = w;
}

static bool pairs_grow(trainer *t) {
    size_t size = t->pairs ? 2 * (t->mask + 1) : FIRST_TABLE;
    pair *pairs = aa_heap_alloc(size, sizeof *pairs);
    if (!pairs) return false;
    for (size_t i = 0; i < size; i++) pairs[i].key = UINT64_MAX;
    for (size_t i = 0; t->pairs && i <= t->mask; i++) {
        if (t->pairs[i].key == UINT64_MAX) continue;
        size_t at = aa__mix(t->pairs[i].key) & (size - 1);
        while (pairs[at].key != UINT64_MAX) at = (at + 1) & (size - 1);
        pairs[at] = t->pairs[i];
    }
    aa_heap_free(t->pairs);
    t->pairs = pairs;
    t->mask = size - 1;
    return true;
}

/* The row of a pair, made if need be; valid until the next call. NULL when out of memory. */
static pair *pair_of(trainer *t, int32_t left, int32_t right) {
    uint64_t key = aa__pair_key(left, right);
    if ((!t->pairs || 2 * t->n_pairs > t->mask) && !pairs_grow(t)) {
        t->failed = true;
        return NULL;
    }
    size_t i = aa__mix(key) & t->mask;
    while (t->pairs[i].key != key && t->pairs[i].key != UINT64_MAX) i = (i + 1) & t->mask;
    if (t->pairs[i].key == UINT64_MAX) {
        t->pairs[i].key = key;
        t->n_pairs++;
    }
    return &t->pairs[i];
}

static void change(trainer *t, int32_t left, int32_t right, uint32_t w, int64_t by) {
    pair *p = pair_of(t, left, right);
    if (!p) return;
    p->count += by;
    if (by < 0) return;
    list_add(t, &p->pending, w);
    if (p->touched) return;
    p->touched = true;
    t->touched = grow(t, t->touched, t->n_touched, &t->touched_capacity, sizeof *t->touched);
    if (!t->failed) t->touched[t->n_touched++] = p->key;
}

/* ---- the heap -------------------------------------------------------------------------------- */

static bool before(const entry *a, const entry *b) {
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void push(trainer *t, entry e) {
    t->heap = grow(t, t->heap, t->n_heap, &t->heap_capacity, sizeof *t->heap);
    if (t->failed) {
        aa_heap_free(e.words.word);
        return;
    }
    size_t i = t->n_heap++;
    for (size_t up; i && before(&e, &t->heap[up = (i - 1) / 2]); i = up) t->heap[i] = t->heap[up];
    t->heap[i] = e;
}

static entry pop(trainer *t) {
    entry top = t->heap[0], e = t->heap[--t->n_heap];
    size_t i = 0, down;
    while ((down = 2 * i + 1) < t->n_heap) {
        if (down + 1 < t->n_heap && before(&t->heap[down + 1], &t->heap[down])) down++;
        if (!before(&t->heap[down], &e)) break;
        t->heap[i] = t->heap[down];
        i = down;
    }
    t->heap[i] = e;
    return top;
}

/* Pairs with new occurrences enter the heap, with the words of those. */
static void push_touched(trainer *t) {
    for (size_t i = 0; i < t->n_touched; i++) {
        pair *p = pair_of(t, (int32_t)(t->touched[i] >> 32), (int32_t)(t->touched[i] & UINT32_MAX));
        if (!p) return;
        entry e = {p->count, p->key, p->pending};
        p->pending = (list){0};
        p->touched = false;
        if (e.count > 0) push(t, e);
        else aa_heap_free(e.words.word);
    }
    t->n_touched = 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Room for n more bytes. */
static bool bytes_room(trainer *t, size_t n) {
    if (t->bytes_capacity - t->n_bytes >= n) return true;
    size_t capacity = 2 * t->bytes_capacity + n + 4096;
    char *bytes = aa_heap_realloc(t->bytes, capacity, 1);
    if (!bytes) {
        t->failed = true;
        return false;
    }
    t->bytes = bytes;
    t->bytes_capacity = capacity;
    return true;
}

/* The id of the n bytes behind the known ones; a new id if they are new, and then they stay. */
static int32_t token_of(trainer *t, size_t n) {
    const char *bytes = t->bytes + t->n_bytes;
    size_t i = aa__hash_bytes(bytes, n) & t->token_mask;
    for (; t->token_table[i] >= 0; i = (i + 1) & t->token_mask) {
        int32_t id = t->token_table[i];
        if (t->token_len[id] == n && memcmp(t->bytes + t->token_at[id], bytes, n) == 0) return id;
    }
    t->token_table[i] = (int32_t)t->n_tokens;
    t->token_at[t->n_tokens] = t->n_bytes;
    t->token_len[t->n_tokens] = (uint32_t)n;
    t->n_bytes += n;
    return (int32_t)t->n_tokens++;
}

static int32_t join(trainer *t, int32_t left, int32_t right) {
    size_t l = t->token_len[left], r = t->token_len[right];
    if (!bytes_room(t, l + r)) return 0;
    memcpy(t->bytes + t->n_bytes, t->bytes + t->token_at[left], l);
    memcpy(t->bytes + t->n_bytes + l, t->bytes + t->token_at[right], r);
    return token_of(t, l + r);
}

/* <|endoftext|>, then the bytes in the order of their stand-ins. byte_id receives their ids. */
static void first_tokens(trainer *t, int32_t byte_id[ALPHABET]) {
    if (!bytes_room(t, sizeof AA__END_OF_TEXT + ALPHABET)) return;
    memcpy(t->bytes, AA__END_OF_TEXT, sizeof AA__END_OF_TEXT - 1);
    token_of(t, sizeof AA__END_OF_TEXT - 1);
    for (uint32_t code = 0; code < 2 * ALPHABET; code++) {
        int byte = aa__stand_in_byte(code);
        if (byte < 0) continue;
        t->bytes[t->n_bytes] = (char)byte;
        byte_id[byte] = token_of(t, 1);
    }
}

/* ---- training -------------------------------------------------------------------------------- */

static aa_status set_up(trainer *t, const word_table *words, size_t vocab, aa_err *err) {
    size_t total = 0, size = 16;
    for (size_t i = 0; words->row && i <= words->mask; i++) total += words->row[i].n;
    while (size < 2 * vocab) size *= 2;
    t->symbol = aa_heap_alloc(total + 1, sizeof *t->symbol);
    t->start = aa_heap_alloc(words->n + 1, sizeof *t->start);
    t->length = aa_heap_alloc(words->n + 1, sizeof *t->length);
    t->count = aa_heap_alloc(words->n + 1, sizeof *t->count);
    t->token_at = aa_heap_alloc(vocab, sizeof *t->token_at);
    t->token_len = aa_heap_alloc(vocab, sizeof *t->token_len);
    t->token_table = aa_heap_alloc(size, sizeof *t->token_table);
    if (!t->symbol || !t->start || !t->length || !t->count || !t->token_at || !t->token_len ||
        !t->token_table)
        return aa_fail_memory(err, "training a tokenizer", total * sizeof *t->symbol);
    memset(t->token_table, 0xFF, size * sizeof *t->token_table);
    t->token_mask = size - 1;
    int32_t byte_id[ALPHABET] = {0};
    first_tokens(t, byte_id);
    size_t at = 0;
    for (size_t i = 0; !t->failed && words->row && i <= words->mask; i++) {
        const word *w = &words->row[i];
        if (!w->count) continue;
        if (w->n > UINT32_MAX || t->n_words >= UINT32_MAX)
            return aa_fail(
                err, AA_EUNSUPPORTED,
                "training on pieces of 4 GiB or more than 2^32 different ones is not supported");
        t->start[t->n_words] = at;
        t->length[t->n_words] = (uint32_t)w->n;
        t->count[t->n_words++] = w->count;
        for (size_t k = 0; k < w->n; k++) t->symbol[at++] = byte_id[w->bytes[k]];
    }
    return AA_OK;
}

static void count_pairs(trainer *t) {
    for (size_t w = 0; w < t->n_words && !t->failed; w++) {
        const int32_t *s = t->symbol + t->start[w];
        for (uint32_t k = 0; k + 1 < t->length[w]; k++)
            change(t, s[k], s[k + 1], (uint32_t)w, t->count[w]);
    }
    push_touched(t);
}

/* Joins left right -> id in word w, from left to right, and tells the neighbours' counts. */
static void join_in_word(trainer *t, uint32_t w, int32_t left, int32_t right, int32_t id) {
    int32_t *s = t->symbol + t->start[w];
    uint32_t n = t->length[w], out = 0;
    int64_t count = t->count[w];
    for (uint32_t i = 0; i < n; out++) {
        if (s[i] != left || i + 1 == n || s[i + 1] != right) {
            s[out] = s[i++];
            continue;
        }
        if (out) {
            change(t, s[out - 1], left, w, -count);
            change(t, s[out - 1], id, w, count);
        }
        i += 2;
        s[out] = id;
        if (i < n) {
            change(t, right, s[i], w, -count);
            change(t, id, s[i], w, count);
        }
    }
    t->length[w] = out;
}

static void learn(trainer *t, size_t vocab) {
    while (t->n_tokens < vocab && t->n_heap && !t->failed) {
        entry e = pop(t);
        int32_t left = (int32_t)(e.key >> 32), right = (int32_t)(e.key & UINT32_MAX);
        pair *p = pair_of(t, left, right);
        if (!p || p->count < 1) {
            aa_heap_free(e.words.word);
            continue;
        }
        if (e.count != p->count) {
            e.count = p->count;
            push(t, e);
            continue;
        }
        int32_t id = join(t, left, right);
        t->merges = grow(t, t->merges, t->n_merges, &t->merges_capacity, sizeof *t->merges);
        if (!t->failed) {
            t->merges[t->n_merges][0] = left;
            t->merges[t->n_merges++][1] = right;
        }
        for (uint32_t i = 0; i < e.words.n && !t->failed; i++)
            join_in_word(t, e.words.word[i], left, right, id);
        aa_heap_free(e.words.word);
        push_touched(t);
    }
}

static void trainer_release(trainer *t) {
    for (size_t i = 0; i < t->n_heap; i++) aa_heap_free(t->heap[i].words.word);
    for (size_t i = 0; t->pairs && i <= t->mask; i++) aa_heap_free(t->pairs[i].pending.word);
    void *const blocks[] = {t->symbol,   t->start,     t->length,      t->count,
                            t->pairs,    t->touched,   t->heap,        t->bytes,
                            t->token_at, t->token_len, t->token_table, t->merges};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) aa_heap_free(blocks[i]);
}

/* Of a merge learnt twice the later one stays. */
static void drop_repeats(trainer *t) {
    size_t out = t->n_merges;
    for (size_t i = t->n_merges; i-- > 0;) {
        pair *p = pair_of(t, t->merges[i][0], t->merges[i][1]);
        if (!p || p->touched) continue; /* touched is free for this: nothing is pending any more */
        p->touched = true;
        memmove(t->merges[--out], t->merges[i], sizeof *t->merges);
    }
    if (out) memmove(t->merges, t->merges + out, (t->n_merges - out) * sizeof *t->merges);
    t->n_merges -= out;
}

static aa_status finish(aa_tokenizer **out, trainer *t, aa_split split, aa_err *err) {
    const char **piece = aa_heap_alloc(t->n_tokens, sizeof *piece);
    size_t *piece_len = aa_heap_alloc(t->n_tokens, sizeof *piece_len);
    char end[] = AA__END_OF_TEXT;
    aa_added_token added = {.id = 0, .text = end, .len = sizeof end - 1, .special = true};
    aa_tokenizer_spec spec = {.kind = AA_TOKENIZER_BPE,
                              .split = split,
                              .nfc = split == AA_SPLIT_QWEN2,
                              .n_vocab = t->n_tokens,
                              .piece = piece,
                              .piece_len = piece_len,
                              .n_merges = t->n_merges,
                              .merges = (const int32_t(*)[2])t->merges,
                              .n_added = 1,
                              .added = &added,
                              .bos = 0,
                              .eos = 0,
                              .pad = -1,
                              .unk = -1};
    aa_status st =
        piece && piece_len ? AA_OK : aa_fail_memory(err, "a tokenizer", t->n_tokens * 16);
    for (size_t i = 0; !st && i < t->n_tokens; i++) {
        piece[i] = t->bytes + t->token_at[i];
        piece_len[i] = t->token_len[i];
    }
    if (!st) st = aa_tokenizer_new(out, &spec, err);
    aa_heap_free(piece);
    aa_heap_free(piece_len);
    return st;
}

static aa_status train(aa_tokenizer **out, aa_pool *pool, const char *text, size_t n, size_t vocab,
                       aa_split split, aa_err *err) {
    word_table words = {0};
    trainer t = {0};
    aa_status st = count_words(&words, pool, (const unsigned char *)text, n, split, err);
    if (!st) st = set_up(&t, &words, vocab, err);
    aa_heap_free(words.row);
    if (!st) {
        count_pairs(&t);
        learn(&t, vocab);
        drop_repeats(&t);
        st = t.failed ? aa_fail_memory(err, "training a tokenizer", t.n_pairs * sizeof *t.pairs)
                      : finish(out, &t, split, err);
    }
    trainer_release(&t);
    return st;
}

aa_status aa_tokenizer_train(aa_tokenizer **out, aa_pool *pool, const char *text, size_t n,
                             size_t vocab, aa_split split, aa_err *err) {
    if (vocab < LEAST_VOCAB || vocab > AA__VOCAB_MAX)
        return aa_fail(err, AA_EUSAGE,
                       "a tokenizer cannot have %zu ids: %d (the bytes and %s) to %d are possible",
                       vocab, LEAST_VOCAB, AA__END_OF_TEXT, AA__VOCAB_MAX);
    if (split == AA_SPLIT_REGEX)
        return aa_fail(err, AA_EUSAGE,
                       "a tokenizer is trained with one of the named pre-tokenizers");
    if (split != AA_SPLIT_QWEN2) return train(out, pool, text, n, vocab, split, err);
    aa_text nfc = {0};
    aa__nfc(&nfc, (const unsigned char *)text, n);
    aa_status st = aa_text_status(&nfc, err);
    if (!st) st = train(out, pool, nfc.data, nfc.len, vocab, split, err);
    aa_text_release(&nfc);
    return st;
}
