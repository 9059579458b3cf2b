/* convert/adapter_write: adapters as PEFT directories and as GGUF files.
 *
 * The config that PEFT reads is made from the rows: rank and alpha are those most rows have, and
 * what is not so goes into the patterns by its whole name; a projection that is adapted in all
 * layers is a target by its short name, as people write it.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "convert/adapter_int.h"
#include "convert/gguf_int.h"
#include "convert/stream.h"

enum { PARTS = 4 };                      /* A, B, magnitude, whole */

typedef struct writer {
    const aa_adapter *a;
    const aa_config *base;
    const aa_convert_options *o;
    aa_arena arena;
    aa__entry *entries; size_t n;
    aa__stream stream;
} writer;

static aa_status begin(writer *w, aa_err *err) {
    aa_type type = w->o->type;

    if (type != AA_TYPE_COUNT && type != AA_TYPE_F32 && type != AA_TYPE_F16 && type != AA_TYPE_BF16)
        return aa_fail(err, AA_EUNSUPPORTED, "adapters are written in F32, F16 or BF16, not %s",
                       aa_type_name(type));
    aa_arena_init(&w->arena, "writing an adapter");
    w->entries = aa_arena_new(&w->arena, aa__entry, PARTS * w->a->n_rows);
    return aa_arena_status(&w->arena, err);
}

/* A tensor of the file; scale 1 keeps bits where the type is kept. */
static aa__entry *add(writer *w, const aa_stored *from, bool vector, double scale) {
    aa__entry *e = &w->entries[w->n++];
    aa_type own = aa_type_block(from->type) == 1 && scale == 1 ? from->type : AA_TYPE_F32;

    *e = (aa__entry){.from = *from, .vector = vector, .scale = scale == 1 ? 0 : scale,
                     .to = w->o->type == AA_TYPE_COUNT ? own : w->o->type};
    return e;
}

static aa_status begin_stream(writer *w, aa_err *err) {
    aa__stream_init(&w->stream, w->a->path, w->o, w->entries, w->n, &w->arena);
    return aa_arena_status(&w->arena, err);
}

/* ---- PEFT: tensors --------------------------------------------------------------------------- */

/* The row's name without its last part, which is *end. */
static size_t module_of(const aa_adapter_row *row, const char **end) {
    *end = strrchr(row->name, '.');
    return (size_t)(*end - row->name);
}

/* Whether there is a low-rank term on the weight of the module this row is part of. */
static bool is_adapted(const aa_adapter *a, const aa_adapter_row *row) {
    const char *end;
    size_t n = module_of(row, &end);

    for (size_t i = 0; i < a->n_rows; i++) {
        const aa_adapter_row *other = &a->rows[i];

        if (other->A.data && strncmp(other->name, row->name, n) == 0 &&
            strcmp(other->name + n, ".weight") == 0)
            return true;
    }
    return false;
}

static void add_named(writer *w, const aa_adapter_row *row, const aa_stored *m, bool vector,
                      const char *what) {
    const char *end;
    size_t n = module_of(row, &end);

    if (!m->data) return;
    aa__entry *e = add(w, m, vector, 1);
    snprintf(e->name, sizeof e->name, AA__PEFT_PREFIX "%.*s%s", (int)n, row->name, what);
}

static void list_peft(writer *w) {
    for (size_t i = 0; i < w->a->n_rows; i++) {
        const aa_adapter_row *row = &w->a->rows[i];
        char whole[32];
        const char *end;

        module_of(row, &end);
        snprintf(whole, sizeof whole, "%s%s", is_adapted(w->a, row) ? ".base_layer" : "", end);
        add_named(w, row, &row->whole, row->whole.rows == 1, whole);
        add_named(w, row, &row->A, false, ".lora_A.weight");
        add_named(w, row, &row->B, false, ".lora_B.weight");
        add_named(w, row, &row->magnitude, true, ".lora_magnitude_vector");
    }
}

/* ---- PEFT: the config ------------------------------------------------------------------------ */

static double rank_of(const aa_adapter_row *row) { return (double)row->A.rows; }
static double alpha_of(const aa_adapter_row *row) { return row->alpha; }

/* The value that most low-rank terms have; of several the first. */
static double most_common(const aa_adapter *a, double (*value)(const aa_adapter_row *)) {
    double best = 0;
    size_t most = 0;

    for (size_t i = 0; i < a->n_rows; i++) {
        size_t n = 0;

        if (!a->rows[i].A.data) continue;
        for (size_t j = 0; j < a->n_rows; j++)
            n += a->rows[j].A.data && value(&a->rows[j]) == value(&a->rows[i]);
        if (n > most) most = n, best = value(&a->rows[i]);
    }
    return best;
}

static void put_module(const aa_adapter_row *row, aa_text *t) {
    const char *end;
    size_t n = module_of(row, &end);

    aa_text_json_string(t, row->name, n);
}

static void put_patterns(const aa_adapter *a, const char *key, double usual,
                         double (*value)(const aa_adapter_row *), aa_text *t) {
    const char *between = "";

    aa_text_json_key(t, key);
    aa_text_add(t, "{");
    for (size_t i = 0; i < a->n_rows; i++) {
        if (!a->rows[i].A.data || value(&a->rows[i]) == usual) continue;
        aa_text_add(t, between);
        put_module(&a->rows[i], t);
        aa_text_add(t, ": ");
        aa_text_json_real(t, value(&a->rows[i]));
        between = ", ";
    }
    aa_text_add(t, "}");
}

/* "q_proj" of "model.layers.3.self_attn.q_proj.weight". */
static size_t short_name(const aa_adapter_row *row, const char **out) {
    const char *end;
    size_t n = module_of(row, &end), from = n;

    while (from && row->name[from - 1] != '.') from--;
    *out = row->name + from;
    return n - from;
}

static bool same_short_name(const aa_adapter_row *x, const aa_adapter_row *y) {
    const char *a, *b;
    size_t n = short_name(x, &a), m = short_name(y, &b);

    return n == m && memcmp(a, b, n) == 0;
}

static void put_target(const aa_adapter *a, size_t row, int64_t layers, const char **between,
                       aa_text *t) {
    int64_t n = 0;
    bool first = true;
    const char *name;

    for (size_t i = 0; i < a->n_rows; i++)
        if (a->rows[i].A.data && same_short_name(&a->rows[i], &a->rows[row])) {
            first &= i >= row;
            n++;
        }
    if (n == layers && !first) return;
    aa_text_add(t, *between);
    *between = ", ";
    if (n != layers) put_module(&a->rows[row], t);
    else {
        size_t len = short_name(&a->rows[row], &name);
        aa_text_json_string(t, name, len);
    }
}

static void put_modules(const writer *w, bool targets, aa_text *t) {
    const char *between = "";

    aa_text_json_key(t, targets ? "target_modules" : "modules_to_save");
    aa_text_add(t, "[");
    for (size_t i = 0; i < w->a->n_rows; i++) {
        const aa_adapter_row *row = &w->a->rows[i];
        const char *end;

        module_of(row, &end);
        if (targets && row->A.data) put_target(w->a, i, w->base->layers, &between, t);
        if (targets || row->A.data || strcmp(end, ".weight") != 0) continue;
        aa_text_add(t, between);
        put_module(row, t);
        between = ", ";
    }
    aa_text_add(t, "]");
}

static bool any(const aa_adapter *a, bool (*has)(const aa_adapter_row *)) {
    for (size_t i = 0; i < a->n_rows; i++)
        if (has(&a->rows[i])) return true;
    return false;
}

static bool has_magnitude(const aa_adapter_row *row) { return row->magnitude.data; }

static bool is_bias(const aa_adapter_row *row) {
    return aa__ends_with(row->name, strlen(row->name), ".bias");
}

static aa_status write_config(const writer *w, const char *dir, aa_err *err) {
    const aa_adapter *a = w->a;
    const double r = most_common(a, rank_of), alpha = most_common(a, alpha_of);
    aa_text t = {0};

    aa_text_add(&t, "{");
    aa_text_json_key(&t, "base_model_name_or_path");
    if (a->base_name) aa_text_json_string(&t, a->base_name, strlen(a->base_name));
    else aa_text_add(&t, "null");
    aa_text_printf(&t, ",\"bias\":\"%s\",\"fan_in_fan_out\":false,\"inference_mode\":true,"
                   "\"init_lora_weights\":true,\"layers_to_transform\":null,"
                   "\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",\"use_dora\":%s,"
                   "\"use_rslora\":%s", any(a, is_bias) ? "all" : "none",
                   any(a, has_magnitude) ? "true" : "false", a->rslora ? "true" : "false");
    aa_text_json_key(&t, "lora_dropout"), aa_text_json_real(&t, a->dropout);
    aa_text_json_key(&t, "r"), aa_text_json_real(&t, r);
    aa_text_json_key(&t, "lora_alpha"), aa_text_json_real(&t, alpha);
    put_patterns(a, "rank_pattern", r, rank_of, &t);
    put_patterns(a, "alpha_pattern", alpha, alpha_of, &t);
    put_modules(w, true, &t);
    put_modules(w, false, &t);
    aa_text_add(&t, "}\n");
    aa_status st = aa_file_write_text(dir, AA__PEFT_CONFIG, &t, err);
    aa_text_release(&t);
    return st;
}

static aa_status check_peft(const aa_adapter *a, aa_err *err) {
    for (size_t i = 0; i < a->n_rows; i++)
        if (a->rows[i].A.data && has_magnitude(&a->rows[i]) != any(a, has_magnitude))
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': PEFT has magnitudes of all adapted "
                           "matrices or of none; '%s' has none", a->path, a->rows[i].name);
    return AA_OK;
}

static aa_status write_peft(void *ctx, const char *dir, aa_err *err) {
    writer *w = ctx;

    AA_TRY(write_config(w, dir, err));
    char hex[AA_DIGEST_HEX];
    aa_digest_hex(w->a->base_digest, hex);
    const aa_st_pair base = {AA__BASE_DIGEST, hex};
    return aa__stream_safetensors(&w->stream, dir, AA__PEFT_WEIGHTS, w->entries, w->n,
                                  aa_digest_equal(w->a->base_digest, (aa_digest){0}) ? NULL : &base,
                                  err);
}

aa_status aa_peft_write(const char *path, const aa_adapter *a, const aa_config *base,
                        const aa_convert_options *o, aa_err *err) {
    writer w = {.a = a, .base = base, .o = o};

    AA_TRY(check_peft(a, err));
    aa_status st = begin(&w, err);
    if (!st) list_peft(&w);
    if (!st) st = begin_stream(&w, err);
    if (!st) st = aa__write_directory(path, write_peft, &w, err);
    aa_arena_release(&w.arena);
    return st;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* What B must take up, if all scales are to be alpha/r: 1 within what binary32 can tell. */
static double scale_of_B(const aa_adapter *a, const aa_adapter_row *row, double alpha) {
    double scale = aa_adapter_scale(a, row) * rank_of(row) / alpha;

    return fabs(scale - 1) <= (double)FLT_EPSILON ? 1 : scale;
}

static aa_status list_gguf(writer *w, double alpha, aa_err *err) {
    for (size_t i = 0; i < w->a->n_rows; i++) {
        const aa_adapter_row *row = &w->a->rows[i];
        char name[AA__GGUF_NAME];

        bool tied_head = w->base->tied && strcmp(row->name, "lm_head.weight") == 0;

        if (row->whole.data || row->magnitude.data || tied_head)
            return aa_fail(err, AA_EUNSUPPORTED, "'%s' has %s '%s', which a GGUF adapter cannot "
                           "hold: merge it into the model instead (--merge)", w->a->path,
                           row->whole.data ? "a new value of" : row->magnitude.data
                           ? "magnitudes (DoRA) of" : "a term on the tied head,", row->name);
        if (row->alpha == 0) continue;                   /* adds nothing */
        aa_assert(aa__gguf_name(row->name, name));
        snprintf(add(w, &row->A, false, 1)->name, AA__ENTRY_NAME, "%.80s.lora_a", name);
        aa__entry *e = add(w, &row->B, false, scale_of_B(w->a, row, alpha));
        snprintf(e->name, sizeof e->name, "%.80s.lora_b", name);
        e->paired = aa__gguf_paired(w->base, row->name);
    }
    return AA_OK;
}

static aa_status write_gguf(const writer *w, const char *path, double alpha, aa_err *err) {
    aa_gguf_header h = {0};
    aa_outfile *f = NULL;

    aa_gguf_put_string(&h, "general.architecture", aa_arch_name(w->base->arch));
    aa_gguf_put_string(&h, "general.type", "adapter");
    if (w->o->name) aa_gguf_put_string(&h, "general.name", w->o->name);
    aa_gguf_put_string(&h, "adapter.type", "lora");
    aa_gguf_put_f32(&h, "adapter.lora.alpha", (float)alpha);
    for (size_t i = 0; i < w->n; i++) {
        const aa__entry *e = &w->entries[i];
        uint32_t type = 0;

        aa_assert(aa_gguf_type_named(aa_type_name(e->to), &type));
        aa_gguf_put_tensor(&h, e->name, type, 2, (const uint64_t[]){e->from.cols, e->from.rows});
    }
    aa_status st = aa_outfile_open(&f, path, err);
    if (!st) st = aa_gguf_begin(f, &h, err);
    aa_gguf_header_release(&h);
    for (size_t i = 0; !st && i < w->n; i++) {
        st = aa__stream_entry(&w->stream, &w->entries[i], f, err);
        aa_gguf_pad(f);
    }
    if (!st) st = aa_outfile_commit(f, NULL, err);
    else if (f) aa_outfile_abort(f);
    return st;
}

/* The scale of the first row that has one decides alpha: 0 would mean a scale of 1. */
static double alpha_of_all(const aa_adapter *a) {
    for (size_t i = 0; i < a->n_rows; i++)
        if (a->rows[i].A.data && a->rows[i].alpha != 0)
            return (double)(float)(aa_adapter_scale(a, &a->rows[i]) * rank_of(&a->rows[i]));
    return 1;
}

aa_status aa_adapter_gguf_write(const char *path, const aa_adapter *a, const aa_config *base,
                                const aa_convert_options *o, aa_err *err) {
    writer w = {.a = a, .base = base, .o = o};
    const double alpha = alpha_of_all(a);
    aa_status st = begin(&w, err);

    if (!st) st = list_gguf(&w, alpha, err);
    if (!st) st = begin_stream(&w, err);
    if (!st) st = write_gguf(&w, path, alpha, err);
    aa_arena_release(&w.arena);
    return st;
}
