#include "convert/stream.h"

#include <math.h>
#include <string.h>
#include "formats/safetensors.h"

#define CHUNK_VALUES ((size_t)1 << 20)   /* 4 MiB of floats */
#define F16_MOST 65504

/* Our row that is row r of the file: the inverse of what aa_stored_row does. */
static size_t our_row(size_t paired, size_t r) {
    if (!paired) return r;
    size_t in_head = r % paired;
    return r - in_head + in_head % 2 * (paired / 2) + in_head / 2;
}

/* Rows first .. of an entry, being converted. */
typedef struct chunk { const aa__stream *w; const aa__entry *e; size_t first; } chunk;

static void read_rows(void *ctx, size_t begin, size_t end, int thread) {
    const chunk *c = ctx;
    const aa_stored *from = &c->e->from;

    (void)thread;
    for (size_t i = begin; i < end; i++) {
        float *row = c->w->values + i * from->cols;

        aa_stored_read(from, our_row(c->e->paired, c->first + i), 1, row);
        for (size_t j = 0; c->e->scale != 0 && j < from->cols; j++)
            row[j] = (float)((double)row[j] * c->e->scale);
    }
}

static void quantize_rows(void *ctx, size_t begin, size_t end, int thread) {
    const chunk *c = ctx;
    size_t cols = c->e->from.cols, size = aa_type_bytes(c->e->to, cols);

    (void)thread;
    aa_quantize(c->w->bytes + begin * size, c->e->to, c->w->values + begin * cols,
                (end - begin) * cols);
}

static aa_status check_values(const chunk *c, size_t n, aa_err *err) {
    float most = c->e->to == AA_TYPE_F16 ? F16_MOST : INFINITY;

    for (size_t i = 0; i < n; i++)
        if (!(fabsf(c->w->values[i]) <= most) || isinf(c->w->values[i]))
            return aa_fail(err, AA_EFORMAT, "'%s': tensor '%s' holds %g, which %s cannot",
                           c->w->source, c->e->name, (double)c->w->values[i],
                           aa_type_name(c->e->to));
    return AA_OK;
}

static aa_status write_converted(const chunk *c, size_t n, aa_outfile *f, aa_err *err) {
    size_t cols = c->e->from.cols;

    aa_pool_run(c->w->o->pool, n, read_rows, (void *)(uintptr_t)c);
    AA_TRY(check_values(c, n * cols, err));
    aa_pool_run(c->w->o->pool, n, quantize_rows, (void *)(uintptr_t)c);
    aa_outfile_write(f, c->w->bytes, n * aa_type_bytes(c->e->to, cols));
    return AA_OK;
}

static void copy_rows(const chunk *c, size_t n, aa_outfile *f) {
    const aa_stored *from = &c->e->from;
    size_t size = aa_type_bytes(from->type, from->cols);

    if (from->paired_head == c->e->paired)
        aa_outfile_write(f, from->data + c->first * size, n * size);
    else
        for (size_t i = 0; i < n; i++)
            aa_outfile_write(f, aa_stored_row(from, our_row(c->e->paired, c->first + i)), size);
}

aa_status aa__stream_entry(const aa__stream *w, const aa__entry *e, aa_outfile *f, aa_err *err) {
    size_t step = e->from.cols < CHUNK_VALUES ? CHUNK_VALUES / e->from.cols : 1;
    size_t size = aa_type_bytes(e->from.type, e->from.cols);

    for (size_t first = 0; first < e->from.rows; first += step) {
        size_t n = e->from.rows - first < step ? e->from.rows - first : step;
        const chunk c = {w, e, first};

        if (w->o->stoppable && aa_sys_interrupt_pending())
            return aa_fail(err, AA_EINTERRUPTED, "interrupted before '%s' was written", e->name);
        if (e->from.type == e->to && e->scale == 0 && !e->from.delta) copy_rows(&c, n, f);
        else AA_TRY(write_converted(&c, n, f, err));
        if (e->mapped) aa_sys_map_drop(e->from.data + first * size, n * size);
    }
    return AA_OK;
}

void aa__stream_init(aa__stream *w, const char *source, const aa_convert_options *o,
                     const aa__entry *entries, size_t n, aa_arena *arena) {
    size_t most = CHUNK_VALUES;

    for (size_t i = 0; i < n; i++)
        if (entries[i].from.cols > most) most = entries[i].from.cols;
    *w = (aa__stream){.source = source, .o = o,
                      .values = aa_arena_new(arena, float, most),
                      .bytes = aa_arena_alloc(arena, most, sizeof(double))};
}

static aa_dtype dtype_of(aa_type type) {
    int d = 0;

    while (strcmp(aa_dtype_name((aa_dtype)d), aa_type_name(type)) != 0)
        aa_assert(++d < AA_DTYPE_COUNT);
    return (aa_dtype)d;
}

static aa_status begin_file(aa_outfile *f, const aa__entry *entries, size_t n,
                            const aa_st_pair *metadata, aa_err *err) {
    aa_st_entry *list = aa_heap_alloc(n, sizeof *list);

    if (!list) return aa_fail_memory(err, "the list of tensors", n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const aa__entry *e = &entries[i];

        list[i] = (aa_st_entry){.name = e->name, .dtype = dtype_of(e->to),
                                .n_dims = e->vector ? 1 : 2,
                                .shape = {e->from.rows, e->from.cols}};
        if (e->vector) list[i].shape[0] *= e->from.cols;  /* a row, or a column */
    }
    aa_status st = aa_safetensors_begin(f, list, n, metadata, metadata != NULL, err);
    aa_heap_free(list);
    return st;
}

aa_status aa__stream_safetensors(const aa__stream *w, const char *dir, const char *name,
                                 const aa__entry *entries, size_t n, const aa_st_pair *metadata,
                                 aa_err *err) {
    char *path = aa_path_join(dir, name);
    aa_outfile *f = NULL;
    aa_status st = path ? aa_outfile_open(&f, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = begin_file(f, entries, n, metadata, err);
    for (size_t i = 0; !st && i < n; i++) st = aa__stream_entry(w, &entries[i], f, err);
    if (!st) st = aa_outfile_commit(f, NULL, err);
    else if (f) aa_outfile_abort(f);
    aa_heap_free(path);
    return st;
}

uint64_t aa__entry_bytes(const aa__entry *e) {
    return (uint64_t)e->from.rows * aa_type_bytes(e->to, e->from.cols);
}

size_t aa__shard_end(const aa__entry *entries, size_t n, size_t begin, uint64_t shard_bytes) {
    uint64_t total = 0;

    for (size_t i = begin; i < n; i++) {
        total += aa__entry_bytes(&entries[i]);
        if (shard_bytes && i > begin && total > shard_bytes) return i;
    }
    return n;
}

aa_type aa__most_common_type(const aa__entry *entries, size_t n) {
    uint64_t count[AA_TYPE_COUNT] = {0};
    int most = AA_TYPE_F32;

    for (size_t i = 0; i < n; i++)
        if (!entries[i].vector)
            count[entries[i].to] += (uint64_t)entries[i].from.rows * entries[i].from.cols;
    for (int t = 0; t < AA_TYPE_COUNT; t++)
        if (count[t] > count[most]) most = t;
    return (aa_type)most;
}
