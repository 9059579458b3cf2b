/* data/tokenizer_ggml: vocabularies as GGUF files and llama2.c have them.
 *
 * GGUF says by a type what each token is, so what tokenizer.json calls an added token is here one
 * that is unknown, control or user-defined. Two things it does not say: the normaliser of qwen2
 * (Unicode NFC), which goes with the pre-tokenizer's name; and which rows have no token, which
 * converters fill with "[PADn]".
 *
 * llama2.c's tokenizer.bin is the same vocabulary as an SPM file's without types: the length of the
 * longest token, then for each id its score, length and text, to the end of the file.
 */
#include <stdio.h>
#include <string.h>
#include "data/tokenizer_int.h"
#include "sys/sys.h"

/* The names that llama.cpp has for the pre-tokenizers we know; the first one of each is written.
 * Those it reads like llama-bpe also take whole words before merging. */
static const struct {
    const char *name;
    aa_split split;
} pre_names[] = {
    {"gpt-2", AA_SPLIT_GPT2},       {"default", AA_SPLIT_GPT2},    {"phi-2", AA_SPLIT_GPT2},
    {"mpt", AA_SPLIT_GPT2},         {"olmo", AA_SPLIT_GPT2},       {"jais", AA_SPLIT_GPT2},
    {"roberta-bpe", AA_SPLIT_GPT2}, {"smollm", AA_SPLIT_SMOLLM},   {"starcoder", AA_SPLIT_SMOLLM},
    {"refact", AA_SPLIT_SMOLLM},    {"command-r", AA_SPLIT_SMOLLM}, {"codeshell", AA_SPLIT_SMOLLM},
    {"llama-bpe", AA_SPLIT_LLAMA3}, {"llama3", AA_SPLIT_LLAMA3},   {"llama-v3", AA_SPLIT_LLAMA3},
    {"falcon3", AA_SPLIT_LLAMA3},   {"qwen2", AA_SPLIT_QWEN2},     {"deepseek-r1-qwen",
                                                                    AA_SPLIT_QWEN2},
};
enum { N_PRE_NAMES = sizeof pre_names / sizeof *pre_names };

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    const aa_ggml_vocab *v;
    bool spm;
    aa_arena arena;
    aa_tokenizer_spec spec;
    const char **piece;
    size_t *piece_len;
    uint8_t *type;
    aa_added_token *added;
    int32_t *table; size_t mask; /* of tokens by their text; -1: none */
    aa_err *err;
} reader;

static aa_status read_pre(reader *r) {
    const char *pre = r->v->pre ? r->v->pre : "default";
    for (size_t i = 0; i < N_PRE_NAMES; i++) {
        if (strcmp(pre, pre_names[i].name) != 0) continue;
        r->spec.split = pre_names[i].split;
        r->spec.nfc = r->spec.split == AA_SPLIT_QWEN2;
        r->spec.ignore_merges = r->spec.split == AA_SPLIT_LLAMA3;
        return AA_OK;
    }
    return aa_fail(r->err, AA_EUNSUPPORTED,
                   "tokenizer.ggml.pre is '%.40s'; supported: gpt-2, smollm, llama-bpe, qwen2 and "
                   "names that mean the same",
                   pre);
}

/* What converters write for a row without a token. */
static bool is_hole(const char *text, size_t n, size_t id) {
    char pad[32];
    int k = snprintf(pad, sizeof pad, "[PAD%zu]", id);
    return n == (size_t)k && memcmp(text, pad, n) == 0;
}

static int32_t type_of(const reader *r, size_t i) {
    if (r->v->type) return r->v->type[i];
    bool byte = r->spm && aa__byte_of_text(r->v->token[i], r->v->token_len[i]) >= 0;
    return byte ? AA_TOKEN_BYTE : AA_TOKEN_NORMAL;
}

/* The bytes that token i of this type stands for, into *bytes, which they do not outgrow. */
static aa_status read_piece(reader *r, size_t i, int32_t type, char **bytes) {
    const char *text = r->v->token[i];
    size_t n = r->v->token_len[i], len = 0;
    bool known = true;
    if (r->spm && type == AA_TOKEN_BYTE) {
        int byte = aa__byte_of_text(text, n);
        known = byte >= 0;
        (*bytes)[len++] = (char)byte;
    } else if (r->spm) {
        for (size_t k = 0; k < n; len++) {
            bool mark = n - k >= 3 && memcmp(text + k, AA__SPACE_MARK, 3) == 0;
            (*bytes)[len] = mark ? ' ' : text[k];
            k += mark ? 3 : 1;
        }
    } else known = aa__stand_in_bytes(text, n, *bytes, &len);
    if (!known && (type == AA_TOKEN_NORMAL || type == AA_TOKEN_BYTE))
        return aa_fail(r->err, AA_EUNSUPPORTED,
                       "tokenizer.ggml.tokens[%zu], '%.*s', is %s", i, (int)(n < 60 ? n : 60), text,
                       r->spm ? "no byte of the form <0x0A>"
                              : "not written in GPT-2's characters for bytes");
    if (!known) return AA_OK;
    r->piece[i] = *bytes;
    r->piece_len[i] = len;
    *bytes += len;
    return AA_OK;
}

static aa_status read_token(reader *r, size_t i, char **bytes) {
    int32_t type = type_of(r, i);
    const char *text = r->v->token[i];
    size_t n = r->v->token_len[i];
    if (type < AA_TOKEN_NORMAL || type > AA_TOKEN_BYTE)
        return aa_fail(r->err, AA_EFORMAT, "tokenizer.ggml.token_type[%zu] is %d; types are 1 to 6",
                       i, (int)type);
    if (!n || (type == AA_TOKEN_UNUSED && is_hole(text, n, i))) return AA_OK;
    r->type[i] = (uint8_t)type;
    r->spec.n_vocab = i + 1;
    if (type == AA_TOKEN_UNKNOWN || type == AA_TOKEN_CONTROL || type == AA_TOKEN_USER)
        r->added[r->spec.n_added++] = (aa_added_token){
            .id = (int32_t)i, .text = (char *)(uintptr_t)text, .len = n,
            .special = type != AA_TOKEN_USER};
    return read_piece(r, i, type, bytes);
}

/* The place in the table of tokens by their text where this one is or would be. */
static int32_t *slot_of(reader *r, const char *text, size_t n) {
    size_t at = aa__hash_bytes(text, n) & r->mask;
    for (; r->table[at] >= 0; at = (at + 1) & r->mask) {
        size_t id = (size_t)r->table[at];
        if (r->v->token_len[id] == n && memcmp(r->v->token[id], text, n) == 0) break;
    }
    return &r->table[at];
}

/* "left right"; a space in first place is part of left, as llama.cpp has it. */
static aa_status read_merge(reader *r, size_t i, int32_t out[2]) {
    const char *text = r->v->merge[i];
    size_t n = r->v->merge_len[i];
    const char *space = n > 1 ? memchr(text + 1, ' ', n - 1) : NULL;
    size_t left = space ? (size_t)(space - text) : 0;
    out[0] = space ? *slot_of(r, text, left) : -1;
    out[1] = space ? *slot_of(r, space + 1, n - left - 1) : -1;
    if (out[0] >= 0 && out[1] >= 0) return AA_OK;
    return aa_fail(r->err, AA_EFORMAT,
                   "tokenizer.ggml.merges[%zu], '%.*s', must be two tokens with a space between", i,
                   (int)(n < 60 ? n : 60), text);
}

/* Merges name tokens by their text. */
static aa_status read_merges(reader *r) {
    size_t size = 16, n = r->v->n_merges;
    while (size < 2 * r->spec.n_vocab) size *= 2;
    r->table = aa_arena_alloc(&r->arena, size, sizeof *r->table);
    int32_t(*merges)[2] = aa_arena_alloc(&r->arena, n, sizeof *merges);
    AA_TRY(aa_arena_status(&r->arena, r->err));
    memset(r->table, 0xFF, size * sizeof *r->table);
    r->mask = size - 1;
    for (size_t i = 0; i < r->spec.n_vocab; i++) {
        int32_t *slot = slot_of(r, r->v->token[i], r->v->token_len[i]);
        if (!r->piece[i]) continue;
        if (*slot >= 0)
            return aa_fail(r->err, AA_EFORMAT, "tokenizer.ggml.tokens %d and %zu are the same",
                           *slot, i);
        *slot = (int32_t)i;
    }
    for (size_t i = 0; i < n; i++) AA_TRY(read_merge(r, i, merges[i]));
    r->spec.n_merges = n;
    r->spec.merges = (const int32_t(*)[2])merges;
    return AA_OK;
}

static aa_status read_all(reader *r) {
    const aa_ggml_vocab *v = r->v;
    size_t n = v->n_tokens, n_bytes = 0;
    if (!r->spm && strcmp(v->model, "gpt2") != 0)
        return aa_fail(r->err, AA_EUNSUPPORTED,
                       "tokenizer.ggml.model is '%.40s'; supported: gpt2, llama", v->model);
    if (n > AA__VOCAB_MAX || v->n_merges > AA__VOCAB_MAX)
        return aa_fail(r->err, AA_EFORMAT,
                       "%zu tokens and %zu merges in tokenizer.ggml; the limit is %d of each", n,
                       v->n_merges, AA__VOCAB_MAX);
    for (size_t i = 0; i < n; i++) n_bytes += v->token_len[i];
    char *bytes = aa_arena_alloc(&r->arena, n_bytes, 1);
    r->piece = aa_arena_alloc(&r->arena, n, sizeof *r->piece);
    r->piece_len = aa_arena_alloc(&r->arena, n, sizeof *r->piece_len);
    r->type = aa_arena_alloc(&r->arena, n, 1);
    r->added = aa_arena_alloc(&r->arena, n, sizeof *r->added);
    float *zero = r->spm && !v->score ? aa_arena_alloc(&r->arena, n, sizeof *zero) : NULL;
    AA_TRY(aa_arena_status(&r->arena, r->err));
    for (size_t i = 0; i < n; i++) AA_TRY(read_token(r, i, &bytes));
    r->spec.piece = r->piece;
    r->spec.piece_len = r->piece_len;
    r->spec.added = r->added;
    if (!r->spm) {
        AA_TRY(read_pre(r));
        return read_merges(r);
    }
    r->spec.split = AA_SPLIT_NONE;
    r->spec.token_type = r->type;
    r->spec.score = zero ? zero : v->score;
    return AA_OK;
}

static int32_t role(int32_t said, const reader *r, int32_t otherwise) {
    return said >= 0 ? said : r->spm && (size_t)otherwise < r->v->n_tokens ? otherwise : -1;
}

aa_status aa_tokenizer_new_ggml(aa_tokenizer **out, const aa_ggml_vocab *v, aa_err *err) {
    reader r = {.v = v, .err = err, .spm = strcmp(v->model, "llama") == 0};
    aa_arena_init(&r.arena, "reading a tokenizer");
    aa_status st = read_all(&r);
    if (!st) {
        bool begins = r.spm || r.spec.split == AA_SPLIT_LLAMA3;
        r.spec.kind = r.spm ? AA_TOKENIZER_SPM : AA_TOKENIZER_BPE;
        r.spec.fuse_unk = r.spm;
        r.spec.prefix = r.spm && v->add_space_prefix ? AA_PREFIX_ALWAYS : AA_PREFIX_NONE;
        r.spec.bos = role(v->bos, &r, 1);
        r.spec.eos = role(v->eos, &r, 2);
        r.spec.unk = r.spm ? role(v->unk, &r, 0) : -1; /* bytes need none */
        r.spec.pad = v->pad;
        r.spec.add_bos = v->add_bos >= 0 ? v->add_bos : begins;
        st = aa_tokenizer_new(out, &r.spec, err);
    }
    aa_arena_release(&r.arena);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

static aa_status write_pre(const aa_tokenizer *t, const char **out, aa_err *err) {
    aa_split split = t->kind == AA_TOKENIZER_BYTES ? AA_SPLIT_GPT2 : t->split;
    for (size_t i = 0; i < N_PRE_NAMES; i++) {
        if (pre_names[i].split != split) continue;
        *out = pre_names[i].name;
        return AA_OK;
    }
    return aa_fail(err, AA_EUNSUPPORTED,
                   "llama.cpp has no name for this tokenizer's pre-tokenizer; it knows those of "
                   "gpt2, smollm, llama3 and qwen2");
}

/* The scores that give a list of merges: the best merge into a piece ranks it. Only a list that is
 * complete, and keeps the merges into one piece together, can be told by scores. */
static aa_status scores_of_merges(const aa_tokenizer *t, float *score, aa_err *err) {
    int32_t last = -1;
    for (size_t i = 0; i < t->n_merges; i++) {
        int32_t id = aa__pair_find(t, t->merges[i][0], t->merges[i][1])->id;
        if (id != last && score[id] < 0)
            return aa_fail(err, AA_EUNSUPPORTED,
                           "the merges into '%.*s' do not follow each other, so that no scores, "
                           "which this format has instead, can tell them",
                           (int)t->piece_len[id], t->piece[id]);
        if (id != last) score[id] = -(float)(i + 1);
        last = id;
    }
    aa__join *joins = NULL;
    size_t n = 0;
    AA_TRY(aa__derive_joins(t, &joins, &n, err));
    aa_status st = AA_OK;
    for (size_t i = 0; !st && i < n; i++)
        if (!aa__pair_find(t, joins[i].left, joins[i].right))
            st = aa_fail(err, AA_EUNSUPPORTED,
                         "the tokenizer does not merge '%.*s' and '%.*s', which the scores that "
                         "this format has instead of merges cannot tell",
                         (int)t->piece_len[joins[i].left], t->piece[joins[i].left],
                         (int)t->piece_len[joins[i].right], t->piece[joins[i].right]);
    aa_heap_free(joins);
    return st;
}

static aa_token_type type_of_id(const aa_tokenizer *t, int32_t id) {
    int32_t at = t->added_at[id];
    if (at >= 0 && id == t->unk) return AA_TOKEN_UNKNOWN;
    if (at >= 0) return t->added[at].special ? AA_TOKEN_CONTROL : AA_TOKEN_USER;
    if (!t->piece[id]) return AA_TOKEN_UNUSED;
    return t->token_type ? (aa_token_type)t->token_type[id] : AA_TOKEN_NORMAL;
}

/* The text into the arena. */
static void keep(aa_arena *arena, const aa_text *text, const char **out, size_t *out_n) {
    *out = text->failed ? NULL : aa_arena_strdup(arena, text->data, text->len);
    *out_n = text->len;
}

static aa_status write_tokens(const aa_tokenizer *t, size_t n, aa_arena *arena, aa_ggml_vocab *v,
                              aa_err *err) {
    const char **token = aa_arena_alloc(arena, n, sizeof *token);
    size_t *len = aa_arena_alloc(arena, n, sizeof *len);
    int32_t *type = aa_arena_alloc(arena, n, sizeof *type);
    aa_text text = {0};
    AA_TRY(aa_arena_status(arena, err));
    for (size_t id = 0; id < n; id++) {
        type[id] = id < t->n_vocab ? type_of_id(t, (int32_t)id) : AA_TOKEN_UNUSED;
        aa_text_clear(&text);
        if (id < t->n_vocab) aa__key_of(t, (int32_t)id, &text);
        if (!text.len) aa_text_printf(&text, "[PAD%zu]", id);
        keep(arena, &text, &token[id], &len[id]);
    }
    aa_status st = aa_text_status(&text, err);
    aa_text_release(&text);
    v->n_tokens = n;
    v->token = token;
    v->token_len = len;
    v->type = type;
    return st ? st : aa_arena_status(arena, err);
}

static aa_status write_merges(const aa_tokenizer *t, aa_arena *arena, aa_ggml_vocab *v,
                              aa_err *err) {
    const char **merge = aa_arena_alloc(arena, t->n_merges, sizeof *merge);
    size_t *len = aa_arena_alloc(arena, t->n_merges, sizeof *len);
    aa_text text = {0};
    AA_TRY(aa_arena_status(arena, err));
    for (size_t i = 0; i < t->n_merges; i++) {
        aa_text_clear(&text);
        aa__key_of(t, t->merges[i][0], &text);
        aa_text_add(&text, " ");
        aa__key_of(t, t->merges[i][1], &text);
        keep(arena, &text, &merge[i], &len[i]);
    }
    aa_status st = aa_text_status(&text, err);
    aa_text_release(&text);
    v->n_merges = t->n_merges;
    v->merge = merge;
    v->merge_len = len;
    return st ? st : aa_arena_status(arena, err);
}

static aa_status write_scores(const aa_tokenizer *t, size_t n, aa_arena *arena, aa_ggml_vocab *v,
                              aa_err *err) {
    float *score = aa_arena_alloc(arena, n, sizeof *score);
    AA_TRY(aa_arena_status(arena, err));
    v->score = score;
    if (!t->score) return scores_of_merges(t, score, err);
    memcpy(score, t->score, t->n_vocab * sizeof *score);
    return AA_OK;
}

aa_status aa_tokenizer_ggml(const aa_tokenizer *t, size_t min_tokens, aa_arena *arena,
                            aa_ggml_vocab *out, aa_err *err) {
    bool spm = t->kind == AA_TOKENIZER_SPM;
    size_t n = t->n_vocab > min_tokens ? t->n_vocab : min_tokens;
    aa_ggml_vocab v = {.model = spm ? "llama" : "gpt2", .bos = t->bos, .eos = t->eos,
                       .pad = t->pad, .unk = t->unk, .add_bos = t->add_bos,
                       .add_space_prefix = t->prefix != AA_PREFIX_NONE};
    AA_TRY(write_tokens(t, n, arena, &v, err));
    if (spm) AA_TRY(write_scores(t, n, arena, &v, err));
    else {
        AA_TRY(write_pre(t, &v.pre, err));
        AA_TRY(write_merges(t, arena, &v, err));
    }
    *out = v;
    return AA_OK;
}

/* ---- llama2.c -------------------------------------------------------------------------------- */

enum { HEAD = 4, ENTRY = 8, FIRST_BYTE = 3 }; /* bytes; the id of the byte token 0 */

static uint32_t u32_at(const char *p) {
    const unsigned char *b = (const unsigned char *)p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* JSON has no zero bytes, and no token is 16 MiB long. */
bool aa__is_llama2c(const char *data, size_t n) { return n >= HEAD + ENTRY && !data[3]; }

/* Its names of the tokens that begin and end a text stand between line feeds. */
static const char *const llama2c_specials[FIRST_BYTE] = {"<unk>", "<s>", "</s>"};

/* The tokens of the file into v, or how many there are if v has no room yet. */
static aa_status read_entries(const char *data, size_t n, aa_ggml_vocab *v, const char **token,
                              size_t *len, float *score, aa_err *err) {
    size_t longest = u32_at(data), id = 0;
    for (size_t at = HEAD; at < n; id++) {
        size_t size = n - at >= ENTRY ? u32_at(data + at + 4) : SIZE_MAX;
        if (size > longest || size > n - at - ENTRY || id == AA__VOCAB_MAX)
            return aa_fail(err, AA_EFORMAT,
                           "a llama2.c tokenizer: token %zu at byte %zu is longer than the longest "
                           "one (%zu bytes) or than the file",
                           id, at, longest);
        if (token) {
            uint32_t bits = u32_at(data + at);
            memcpy(&score[id], &bits, 4);
            token[id] = id < FIRST_BYTE ? llama2c_specials[id] : data + at + ENTRY;
            len[id] = id < FIRST_BYTE ? strlen(token[id]) : size;
        }
        at += ENTRY + size;
    }
    v->n_tokens = id;
    return AA_OK;
}

bool aa_tokenizer_is_llama2c(const char *path) {
    enum { LEAST = FIRST_BYTE + 256 };
    aa_ggml_vocab v = {0};
    aa_sys_map map;
    if (aa_sys_map_open(&map, path)) return false;
    const char *data = (const char *)map.data;
    bool whole = aa__is_llama2c(data, map.size_bytes) &&
                 !read_entries(data, map.size_bytes, &v, NULL, NULL, NULL, NULL);
    aa_sys_map_close(&map);
    return whole && v.n_tokens >= LEAST;
}

aa_status aa__read_llama2c(aa_tokenizer **out, const char *data, size_t n, aa_err *err) {
    aa_ggml_vocab v = {.model = "llama", .bos = 1, .eos = 2, .pad = -1, .unk = 0, .add_bos = 1,
                       .add_space_prefix = 1};
    aa_arena arena;
    AA_TRY(read_entries(data, n, &v, NULL, NULL, NULL, err));
    aa_arena_init(&arena, "reading a tokenizer");
    const char **token = aa_arena_alloc(&arena, v.n_tokens, sizeof *token);
    size_t *len = aa_arena_alloc(&arena, v.n_tokens, sizeof *len);
    float *score = aa_arena_alloc(&arena, v.n_tokens, sizeof *score);
    int32_t *type = aa_arena_alloc(&arena, v.n_tokens, sizeof *type);
    aa_status st = aa_arena_status(&arena, err);
    if (!st) st = read_entries(data, n, &v, token, len, score, err);
    for (size_t i = 0; !st && i < v.n_tokens; i++)
        type[i] = i == 0                                  ? AA_TOKEN_UNKNOWN
                  : i < FIRST_BYTE                        ? AA_TOKEN_CONTROL
                  : aa__byte_of_text(token[i], len[i]) >= 0 ? AA_TOKEN_BYTE
                                                          : AA_TOKEN_NORMAL;
    v.token = token;
    v.token_len = len;
    v.score = score;
    v.type = type;
    if (!st) st = aa_tokenizer_new_ggml(out, &v, err);
    aa_arena_release(&arena);
    return st;
}

static void add_u32(aa_text *out, uint32_t x) {
    const unsigned char b[4] = {(unsigned char)x, (unsigned char)(x >> 8), (unsigned char)(x >> 16),
                                (unsigned char)(x >> 24)};
    aa_text_add_bytes(out, b, 4);
}

static aa_status check_llama2c(const aa_tokenizer *t, aa_err *err) {
    bool good = t->kind == AA_TOKENIZER_SPM && t->prefix != AA_PREFIX_NONE && t->unk == 0 &&
                t->bos == 1 && t->eos == 2;
    for (int b = 0; good && b < 256; b++) good = t->byte_id[b] == FIRST_BYTE + b;
    return good ? AA_OK
                : aa_fail(err, AA_EUNSUPPORTED,
                          "llama2.c's tokenizer.bin is for SentencePiece vocabularies with <unk>, "
                          "<s>, </s> and the 256 bytes as ids 0 to 258; this one is another");
}

aa_status aa_tokenizer_write_llama2c(const aa_tokenizer *t, aa_text *out, aa_err *err) {
    aa_arena arena;
    aa_ggml_vocab v;
    uint32_t longest = 0;
    AA_TRY(check_llama2c(t, err));
    aa_arena_init(&arena, "writing a tokenizer");
    aa_status st = aa_tokenizer_ggml(t, 0, &arena, &v, err);
    aa_text text = {0};
    for (int pass = 0; !st && pass < 2; pass++) {
        if (pass) add_u32(out, longest);
        for (size_t i = 0; i < v.n_tokens; i++) {
            uint32_t bits;
            memcpy(&bits, &v.score[i], 4);
            aa_text_clear(&text);
            if (i == 1 || i == 2) aa_text_printf(&text, "\n%s\n", v.token[i]);
            else aa__unmark_spaces(&text, v.token[i], v.token_len[i]);
            if (text.len > longest) longest = (uint32_t)text.len;
            if (!pass) continue;
            add_u32(out, bits);
            add_u32(out, (uint32_t)text.len);
            aa_text_add_bytes(out, text.data, text.len);
        }
    }
    if (!st) st = aa_text_status(&text, err);
    if (!st) st = aa_text_status(out, err);
    aa_text_release(&text);
    aa_arena_release(&arena);
    return st;
}
