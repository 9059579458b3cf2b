/* data/tokenizer: byte-level BPE, SentencePiece's BPE ("SPM") and plain bytes.
 *
 * A tokenizer maps any byte string to ids and back without loss, invalid UTF-8 included (each such
 * byte is a symbol that is no letter). Exceptions lie in the spec: an NFC normaliser gives back
 * the normal form, a prefix the space, lstrip and rstrip take white space, SPM takes U+2581 for a
 * space, and a vocabulary that lacks a byte makes the unknown token of it, or nothing, as the
 * `tokenizers` library does. It is built from a neutral spec, whoever read it. Encoding is the
 * algorithm of the `tokenizers` library: added tokens are cut out first (longest match), then the
 * normaliser, the pre-tokenizer's pieces, then merges by lowest rank within a piece.
 *
 * SPM differs in that a piece begins as its characters, not its bytes; a character that is no
 * piece becomes byte tokens; and merges may be left to the scores: of all neighbours that make a
 * piece the one with the best score is joined first, the leftmost of equals, as llama.cpp does.
 *
 * A tokenizer is immutable after it is made and may be used by many threads at once.
 */
#ifndef AA_DATA_TOKENIZER_H
#define AA_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/digest.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "base/text.h"

typedef enum { AA_TOKENIZER_BYTES, AA_TOKENIZER_BPE, AA_TOKENIZER_SPM } aa_tokenizer_kind;

/* Pre-tokenizers by the names llama.cpp and the hub use for them. */
typedef enum {
    AA_SPLIT_GPT2,      /* ByteLevel with its regex */
    AA_SPLIT_SMOLLM,    /* single digits, then gpt-2: the default of tokenizers trained here */
    AA_SPLIT_LLAMA3,    /* up to three digits, contractions without case */
    AA_SPLIT_QWEN2,     /* llama3 with single digits; NFC normaliser */
    AA_SPLIT_NONE,      /* all of a text is one piece: so it is for SPM */
    AA_SPLIT_REGEX,     /* any other Split pattern from a tokenizer.json: PCRE2 */
    AA_SPLIT_SPACES     /* before spaces: what SPM becomes where that gives the same ids */
} aa_split;

/* The space that is put before a text, or before each stretch between added tokens. */
typedef enum {
    AA_PREFIX_NONE,
    AA_PREFIX_UNLESS_SPACE,     /* each stretch that does not begin with one (ByteLevel) */
    AA_PREFIX_FIRST,            /* so, but only the beginning of the text (Metaspace "first") */
    AA_PREFIX_ALWAYS            /* each stretch (SentencePiece, llama.cpp) */
} aa_prefix;

/* What an id is, by GGUF's numbers. */
typedef enum {
    AA_TOKEN_NORMAL = 1, AA_TOKEN_UNKNOWN, AA_TOKEN_CONTROL, AA_TOKEN_USER, AA_TOKEN_UNUSED,
    AA_TOKEN_BYTE
} aa_token_type;

typedef struct aa_added_token {
    int32_t id; char *text; size_t len;  /* owned by the spec's reader; copied by the tokenizer */
    bool special, lstrip, rstrip, single_word, normalized;
} aa_added_token;

typedef struct aa_tokenizer_spec {           /* everything is copied by aa_tokenizer_new */
    aa_tokenizer_kind kind;
    aa_split split; const char *regex; bool nfc, ignore_merges, fuse_unk; aa_prefix prefix;
    size_t n_vocab;                          /* ids 0..n_vocab-1 */
    /* Raw bytes of each id, not GPT-2's stand-ins, U+2581 or <0x0A>; NULL: a hole. */
    const char *const *piece; const size_t *piece_len;
    /* SPM only, [n_vocab] or NULL. Of the types only BYTE and UNUSED are looked at: the other ones
     * are told by `added`. With scores merges are all that are possible, by score of the result. */
    const uint8_t *token_type; const float *score;
    /* Left id, right id, best first; the result is the concatenation. Not used with scores. */
    size_t n_merges; const int32_t (*merges)[2];
    size_t n_added; const aa_added_token *added;
    int32_t bos, eos, pad, unk;              /* -1: none */
    bool add_bos;                            /* the post-processor puts bos before every text */
} aa_tokenizer_spec;

typedef struct aa_tokenizer aa_tokenizer;

aa_status aa_tokenizer_new(aa_tokenizer **out, const aa_tokenizer_spec *spec,
                           aa_err *err) AA_MUST_USE;
void aa_tokenizer_free(aa_tokenizer *t);
/* Bytes: ids 0..255 are bytes, 256 = <|endoftext|> (bos = eos), vocab 257. */
aa_status aa_tokenizer_new_bytes(aa_tokenizer **out, aa_err *err) AA_MUST_USE;

size_t  aa_tokenizer_vocab(const aa_tokenizer *t);
int32_t aa_tokenizer_bos(const aa_tokenizer *t);
int32_t aa_tokenizer_eos(const aa_tokenizer *t);
bool aa_tokenizer_add_bos(const aa_tokenizer *t);
bool aa_tokenizer_is_special(const aa_tokenizer *t, int32_t id);
aa_tokenizer_kind aa_tokenizer_kind_of(const aa_tokenizer *t);
aa_split aa_tokenizer_split(const aa_tokenizer *t);
aa_digest aa_tokenizer_digest(const aa_tokenizer *t);      /* over its canonical tokenizer.json */
/* Number of bytes id stands for (0 for special tokens): the denominator of bits per byte. */
size_t aa_tokenizer_piece_bytes(const aa_tokenizer *t, int32_t id);

typedef struct aa_span { size_t begin, end; } aa_span;      /* bytes [begin, end) of a text */

/* A growing list of ids; {0} is empty. */
typedef struct aa_ids { int32_t *data; size_t len, capacity; } aa_ids;
void aa_ids_release(aa_ids *ids);

typedef enum { AA_ENCODE_PLAIN = 0, AA_ENCODE_SPECIALS = 1, AA_ENCODE_BOS = 2 } aa_encode_flags;
/* Appends the ids of text. Without SPECIALS, text that looks like a special token is ordinary text
 * (safe for corpora); added tokens that are not special are always found. BOS: prepends bos if the
 * tokenizer says so. */
aa_status aa_encode(const aa_tokenizer *t, const char *text, size_t n, unsigned flags, aa_ids *out,
                    aa_err *err) AA_MUST_USE;
/* The same ids by all threads of the pool: the text is cut where a cut cannot change the result. */
aa_status aa_encode_parallel(const aa_tokenizer *t, aa_pool *pool, const char *text, size_t n,
                             unsigned flags, aa_ids *out, aa_err *err) AA_MUST_USE;
typedef enum { AA_DECODE_PLAIN = 0, AA_DECODE_SPECIALS = 1, AA_DECODE_START = 2 } aa_decode_flags;
/* Appends bytes; special tokens print their text with SPECIALS, else nothing. START: the ids begin
 * a text, so the space that encoding puts before it (SPM) is taken off. Unknown ids are errors. */
aa_status aa_decode(const aa_tokenizer *t, const int32_t *ids, size_t n, unsigned flags,
                    aa_text *out, aa_err *err) AA_MUST_USE;

/* Trains byte-level BPE as the `tokenizers` library does, id for id: <|endoftext|> is id 0, then
 * the 256 bytes in the order of their GPT-2 stand-ins, then merges by count, ties by the smaller
 * pair of ids, until `vocab` ids exist or every piece is one id. The text counts as one sequence.
 * vocab >= 257; any split but REGEX. Deterministic for any pool. */
aa_status aa_tokenizer_train(aa_tokenizer **out, aa_pool *pool, const char *text, size_t n,
                             size_t vocab, aa_split split, aa_err *err) AA_MUST_USE;

/* tokenizer.json (format of the `tokenizers` library), or llama2.c's tokenizer.bin, told apart by
 * content. Unsupported content (other models, unknown normalisers ...) is AA_EUNSUPPORTED naming
 * the key. bos, eos and pad come from a tokenizer_config.json beside the file, else from well-known
 * names. What is written as JSON is read back with the same digest. */
aa_status aa_tokenizer_load(aa_tokenizer **out, const char *path, aa_err *err) AA_MUST_USE;
aa_status aa_tokenizer_write_json(const aa_tokenizer *t, aa_text *out, aa_err *err) AA_MUST_USE;
/* tokenizer_config.json for transformers (PreTrainedTokenizerFast); chat_template: Jinja, or
 * NULL. */
aa_status aa_tokenizer_write_config_json(const aa_tokenizer *t, size_t max_length,
                                         const char *chat_template, aa_text *out,
                                         aa_err *err) AA_MUST_USE;

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* The tokenizer.ggml.* keys of a file, texts as they are there. */
typedef struct aa_ggml_vocab {
    const char *model, *pre;                 /* "gpt2" (BPE) or "llama" (SPM); pre NULL: not said */
    size_t n_tokens; const char *const *token; const size_t *token_len;
    const float *score; const int32_t *type; /* [n_tokens] or NULL; type: aa_token_type */
    size_t n_merges; const char *const *merge; const size_t *merge_len;    /* "left right" */
    int32_t bos, eos, pad, unk;              /* -1: not said */
    int add_bos, add_space_prefix;           /* 0, 1, -1: not said */
} aa_ggml_vocab;

/* Errors name the key. */
aa_status aa_tokenizer_new_ggml(aa_tokenizer **out, const aa_ggml_vocab *v,
                                aa_err *err) AA_MUST_USE;
/* The other way: the vocabulary as GGUF writes it, in the arena, with at least min_tokens tokens
 * (rows of the embedding; "[PADn]" of type UNUSED fill holes and the end). Pre-tokenizers that
 * llama.cpp has no name for are AA_EUNSUPPORTED. */
aa_status aa_tokenizer_ggml(const aa_tokenizer *t, size_t min_tokens, aa_arena *arena,
                            aa_ggml_vocab *out, aa_err *err) AA_MUST_USE;
/* Whether the file is llama2.c's tokenizer.bin, from its first token to its last. */
bool aa_tokenizer_is_llama2c(const char *path);
/* llama2.c's tokenizer.bin: SPM only, and ids 0 to 258 as llama2.c has them. */
aa_status aa_tokenizer_write_llama2c(const aa_tokenizer *t, aa_text *out, aa_err *err) AA_MUST_USE;

#endif
