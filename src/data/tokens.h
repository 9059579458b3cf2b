/* data/tokens: token files, memory-mapped, of any size.
 *
 * Our format, little-endian. Counts and digests are known only when the last token has been
 * written, so they stand at the end and a file of any size is written in one pass:
 *
 *      0  magic "AATOKENS", u32 version 1, u32 bytes per token (2 or 4), zero to 64
 *     64  tokens, padded with zeros to a multiple of 64; then (n_documents + 1) u64: first token
 *         of each document, and the end; then n_documents bytes: aa_part of each; padded to a
 *         multiple of 64; with flag 1 then a bit for each token, bit i % 8 of byte i / 8, set where
 *         it is not learned; padded to a multiple of 64
 *   last 128 bytes of the file:
 *         magic "AATOKEND", u64 flags (1: with a mask), u64 n_tokens, u64 n_documents, u64 n_bytes
 *         (of the text), u64 vocab, tokenizer digest (lo, hi), source digest (lo, hi), zero (32
 *         bytes), digest (lo, hi) of all before itself
 *
 * A file with a mask is one of examples for supervised fine-tuning: each document is one of them,
 * and is read alone. Without, every document ends with the tokenizer's eos, if it has one.
 *
 * Raw uint16 streams (.bin without header; documents are separated by an eos id if one is given)
 * and llm.c files (256 int32 header: magic 20240520, version 1, then uint16; or magic 20240801,
 * version 7, then uint32) open the same way; they have no digest, and are split by digests of their
 * documents' tokens computed at opening.
 */
#ifndef AA_DATA_TOKENS_H
#define AA_DATA_TOKENS_H

#include "base/file.h"
#include "data/tokenizer.h"

/* Each document belongs to one part, by its digest alone, so that appending documents or shuffling
 * them never moves one. */
typedef enum { AA_PART_TRAIN, AA_PART_VALID, AA_PART_TEST, AA_PART_COUNT } aa_part;
/* The digest as a number in [0,1): below 0.05 validation, below 0.10 locked test, the rest
 * training.
 *
 * A corpus so small that no document falls to validation still gets one: the document with the
 * smallest digest; if none is left for training, that with the largest digest is. A corpus of a
 * single document is cut in two after 7/8 of its tokens. A corpus of a few hundred documents never
 * meets these rules. */
aa_part aa_part_of(aa_digest document);

typedef struct aa_tokens {                  /* read-only view of one opened file */
    aa_sys_map map;
    const uint16_t *u16; const uint32_t *u32;   /* exactly one is set */
    uint64_t n_tokens, n_documents, n_bytes, vocab;
    const uint64_t *document;               /* n_documents + 1 */
    const uint8_t *part;                    /* n_documents */
    const uint8_t *unlearned;               /* the mask of a file of examples, or NULL */
    aa_digest tokenizer, source;            /* zero where the format has none */
    void *owned;                            /* heap side tables of headerless formats */
} aa_tokens;

static inline int32_t aa_tokens_at(const aa_tokens *t, uint64_t i) {
    return t->u16 ? (int32_t)t->u16[i] : (int32_t)t->u32[i];
}

static inline bool aa_tokens_learned(const aa_tokens *t, uint64_t i) {
    return !t->unlearned || !(t->unlearned[i / 8] >> i % 8 & 1);
}

/* Opens any of the formats (by magic; a .bin without one is raw uint16). vocab: ids must be smaller
 * (0: not checked). eos separates documents in headerless formats (-1, or where none does: one
 * document per 4096 tokens). verify: also read everything and compare the digest. */
aa_status aa_tokens_open(aa_tokens *out, const char *path, uint64_t vocab, int32_t eos, bool verify,
                         aa_err *err) AA_MUST_USE;
void aa_tokens_close(aa_tokens *t);
bool aa_tokens_is_file(const char *path);   /* has our or llm.c's magic, or ends in .bin */

/* ---- from text ------------------------------------------------------------------------------- */

/* Documents of a source:
 *   text       runs of whole paragraphs (blank lines between them) of at least 4 KiB. Where no
 *              blank line comes within 16 KiB the cut is at the first line end past 4 KiB, else
 *              the first space, else between two code points; a text below 32 KiB is cut at
 *              eighths of its size instead of 4 KiB. White space around a document is left out.
 *              Appending to a larger text moves no earlier document.
 *   JSONL      one object per line, by the name *.jsonl: a field "text" is a document; "messages"
 *              is a conversation, "prompt" and "completion" are an example (example.c); of these
 *              the callback sees what is said
 *   directory  every *.txt, *.md, *.jsonl below it, in byte order of paths; names with a leading
 *              dot are passed over; each file by the rules above
 * A source without any text is an error.
 * The callback sees each document once, in order; the bytes live only during the call. */
typedef aa_status aa_document_fn(void *ctx, const char *text, size_t n, aa_err *err);
aa_status aa_documents(const char *path, aa_document_fn *fn, void *ctx, aa_err *err) AA_MUST_USE;
/* Bytes of the files of a source; nothing is read. */
aa_status aa_source_size(uint64_t *out, const char *path, aa_err *err) AA_MUST_USE;
/* Digest over names, sizes and content of a source: the key of the token cache. */
aa_status aa_source_digest(aa_digest *out, const char *path, aa_err *err) AA_MUST_USE;

typedef struct aa_tokenize_progress { uint64_t done_bytes, total_bytes; } aa_tokenize_progress;

/* What is learned of an example: the assistant's turns or the completion, or all of it. */
typedef enum { AA_TRAIN_ON_ASSISTANT, AA_TRAIN_ON_ALL } aa_train_on;

typedef struct aa_tokenize_options {         /* {0}: no conversations, no report */
    const char *chat_template;               /* Jinja, for conversations; or NULL */
    aa_train_on train_on;
    void (*progress)(void *ctx, aa_tokenize_progress p); void *ctx;
} aa_tokenize_options;

/* Tokenizes a source into our format at out_path (atomic), with a mask if it has examples. A row
 * that is no good one is an error that names its file and line. options may be NULL. */
aa_status aa_tokenize(const char *source, const aa_tokenizer *tokenizer, aa_pool *pool,
                      const char *out_path, const aa_tokenize_options *options,
                      aa_err *err) AA_MUST_USE;
/* At most `limit` bytes of a source's training documents, spread evenly, with a blank line after
 * each: what a tokenizer is trained on. */
aa_status aa_source_sample(const char *source, size_t limit, aa_text *out, aa_err *err) AA_MUST_USE;

/* The text of a source for a tokenizer that the user asked for: a text file as it is, else all its
 * documents with a blank line after each; where that is more than `limit` bytes, documents spread
 * evenly. */
aa_status aa_source_text(const char *source, size_t limit, aa_text *out, aa_err *err) AA_MUST_USE;

#endif
