/* convert/adapter_peft: a PEFT directory as an adapter.
 *
 * PEFT builds a model's adapters from adapter_config.json, by the names of modules, and then fills
 * in what adapter_model.safetensors has. We read the other way round, from the tensors, and refuse
 * what PEFT would not have put there: a rank that is not the config's, a tensor of a module that is
 * no target (PEFT leaves it out without a word), a target without tensors. So both compute alike.
 *
 * Names are matched as there (peft/utils/other.py, tuners/tuners_utils.py): of targets a list holds
 * whole names or what follows a dot at their end, and a string is a regex of the whole name. The
 * keys of rank_pattern and alpha_pattern are regexes of an end of the name that follows a dot, the
 * first that matches counting. Of keys of the config that we do not know any value is refused that
 * is not one of Python's for nothing: what PEFT adds tomorrow must not be ignored today.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "convert/adapter_int.h"
#include "formats/safetensors.h"

/* What a pattern may cost: matches tried, and KiB for them. Names are short. */
enum { MATCH_LIMIT = 20000, HEAP_LIMIT = 256 };

typedef struct pattern { pcre2_code *re; const json_t *value; } pattern;

typedef struct peft {
    char *config_path;
    json_t *config;
    aa_safetensors file;
    pcre2_general_context *general;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    pattern *ranks, *alphas; size_t n_ranks, n_alphas;
    pattern target, exclude;             /* where they are strings */
    int64_t r;
    double alpha;
    bool dora;
} peft;

/* ---- patterns -------------------------------------------------------------------------------- */

static void *regex_alloc(size_t n, void *ctx) {
    (void)ctx;
    return aa_heap_alloc(n, 1);
}

static void regex_free(void *p, void *ctx) {
    (void)ctx;
    aa_heap_free(p);
}

static aa_status open_matcher(peft *p, aa_err *err) {
    p->general = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    p->limits = p->general ? pcre2_match_context_create(p->general) : NULL;
    p->match = p->limits ? pcre2_match_data_create(1, p->general) : NULL;
    if (!p->match) return aa_fail_memory(err, "a matcher of names", 0);
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT);
    return AA_OK;
}

/* before and after surround the text, as PEFT does. */
static aa_status compile(peft *p, const char *key, const char *before, const char *text,
                         const char *after, pcre2_code **out, aa_err *err) {
    char *whole = aa_heap_printf("%s%s%s", before, text, after);
    pcre2_compile_context *context = whole ? pcre2_compile_context_create(p->general) : NULL;
    unsigned char said[128] = "";
    int code = 0;
    PCRE2_SIZE at = 0;

    if (context)
        *out = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                             &at, context);
    pcre2_compile_context_free(context);
    aa_heap_free(whole);
    if (*out) return AA_OK;
    if (!context || code == PCRE2_ERROR_NOMEMORY) return aa_fail_memory(err, "a pattern", 0);
    pcre2_get_error_message(code, said, sizeof said);
    return aa_fail(err, AA_EFORMAT, "'%s': key \"%s\": '%.80s' is no regex: %s", p->config_path,
                   key, text, said);
}

static aa_status matches(const peft *p, const pcre2_code *re, const char *name, bool *out,
                         aa_err *err) {
    int found = pcre2_match(re, (PCRE2_SPTR)name, strlen(name), 0, PCRE2_ANCHORED, p->match,
                            p->limits);

    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': a pattern takes too long to match '%s' (PCRE2 "
                       "error %d): write it more simply", p->config_path, name, found);
    *out = found >= 0;
    return AA_OK;
}

/* The object {pattern: number} at key. */
static aa_status read_patterns(peft *p, const char *key, pattern **out, size_t *n, aa_err *err) {
    json_t *o = json_object_get(p->config, key), *value;
    const char *text;

    if (!o || json_is_null(o)) return AA_OK;
    if (!json_is_object(o))
        return aa_fail(err, AA_EFORMAT, "'%s': \"%s\" must be an object", p->config_path, key);
    *out = aa_heap_alloc(json_object_size(o) + 1, sizeof **out);
    if (!*out) return aa_fail_memory(err, "patterns", json_object_size(o) * sizeof **out);
    json_object_foreach(o, text, value) {
        if (!json_is_number(value))
            return aa_fail(err, AA_EFORMAT, "'%s': \"%s\": the value of '%.80s' must be a number",
                           p->config_path, key, text);
        (*out)[*n].value = value;
        AA_TRY(compile(p, key, "^(.*\\.)?(", text, ")$", &(*out)[(*n)++].re, err));
    }
    return AA_OK;
}

static aa_status pattern_number(const peft *p, const pattern *list, size_t n, const char *module,
                                double *out, aa_err *err) {
    bool found = false;

    for (size_t i = 0; i < n && !found; i++) {
        AA_TRY(matches(p, list[i].re, module, &found, err));
        if (found) *out = json_number_value(list[i].value);
    }
    return AA_OK;
}

/* ---- which modules --------------------------------------------------------------------------- */

/* A list of strings, or a string, which is compiled as a regex of whole names; null or absent. */
static aa_status check_names(peft *p, const char *key, pattern *regex, aa_err *err) {
    const json_t *v = json_object_get(p->config, key), *one;
    size_t i;

    if (json_is_string(v) && regex)
        return compile(p, key, "^(?:", json_string_value(v), ")$", &regex->re, err);
    json_array_foreach(v, i, one)
        if (!json_is_string(one)) break;
    if (!v || json_is_null(v) || (json_is_array(v) && i == json_array_size(v))) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "'%s': \"%s\" must be a list of strings%s", p->config_path, key,
                   regex ? ", or a string" : "");
}

static bool ends_module(const char *module, const char *end) {
    size_t n = strlen(module), m = strlen(end);

    return aa__ends_with(module, n, end) && (n == m || module[n - m - 1] == '.');
}

/* Whether the names at key, a list or the regex, have this one. */
static aa_status named(const peft *p, const char *key, const pattern *regex, const char *module,
                       bool *out, aa_err *err) {
    const json_t *list = json_object_get(p->config, key), *one;
    size_t i;

    if (regex->re) return matches(p, regex->re, module, out, err);
    *out = false;
    json_array_foreach(list, i, one) *out |= ends_module(module, json_string_value(one));
    return AA_OK;
}

/* Whether the module, or one that it is part of, is saved whole instead. */
static bool is_saved(const peft *p, const char *module) {
    const json_t *list = json_object_get(p->config, "modules_to_save"), *one;
    size_t i;

    json_array_foreach(list, i, one) {
        const char *name = json_string_value(one);
        size_t n = strlen(name);

        for (const char *at = module; n && (at = strstr(at, name)); at++)
            if ((at == module || at[-1] == '.') && (at[n] == '.' || !at[n])) return true;
    }
    return false;
}

/* layers_to_transform: an index or a list of them; absent, null or empty: all. */
static bool layer_is_meant(const peft *p, const char *module) {
    const json_t *layers = json_object_get(p->config, "layers_to_transform"), *one;
    size_t i;
    int layer;

    if (json_is_integer(layers) || json_array_size(layers)) {
        if (sscanf(module, "model.layers.%9d.", &layer) != 1) return false;
        if (json_is_integer(layers)) return json_integer_value(layers) == layer;
        json_array_foreach(layers, i, one)
            if (json_integer_value(one) == layer) return true;
        return false;
    }
    return true;
}

/* Whether PEFT would put an adapter there. */
static aa_status is_target(const peft *p, const char *module, bool *out, aa_err *err) {
    const char *all = json_string_value(json_object_get(p->config, "target_modules"));
    bool excluded = false;

    *out = false;
    AA_TRY(named(p, "exclude_modules", &p->exclude, module, &excluded, err));
    if (excluded || is_saved(p, module)) return AA_OK;
    if (all && strcmp(all, "all-linear") == 0) {
        *out = strstr(module, "_proj") != NULL;
        return AA_OK;
    }
    AA_TRY(named(p, "target_modules", &p->target, module, out, err));
    if (!all) *out &= layer_is_meant(p, module);
    return AA_OK;
}

/* ---- the config ------------------------------------------------------------------------------ */

static bool is_nothing(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_string(v) && json_string_length(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

/* Keys that are read here, or that change nothing once there are weights. fan_in_fan_out does not
 * concern the linear maps of our models: PEFT sets it to false. */
static bool is_known(const char *key) {
    static const char *const known[] = {
        "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying",
        "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights",
        "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout",
        "megatron_core", "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r",
        "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_dora",
        "use_rslora", "velora_config"};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(key, known[i]) == 0) return true;
    return false;
}

/* The value of key must be one of the words; nothing passes. */
static aa_status one_of(const peft *p, const char *key, const char *const *words, const char *why,
                        aa_err *err) {
    const json_t *v = json_object_get(p->config, key);
    const char *word = json_string_value(v);

    if (is_nothing(v) || json_is_true(v)) return AA_OK;
    for (; word && *words; words++)
        if (strcmp(word, *words) == 0) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"%s\" is '%.40s', which is not supported%s",
                   p->config_path, key, word ? word : "no string", why);
}

static aa_status refuse_foreign_features(const peft *p, aa_err *err) {
    static const char *const kinds[] = {"LORA", NULL}, *const biases[] = {"none", "all",
                                                                          "lora_only", NULL};
    static const char *const inits[] = {"gaussian", "eva", "orthogonal", NULL};
    const json_t *layers = json_object_get(p->config, "layers_pattern");
    json_t *value, *all = p->config;
    const char *key;

    if (!json_is_string(json_object_get(p->config, "peft_type")))
        return aa_fail(err, AA_EFORMAT, "'%s' lacks \"peft_type\"", p->config_path);
    AA_TRY(one_of(p, "peft_type", kinds, ": adapters must be LORA", err));
    AA_TRY(one_of(p, "bias", biases, "", err));
    AA_TRY(one_of(p, "init_lora_weights", inits, ": it changes the base model's weights, too; save "
                  "the adapter with path_initial_model_for_weight_conversion in PEFT", err));
    if (json_array_size(layers) == 1) layers = json_array_get(layers, 0);
    if (!is_nothing(layers) &&
        (!json_is_string(layers) || strcmp(json_string_value(layers), "layers") != 0))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': \"layers_pattern\" must be 'layers'",
                       p->config_path);
    json_object_foreach(all, key, value)
        if (!is_known(key) && !is_nothing(value))
            return aa_fail(err, AA_EUNSUPPORTED, "'%s': key \"%.80s\": this feature is not "
                           "supported", p->config_path, key);
    return AA_OK;
}

static aa_status read_config(aa_adapter *a, peft *p, aa_err *err) {
    const char *base = NULL;
    bool tied = false;

    AA_TRY(aa_json_load(&p->config, p->config_path, err));
    if (!json_is_object(p->config))
        return aa_fail(err, AA_EFORMAT, "'%s' must be an object", p->config_path);
    AA_TRY(refuse_foreign_features(p, err));
    AA_TRY(aa_json_int(p->config, "r", p->config_path, 1, INT32_MAX, 8, &p->r, err));
    AA_TRY(aa_json_real(p->config, "lora_alpha", p->config_path, -1e9, 1e9, 8, &p->alpha, err));
    AA_TRY(aa_json_real(p->config, "lora_dropout", p->config_path, 0, 1, 0, &a->dropout, err));
    AA_TRY(aa_json_flag(p->config, "use_rslora", p->config_path, false, &a->rslora, err));
    AA_TRY(aa_json_flag(p->config, "use_dora", p->config_path, false, &p->dora, err));
    AA_TRY(aa_json_flag(p->config, "ensure_weight_tying", p->config_path, false, &tied, err));
    AA_TRY(aa_json_str(p->config, "base_model_name_or_path", p->config_path, NULL, &base, err));
    if (base && !(a->base_name = aa_heap_strdup(base))) return aa_fail_memory(err, "a path", 0);
    AA_TRY(open_matcher(p, err));
    AA_TRY(read_patterns(p, "rank_pattern", &p->ranks, &p->n_ranks, err));
    AA_TRY(read_patterns(p, "alpha_pattern", &p->alphas, &p->n_alphas, err));
    if (is_nothing(json_object_get(p->config, "target_modules")))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s' names no \"target_modules\"", p->config_path);
    AA_TRY(check_names(p, "target_modules", &p->target, err));
    AA_TRY(check_names(p, "exclude_modules", &p->exclude, err));
    AA_TRY(check_names(p, "modules_to_save", NULL, err));
    a->splits_table = !tied && is_saved(p, "model.embed_tokens");
    return AA_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static aa_status stored_of(const peft *p, const aa_st_tensor *t, int n_dims, aa_stored *out,
                           aa_err *err) {
    for (int type = 0; type < AA_TYPE_COUNT && t->n_dims == n_dims && t->n_elements; type++) {
        if (strcmp(aa_type_name((aa_type)type), aa_dtype_name(t->dtype)) != 0) continue;
        *out = (aa_stored){.type = (aa_type)type, .rows = n_dims == 2 ? t->shape[0] : 1,
                           .cols = t->shape[n_dims - 1],
                           .data = aa_safetensors_data(&p->file, t)};
        return AA_OK;
    }
    return aa_fail(err, AA_EFORMAT, "'%s': tensor '%.120s' must be %s of floats, and not empty",
                   p->file.path, t->name, n_dims == 2 ? "a matrix" : "a vector");
}

/* The tensor of a module (n characters, prefix and all) with this ending, or NULL. */
static const aa_st_tensor *part(const peft *p, const char *module, size_t n, const char *end) {
    char name[256];
    int len = snprintf(name, sizeof name, "%.*s%s", (int)n, module, end);

    return len < (int)sizeof name ? aa_safetensors_find(&p->file, name) : NULL;
}

/* What is read with A. */
static const char A_END[] = ".lora_A.weight", B_END[] = ".lora_B.weight";
static const char *const magnitude_ends[] = {".lora_magnitude_vector",
                                             ".lora_magnitude_vector.weight"};

/* The config's rank and alpha of a row that is otherwise complete. */
static aa_status check_config(const peft *p, aa_adapter_row *row, aa_err *err) {
    double r = (double)p->r;
    char module[sizeof row->name];
    bool target;

    snprintf(module, sizeof module, "%.*s", (int)(strlen(row->name) - strlen(".weight")),
             row->name);
    row->alpha = p->alpha;
    AA_TRY(pattern_number(p, p->ranks, p->n_ranks, module, &r, err));
    AA_TRY(pattern_number(p, p->alphas, p->n_alphas, module, &row->alpha, err));
    AA_TRY(is_target(p, module, &target, err));
    if (!target)
        return aa_fail(err, AA_EFORMAT, "'%s' has tensors for '%s', which \"target_modules\" in "
                       AA__PEFT_CONFIG " does not mean: PEFT would leave them out", p->file.path,
                       module);
    if ((double)row->A.rows != r || row->B.cols != row->A.rows)
        return aa_fail(err, AA_EFORMAT, "'%s': the rank of '%s' is %g by " AA__PEFT_CONFIG ", but "
                       "A is [%zu,%zu] and B is [%zu,%zu]", p->file.path, module, r, row->A.rows,
                       row->A.cols, row->B.rows, row->B.cols);
    if (p->dora != (row->magnitude.data != NULL))
        return aa_fail(err, AA_EFORMAT, "'%s': \"use_dora\" is %s, but '%s' has %s magnitude "
                       "vector", p->config_path, p->dora ? "true" : "false", module,
                       p->dora ? "no" : "a");
    return AA_OK;
}

/* t is the A of a module. */
static aa_status read_low_rank(aa_adapter *a, const aa_st_tensor *t, aa_err *err) {
    const peft *p = a->self;
    const size_t n = strlen(t->name) - strlen(A_END), skip = strlen(AA__PEFT_PREFIX);
    const aa_st_tensor *b = part(p, t->name, n, B_END);
    const aa_st_tensor *m = part(p, t->name, n, magnitude_ends[0]);
    const aa_st_tensor *whole = part(p, t->name, n, ".base_layer.weight");
    aa_adapter_row *row;

    if (!m) m = part(p, t->name, n, magnitude_ends[1]);
    if (!b)
        return aa_fail(err, AA_EFORMAT, "'%s' has the tensor '%.120s', but not the B that goes "
                       "with it", p->file.path, t->name);
    AA_TRY(aa__adapter_add(a, t->name + skip, n - skip, ".weight", &row, err));
    AA_TRY(stored_of(p, t, 2, &row->A, err));
    AA_TRY(stored_of(p, b, 2, &row->B, err));
    if (m) AA_TRY(stored_of(p, m, 1, &row->magnitude, err));
    if (whole) AA_TRY(stored_of(p, whole, 2, &row->whole, err));
    return check_config(p, row, err);
}

/* A row that is taken over: of a module that is adapted, too, "base_layer" is in between. */
static aa_status read_whole(aa_adapter *a, const aa_st_tensor *t, aa_err *err) {
    static const char base[] = ".base_layer";
    const peft *p = a->self;
    const char *name = t->name + strlen(AA__PEFT_PREFIX), *end = strrchr(name, '.');
    size_t n = end ? (size_t)(end - name) : 0;
    aa_adapter_row *row;

    if (!end || (strcmp(end, ".weight") != 0 && strcmp(end, ".bias") != 0) || strstr(name, "lora_"))
        return aa_fail(err, AA_EUNSUPPORTED, "'%s': tensor '%.120s' is nothing that can be applied "
                       "to a linear map or in place of a tensor", p->file.path, t->name);
    if (aa__ends_with(name, n, base)) n -= strlen(base);
    AA_TRY(aa__adapter_add(a, name, n, end, &row, err));
    return stored_of(p, t, t->n_dims == 2 ? 2 : 1, &row->whole, err);
}

static aa_status read_tensor(aa_adapter *a, const aa_st_tensor *t, aa_err *err) {
    const peft *p = a->self;
    const char *const with_A[] = {B_END, magnitude_ends[0], magnitude_ends[1],
                                  ".base_layer.weight"};
    size_t n = strlen(t->name);

    if (strncmp(t->name, AA__PEFT_PREFIX, strlen(AA__PEFT_PREFIX)) != 0)
        return aa_fail(err, AA_EFORMAT, "'%s': the name of tensor '%.120s' does not begin with "
                       AA__PEFT_PREFIX, p->file.path, t->name);
    if (aa__ends_with(t->name, n, A_END)) return read_low_rank(a, t, err);
    for (size_t i = 0; i < sizeof with_A / sizeof *with_A; i++)
        if (aa__ends_with(t->name, n, with_A[i]) &&
            part(p, t->name, n - strlen(with_A[i]), A_END))
            return AA_OK;
    return read_whole(a, t, err);
}

/* ---- the adapter ----------------------------------------------------------------------------- */

/* Every target of the base is there. */
static aa_status peft_bind(aa_adapter *a, const aa_config *base, aa_err *err) {
    const peft *p = a->self;
    aa_tensor *rows = NULL;
    size_t n = 0;
    aa_status st = aa__base_rows(base, &rows, &n, err);

    for (size_t i = 0; !st && i < n; i++) {
        const aa_adapter_row *row = aa_adapter_find(a, rows[i].name);
        char *end = strrchr(rows[i].name, '.');
        bool target = false;

        if (aa_tensor_is_vector(&rows[i]) || (row && row->A.data)) continue;
        *end = 0;
        st = is_target(p, rows[i].name, &target, err);
        if (!st && target)
            st = aa_fail(err, AA_EFORMAT, "'%s' lacks the tensors of '%s', which " AA__PEFT_CONFIG
                         " says is adapted", p->file.path, rows[i].name);
    }
    aa_heap_free(rows);
    return st;
}

static void free_patterns(pattern *list, size_t n) {
    for (size_t i = 0; i < n; i++) pcre2_code_free(list[i].re);
    aa_heap_free(list);
}

static void peft_close(aa_adapter *a) {
    peft *p = a->self;

    free_patterns(p->ranks, p->n_ranks);
    free_patterns(p->alphas, p->n_alphas);
    pcre2_code_free(p->target.re);
    pcre2_code_free(p->exclude.re);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->general);
    json_decref(p->config);
    aa_safetensors_close(&p->file);
    aa_heap_free(p->config_path);
    aa_heap_free(p);
    a->self = NULL;
}

static aa_status open_weights(aa_adapter *a, peft *p, aa_err *err) {
    aa_sys_kind kind;

    AA_TRY(aa__kind_of(&kind, a->path, AA__PEFT_WEIGHTS, err));
    if (kind != AA_SYS_FILE)
        return aa_fail(err, AA_ENOTFOUND, "'%s' has no " AA__PEFT_WEIGHTS "; an adapter in another "
                       "format must be saved as safetensors first", a->path);
    char *path = aa_path_join(a->path, AA__PEFT_WEIGHTS);
    if (!path) return aa_fail_memory(err, "a path", 0);
    aa_status st = aa_safetensors_open(&p->file, path, err);
    aa_heap_free(path);
    const char *base = st ? NULL : aa_safetensors_metadata(&p->file, AA__BASE_DIGEST);
    if (base && !aa_digest_parse(base, &a->base_digest))
        st = aa_fail(err, AA_EFORMAT, "'%s': metadata " AA__BASE_DIGEST ": '%.40s' is not a digest "
                     "of 32 hexadecimal digits", p->file.path, base);
    return st;
}

aa_status aa__peft_open(aa_adapter *a, aa_err *err) {
    peft *p = aa_heap_alloc(1, sizeof *p);

    if (!p) return aa_fail_memory(err, "an adapter", sizeof *p);
    a->self = p;
    a->close = peft_close;
    a->bind = peft_bind;
    a->format = "peft";
    p->config_path = aa_path_join(a->path, AA__PEFT_CONFIG);
    if (!p->config_path) return aa_fail_memory(err, "a path", 0);
    AA_TRY(read_config(a, p, err));
    AA_TRY(open_weights(a, p, err));
    a->rows = aa_heap_alloc(p->file.n_tensors + 1, sizeof *a->rows);
    if (!a->rows) return aa_fail_memory(err, "rows", p->file.n_tensors * sizeof *a->rows);
    for (size_t i = 0; i < p->file.n_tensors; i++)
        AA_TRY(read_tensor(a, &p->file.tensors[i], err));
    if (a->n_rows) return AA_OK;
    return aa_fail(err, AA_EFORMAT, "'%s' holds no tensors", p->file.path);
}
