#include "data/examples.h"

#include "base/memory.h"
#include "base/rng.h"

/* Rows of the tokens first .. end: up to the last target that is learned. */
static uint64_t rows_of(const aa_tokens *t, uint64_t first, uint64_t end) {
    uint64_t rows = end - first - 1;
    while (rows && !aa_tokens_learned(t, first + rows)) rows--;
    return rows;
}

static void add(aa_examples *e, uint64_t first, uint64_t end) {
    uint64_t rows = rows_of(e->tokens, first, end);
    bool cut = rows > e->T;
    if (cut) rows = rows_of(e->tokens, first, first + e->T + 1);
    e->n_cut += cut;
    e->n_empty += rows == 0;
    if (!rows) return;
    e->first[e->n] = first;
    e->rows[e->n++] = (uint32_t)rows;
    e->n_rows += rows;
}

aa_status aa_examples_init(aa_examples *out, const aa_tokens *t, aa_part part, size_t T,
                           aa_err *err) {
    aa_examples e = {.tokens = t, .T = T, .packing = true, .unit = 1};
    uint64_t n = 0;
    aa_assert(T >= 1 && T <= INT32_MAX);
    for (uint64_t i = 0; i < t->n_documents; i++) n += part == AA_PART_COUNT || t->part[i] == part;
    e.first = aa_heap_alloc(n + 1, sizeof *e.first);
    e.rows = aa_heap_alloc(n + 1, sizeof *e.rows);
    if (!e.first || !e.rows) {
        aa_examples_release(&e);
        return aa_fail_memory(err, "the list of examples", (n + 1) * 12);
    }
    for (uint64_t i = 0; i < t->n_documents; i++)
        if (part == AA_PART_COUNT || t->part[i] == part)
            add(&e, t->document[i], t->document[i + 1]);
    *out = e;
    return AA_OK;
}

void aa_examples_release(aa_examples *e) {
    aa_heap_free(e->first);
    aa_heap_free(e->rows);
    *e = (aa_examples){0};
}

static int32_t id_at(const aa_examples *e, uint64_t i) {
    int32_t id = aa_tokens_at(e->tokens, i);
    return e->map ? e->map[id] : id;
}

static void end_sequence(aa_packed *out) {
    out->start[++out->n_sequences] = (int32_t)out->n_rows;
}

void aa_examples_read(const aa_examples *e, uint64_t i, aa_packed *out) {
    for (uint64_t t = 0, at = e->first[i]; t < e->rows[i]; t++, at++) {
        out->ids[out->n_rows] = id_at(e, at);
        out->targets[out->n_rows++] =
            aa_tokens_learned(e->tokens, at + 1) ? id_at(e, at + 1) : -1;
    }
    end_sequence(out);
}

static uint64_t place(const aa_examples *e, uint64_t seed, uint64_t n) {
    return aa_rng_permute(seed, n / e->n, e->n, n % e->n);
}

/* Examples number n, n + 1, ... that share a window. */
static uint64_t count_window(const aa_examples *e, uint64_t seed, uint64_t n) {
    uint64_t count = 0;
    size_t rows = 0;
    do rows += e->rows[place(e, seed, n + count++)];
    while (e->packing && rows + e->rows[place(e, seed, n + count)] <= e->T);
    return count;
}

uint64_t aa_examples_window(const aa_examples *e, uint64_t seed, uint64_t n, aa_packed *out) {
    uint64_t count = count_window(e, seed, n);
    size_t begin = out->n_rows;
    for (uint64_t i = 0; i < count; i++) aa_examples_read(e, place(e, seed, n + i), out);
    if ((out->n_rows - begin) % e->unit == 0) return count;
    while ((out->n_rows - begin) % e->unit) {
        out->ids[out->n_rows] = out->ids[begin];
        out->targets[out->n_rows++] = -1;
    }
    end_sequence(out);
    return count;
}

uint64_t aa_examples_windows(const aa_examples *e, uint64_t seed) {
    uint64_t windows = 0;
    for (uint64_t n = 0; n < e->n; windows++) n += count_window(e, seed, n);
    return windows;
}
