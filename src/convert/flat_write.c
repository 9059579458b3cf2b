/* convert/flat_write: any source as BLZT or llama2.c's model.bin, where these can say it.
 *
 * Both are floats, in an order that is the format's; between the tensors stand what is not ours to
 * know (the moments of Adam: zeros) and what can be computed (llama2.c's tables of rotations). A
 * residual scale is folded into the output projections. What belongs to the model and has no place
 * in the file is written beside it, and nothing is written if a file of that name is there and
 * says something else: BLZT gets a config.json and the tokenizer, llama2.c its tokenizer.bin if it
 * can be one, else a tokenizer.json.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "convert/convert.h"
#include "convert/flat_int.h"
#include "convert/stream.h"

enum { BLZT_WINDOW = 256 };              /* the longest that the first AutoANE is compiled for */

typedef struct placed { aa__entry entry; uint64_t offset; } placed;
typedef struct beside { const char *name; aa_text text; } beside;
enum { MOST_BESIDE = 3 };

typedef struct writer {
    aa_source *s;
    const aa_convert_options *o;
    const char *path; char *folder;
    aa_flat_kind kind;
    aa_flat_shape shape;
    aa_config config;                    /* with the ids that the file has rows for */
    aa_arena arena;
    placed *places; size_t n;
    beside beside[MOST_BESIDE]; size_t n_beside;
} writer;

/* ---- what can be said ------------------------------------------------------------------------ */

static aa_status check_expressible(const writer *w, aa_err *err) {
    const aa_config *c = &w->config;
    const bool blzt = w->kind == AA_FLAT_BLZT;
    const struct { bool so; const char *what; } limits[] = {
        {c->qkv_bias || c->out_bias || c->mlp_bias, "biases"},
        {c->qk_norm, "norms of queries and keys"},
        {c->rope_scaling != AA_ROPE_PLAIN, "scaling of rotary frequencies"},
        {c->norm_eps != AA__FLAT_EPS, "a norm epsilon other than 1e-05"},
        {blzt && !c->tied, "a head that is not the embedding"},
        {!blzt && c->rope_theta != AA__FLAT_THETA, "a rotary base other than 10000"},
        {!blzt && c->head_dim * c->heads != c->dim, "heads that are not dim / heads wide"}};

    if (w->o->type != AA_TYPE_COUNT && w->o->type != AA_TYPE_F32)
        return aa_fail(err, AA_EUNSUPPORTED, "a %s file has weights in F32, not %s: choose f32",
                       aa_flat_kind_name(w->kind), aa_type_name(w->o->type));
    if (w->o->shard_bytes)
        return aa_fail(err, AA_EUNSUPPORTED, "a %s model is one file: leave --shard-size out",
                       aa_flat_kind_name(w->kind));
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].so)
            return aa_fail(err, AA_EUNSUPPORTED, "'%s' has %s, which a %s file cannot say: write "
                           "GGUF or a Hugging Face directory", w->s->path, limits[i].what,
                           aa_flat_kind_name(w->kind));
    return AA_OK;
}

static void shape_of(writer *w) {
    const aa_config *c = &w->config;

    w->shape = (aa_flat_shape){.dim = c->dim, .ffn = c->ffn, .layers = c->layers,
                               .heads = c->heads, .kv_heads = c->kv_heads,
                               .head_dim = c->head_dim, .vocab = c->vocab, .seq = c->seq,
                               .tied = c->tied};
    if (w->kind == AA_FLAT_BLZT && c->seq > BLZT_WINDOW) w->shape.seq = BLZT_WINDOW;
}

/* ---- tensors, in the order of the file ------------------------------------------------------- */

static aa_status place_row(writer *w, const aa_tensor *row, aa_err *err) {
    placed *p = &w->places[w->n++];
    aa__entry *e = &p->entry;
    aa_flat_place at;
    const char letter = aa__flat_letter(row);
    const double scale = aa__residual_scale_of(&w->s->config, row);

    aa_assert(letter && aa_flat_find(w->kind, &w->shape, letter,
                                     row->layer > 0 ? (uint64_t)row->layer : 0, &at));
    AA_TRY(w->s->find(w->s, row, &e->from, err));
    memcpy(e->name, row->name, sizeof row->name);
    e->to = AA_TYPE_F32;
    e->paired = aa__flat_paired(&w->config, letter);
    e->scale = scale == 1 ? 0 : scale;
    e->mapped = w->s->mapped;
    p->offset = at.offset;
    return AA_OK;
}

/* llama2.c's cosines [seq][head_dim/2], then sines. */
static aa_status place_rotations(writer *w, aa_err *err) {
    const size_t T = (size_t)w->config.seq, half = (size_t)w->config.head_dim / 2;
    aa_flat_place at;

    if (!aa_flat_find(w->kind, &w->shape, 'R', 0, &at)) return AA_OK;
    double *frequency = aa_arena_new(&w->arena, double, half);
    float *table = aa_arena_new(&w->arena, float, 2 * T * half);
    AA_TRY(aa_arena_status(&w->arena, err));
    aa_config_rope_frequencies(&w->config, frequency);
    for (size_t i = 0; i < T * half; i++) {
        double angle = (double)(i / half) * frequency[i % half];

        table[i] = (float)cos(angle);
        table[T * half + i] = (float)sin(angle);
    }
    w->places[w->n++] = (placed){
        .entry = {.name = "rotations", .to = AA_TYPE_F32,
                  .from = {.type = AA_TYPE_F32, .rows = 2 * T, .cols = half,
                           .data = (const unsigned char *)table}},
        .offset = at.offset};
    return AA_OK;
}

static int by_offset(const void *a, const void *b) {
    uint64_t x = ((const placed *)a)->offset, y = ((const placed *)b)->offset;

    return x < y ? -1 : x > y;
}

static aa_status place_all(writer *w, aa_err *err) {
    const size_t n = aa_model_rows(&w->config, NULL, 0);
    aa_tensor *rows = aa_arena_new(&w->arena, aa_tensor, n);

    w->places = aa_arena_new(&w->arena, placed, n + 1);
    AA_TRY(aa_arena_status(&w->arena, err));
    aa_model_rows(&w->config, rows, n);
    for (size_t i = 0; i < n; i++) AA_TRY(place_row(w, &rows[i], err));
    AA_TRY(place_rotations(w, err));
    qsort(w->places, w->n, sizeof *w->places, by_offset);
    return w->s->check_all_read ? w->s->check_all_read(w->s, err) : AA_OK;
}

/* ---- the files beside it --------------------------------------------------------------------- */

static aa_text *add_beside(writer *w, const char *name) {
    aa_assert(w->n_beside < MOST_BESIDE);
    w->beside[w->n_beside].name = name;
    return &w->beside[w->n_beside++].text;
}

static aa_status make_json(writer *w, const aa_tokenizer *t, aa_err *err) {
    AA_TRY(aa_tokenizer_write_json(t, add_beside(w, AA__HF_TOKENIZER), err));
    return aa_tokenizer_write_config_json(t, (size_t)w->config.seq, w->s->chat_template,
                                          add_beside(w, AA__HF_TOKENIZER_CONFIG), err);
}

/* run.c reads as many tokens as the model has ids. */
static aa_status make_tokenizer_bin(writer *w, const aa_tokenizer *t, aa_err *err) {
    aa_err problem = {0};
    aa_text *text = add_beside(w, AA__LLAMA2C_TOKENIZER);
    aa_status st = aa_tokenizer_write_llama2c(t, text, &problem);

    if (!st && aa_tokenizer_vocab(t) == w->s->full_vocab) return AA_OK;
    if (st && st != AA_EUNSUPPORTED) return aa_fail(err, st, "%s", problem.message);
    aa_text_release(text);
    w->n_beside--;
    return make_json(w, t, err);
}

static aa_status make_beside(writer *w, aa_err *err) {
    const bool blzt = w->kind == AA_FLAT_BLZT;
    aa_tokenizer *t = NULL;

    if (w->s->tokenizer_path) AA_TRY(aa_source_tokenizer(w->s, &t, err));
    aa_status st = blzt ? aa_hf_config_json(&w->config, t, AA_TYPE_F32,
                                            add_beside(w, AA__HF_CONFIG), err) : AA_OK;

    if (!st && t) st = (blzt ? make_json : make_tokenizer_bin)(w, t, err);
    aa_tokenizer_free(t);
    return st;
}

static aa_status check_beside(const writer *w, const beside *b, const char *path, aa_err *err) {
    aa_sys_kind kind;
    aa_sys_map map = {0};

    AA_TRY(aa__kind_of(&kind, w->folder, b->name, err));
    if (kind == AA_SYS_ABSENT) return AA_OK;
    if (kind == AA_SYS_FILE) AA_TRY(aa_map_open(&map, path, err));
    bool same = map.data && map.size_bytes == b->text.len &&
                memcmp(map.data, b->text.data, b->text.len) == 0;

    aa_sys_map_close(&map);
    return same ? AA_OK
                : aa_fail(err, AA_EUSAGE, "'%s' is there and belongs to another model; write '%s' "
                          "into a directory of its own, for that file goes beside it", path,
                          w->path);
}

/* First all are looked at (write = false), then all are written. */
static aa_status put_beside(const writer *w, bool write, aa_err *err) {
    for (size_t i = 0; i < w->n_beside; i++) {
        const beside *b = &w->beside[i];
        char *path = aa_path_join(w->folder, b->name);
        aa_status st = path ? aa_text_status(&b->text, err) : aa_fail_memory(err, "a path", 0);

        if (!st && write) st = aa_file_write(path, b->text.data, b->text.len, err);
        else if (!st) st = check_beside(w, b, path, err);
        aa_heap_free(path);
        if (st) return st;
    }
    return AA_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

static void zeros_to(aa_outfile *f, uint64_t end) {
    static const unsigned char zeros[1 << 16];

    for (uint64_t at; (at = aa_outfile_size(f)) < end;)
        aa_outfile_write(f, zeros, end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros);
}

static aa_status write_places(const writer *w, aa_outfile *f, aa_err *err) {
    unsigned char header[AA_FLAT_MAX_HEADER];
    aa__entry *entries = aa_heap_alloc(w->n, sizeof *entries);
    aa_arena chunks;
    aa__stream stream;

    if (!entries) return aa_fail_memory(err, "the list of tensors", w->n * sizeof *entries);
    for (size_t i = 0; i < w->n; i++) entries[i] = w->places[i].entry;
    aa_arena_init(&chunks, "writing a model");
    aa__stream_init(&stream, w->s->path, w->o, entries, w->n, &chunks);
    aa_status st = aa_arena_status(&chunks, err);

    if (!st) aa_outfile_write(f, header, aa_flat_header(w->kind, &w->shape, header));
    for (size_t i = 0; !st && i < w->n; i++) {
        zeros_to(f, w->places[i].offset);
        st = aa__stream_entry(&stream, &entries[i], f, err);
    }
    if (!st) zeros_to(f, aa_flat_size(w->kind, &w->shape));
    aa_arena_release(&chunks);
    aa_heap_free(entries);
    return st;
}

static aa_status write_all(writer *w, aa_err *err) {
    aa_outfile *f = NULL;

    AA_TRY(check_expressible(w, err));
    shape_of(w);
    AA_TRY(place_all(w, err));
    AA_TRY(make_beside(w, err));
    AA_TRY(put_beside(w, false, err));
    AA_TRY(aa_make_dirs(w->folder, err));
    AA_TRY(aa_outfile_open(&f, w->path, err));
    aa_status st = write_places(w, f, err);
    if (st) {
        aa_outfile_abort(f);
        return st;
    }
    AA_TRY(aa_outfile_commit(f, NULL, err));
    return put_beside(w, true, err);
}

static aa_status flat_write(aa_flat_kind kind, const char *path, aa_source *s,
                            const aa_convert_options *o, aa_err *err) {
    writer w = {.s = s, .o = o, .path = path, .kind = kind, .config = s->config,
                .folder = aa__folder_of(path)};

    if (!w.folder) return aa_fail_memory(err, "a path", 0);
    w.config.vocab = (int64_t)s->full_vocab;
    w.config.residual_scale = 1;
    aa_arena_init(&w.arena, "writing a model");
    aa_status st = write_all(&w, err);
    aa_arena_release(&w.arena);
    for (size_t i = 0; i < w.n_beside; i++) aa_text_release(&w.beside[i].text);
    aa_heap_free(w.folder);
    return st;
}

aa_status aa_blzt_write(const char *path, aa_source *s, const aa_convert_options *o, aa_err *err) {
    return flat_write(AA_FLAT_BLZT, path, s, o, err);
}

aa_status aa_llama2c_write(const char *path, aa_source *s, const aa_convert_options *o,
                           aa_err *err) {
    return flat_write(AA_FLAT_LLAMA2C, path, s, o, err);
}

aa_status aa_llama2c_v1_write(const char *path, aa_source *s, const aa_convert_options *o,
                              aa_err *err) {
    return flat_write(AA_FLAT_LLAMA2C_V1, path, s, o, err);
}
