/* autoane info, of models: what they are, and with --all everything their files hold.
 *
 * The digest of a tensor is of its bytes with its rows in our order: of models in several formats,
 * those of equal type have equal digests.
 */
#include <stdio.h>
#include <string.h>
#include "base/digest.h"
#include "cli/cli.h"
#include "convert/source.h"
#include "formats/safetensors.h"

enum { SHOWN = 100 };                    /* bytes of a value, on a terminal */

/* ---- what the files say ---------------------------------------------------------------------- */

static void put_key(void *ctx, const char *key, const char *json) {
    cli_call *call = ctx;
    size_t n = strlen(json), shown = n;

    if (call->json) {
        aa_text_json_key(&call->out, key);
        aa_text_add(&call->out, json);
        return;
    }
    if (n > SHOWN)                       /* of UTF-8, whole characters */
        for (shown = SHOWN; shown && ((unsigned char)json[shown] & 0xc0) == 0x80;) shown--;
    aa_text_printf(&call->out, "  %s = %.*s%s\n", key, (int)shown, json, shown < n ? " ..." : "");
}

static void put_string(void *ctx, const char *key, const char *value) {
    cli_call *call = ctx;
    aa_text json = {0};

    aa_text_json_string(&json, value, strlen(value));
    if (json.failed) call->out.failed = true;
    else put_key(ctx, key, json.data);
    aa_text_release(&json);
}

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct tensor {
    const char *name, *type;
    const uint64_t *shape; int n_dims;
    uint64_t size_bytes;
    const aa_digest *digest;             /* NULL: not asked for */
} tensor;

static void put_tensor(cli_call *call, bool first, const tensor *t) {
    aa_text *out = &call->out;
    char digest[AA_DIGEST_HEX] = "";

    if (t->digest) aa_digest_hex(*t->digest, digest);
    if (!call->json) {
        aa_text_printf(out, "%-52s %-7s [", t->name, t->type);
        for (int d = 0; d < t->n_dims; d++)
            aa_text_printf(out, d ? ", %llu" : "%llu", (unsigned long long)t->shape[d]);
        aa_text_printf(out, "] %llu%s%s\n", (unsigned long long)t->size_bytes, *digest ? " " : "",
                       digest);
        return;
    }
    aa_text_add(out, first ? "{" : ",{");
    cli_key_string(out, "name", t->name);
    cli_key_string(out, "dtype", t->type);
    aa_text_json_key(out, "shape");
    for (int d = 0; d < t->n_dims; d++)
        aa_text_printf(out, "%c%llu", d ? ',' : '[', (unsigned long long)t->shape[d]);
    aa_text_add(out, t->n_dims ? "]" : "[]");
    cli_key_int(out, "bytes", (int64_t)t->size_bytes);
    if (*digest) cli_key_string(out, "xxh3", digest);
    aa_text_add(out, "}");
}

/* What was read is let go: memory does not grow with the model. */
static aa_status digest_of(const aa_source *s, const aa_stored *m, aa_digest *out, aa_err *err) {
    size_t row_bytes = aa_type_bytes(m->type, m->cols);
    aa_digester *d;

    AA_TRY(aa_digester_new(&d, err));
    for (size_t r = 0; r < m->rows; r++) aa_digester_add(d, aa_stored_row(m, r), row_bytes);
    *out = aa_digester_get(d);
    aa_digester_free(d);
    if (s->mapped) aa_sys_map_drop(m->data, aa_stored_bytes(m));
    return AA_OK;
}

typedef struct lister { cli_call *call; const aa_source *s; bool any; } lister;

static aa_status put_row(void *ctx, const aa_tensor *row, const aa_stored *m, aa_err *err) {
    lister *l = ctx;
    bool vector = aa_tensor_is_vector(row);
    const uint64_t shape[] = {vector ? row->cols : row->rows, row->cols};
    aa_digest digest;

    AA_TRY(digest_of(l->s, m, &digest, err));
    put_tensor(l->call, !l->any, &(tensor){row->name, aa_type_name(m->type), shape, vector ? 1 : 2,
                                           aa_stored_bytes(m), &digest});
    l->any = true;
    return AA_OK;
}

/* ---- models ---------------------------------------------------------------------------------- */

static void model_json(const aa_source *s, const aa_source_weights *z, aa_text *out) {
    const aa_config *c = &s->config;

    cli_key_string(out, "format", s->format);
    cli_key_string(out, "arch", aa_arch_name(c->arch));
    cli_key_int(out, "params", (int64_t)aa_config_params(c));
    cli_key_int(out, "dim", c->dim);
    cli_key_int(out, "layers", c->layers);
    cli_key_int(out, "heads", c->heads);
    cli_key_int(out, "kv_heads", c->kv_heads);
    cli_key_int(out, "head_dim", c->head_dim);
    cli_key_int(out, "ffn", c->ffn);
    cli_key_int(out, "vocab", c->vocab);
    cli_key_int(out, "full_vocab", (int64_t)s->full_vocab);
    cli_key_int(out, "seq", c->seq);
    cli_key_real(out, "rope_theta", c->rope_theta);
    cli_key_real(out, "norm_eps", c->norm_eps);
    cli_key_real(out, "residual_scale", c->residual_scale);
    aa_text_json_key(out, "tied"), aa_text_json_bool(out, c->tied);
    cli_key_int(out, "bytes", (int64_t)z->size_bytes);
    aa_text_json_key(out, "types");
    aa_text_add(out, "{");
    for (int t = 0; t < AA_TYPE_COUNT; t++)
        if (z->n_tensors[t])
            cli_key_int(out, aa_type_name((aa_type)t), (int64_t)z->n_tensors[t]);
    aa_text_add(out, "}");
}

static void model_text(const char *path, const aa_source *s, const aa_source_weights *z,
                       aa_text *out) {
    const aa_config *c = &s->config;

    aa_text_printf(out, "%s: %s model, %.2f M parameters (%s)\n", path, aa_arch_name(c->arch),
                   (double)aa_config_params(c) * 1e-6, s->format);
    aa_text_printf(out,
                   "  width %lld, %lld blocks, %lld heads (%lld kv) of %lld, ffn %lld, "
                   "vocabulary %lld%s, %lld positions\n",
                   (long long)c->dim, (long long)c->layers, (long long)c->heads,
                   (long long)c->kv_heads, (long long)c->head_dim, (long long)c->ffn,
                   (long long)c->vocab, c->tied ? " (tied)" : "", (long long)c->seq);
    aa_text_printf(out, "  rope theta %g, norm eps %g%s%s", c->rope_theta, c->norm_eps,
                   c->qkv_bias ? ", q/k/v biases" : "", c->qk_norm ? ", q/k norm" : "");
    if (c->residual_scale != 1) aa_text_printf(out, ", residual scale %g", c->residual_scale);
    aa_text_printf(out, "\n  weights %.1f MiB: ", (double)z->size_bytes / 0x1p20);
    aa_source_types(z, out);
    aa_text_add(out, "\n");
    if (s->n_active)
        aa_text_printf(out, "  compact vocabulary: written with rows for %zu ids\n",
                       s->full_vocab);
    aa_text_printf(out, "  tokenizer %s\n", s->tokenizer_path ? s->tokenizer_path : "none");
}

static aa_status put_all(cli_call *call, aa_source *s, aa_err *err) {
    lister l = {.call = call, .s = s};

    if (call->json) aa_text_json_key(&call->out, "metadata"), aa_text_add(&call->out, "{");
    if (s->metadata) AA_TRY(s->metadata(s, put_key, call, err));
    if (call->json) {
        aa_text_add(&call->out, "}");
        aa_text_json_key(&call->out, "tensors");
        aa_text_add(&call->out, "[");
    }
    AA_TRY(aa_source_each(s, put_row, &l, err));
    if (call->json) aa_text_add(&call->out, "]");
    return AA_OK;
}

aa_status cli_info_model(cli_call *call, const char *path, bool all, aa_err *err) {
    aa_source *s;
    aa_source_weights z;

    AA_TRY(aa_source_open(&s, path, err));
    aa_status st = aa_source_measure(s, &z, err);
    if (!st && call->json) aa_text_add(&call->out, "{"), model_json(s, &z, &call->out);
    else if (!st) model_text(path, s, &z, &call->out);
    if (!st && all) st = put_all(call, s, err);
    if (call->json) aa_text_add(&call->out, "}\n");
    aa_source_close(s);
    return st;
}

/* ---- files of weights ------------------------------------------------------------------------ */

aa_status cli_info_safetensors(cli_call *call, const char *path, bool all, aa_err *err) {
    aa_safetensors f;
    aa_digest digest;

    AA_TRY(aa_safetensors_open(&f, path, err));
    if (call->json) {
        aa_text_add(&call->out, "{");
        aa_text_json_key(&call->out, "metadata");
        aa_text_add(&call->out, "{");
    }
    aa_safetensors_each_metadata(&f, put_string, call);
    if (call->json) {
        aa_text_add(&call->out, "}");
        aa_text_json_key(&call->out, "tensors");
        aa_text_add(&call->out, "[");
    }
    for (size_t i = 0; i < f.n_tensors; i++) {
        const aa_st_tensor *t = &f.tensors[i];

        if (all) {
            digest = aa_digest_bytes(aa_safetensors_data(&f, t), t->size_bytes);
            aa_sys_map_drop(aa_safetensors_data(&f, t), t->size_bytes);
        }
        put_tensor(call, i == 0, &(tensor){t->name, aa_dtype_name(t->dtype), t->shape, t->n_dims,
                                           t->size_bytes, all ? &digest : NULL});
    }
    if (call->json) aa_text_add(&call->out, "]}\n");
    aa_safetensors_close(&f);
    return AA_OK;
}
