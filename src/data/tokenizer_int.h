/* data/tokenizer_int: what the files of the tokenizer share.
 *
 * tokenizer.c keeps the vocabulary, split.c cuts text into pieces, bpe.c turns a piece into ids,
 * encode.c puts them together, spm.c finds the merges that scores mean, tokenizer_train.c learns
 * merges, tokenizer_json.c and tokenizer_read.c write and read tokenizer.json, tokenizer_ggml.c
 * does both for GGUF and llama2.c.
 */
#ifndef AA_DATA_TOKENIZER_INT_H
#define AA_DATA_TOKENIZER_INT_H

#include "base/memory.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

/* Limits on what is read. Deriving merges takes time quadratic in the length of an SPM piece. */
enum { AA__VOCAB_MAX = 1 << 22, AA__PIECE_MAX = 1 << 28, AA__SPM_PIECE_MAX = 512,
       AA__JOINS_MAX = 1 << 24 };

typedef struct aa__pair { uint64_t key; uint32_t rank; int32_t id; } aa__pair;

struct aa_tokenizer {
    aa_arena arena;                          /* everything below */
    aa_tokenizer_kind kind;
    aa_split split;
    char *regex; void *pcre;                 /* REGEX: the pattern and its compiled form */
    bool nfc, ignore_merges, fuse_unk, add_bos;
    aa_prefix prefix;
    size_t n_vocab;
    const char **piece; uint32_t *piece_len; /* of each id; NULL: hole, or an added token */
    uint8_t *token_type; float *score;       /* SPM: as in the spec, 0 for holes, or NULL */
    int32_t byte_id[256];                    /* the piece, of SPM the byte token; -1: absent */
    int32_t *piece_table; size_t piece_mask; /* open addressing: bytes -> id, -1 empty */
    size_t n_merges; int32_t (*merges)[2];
    aa__pair *pair_table; size_t pair_mask;  /* open addressing: left << 32 | right */
    size_t n_added; aa_added_token *added;   /* ascending ids */
    int32_t *added_at;                       /* of each id: index in added, or -1 */
    /* Longest first; normalised where the token is normalized. */
    struct aa__match { const char *text; size_t len; int32_t added; } *match;
    int32_t bos, eos, pad, unk;
    aa_digest digest;
};

/* ---- tokenizer.c ----------------------------------------------------------------------------- */
uint64_t aa__hash_bytes(const void *p, size_t n);
int32_t aa__piece_id(const aa_tokenizer *t, const void *p, size_t n);       /* -1: no such piece */
static inline uint64_t aa__pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}
static inline uint64_t aa__mix(uint64_t h) { h *= 0x9E3779B97F4A7C15u; return h ^ h >> 32; }
/* The merge of two neighbours, or NULL. */
static inline const aa__pair *aa__pair_find(const aa_tokenizer *t, int32_t left, int32_t right) {
    uint64_t key = aa__pair_key(left, right);
    for (size_t i = aa__mix(key) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        const aa__pair *p = &t->pair_table[i];
        if (p->key == key) return p;
        if (p->key == UINT64_MAX) return NULL;
    }
}
/* GPT-2's stand-ins: each byte has a printable code point in tokenizer.json. */
uint32_t aa__stand_in(unsigned char byte);
int aa__stand_in_byte(uint32_t code);                                        /* -1: none */
void aa__stand_in_text(aa_text *out, const char *bytes, size_t n);
/* The bytes a key stands for into out (at least n long); false if it holds anything else. */
bool aa__stand_in_bytes(const char *key, size_t n, char *out, size_t *out_n);

/* ---- spm.c ----------------------------------------------------------------------------------- */
#define AA__SPACE_MARK "\xE2\x96\x81"       /* U+2581, which files write for a space */
/* Adds text with marks for spaces, or spaces for marks. */
void aa__mark_spaces(aa_text *out, const char *text, size_t n);
void aa__unmark_spaces(aa_text *out, const char *text, size_t n);
/* The byte that "<0x0A>" means, -1 if text is not of that form. */
int aa__byte_of_text(const char *text, size_t n);
static inline bool aa__is_byte(const aa_tokenizer *t, int32_t id) {
    return t->token_type && t->token_type[id] == AA_TOKEN_BYTE;
}
/* A merge of two pieces into a third, whose score it has. */
typedef struct aa__join {
    float score;
    uint32_t left_n, right_n;                /* characters */
    int32_t id, left, right;
} aa__join;
/* All that are possible, best first; on the heap. */
aa_status aa__derive_joins(const aa_tokenizer *t, aa__join **out, size_t *n,
                           aa_err *err) AA_MUST_USE;
/* Whether a piece holds a space behind another character: then text cannot be cut before spaces. */
bool aa__has_inner_space(const aa_tokenizer *t);

/* ---- split.c --------------------------------------------------------------------------------- */
extern const char aa__regex_gpt2[], aa__regex_llama3[], aa__regex_qwen2[];
/* End of the piece that begins at `at` < end, for every split but REGEX. */
size_t aa__split_next(aa_split split, const unsigned char *text, size_t at, size_t end);
/* The first place at or after `from` where text[n] can
 * be cut without changing any piece; n if none. */
size_t aa__split_cut(const aa_tokenizer *t, const unsigned char *text, size_t from, size_t n);
aa_status aa__regex_compile(void **out, const char *pattern, aa_err *err) AA_MUST_USE;
void aa__regex_free(void *pcre);
/* Calls fn for each piece: matches and what lies between them. */
typedef void aa__piece_fn(void *ctx, const unsigned char *piece, size_t n);
aa_status aa__regex_split(const void *pcre, const unsigned char *text, size_t n, aa__piece_fn *fn,
                          void *ctx, aa_err *err) AA_MUST_USE;

/* ---- bpe.c ----------------------------------------------------------------------------------- */
/* One thread's state: the ids of pieces seen before, and scratch. {.t = t} is empty. */
typedef struct aa__encoder {
    const aa_tokenizer *t;
    aa_ids *out;
    bool failed;                             /* out of memory: sticky */
    struct aa__cached { uint64_t hash; uint32_t key_at, key_len, ids_at, n_ids; } *table;
    size_t mask, n_cached;
    aa_text keys; aa_ids ids;                /* of the cache */
    int32_t *symbols; size_t symbols_capacity; uint64_t *heap; size_t heap_capacity;
    aa_text normal;
} aa__encoder;
void aa__encoder_release(aa__encoder *e);
void aa__encode_piece(aa__encoder *e, const unsigned char *piece, size_t n);
bool aa__ids_reserve(aa_ids *ids, size_t extra);

/* ---- encode.c -------------------------------------------------------------------------------- */
/* Appends the ids of text to out; e keeps its cache from call to call. */
aa_status aa__encode_with(aa__encoder *e, const char *text, size_t n, unsigned flags, aa_ids *out,
                          aa_err *err) AA_MUST_USE;
/* The same (and bos, if flags ask for it) for a text of which only spans are learned, ascending
 * and apart: an id that covers no byte of one comes as its complement, ~id. AA_EUNSUPPORTED where
 * ids do not tell what they cover: the vocabulary lacks a byte of the text. */
aa_status aa__encode_learned(aa__encoder *e, const char *text, size_t n, unsigned flags,
                             const aa_span *span, size_t n_spans, aa_ids *out,
                             aa_err *err) AA_MUST_USE;
/* NFC of valid UTF-8; bytes that are none are copied. Sticky failure in out. */
void aa__nfc(aa_text *out, const unsigned char *text, size_t n);
static inline bool aa__has_normalizer(const aa_tokenizer *t) {
    return t->nfc || t->kind == AA_TOKENIZER_SPM;
}
/* Adds what the tokenizer's normaliser makes of a stretch (first) or of its continuation. */
void aa__normalize(const aa_tokenizer *t, aa_text *out, const unsigned char *text, size_t n,
                   bool first);

/* ---- tokenizer_json.c ------------------------------------------------------------------------ */
#define AA__END_OF_TEXT "<|endoftext|>"
/* Adds what the id is called there and in GGUF; nothing if it is a hole. */
void aa__key_of(const aa_tokenizer *t, int32_t id, aa_text *out);

/* ---- tokenizer_ggml.c ------------------------------------------------------------------------ */
/* llama2.c's tokenizer.bin, whose bytes are data[n]. */
bool aa__is_llama2c(const char *data, size_t n);
aa_status aa__read_llama2c(aa_tokenizer **out, const char *data, size_t n,
                           aa_err *err) AA_MUST_USE;

#endif
