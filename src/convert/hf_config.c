/* convert/hf_config: config.json of Hugging Face, read and written.
 *
 * Reading is a search for reasons to refuse. A configuration has dozens of keys; most of them
 * change what the model computes, and a key that is ignored gives a model that runs and is wrong.
 * So the keys that could are listed here with the one value we can compute, and anything else is
 * refused by name. Where a key is absent, the default is that of the architecture's class in
 * `transformers`, which differs between architectures (head_dim of qwen3 is 128, whatever dim/heads
 * is).
 *
 * The rotary embedding is written in two ways: `rope_parameters` for transformers 5, `rope_theta`
 * and `rope_scaling` for everything older. Both are read; where both are present they must agree.
 */
#include <math.h>
#include <string.h>
#include "base/json.h"
#include "convert/convert_int.h"

/* Configuration classes, with what they take for keys that are absent (0: it follows from others).
 * The first are those that are written, by architecture. */
typedef struct family {
    const char *type, *class, *base;
    int arch;
    int64_t kv_heads, head_dim, window;
} family;
static const family families[] = {
    {"llama", "LlamaForCausalLM", "LlamaModel", AA_ARCH_LLAMA, 0, 0, 0},
    {"qwen2", "Qwen2ForCausalLM", "Qwen2Model", AA_ARCH_QWEN2, 32, 0, 0},
    {"qwen3", "Qwen3ForCausalLM", "Qwen3Model", AA_ARCH_QWEN3, 32, 128, 0},
    {"mistral", "MistralForCausalLM", "MistralModel", AA_ARCH_LLAMA, 8, 0, 4096}};
enum { N_FAMILIES = sizeof families / sizeof *families };

/* ---- reading --------------------------------------------------------------------------------- */

/* A file being read: its object and its name for messages. */
typedef struct config_file { const json_t *o; const char *path; const family *family; } config_file;

static bool present(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);

    return v && !json_is_null(v);
}

static aa_status refuse(const config_file *f, const char *key, const char *why, aa_err *err) {
    return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"%s\": %s", f->path, key, why);
}

static aa_status parse_family(config_file *f, aa_err *err) {
    const json_t *classes = json_object_get(f->o, "architectures");
    const char *type, *class = NULL;

    AA_TRY(aa_json_str(f->o, "model_type", f->path, NULL, &type, err));
    if (json_array_size(classes)) class = json_string_value(json_array_get(classes, 0));
    if (json_array_size(classes) > 1 || (json_array_size(classes) && !class))
        return refuse(f, "architectures", "must be a list of one name", err);
    for (int i = 0; i < N_FAMILIES; i++)
        if (type ? strcmp(type, families[i].type) == 0 : class && !strcmp(class, families[i].class))
            f->family = &families[i];
    if (!f->family)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"model_type\" is '%.60s'; supported are "
                       "llama, qwen2, qwen3 and mistral", f->path,
                       type ? type : class ? class : "missing");
    if (class && strcmp(class, f->family->class) && strcmp(class, f->family->base))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"architectures\" has '%.60s'; with model_type "
                       "%s it must be %s", f->path, class, f->family->type, f->family->class);
    return AA_OK;
}

static aa_status parse_sizes(const config_file *f, aa_config *c, aa_err *err) {
    static const struct { const char *key; size_t at; int64_t most; } needed[] = {
        {"hidden_size", offsetof(aa_config, dim), INT32_MAX},
        {"num_hidden_layers", offsetof(aa_config, layers), INT32_MAX},
        {"num_attention_heads", offsetof(aa_config, heads), INT32_MAX},
        {"intermediate_size", offsetof(aa_config, ffn), INT32_MAX},
        {"vocab_size", offsetof(aa_config, vocab), INT32_MAX},
        {"max_position_embeddings", offsetof(aa_config, seq), INT32_MAX},
    };

    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        AA_TRY(aa_json_int_need(f->o, needed[i].key, f->path, 1, needed[i].most,
                                (int64_t *)(void *)((char *)c + needed[i].at), err));
    /* A null key means as many as there are heads. */
    int64_t kv_heads = c->heads, head_dim = f->family->head_dim;
    if (f->family->kv_heads && !json_object_get(f->o, "num_key_value_heads"))
        kv_heads = f->family->kv_heads;
    AA_TRY(aa_json_int(f->o, "num_key_value_heads", f->path, 1, INT32_MAX, kv_heads, &c->kv_heads,
                       err));
    if (!head_dim && !present(f->o, "head_dim") && c->dim % c->heads)
        return refuse(f, "head_dim", "must be given when hidden_size is no multiple of "
                      "num_attention_heads", err);
    if (!head_dim) head_dim = c->dim / c->heads;
    return aa_json_int(f->o, "head_dim", f->path, 1, INT32_MAX, head_dim, &c->head_dim, err);
}

static aa_status parse_flags(const config_file *f, aa_config *c, aa_err *err) {
    bool attention_bias;

    AA_TRY(aa_json_flag(f->o, "tie_word_embeddings", f->path, false, &c->tied, err));
    AA_TRY(aa_json_flag(f->o, "attention_bias", f->path, false, &attention_bias, err));
    AA_TRY(aa_json_flag(f->o, "mlp_bias", f->path, false, &c->mlp_bias, err));
    /* Qwen2 has biases on q, k, v always; its class does not know the key. */
    c->qkv_bias = c->arch == AA_ARCH_QWEN2 || attention_bias;
    c->out_bias = c->arch != AA_ARCH_QWEN2 && attention_bias;
    c->qk_norm = c->arch == AA_ARCH_QWEN3;
    if (c->mlp_bias && c->arch != AA_ARCH_LLAMA)
        return refuse(f, "mlp_bias", "only llama has feed-forward biases", err);
    return AA_OK;
}

/* Keys that change what is computed, and the value that changes nothing. */
static aa_status refuse_foreign_features(const config_file *f, aa_err *err) {
    static const struct { const char *key; double neutral; } keys[] = {
        {"num_experts", 0}, {"num_local_experts", 0}, {"n_routed_experts", 0},
        {"partial_rotary_factor", 1}, {"rope_interleaved", 0}, {"residual_multiplier", 1},
        {"embedding_multiplier", 1}, {"attention_multiplier", 1}, {"logits_scaling", 1},
        {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0}, {"no_rope_layers", 0},
        {"quantization_config", 0},
    };
    const char *act;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *v = json_object_get(f->o, keys[i].key);

        if (!v || json_is_null(v) || (json_is_false(v) && keys[i].neutral == 0)) continue;
        if (json_is_number(v) && json_number_value(v) == keys[i].neutral) continue;
        if (json_is_array(v) && json_array_size(v) == 0) continue;
        return refuse(f, keys[i].key, "this feature is not supported", err);
    }
    AA_TRY(aa_json_str(f->o, "hidden_act", f->path, "silu", &act, err));
    if (strcmp(act, "silu") && strcmp(act, "swish"))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"hidden_act\" is '%.60s'; only silu is "
                       "supported", f->path, act);
    return AA_OK;
}

/* Attention is over the whole past. layer_types decides where it is present; otherwise the class
 * makes it from three keys, whose defaults would switch a window on if use_sliding_window alone is
 * true. */
static aa_status refuse_sliding_window(const config_file *f, const aa_config *c, aa_err *err) {
    const json_t *types = json_object_get(f->o, "layer_types");
    bool uses;
    int64_t from;

    if (present(f->o, "layer_types")) {
        if (!json_is_array(types) || json_array_size(types) != (size_t)c->layers)
            return refuse(f, "layer_types", "must be a list with one entry per layer", err);
        for (size_t i = 0; i < json_array_size(types); i++) {
            const char *type = json_string_value(json_array_get(types, i));

            if (!type || strcmp(type, "full_attention"))
                return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"layer_types\": layer %zu is '%.60s'; "
                               "only full_attention is supported", f->path, i, type ? type : "?");
        }
        return AA_OK;
    }
    bool window = present(f->o, "sliding_window");
    if (f->family->window) {                     /* one that holds every position changes nothing */
        int64_t width = json_object_get(f->o, "sliding_window") ? c->seq : f->family->window;

        AA_TRY(aa_json_int(f->o, "sliding_window", f->path, 1, INT32_MAX, width, &width, err));
        return width < c->seq ? refuse(f, "sliding_window", "attention through a sliding window "
                                       "is not supported", err) : AA_OK;
    }
    AA_TRY(aa_json_flag(f->o, "use_sliding_window", f->path, c->arch == AA_ARCH_LLAMA && window,
                        &uses, err));
    AA_TRY(aa_json_int(f->o, "max_window_layers", f->path, 0, INT32_MAX,
                       c->arch == AA_ARCH_LLAMA ? 0 : 28, &from, err));
    if (uses && (window || !json_object_get(f->o, "sliding_window")) && from < c->layers)
        return refuse(f, window ? "sliding_window" : "use_sliding_window", "attention through a "
                      "sliding window is not supported", err);
    return AA_OK;
}

/* ---- rotary embedding ------------------------------------------------------------------------ */

typedef struct rope { int scaling; double theta, factor, low, high; int64_t original; } rope;

static aa_status rope_number(const config_file *f, const json_t *o, const char *key, double lo,
                             double hi, double *out, aa_err *err) {
    if (!present(o, key))
        return aa_fail(err, AA_EFORMAT, "'%s': the rope section lacks \"%s\"", f->path, key);
    return aa_json_real(o, key, f->path, lo, hi, lo, out, err);
}

/* One of the two sections; theta stays as it is where the section does not say. */
static aa_status parse_rope_section(const config_file *f, const char *section, rope *out,
                                    aa_err *err) {
    const json_t *o = json_object_get(f->o, section);
    const char *type, *type_before;
    double partial;

    if (!json_is_object(o)) return refuse(f, section, "must be an object", err);
    AA_TRY(aa_json_str(o, "type", f->path, "default", &type_before, err));
    AA_TRY(aa_json_str(o, "rope_type", f->path, type_before, &type, err));
    AA_TRY(aa_json_real(o, "partial_rotary_factor", f->path, 0, 1, 1, &partial, err));
    AA_TRY(aa_json_real(o, "rope_theta", f->path, 1, 1e12, out->theta, &out->theta, err));
    if (partial != 1 || present(o, "full_attention") || present(o, "sliding_attention"))
        return refuse(f, section, "partial rotation and rotation by layer type are not supported",
                      err);
    out->scaling = AA_ROPE_PLAIN;
    if (strcmp(type, "default") == 0) return AA_OK;
    if (strcmp(type, "linear") && strcmp(type, "llama3"))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"%s\" has the type '%.60s'; supported are "
                       "default, linear and llama3", f->path, section, type);
    out->scaling = strcmp(type, "linear") == 0 ? AA_ROPE_LINEAR : AA_ROPE_LLAMA3;
    AA_TRY(rope_number(f, o, "factor", 1, 1e6, &out->factor, err));
    if (out->scaling == AA_ROPE_LINEAR) return AA_OK;
    AA_TRY(rope_number(f, o, "low_freq_factor", 0, 1e6, &out->low, err));
    AA_TRY(rope_number(f, o, "high_freq_factor", 0, 1e6, &out->high, err));
    return aa_json_int_need(o, "original_max_position_embeddings", f->path, 1, INT32_MAX,
                            &out->original, err);
}

static bool rope_equal(const rope *a, const rope *b) {
    return a->scaling == b->scaling && a->theta == b->theta && a->factor == b->factor &&
           a->low == b->low && a->high == b->high && a->original == b->original;
}

static aa_status parse_rope(const config_file *f, aa_config *c, aa_err *err) {
    rope top = {.scaling = AA_ROPE_PLAIN}, old, new;
    bool has_old = present(f->o, "rope_scaling"), has_new = present(f->o, "rope_parameters");

    AA_TRY(aa_json_real(f->o, "rope_theta", f->path, 1, 1e12, 10000, &top.theta, err));
    old = new = top;
    if (has_old) AA_TRY(parse_rope_section(f, "rope_scaling", &old, err));
    if (has_new) AA_TRY(parse_rope_section(f, "rope_parameters", &new, err));
    if (present(f->o, "rope_theta") &&
        (top.theta != new.theta || top.theta != old.theta))
        return refuse(f, "rope_theta", "differs from the value inside the rope section", err);
    if (has_old && has_new && !rope_equal(&old, &new))
        return refuse(f, "rope_parameters", "differs from \"rope_scaling\"", err);
    const rope *r = has_new ? &new : &old;
    c->rope_theta = r->theta;
    c->rope_scaling = r->scaling;
    c->rope_factor = r->factor;
    c->rope_low_freq = r->low;
    c->rope_high_freq = r->high;
    c->rope_original_seq = r->original;
    return AA_OK;
}

static aa_status parse_config(config_file *f, aa_config *c, aa_err *err) {
    aa_err problem = {0};

    if (!json_is_object(f->o)) return aa_fail(err, AA_EFORMAT, "'%s' is no JSON object", f->path);
    AA_TRY(parse_family(f, err));
    c->arch = f->family->arch;
    AA_TRY(refuse_foreign_features(f, err));
    AA_TRY(parse_sizes(f, c, err));
    AA_TRY(parse_flags(f, c, err));
    AA_TRY(refuse_sliding_window(f, c, err));
    AA_TRY(parse_rope(f, c, err));
    AA_TRY(aa_json_real(f->o, "rms_norm_eps", f->path, 1e-30, 0.1, 1e-6, &c->norm_eps, err));
    c->residual_scale = 1;
    aa_status st = aa_config_resolve(c, &problem);
    if (st == AA_EUSAGE)                         /* a bad file, not a bad command line */
        return aa_fail(err, AA_EFORMAT, "'%s': %s", f->path, problem.message);
    return st ? aa_fail(err, st, "%s", problem.message) : AA_OK;
}

aa_status aa_hf_config_parse(aa_config *out, const char *path, aa_err *err) {
    aa_config c = {0};
    json_t *o = NULL;

    AA_TRY(aa_json_load(&o, path, err));
    aa_status st = parse_config(&(config_file){o, path, NULL}, &c, err);
    json_decref(o);
    if (!st) *out = c;
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void key(aa_text *t, const char *name) {
    aa_text_add(t, t->len && t->data[t->len - 1] == '{' ? "\n  " : ",\n  ");
    aa_text_json_string(t, name, strlen(name));
    aa_text_add(t, ": ");
}

static void put_int(aa_text *t, const char *name, int64_t v) {
    key(t, name);
    aa_text_json_int(t, v);
}

static void put_flag(aa_text *t, const char *name, bool v) {
    key(t, name);
    aa_text_json_bool(t, v);
}

static void put_raw(aa_text *t, const char *name, const char *v) {
    key(t, name);
    aa_text_add(t, v);
}

/* Always with a point or an exponent: the classes of transformers check for float, not int. */
static void put_real(aa_text *t, double v) {
    size_t before = t->len;

    aa_text_json_real(t, v);
    if (!t->failed && !strpbrk(t->data + before, ".eEn")) aa_text_add(t, ".0");
}

static void put_inner(aa_text *t, const char *name, double v) {
    aa_text_printf(t, ", \"%s\": ", name);
    put_real(t, v);
}

static void put_id(aa_text *t, const char *name, int32_t id) {
    if (id < 0) put_raw(t, name, "null");
    else put_int(t, name, id);
}

static void put_rope_section(aa_text *t, const char *name, const aa_config *c, bool with_theta) {
    static const char *const types[] = {"default", "linear", "llama3"};

    key(t, name);
    aa_text_printf(t, "{\"rope_type\": \"%s\"", types[c->rope_scaling]);
    if (with_theta) put_inner(t, "rope_theta", c->rope_theta);
    if (c->rope_scaling != AA_ROPE_PLAIN) put_inner(t, "factor", c->rope_factor);
    if (c->rope_scaling == AA_ROPE_LLAMA3) {
        put_inner(t, "low_freq_factor", c->rope_low_freq);
        put_inner(t, "high_freq_factor", c->rope_high_freq);
        aa_text_add(t, ", \"original_max_position_embeddings\": ");
        aa_text_json_int(t, c->rope_original_seq);
    }
    aa_text_add(t, "}");
}

static aa_status check_expressible(const aa_config *c, aa_err *err) {
    if (c->arch == AA_ARCH_LLAMA && c->dim % c->heads)
        return aa_fail(err, AA_EUNSUPPORTED, "a llama config.json needs a dim (%lld) that is a "
                       "multiple of heads (%lld), even where head-dim is given; change one of them "
                       "or use qwen3", (long long)c->dim, (long long)c->heads);
    return AA_OK;
}

static const char *torch_name(aa_type type) {
    return type == AA_TYPE_F16    ? "float16"
           : type == AA_TYPE_BF16 ? "bfloat16"
           : type == AA_TYPE_F64  ? "float64"
                                  : "float32";
}

aa_status aa_hf_config_json(const aa_config *c, const aa_tokenizer *t, aa_type weights,
                            aa_text *out, aa_err *err) {
    AA_TRY(check_expressible(c, err));
    aa_text_add(out, "{");
    key(out, "architectures"), aa_text_printf(out, "[\"%s\"]", families[c->arch].class);
    key(out, "model_type"), aa_text_printf(out, "\"%s\"", aa_arch_name(c->arch));
    put_int(out, "vocab_size", c->vocab);
    put_int(out, "hidden_size", c->dim);
    put_int(out, "intermediate_size", c->ffn);
    put_int(out, "num_hidden_layers", c->layers);
    put_int(out, "num_attention_heads", c->heads);
    put_int(out, "num_key_value_heads", c->kv_heads);
    put_int(out, "head_dim", c->head_dim);
    put_raw(out, "hidden_act", "\"silu\"");
    put_int(out, "max_position_embeddings", c->seq);
    key(out, "rms_norm_eps"), put_real(out, c->norm_eps);
    put_raw(out, "initializer_range", "0.02");
    put_flag(out, "tie_word_embeddings", c->tied);
    if (c->arch != AA_ARCH_QWEN2) put_flag(out, "attention_bias", c->qkv_bias);
    if (c->arch == AA_ARCH_LLAMA) put_flag(out, "mlp_bias", c->mlp_bias);
    else put_flag(out, "use_sliding_window", false);
    put_raw(out, "attention_dropout", "0.0");
    key(out, "rope_theta"), put_real(out, c->rope_theta);
    if (c->rope_scaling == AA_ROPE_PLAIN) put_raw(out, "rope_scaling", "null");
    else put_rope_section(out, "rope_scaling", c, false);
    put_rope_section(out, "rope_parameters", c, true);
    put_id(out, "bos_token_id", t ? aa_tokenizer_bos(t) : -1);
    put_id(out, "eos_token_id", t ? aa_tokenizer_eos(t) : -1);
    put_id(out, "pad_token_id", -1);
    put_flag(out, "use_cache", true);
    key(out, "torch_dtype"), aa_text_printf(out, "\"%s\"", torch_name(weights));
    key(out, "dtype"), aa_text_printf(out, "\"%s\"", torch_name(weights));
    aa_text_add(out, "\n}\n");
    return aa_text_status(out, err);
}
