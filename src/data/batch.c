/* data/batch: windows as functions of their number. An epoch of W windows has room to move: the
 * stream is longer than W T + 1 tokens by `slack` <= 2T - 2, and a keyed offset within the slack
 * (below T) shifts all windows of that epoch, so that window borders fall elsewhere each time. */
#include "data/batch.h"

#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/rng.h"

static bool in_part(const aa_tokens *t, uint64_t document, aa_part part) {
    return part == AA_PART_COUNT || t->part[document] == part;
}

aa_status aa_stream_init(aa_stream *out, const aa_tokens *tokens, aa_part part, aa_err *err) {
    aa_stream s = {.tokens = tokens, .part = part};
    uint64_t n = 0;
    for (uint64_t i = 0; i < tokens->n_documents; i++)
        n += in_part(tokens, i, part) && (i == 0 || !in_part(tokens, i - 1, part));
    uint64_t *table = aa_heap_alloc(n + 1, 2 * sizeof *table);
    if (!table) return aa_fail_memory(err, "the ranges of a token stream", (n + 1) * 16);
    s.range_first = table;
    s.range_start = table + n + 1;
    for (uint64_t i = 0; i < tokens->n_documents; i++) {
        if (!in_part(tokens, i, part)) continue;
        if (i == 0 || !in_part(tokens, i - 1, part)) {
            s.range_first[s.n_ranges] = tokens->document[i];
            s.range_start[s.n_ranges++] = s.n_tokens;
        }
        s.n_tokens += tokens->document[i + 1] - tokens->document[i];
    }
    s.range_start[n] = s.n_tokens;
    *out = s;
    return AA_OK;
}

void aa_stream_release(aa_stream *s) {
    aa_heap_free(s->range_first);
    *s = (aa_stream){0};
}

static void copy_ids(const aa_stream *s, uint64_t from, size_t n, int32_t *out) {
    const aa_tokens *t = s->tokens;
    if (t->u16)
        for (size_t i = 0; i < n; i++) out[i] = (int32_t)t->u16[from + i];
    else
        for (size_t i = 0; i < n; i++) out[i] = (int32_t)t->u32[from + i];
    if (s->map)
        for (size_t i = 0; i < n; i++) out[i] = s->map[out[i]];
}

void aa_stream_read(const aa_stream *s, uint64_t at, size_t n, int32_t *out) {
    aa_assert(at <= s->n_tokens && n <= s->n_tokens - at);
    uint64_t lo = 0, hi = s->n_ranges;
    while (hi - lo > 1) { /* the range that holds `at` */
        uint64_t mid = lo + (hi - lo) / 2;
        if (s->range_start[mid] <= at) lo = mid;
        else hi = mid;
    }
    for (; n; lo++) {
        uint64_t room = s->range_start[lo + 1] - at;
        size_t k = n < room ? n : (size_t)room;
        copy_ids(s, s->range_first[lo] + (at - s->range_start[lo]), k, out);
        out += k;
        at += k;
        n -= k;
    }
}

uint64_t aa_stream_windows(const aa_stream *s, size_t T) {
    if (!T || s->n_tokens < (uint64_t)T + 1) return 0;
    return s->n_tokens < 2 * (uint64_t)T ? 1 : (s->n_tokens - T) / T;
}

static void read_window(const aa_stream *s, uint64_t at, size_t T, int32_t *ids, int32_t *targets) {
    aa_stream_read(s, at, T, ids);
    memcpy(targets, ids + 1, (T - 1) * sizeof *ids);
    aa_stream_read(s, at + T, 1, targets + T - 1);
}

void aa_stream_window(const aa_stream *s, uint64_t seed, uint64_t n, size_t T, int32_t *ids,
                      int32_t *targets) {
    uint64_t windows = aa_stream_windows(s, T), epoch = n / (windows ? windows : 1);
    aa_assert(windows);
    uint64_t slack = s->n_tokens - 1 - windows * T;
    aa_rng r;
    aa_rng_init(&r, seed, AA_RNG_DATA, epoch);
    uint64_t offset = aa_rng_below(&r, slack < T ? slack + 1 : T);
    uint64_t i = aa_rng_permute(seed, epoch, windows, n % windows);
    read_window(s, offset + i * T, T, ids, targets);
}

uint64_t aa_stream_eval_windows(const aa_stream *s, size_t T) {
    return s->n_tokens > T ? (s->n_tokens - 1) / T : 0;
}

void aa_stream_eval_window(const aa_stream *s, uint64_t i, uint64_t n_windows, size_t T,
                           int32_t *ids, int32_t *targets) {
    uint64_t windows = aa_stream_eval_windows(s, T);
    aa_assert(windows && i < n_windows);
    uint64_t at = windows / n_windows * i + windows % n_windows * i / n_windows;
    read_window(s, at * T, T, ids, targets);
}

aa_status aa_compact_map(const int32_t *ids, size_t n, uint64_t vocab, int32_t **out_map,
                         aa_err *err) {
    int32_t *map = aa_heap_alloc(vocab, sizeof *map);
    if (!map) return aa_fail_memory(err, "a compact vocabulary", vocab * sizeof *map);
    memset(map, -1, vocab * sizeof *map);
    for (size_t i = 0; i < n; i++) map[ids[i]] = (int32_t)i;
    *out_map = map;
    return AA_OK;
}

static aa_status refuse_ids(uint64_t n_absent, uint64_t n, int32_t first, const aa_tokenizer *t,
                            aa_err *err) {
    aa_text piece = {0};
    aa_status st = aa_decode(t, &first, 1, true, &piece, NULL);
    st = aa_fail(err, AA_EUSAGE,
                 "%llu of the text's %llu tokens are not in the model's compact vocabulary (the "
                 "first: %d, '%s'), so to the model the text is impossible; leave them out, or "
                 "train a model without --compact-vocab",
                 (unsigned long long)n_absent, (unsigned long long)n, first,
                 !st && piece.data ? piece.data : "?");
    aa_text_release(&piece);
    return st;
}

aa_status aa_stream_restrict(aa_stream *s, const int32_t *map, const aa_tokenizer *t,
                             aa_err *err) {
    uint64_t n_absent = 0;
    int32_t first = -1;
    for (uint64_t r = 0; r < s->n_ranges; r++)
        for (uint64_t i = 0; i < s->range_start[r + 1] - s->range_start[r]; i++) {
            int32_t id = aa_tokens_at(s->tokens, s->range_first[r] + i);
            if (map[id] < 0 && !n_absent++) first = id;
        }
    if (n_absent) return refuse_ids(n_absent, s->n_tokens, first, t, err);
    s->map = map;
    return AA_OK;
}

/* How often each id below vocab occurs in a part (AA_PART_COUNT: the file); *out is on the heap. */
static aa_status count_ids(const aa_tokens *t, aa_part part, uint64_t vocab, uint64_t **out,
                           aa_err *err) {
    uint64_t *count = aa_heap_alloc(vocab, sizeof *count);
    if (!count) return aa_fail_memory(err, "the counts of token ids", vocab * sizeof *count);
    for (uint64_t d = 0; d < t->n_documents; d++) {
        if (part != AA_PART_COUNT && t->part[d] != part) continue;
        for (uint64_t i = t->document[d]; i < t->document[d + 1]; i++) {
            int32_t id = aa_tokens_at(t, i);
            if (id >= 0 && (uint64_t)id < vocab) {
                count[id]++;
                continue;
            }
            aa_heap_free(count);
            return aa_fail(err, AA_EFORMAT, "token %llu is %d; the vocabulary has %llu",
                           (unsigned long long)i, id, (unsigned long long)vocab);
        }
    }
    *out = count;
    return AA_OK;
}

aa_status aa_compact_vocabulary(const aa_tokens *t, uint64_t vocab, int32_t eos, int32_t **out_map,
                                int32_t **out_ids, size_t *out_n, aa_err *err) {
    uint64_t *count = NULL;
    AA_TRY(count_ids(t, AA_PART_COUNT, vocab, &count, err));
    int32_t *map = aa_heap_alloc(vocab, sizeof *map), *ids = aa_heap_alloc(vocab, sizeof *ids);
    bool memory = map && ids;
    size_t n = 0;
    for (uint64_t id = 0; memory && id < vocab; id++) {
        bool active = count[id] || (eos >= 0 && id == (uint64_t)eos);
        if (active) ids[n] = (int32_t)id;
        map[id] = active ? (int32_t)n++ : -1;
    }
    aa_heap_free(count);
    if (!memory) {
        aa_heap_free(map);
        aa_heap_free(ids);
        return aa_fail_memory(err, "a compact vocabulary", vocab * 8);
    }
    *out_map = map;
    *out_ids = ids;
    *out_n = n;
    return AA_OK;
}

typedef struct ranked { uint64_t count; int32_t id; } ranked;

static int more_frequent_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

aa_status aa_rank_vocabulary(const aa_tokens *t, aa_part part, uint64_t vocab, int32_t *map,
                             int32_t *ids, size_t n, aa_err *err) {
    uint64_t *count = NULL;
    AA_TRY(count_ids(t, part, vocab, &count, err));
    ranked *list = aa_heap_alloc(n, sizeof *list);
    for (size_t i = 0; list && i < n; i++) list[i] = (ranked){count[ids[i]], ids[i]};
    aa_heap_free(count);
    if (!list) return aa_fail_memory(err, "the order of token ids", n * sizeof *list);
    qsort(list, n, sizeof *list, more_frequent_first);
    for (uint64_t id = 0; id < vocab; id++) map[id] = -1;
    for (size_t i = 0; i < n; i++) {
        ids[i] = list[i].id;
        map[ids[i]] = (int32_t)i;
    }
    aa_heap_free(list);
    return AA_OK;
}
