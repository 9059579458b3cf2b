/* data/tokenizer_read: tokenizer.json into a spec.
 *
 * What would change the ids and is not known here is refused by name; what only matters to the
 * library (offsets, truncation, padding) is passed over. The file does not say which tokens begin
 * and end a text: a tokenizer_config.json beside it does, else well-known names are looked for.
 */
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "sys/sys.h"
#include "data/tokenizer_int.h"

typedef struct reader {
    const char *name; /* of the file, for messages */
    const json_t *root, *model, *vocab;
    aa_arena arena;
    aa_tokenizer_spec spec;
    bool spm; /* SentencePiece's kind, by its decoder */
    bool byte_fallback, marks_spaces;
    const char **piece;
    size_t *piece_len;
    uint8_t *token_type;
    int32_t (*merges)[2];
    aa_added_token *added;
    aa_err *err;
} reader;

static aa_status unsupported(const reader *r, const char *key, const json_t *found,
                             const char *known) {
    aa_text text = {0};
    if (found) aa_json_write(found, &text);
    aa_status st = aa_fail(r->err, AA_EUNSUPPORTED, "%s: \"%s\" is %.100s; supported: %s", r->name,
                           key, text.data ? text.data : "missing", known);
    aa_text_release(&text);
    return st;
}

static aa_status malformed(const reader *r, const char *key, const char *want) {
    return aa_fail(r->err, AA_EFORMAT, "%s: \"%s\" must be %s", r->name, key, want);
}

static bool has_type(const json_t *o, const char *type) {
    const char *s = json_string_value(json_object_get(o, "type"));
    return s && strcmp(s, type) == 0;
}

static bool absent(const json_t *v) { return !v || json_is_null(v); }

/* ---- the model ------------------------------------------------------------------------------- */

static aa_status read_model_flags(reader *r) {
    const json_t *m = r->model, *v;
    if (!json_is_object(m)) return malformed(r, "model", "an object");
    if ((v = json_object_get(m, "type")) && !has_type(m, "BPE"))
        return unsupported(r, "model.type", v, "\"BPE\"");
    v = json_object_get(m, "dropout");
    if (!absent(v) && json_number_value(v) != 0.0)
        return unsupported(r, "model.dropout", v, "null");
    AA_TRY(aa_json_flag(m, "byte_fallback", r->name, false, &r->byte_fallback, r->err));
    if (r->byte_fallback && !r->spm)
        return unsupported(r, "model.byte_fallback", json_object_get(m, "byte_fallback"),
                           "false with a ByteLevel decoder");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        v = json_object_get(m, affixes[i]);
        if (!absent(v) && json_string_length(v)) return unsupported(r, affixes[i], v, "null");
    }
    AA_TRY(aa_json_flag(m, "ignore_merges", r->name, false, &r->spec.ignore_merges, r->err));
    AA_TRY(aa_json_flag(m, "fuse_unk", r->name, false, &r->spec.fuse_unk, r->err));
    r->vocab = json_object_get(m, "vocab");
    return json_is_object(r->vocab) ? AA_OK
                                    : malformed(r, "model.vocab", "an object of pieces and ids");
}

static const aa_added_token *added_with_id(const reader *r, int64_t id) {
    for (size_t i = 0; i < r->spec.n_added; i++)
        if (r->added[i].id == id) return &r->added[i];
    return NULL;
}

/* The bytes of an SPM key, which are no longer than it. */
static void read_spm_piece(reader *r, const char *key, size_t n, json_int_t id, char **bytes) {
    int byte = r->byte_fallback ? aa__byte_of_text(key, n) : -1;
    char *p = *bytes;
    for (size_t i = 0; byte < 0 && i < n; p++) {
        bool mark = n - i >= 3 && memcmp(key + i, AA__SPACE_MARK, 3) == 0;
        *p = mark ? ' ' : key[i];
        i += mark ? 3 : 1;
    }
    if (byte >= 0) *p++ = (char)byte;
    r->token_type[id] = byte >= 0 ? AA_TOKEN_BYTE : AA_TOKEN_NORMAL;
    r->piece[id] = *bytes;
    r->piece_len[id] = (size_t)(p - *bytes);
    *bytes = p;
}

static aa_status read_piece(reader *r, const char *key, const json_t *value, char **bytes) {
    json_int_t id = json_integer_value(value);
    size_t n = strlen(key), len;
    if (r->piece[id])
        return aa_fail(r->err, AA_EFORMAT,
                       "%s: \"model.vocab\": '%.60s' and another piece both have id %lld", r->name,
                       key, (long long)id);
    if (r->spm) {
        read_spm_piece(r, key, n, id, bytes);
        return AA_OK;
    }
    if (n && aa__stand_in_bytes(key, n, *bytes, &len)) {
        r->piece[id] = *bytes;
        r->piece_len[id] = len;
        *bytes += len;
        return AA_OK;
    }
    const aa_added_token *a = added_with_id(r, id);
    if (a && a->len == n && memcmp(a->text, key, n) == 0) return AA_OK;
    return aa_fail(
        r->err, AA_EUNSUPPORTED,
        "%s: \"model.vocab\": '%.60s' is not written in byte-level characters, as the decoder says",
        r->name, key);
}

/* A table has a place for every id up to the largest, so a large one in a small file is refused. */
static aa_status check_holes(const reader *r, size_t n_vocab) {
    enum { ALWAYS = 16384 };
    size_t n_ids = json_object_size(r->vocab) + r->spec.n_added;
    for (size_t i = 0; i < r->spec.n_added; i++)
        if ((size_t)r->added[i].id >= n_vocab) n_vocab = (size_t)r->added[i].id + 1;
    if (n_vocab <= n_ids + n_ids / 2 + ALWAYS) return AA_OK;
    return aa_fail(r->err, AA_EFORMAT,
                   "%s: the largest id is %zu, but only %zu pieces are there; ids must have few "
                   "gaps",
                   r->name, n_vocab - 1, n_ids);
}

static aa_status read_vocab(reader *r) {
    const char *key;
    json_t *value;
    size_t n_vocab = 0, n_bytes = 0;
    json_object_foreach((json_t *)(uintptr_t)r->vocab, key, value) {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= AA__VOCAB_MAX)
            return aa_fail(r->err, AA_EFORMAT,
                           "%s: \"model.vocab\": the id of '%.60s' must be an integer from 0 to %d",
                           r->name, key, AA__VOCAB_MAX - 1);
        if ((size_t)id >= n_vocab) n_vocab = (size_t)id + 1;
        n_bytes += strlen(key);
    }
    AA_TRY(check_holes(r, n_vocab));
    char *bytes = aa_arena_alloc(&r->arena, n_bytes, 1);
    r->piece = aa_arena_alloc(&r->arena, n_vocab, sizeof *r->piece);
    r->piece_len = aa_arena_alloc(&r->arena, n_vocab, sizeof *r->piece_len);
    r->token_type = r->spm ? aa_arena_alloc(&r->arena, n_vocab, 1) : NULL;
    AA_TRY(aa_arena_status(&r->arena, r->err));
    r->spec.n_vocab = n_vocab;
    r->spec.piece = r->piece;
    r->spec.piece_len = r->piece_len;
    r->spec.token_type = r->token_type;
    json_object_foreach((json_t *)(uintptr_t)r->vocab, key, value)
        AA_TRY(read_piece(r, key, value, &bytes));
    return AA_OK;
}

static aa_status merge_part(const reader *r, size_t i, const char *key, int32_t *out) {
    const json_t *id = json_object_get(r->vocab, key);
    if (!id)
        return aa_fail(r->err, AA_EFORMAT,
                       "%s: \"model.merges\"[%zu]: '%.60s' is not in the vocabulary", r->name, i,
                       key);
    *out = (int32_t)json_integer_value(id);
    return AA_OK;
}

/* "a b", or ["a", "b"]. */
static aa_status read_merge(reader *r, size_t i, const json_t *m) {
    const json_t *left = json_array_get(m, 0), *right = json_array_get(m, 1);
    if (json_is_array(m) && json_array_size(m) == 2 && json_is_string(left) &&
        json_is_string(right)) {
        AA_TRY(merge_part(r, i, json_string_value(left), &r->merges[i][0]));
        return merge_part(r, i, json_string_value(right), &r->merges[i][1]);
    }
    const char *s = json_string_value(m), *space = s ? strchr(s, ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        return aa_fail(r->err, AA_EFORMAT,
                       "%s: \"model.merges\"[%zu] must be two pieces, \"a b\" or [\"a\", \"b\"]",
                       r->name, i);
    char *key = aa_heap_strdup(s);
    if (!key) return aa_fail_memory(r->err, "a merge", strlen(s));
    key[space - s] = 0;
    aa_status st = merge_part(r, i, key, &r->merges[i][0]);
    if (!st) st = merge_part(r, i, key + (space - s) + 1, &r->merges[i][1]);
    aa_heap_free(key);
    return st;
}

static aa_status read_merges(reader *r) {
    const json_t *merges = json_object_get(r->model, "merges");
    if (!json_is_array(merges)) return malformed(r, "model.merges", "an array");
    r->merges = aa_arena_alloc(&r->arena, json_array_size(merges), sizeof *r->merges);
    AA_TRY(aa_arena_status(&r->arena, r->err));
    for (size_t i = 0; i < json_array_size(merges); i++)
        AA_TRY(read_merge(r, i, json_array_get(merges, i)));
    r->spec.n_merges = json_array_size(merges);
    r->spec.merges = (const int32_t(*)[2])r->merges;
    return AA_OK;
}

static aa_status read_added(reader *r) {
    const json_t *list = json_object_get(r->root, "added_tokens");
    if (absent(list)) return AA_OK;
    if (!json_is_array(list)) return malformed(r, "added_tokens", "an array");
    r->added = aa_arena_alloc(&r->arena, json_array_size(list), sizeof *r->added);
    AA_TRY(aa_arena_status(&r->arena, r->err));
    r->spec.added = r->added;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *content = json_object_get(o, "content");
        aa_added_token *a = &r->added[i];
        int64_t id;
        if (!json_is_object(o) || !json_is_string(content) || !json_string_length(content))
            return aa_fail(
                r->err, AA_EFORMAT,
                "%s: \"added_tokens\"[%zu] must be an object with a non-empty \"content\"", r->name,
                i);
        AA_TRY(aa_json_int_need(o, "id", r->name, 0, AA__VOCAB_MAX - 1, &id, r->err));
        AA_TRY(aa_json_flag(o, "special", r->name, false, &a->special, r->err));
        AA_TRY(aa_json_flag(o, "lstrip", r->name, false, &a->lstrip, r->err));
        AA_TRY(aa_json_flag(o, "rstrip", r->name, false, &a->rstrip, r->err));
        AA_TRY(aa_json_flag(o, "single_word", r->name, false, &a->single_word, r->err));
        AA_TRY(aa_json_flag(o, "normalized", r->name, !a->special, &a->normalized, r->err));
        a->id = (int32_t)id;
        a->len = json_string_length(content);
        a->text = aa_arena_strdup(&r->arena, json_string_value(content), a->len);
        r->spec.n_added++;
    }
    return aa_arena_status(&r->arena, r->err);
}

/* ---- normaliser and pre-tokenizer ------------------------------------------------------------ */

static const char *string_at(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* Whether o is a Replace of one text by another. */
static bool is_replace(const json_t *o, const char *from, const char *to) {
    return has_type(o, "Replace") && strcmp(string_at(o, "content"), to) == 0 &&
           strcmp(string_at(json_object_get(o, "pattern"), "String"), from) == 0;
}

static aa_status read_normalizer(reader *r, const json_t *o, int depth) {
    if (absent(o)) return AA_OK;
    if (has_type(o, "NFC") && !r->spm) {
        r->spec.nfc = true;
        return AA_OK;
    }
    if (r->spm && has_type(o, "Prepend") &&
        strcmp(string_at(o, "prepend"), AA__SPACE_MARK) == 0) {
        r->spec.prefix = AA_PREFIX_ALWAYS;
        return AA_OK;
    }
    if (r->spm && is_replace(o, " ", AA__SPACE_MARK)) {
        r->marks_spaces = true;
        return AA_OK;
    }
    const json_t *list = json_object_get(o, "normalizers");
    if (!has_type(o, "Sequence") || !json_is_array(list) || depth > 4)
        return unsupported(r, "normalizer", o,
                           r->spm ? "Prepend and Replace that put U+2581 for spaces" : "null, NFC");
    for (size_t i = 0; i < json_array_size(list); i++)
        AA_TRY(read_normalizer(r, json_array_get(list, i), depth + 1));
    return AA_OK;
}

enum { STEPS = 4 }; /* no supported pre-tokenizer has more than two */

static bool flatten(const json_t *o, const json_t **step, size_t *n, int depth) {
    if (!has_type(o, "Sequence")) {
        if (*n == STEPS) return false;
        step[(*n)++] = o;
        return true;
    }
    const json_t *list = json_object_get(o, "pretokenizers");
    if (!json_is_array(list) || depth > 4) return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!flatten(json_array_get(list, i), step, n, depth + 1)) return false;
    return true;
}

static aa_status read_split(reader *r, const json_t *o) {
    const char *regex = json_string_value(json_object_get(json_object_get(o, "pattern"), "Regex"));
    const char *behavior = json_string_value(json_object_get(o, "behavior"));
    bool invert;
    AA_TRY(aa_json_flag(o, "invert", r->name, false, &invert, r->err));
    if (!regex)
        return unsupported(r, "pre_tokenizer.pattern", json_object_get(o, "pattern"),
                           "{\"Regex\": ...}");
    if (invert || !behavior || strcmp(behavior, "Isolated") != 0)
        return unsupported(r, "pre_tokenizer.behavior", o, "\"Isolated\" with \"invert\" false");
    r->spec.regex = regex;
    r->spec.split = strcmp(regex, aa__regex_llama3) == 0  ? AA_SPLIT_LLAMA3
                    : strcmp(regex, aa__regex_qwen2) == 0 ? AA_SPLIT_QWEN2
                    : strcmp(regex, aa__regex_gpt2) == 0  ? AA_SPLIT_GPT2
                                                          : AA_SPLIT_REGEX;
    return AA_OK;
}

/* Spaces become U+2581 either in the normaliser or here. */
static aa_status read_metaspace(reader *r) {
    static const char known[] = "Metaspace with U+2581 and without split, or null after a "
                                "normalizer that replaces spaces by it";
    const json_t *o = json_object_get(r->root, "pre_tokenizer");
    const char *scheme = string_at(o, "prepend_scheme");
    bool split;
    if (absent(o) && r->marks_spaces) return AA_OK;
    if (!has_type(o, "Metaspace") || strcmp(string_at(o, "replacement"), AA__SPACE_MARK) != 0 ||
        r->marks_spaces || r->spec.prefix)
        return unsupported(r, "pre_tokenizer", o, known);
    AA_TRY(aa_json_flag(o, "split", r->name, true, &split, r->err));
    if (split) return unsupported(r, "pre_tokenizer", o, known);
    if (strcmp(scheme, "first") == 0) r->spec.prefix = AA_PREFIX_FIRST;
    else if (strcmp(scheme, "never") == 0) r->spec.prefix = AA_PREFIX_NONE;
    else if (!*scheme || strcmp(scheme, "always") == 0) r->spec.prefix = AA_PREFIX_UNLESS_SPACE;
    else return unsupported(r, "pre_tokenizer.prepend_scheme", o, "always, first, never");
    return AA_OK;
}

static aa_status read_pre_tokenizer(reader *r) {
    static const char known[] =
        "ByteLevel alone, after Digits (individual_digits), or (without its regex) after one Split";
    const json_t *o = json_object_get(r->root, "pre_tokenizer"), *step[STEPS] = {NULL};
    size_t n = 0;
    bool use_regex, single, spaced;
    if (r->spm) return read_metaspace(r);
    if (!flatten(o, step, &n, 0) || n < 1 || n > 2 || !has_type(step[n - 1], "ByteLevel"))
        return unsupported(r, "pre_tokenizer", o, known);
    AA_TRY(aa_json_flag(step[n - 1], "use_regex", r->name, true, &use_regex, r->err));
    AA_TRY(aa_json_flag(step[n - 1], "add_prefix_space", r->name, true, &spaced, r->err));
    r->spec.prefix = spaced ? AA_PREFIX_UNLESS_SPACE : AA_PREFIX_NONE;
    if (n == 1) {
        r->spec.split = use_regex ? AA_SPLIT_GPT2 : AA_SPLIT_NONE;
        return AA_OK;
    }
    if (spaced)
        return unsupported(r, "pre_tokenizer.add_prefix_space", step[1],
                           "false after another step");
    if (has_type(step[0], "Split") && !use_regex) return read_split(r, step[0]);
    AA_TRY(aa_json_flag(step[0], "individual_digits", r->name, false, &single, r->err));
    if (!has_type(step[0], "Digits") || !single || !use_regex)
        return unsupported(r, "pre_tokenizer", o, known);
    r->spec.split = AA_SPLIT_SMOLLM;
    return AA_OK;
}

/* ---- post-processor and decoder -------------------------------------------------------------- */

static aa_status read_template(reader *r, const json_t *o) {
    const json_t *single = json_object_get(o, "single"),
                 *first = json_object_get(json_array_get(single, 0), "SpecialToken");
    size_t n = json_array_size(single);
    if (n == 1 && json_object_get(json_array_get(single, 0), "Sequence")) return AA_OK;
    if (n != 2 || !first || !json_object_get(json_array_get(single, 1), "Sequence"))
        return unsupported(r, "post_processor.single", single,
                           "one special token or none before the text, nothing after it");
    const char *name = json_string_value(json_object_get(first, "id"));
    const json_t *ids = json_object_get(
        json_object_get(json_object_get(o, "special_tokens"), name ? name : ""), "ids");
    const json_t *id = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= AA__VOCAB_MAX)
        return malformed(r, "post_processor.special_tokens",
                         "an object that gives the token of \"single\" one id");
    r->spec.bos = (int32_t)json_integer_value(id);
    r->spec.add_bos = true;
    return AA_OK;
}

static aa_status read_post_processor(reader *r, const json_t *o, int depth) {
    if (absent(o) || has_type(o, "ByteLevel")) return AA_OK;
    if (has_type(o, "TemplateProcessing")) return read_template(r, o);
    const json_t *list = json_object_get(o, "processors");
    if (!has_type(o, "Sequence") || !json_is_array(list) || depth > 4)
        return unsupported(r, "post_processor", o, "null, ByteLevel, TemplateProcessing");
    for (size_t i = 0; i < json_array_size(list); i++)
        AA_TRY(read_post_processor(r, json_array_get(list, i), depth + 1));
    return AA_OK;
}

static bool is_strip(const json_t *o) {
    return has_type(o, "Strip") && strcmp(string_at(o, "content"), " ") == 0 &&
           json_integer_value(json_object_get(o, "start")) == 1 &&
           json_integer_value(json_object_get(o, "stop")) == 0;
}

/* The decoder tells the kind of tokenizer; SPM's takes off the space that was put before a text. */
static aa_status read_decoder(reader *r) {
    static const char known[] = "ByteLevel; or Replace of U+2581, ByteFallback, Fuse, and Strip of "
                                "one space where one is put before texts";
    const json_t *o = json_object_get(r->root, "decoder"), *list = json_object_get(o, "decoders");
    size_t n = json_array_size(list);
    if (!r->spm) {
        if (has_type(o, "Sequence") && n == 1) o = json_array_get(list, 0);
        return has_type(o, "ByteLevel") ? AA_OK : unsupported(r, "decoder", o, known);
    }
    if (n == (r->spec.prefix ? 4 : 3) && has_type(json_array_get(list, 1), "ByteFallback") &&
        has_type(json_array_get(list, 2), "Fuse") && (n == 3 || is_strip(json_array_get(list, 3))))
        return AA_OK;
    return unsupported(r, "decoder", o, known);
}

static bool is_spm(const json_t *root) {
    const json_t *list = json_object_get(json_object_get(root, "decoder"), "decoders");
    return is_replace(json_array_get(list, 0), AA__SPACE_MARK, " ");
}

/* ---- roles ----------------------------------------------------------------------------------- */

static int32_t id_of(const reader *r, const char *text) {
    for (size_t i = 0; i < r->spec.n_added; i++)
        if (strcmp(r->added[i].text, text) == 0) return r->added[i].id;
    const json_t *id = json_object_get(r->vocab, text);
    return id ? (int32_t)json_integer_value(id) : -1;
}

static aa_status read_role(reader *r, const json_t *config, const char *key,
                           const char *const *names, int32_t *out) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (json_is_string(v)) {
        *out = id_of(r, json_string_value(v));
        if (*out < 0)
            return aa_fail(
                r->err, AA_EFORMAT,
                "%s: the \"%s\" of tokenizer_config.json, '%.60s', is not in the vocabulary",
                r->name, key, json_string_value(v));
    } else if (!v) {
        for (; *names && *out < 0; names++) *out = id_of(r, *names);
    }
    return AA_OK;
}

static aa_status read_config(reader *r, const char *path, json_t **out) {
    const char *slash = strrchr(path, '/');
    int dir = slash ? (int)(slash - path) + 1 : 0;
    char *beside = aa_heap_printf("%.*stokenizer_config.json", dir, path);
    if (!beside) return aa_fail_memory(r->err, "a file name", strlen(path));
    aa_sys_info info;
    aa_status st = aa_sys_stat(&info, beside) == 0 && info.kind == AA_SYS_FILE
                       ? aa_json_load(out, beside, r->err)
                       : AA_OK;
    aa_heap_free(beside);
    return st;
}

static aa_status read_roles(reader *r, const char *path) {
    static const char *const bos[] = {"<|begin_of_text|>", "<s>", "<|startoftext|>",
                                      AA__END_OF_TEXT, NULL};
    static const char *const eos[] = {AA__END_OF_TEXT, "<|end_of_text|>", "</s>", "<|im_end|>",
                                      NULL};
    static const char *const none[] = {NULL};
    json_t *config = NULL;
    AA_TRY(read_config(r, path, &config));
    int32_t by_template = r->spec.bos;
    aa_status st = read_role(r, config, "bos_token", bos, &r->spec.bos);
    if (by_template >= 0) r->spec.bos = by_template;
    if (!st) st = read_role(r, config, "eos_token", eos, &r->spec.eos);
    if (!st) st = read_role(r, config, "pad_token", none, &r->spec.pad);
    json_decref(config);
    const char *unk = json_string_value(json_object_get(r->model, "unk_token"));
    if (!st && unk && (r->spec.unk = id_of(r, unk)) < 0)
        st = aa_fail(r->err, AA_EFORMAT, "%s: \"model.unk_token\" '%.60s' is not in the vocabulary",
                     r->name, unk);
    return st;
}

/* The tokenizer of plain bytes is recognised by what it does. */
static bool is_bytes(const aa_tokenizer_spec *s) {
    if (s->split != AA_SPLIT_NONE || s->n_merges || s->n_vocab > 257 || s->n_vocab < 256 ||
        s->n_added != 1 || s->nfc || s->prefix || s->add_bos || s->added[0].id != 256 ||
        !s->added[0].special || strcmp(s->added[0].text, AA__END_OF_TEXT) != 0)
        return false;
    for (int b = 0; b < 256; b++)
        if (!s->piece[b] || s->piece_len[b] != 1 || (unsigned char)s->piece[b][0] != b)
            return false;
    return true;
}

static aa_status read_all(reader *r, const char *path) {
    if (!json_is_object(r->root))
        return aa_fail(r->err, AA_EFORMAT, "%s: a tokenizer.json is a JSON object", r->name);
    r->model = json_object_get(r->root, "model");
    r->spm = is_spm(r->root);
    AA_TRY(read_model_flags(r));
    AA_TRY(read_added(r));
    AA_TRY(read_vocab(r));
    AA_TRY(read_merges(r));
    AA_TRY(read_normalizer(r, json_object_get(r->root, "normalizer"), 0));
    AA_TRY(read_pre_tokenizer(r));
    AA_TRY(read_post_processor(r, json_object_get(r->root, "post_processor"), 0));
    AA_TRY(read_decoder(r));
    AA_TRY(read_roles(r, path));
    r->spec.kind = r->spm                ? AA_TOKENIZER_SPM
                   : is_bytes(&r->spec) ? AA_TOKENIZER_BYTES
                                        : AA_TOKENIZER_BPE;
    return AA_OK;
}

static aa_status load_json(aa_tokenizer **out, const char *path, aa_err *err) {
    json_t *root = NULL;
    AA_TRY(aa_json_load(&root, path, err));
    reader r = {.name = path,
                .root = root,
                .err = err,
                .spec = {.split = AA_SPLIT_NONE, .bos = -1, .eos = -1, .pad = -1, .unk = -1}};
    aa_arena_init(&r.arena, "reading a tokenizer");
    aa_status st = read_all(&r, path);
    if (!st && (st = aa_tokenizer_new(out, &r.spec, err))) aa_err_context(err, "%s", path);
    aa_arena_release(&r.arena);
    json_decref(root);
    return st;
}

aa_status aa_tokenizer_load(aa_tokenizer **out, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    bool llama2c = aa__is_llama2c((const char *)map.data, map.size_bytes);
    aa_status st = AA_OK;
    if (llama2c && (st = aa__read_llama2c(out, (const char *)map.data, map.size_bytes, err)))
        aa_err_context(err, "%s", path);
    aa_sys_map_close(&map);
    return llama2c ? st : load_json(out, path, err);
}
