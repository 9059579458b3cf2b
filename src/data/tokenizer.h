/* data/tokenizer: byte-level BPE and plain bytes.
 *
 * A tokenizer maps any byte string to ids and back without loss, invalid UTF-8 included (each such
 * byte is a symbol that is no letter). Exceptions lie in the spec: an NFC normaliser gives back
 * the normal form, add_prefix_space the space, lstrip and rstrip take white space, and a
 * vocabulary that lacks a byte makes the unknown token of it, or nothing, as the `tokenizers`
 * library does. It is built from a neutral spec, whoever read it (tokenizer.json here; GGUF
 * later). Encoding is the algorithm of the `tokenizers` library: added tokens are cut out first
 * (longest match), then the normaliser, the pre-tokenizer's pieces, then merges by lowest rank
 * within a piece.
 *
 * A tokenizer is immutable after it is made and may be used by many threads at once.
 */
#ifndef AA_DATA_TOKENIZER_H
#define AA_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/digest.h"
#include "base/pool.h"
#include "base/status.h"
#include "base/text.h"

typedef enum { AA_TOKENIZER_BYTES, AA_TOKENIZER_BPE } aa_tokenizer_kind;

/* Pre-tokenizers by the names llama.cpp and the hub use for them. */
typedef enum {
    AA_SPLIT_GPT2,      /* ByteLevel with its regex */
    AA_SPLIT_SMOLLM,    /* single digits, then gpt-2: the default of tokenizers trained here */
    AA_SPLIT_LLAMA3,    /* up to three digits, contractions without case */
    AA_SPLIT_QWEN2,     /* llama3 with single digits; NFC normaliser */
    AA_SPLIT_NONE,
    AA_SPLIT_REGEX      /* any other Split pattern from a tokenizer.json: PCRE2 */
} aa_split;

typedef struct aa_added_token {
    int32_t id; char *text; size_t len;  /* owned by the spec's reader; copied by the tokenizer */
    bool special, lstrip, rstrip, single_word, normalized;
} aa_added_token;

typedef struct aa_tokenizer_spec {           /* everything is copied by aa_tokenizer_new */
    aa_tokenizer_kind kind;
    aa_split split; const char *regex; bool nfc, ignore_merges, add_prefix_space;
    size_t n_vocab;                          /* ids 0..n_vocab-1 */
    /* Raw bytes of each id, not GPT-2's stand-ins; NULL: a hole. */
    const char *const *piece; const size_t *piece_len;
    /* Left id, right id, best first; the result is the concatenation. */
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
/* Appends bytes; special tokens print their text if with_specials, else nothing. Unknown ids are
 * an error. */
aa_status aa_decode(const aa_tokenizer *t, const int32_t *ids, size_t n, bool with_specials,
                    aa_text *out, aa_err *err) AA_MUST_USE;

/* Trains byte-level BPE as the `tokenizers` library does, id for id: <|endoftext|> is id 0, then
 * the 256 bytes in the order of their GPT-2 stand-ins, then merges by count, ties by the smaller
 * pair of ids, until `vocab` ids exist or every piece is one id. The text counts as one sequence.
 * vocab >= 257; any split but REGEX. Deterministic for any pool. */
aa_status aa_tokenizer_train(aa_tokenizer **out, aa_pool *pool, const char *text, size_t n,
                             size_t vocab, aa_split split, aa_err *err) AA_MUST_USE;

/* tokenizer.json (format of the `tokenizers` library). Unsupported content (other models, unknown
 * normalisers ...) is AA_EUNSUPPORTED naming the key. bos, eos and pad come from a
 * tokenizer_config.json beside the file, else from well-known names. What is written is read back
 * with the same digest. */
aa_status aa_tokenizer_load(aa_tokenizer **out, const char *path, aa_err *err) AA_MUST_USE;
aa_status aa_tokenizer_write_json(const aa_tokenizer *t, aa_text *out, aa_err *err) AA_MUST_USE;
/* tokenizer_config.json for transformers (PreTrainedTokenizerFast). */
aa_status aa_tokenizer_write_config_json(const aa_tokenizer *t, size_t max_length, aa_text *out,
                                         aa_err *err) AA_MUST_USE;

#endif
