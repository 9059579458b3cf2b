/* formats/flat: where everything is in a file without a table.
 *
 * A layout is a text, a letter for each tensor (flat.h). What is in brackets is there for each
 * layer; # is as much again as what stands before it, tensor or bracket so far, and is passed over.
 * What a stranger's header says is limited before it is multiplied, so that no product or sum here
 * can reach 2^60. The limits are those of our models; they also keep files that have no magic, of
 * llama2.c or of 16-bit tokens, apart.
 */
#include "formats/flat.h"

#include <stddef.h>
#include <string.h>
#include "base/memory.h"

enum { BLZT_MAGIC = 0x424C5A54, BLZT_VERSION = 4, AK42_MAGIC = 0x616B3432, AK42_VERSION = 1,
       AK42_TIED = 36, MOST_STEPS = 10 * 1000 * 1000 };

/* A size in the header: the byte it is at, where it goes, and the largest it may be. */
typedef struct field { const char *name; size_t at, to; int64_t most; } field;
enum { MAX_FIELDS = 9 };

static const struct kind {
    const char *name, *layout;
    size_t header_bytes;
    field fields[MAX_FIELDS];                /* ends with name NULL */
} kinds[AA_FLAT_KIND_COUNT] = {
#define DIM offsetof(aa_flat_shape, dim), 1 << 17
#define FFN offsetof(aa_flat_shape, ffn), 1 << 20
#define LAYERS offsetof(aa_flat_shape, layers), 1024
#define HEADS offsetof(aa_flat_shape, heads), 1024
#define KV_HEADS offsetof(aa_flat_shape, kv_heads), 1024
#define HEAD_DIM offsetof(aa_flat_shape, head_dim), 1024
#define VOCAB offsetof(aa_flat_shape, vocab), 1 << 24
#define SEQ offsetof(aa_flat_shape, seq), 1 << 24
    {"blzt", "[qkvogduaf##]N##E##", 96,
     {{"n_layers", 16, LAYERS}, {"vocab_size", 20, VOCAB}, {"dim", 24, DIM},
      {"hidden_dim", 28, FFN}, {"n_heads", 32, HEADS}, {"seq_len", 36, SEQ},
      {"kv_heads", 84, KV_HEADS}, {"head_dim", 88, HEAD_DIM}}},
#define SEVEN(at)                                                                                  \
    {{"dim", at, DIM}, {"hidden_dim", at + 4, FFN}, {"n_layers", at + 8, LAYERS},                  \
     {"n_heads", at + 12, HEADS}, {"n_kv_heads", at + 16, KV_HEADS},                               \
     {"vocab_size", at + 20, VOCAB}, {"max_seq_len", at + 24, SEQ}}
    {"llama2c", "E[a][q][k][v][o][f][g][d][u]NRH", 28, SEVEN(0)},
    {"llama2c-v1", "[a][f]NE[q][k][v][o][g][d][u]H", 256, SEVEN(8)},
};

const char *aa_flat_kind_name(aa_flat_kind kind) { return kinds[kind].name; }

/* ---- places ---------------------------------------------------------------------------------- */

static uint64_t shape_of(const aa_flat_shape *s, char letter, aa_flat_place *out) {
    const uint64_t C = (uint64_t)s->dim, F = (uint64_t)s->ffn, V = (uint64_t)s->vocab;
    const uint64_t D = (uint64_t)s->head_dim, Q = (uint64_t)s->heads * D;
    const uint64_t KV = (uint64_t)s->kv_heads * D;
    const struct { char letter; uint64_t rows, cols; } all[] = {
        {'q', Q, C}, {'k', KV, C}, {'v', KV, C}, {'o', C, Q}, {'g', F, C}, {'d', C, F},
        {'u', F, C}, {'a', 1, C}, {'f', 1, C}, {'N', 1, C}, {'E', V, C},
        {'H', s->tied ? 0 : V, C}, {'R', 2 * (uint64_t)s->seq, D / 2}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].letter == letter) out->rows = all[i].rows, out->cols = all[i].cols;
    return out->rows * out->cols * sizeof(float);
}

/* Finds the letter, or if it is 0 the end of the file. */
static bool walk(aa_flat_kind kind, const aa_flat_shape *s, char wanted, uint64_t layer,
                 aa_flat_place *out) {
    uint64_t at = kinds[kind].header_bytes, begin = 0, before = 0;
    bool in_layer = false, found = false;

    for (const char *p = kinds[kind].layout; *p; p++) {
        aa_flat_place t;

        if (*p == '[') in_layer = true, begin = at, before = 0;
        else if (*p == '#') at += before;
        else if (*p == ']') {
            uint64_t each = at - begin;

            if (found) {
                out->offset += each * layer;
                return true;
            }
            at = begin + each * (uint64_t)s->layers;
            in_layer = false;
        } else {
            uint64_t size = shape_of(s, *p, &t);

            if (*p == wanted) {
                *out = (aa_flat_place){at, t.rows, t.cols};
                if (!in_layer) return size > 0;
                found = true;
            }
            at += size;
            before = in_layer ? before + size : size;
        }
    }
    *out = (aa_flat_place){.offset = at};
    return !wanted;
}

bool aa_flat_find(aa_flat_kind kind, const aa_flat_shape *s, char letter, uint64_t layer,
                  aa_flat_place *out) {
    aa_flat_place place;

    if (!walk(kind, s, letter, layer, &place)) return false;
    *out = place;
    return true;
}

uint64_t aa_flat_size(aa_flat_kind kind, const aa_flat_shape *s) {
    aa_flat_place end;

    walk(kind, s, 0, 0, &end);
    return end.offset;
}

/* ---- headers --------------------------------------------------------------------------------- */

static int32_t word(const unsigned char *data, size_t at) {
    int32_t v;

    memcpy(&v, data + at, sizeof v);
    return v;
}

static void put_word(unsigned char *data, size_t at, int64_t value) {
    int32_t v = (int32_t)value;

    memcpy(data + at, &v, sizeof v);
}

static int64_t *size_at(aa_flat_shape *s, const field *f) {
    return (int64_t *)(void *)((char *)s + f->to);
}

/* What must hold between sizes before they are multiplied. */
static const char *problem(const aa_flat *f) {
    const aa_flat_shape *s = &f->shape;

    if (f->kind != AA_FLAT_BLZT && s->dim % s->heads) return "dim is no multiple of n_heads";
    if (s->heads % s->kv_heads) return "n_heads is no multiple of the heads of keys and values";
    if (s->head_dim % 2 || !s->head_dim) return "the width of a head is odd";
    if (f->kind == AA_FLAT_BLZT && word(f->map.data, 92) != s->heads * s->head_dim)
        return "q_dim is not n_heads times head_dim";
    return NULL;
}

static aa_status read_sizes(aa_flat *f, aa_err *err) {
    const struct kind *k = &kinds[f->kind];
    aa_flat_shape *s = &f->shape;

    for (const field *x = k->fields; x->name; x++) {
        int64_t v = word(f->map.data, x->at);

        if (f->kind == AA_FLAT_LLAMA2C && x->to == offsetof(aa_flat_shape, vocab) && v < 0) {
            s->tied = false;
            v = -v;
        }
        if (v < 1 || v > x->most)
            return aa_fail(err, AA_EFORMAT, "'%s': %s at byte %zu of a %s file is %lld; allowed "
                           "are 1 to %lld", f->path, x->name, x->at, k->name, (long long)v,
                           (long long)x->most);
        *size_at(s, x) = v;
    }
    if (f->kind != AA_FLAT_BLZT) s->head_dim = s->dim / s->heads;
    const char *what = problem(f);
    return what ? aa_fail(err, AA_EFORMAT, "'%s': the header of a %s file does not fit together: "
                          "%s", f->path, k->name, what) : AA_OK;
}

static aa_status read_blzt(aa_flat *f, aa_err *err) {
    const unsigned char *p = f->map.data;

    if (word(p, 4) != BLZT_VERSION)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': BLZT version %d at byte 4; this program reads "
                       "%d", f->path, word(p, 4), BLZT_VERSION);
    f->steps = word(p, 8);
    f->updates = word(p, 80);
    if (f->steps < 0 || f->steps > MOST_STEPS)
        return aa_fail(err, AA_EFORMAT, "'%s': step at byte 8 of a blzt file is %lld; allowed are "
                       "0 to %d", f->path, (long long)f->steps, MOST_STEPS);
    return AA_OK;
}

static aa_status read_v1(aa_flat *f, aa_err *err) {
    const unsigned char *p = f->map.data;

    if (word(p, 4) == 2)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' is a llama2.c file of version 2, of 8-bit "
                       "integers, which is not supported: export version 0 or 1", f->path);
    if (word(p, 4) != AK42_VERSION)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': llama2.c version %d at byte 4; this program "
                       "reads 0 and 1", f->path, word(p, 4));
    if (p[AK42_TIED] > 1)
        return aa_fail(err, AA_EFORMAT, "'%s': the flag for a shared head at byte %d is %d; "
                       "allowed are 0 and 1", f->path, AK42_TIED, p[AK42_TIED]);
    f->shape.tied = p[AK42_TIED];
    return AA_OK;
}

static aa_flat_kind kind_of(const unsigned char *data, size_t n) {
    int32_t magic = n >= 4 ? word(data, 0) : 0;

    if (magic == BLZT_MAGIC) return AA_FLAT_BLZT;
    return magic == AK42_MAGIC ? AA_FLAT_LLAMA2C_V1 : AA_FLAT_LLAMA2C;
}

static aa_status read_header(aa_flat *f, aa_err *err) {
    f->kind = kind_of(f->map.data, f->map.size_bytes);
    if (f->map.size_bytes < kinds[f->kind].header_bytes)
        return aa_fail(err, AA_EFORMAT, "'%s': %zu bytes are too few for the %zu-byte header of a "
                       "%s file; it was cut short", f->path, f->map.size_bytes,
                       kinds[f->kind].header_bytes, kinds[f->kind].name);
    f->shape.tied = true;
    if (f->kind == AA_FLAT_BLZT) AA_TRY(read_blzt(f, err));
    if (f->kind == AA_FLAT_LLAMA2C_V1) AA_TRY(read_v1(f, err));
    return read_sizes(f, err);
}

bool aa_flat_is(const unsigned char *data, size_t n) {
    char nameless[] = "";
    aa_flat f = {.map = {data, n}, .path = nameless};

    return kind_of(data, n) != AA_FLAT_LLAMA2C || !read_header(&f, NULL);
}

static aa_status check_length(const aa_flat *f, aa_err *err) {
    uint64_t wanted = aa_flat_size(f->kind, &f->shape);

    if (wanted == f->map.size_bytes) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "'%s': its header asks for %llu bytes, the file has %zu: it "
                   "was %s; get it again", f->path, (unsigned long long)wanted, f->map.size_bytes,
                   wanted > f->map.size_bytes ? "cut short" : "overwritten, or is another kind of "
                                                              "file");
}

aa_status aa_flat_open(aa_flat *out, const char *path, aa_err *err) {
    aa_flat f = {.path = aa_heap_strdup(path)};
    aa_status st = f.path ? aa_map_open(&f.map, path, err) : aa_fail_memory(err, "a path", 0);

    if (!st) st = read_header(&f, err);
    if (!st) st = check_length(&f, err);
    if (st) aa_flat_close(&f);
    else *out = f;
    return st;
}

void aa_flat_close(aa_flat *f) {
    if (f->map.data) aa_sys_map_close(&f->map);
    aa_heap_free(f->path);
    *f = (aa_flat){0};
}

/* BLZT has the values that the first AutoANE's own converter writes for what was not trained. */
size_t aa_flat_header(aa_flat_kind kind, const aa_flat_shape *s,
                      unsigned char out[AA_FLAT_MAX_HEADER]) {
    enum { TOTAL_STEPS = 10000 };
    const float rate = 3e-4f;
    aa_flat_shape copy = *s;

    memset(out, 0, AA_FLAT_MAX_HEADER);
    for (const field *x = kinds[kind].fields; x->name; x++)
        put_word(out, x->at, *size_at(&copy, x));
    if (kind == AA_FLAT_BLZT) {
        put_word(out, 0, BLZT_MAGIC), put_word(out, 4, BLZT_VERSION);
        put_word(out, 12, TOTAL_STEPS);
        memcpy(out + 40, &rate, sizeof rate);
        put_word(out, 92, s->heads * s->head_dim);
    } else if (kind == AA_FLAT_LLAMA2C_V1) {
        put_word(out, 0, AK42_MAGIC), put_word(out, 4, AK42_VERSION);
        out[AK42_TIED] = s->tied;
    } else if (!s->tied)
        put_word(out, 20, -s->vocab);
    return kinds[kind].header_bytes;
}
