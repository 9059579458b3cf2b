/* data/tokens: token files, memory-mapped, of any size.
 *
 * Our format, little-endian, everything 64-byte aligned:
 *
 *      0  magic "AATOKENS", u32 version 1, u32 bytes per token (2 or 4)
 *     16  u64 n_tokens, u64 n_documents, u64 n_bytes (of the text), u64 vocab
 *     48  tokenizer digest (16 bytes)  64  digest of everything after the header (16 bytes)
 *     80  digest of the source (16 bytes), zero to 128
 *    128  tokens, padded to 64; then (n_documents + 1) u64: first token of each document, and the
 *         end; then n_documents bytes: aa_part of each document.
 *
 * Every document ends with the tokenizer's eos. Raw uint16 streams (.bin without header; documents are
 * separated by an eos id if one is given) and llm.c files (256 int32 header, magic 20240520, version 1,
 * then uint16) open the same way; they have no digest, and get split by position of documents' digests
 * computed at opening.
 */
#ifndef AA_DATA_TOKENS_H
#define AA_DATA_TOKENS_H

#include "base/file.h"
#include "data/tokenizer.h"

/* Each document belongs to one part, by its digest alone, so that appending documents or shuffling
 * them never moves one.                                                                            */
typedef enum { AA_PART_TRAIN, AA_PART_VALID, AA_PART_TEST, AA_PART_COUNT } aa_part;
/* hash of the document's bytes in [0,2^64): < 5 % validation, next 5 % locked test, rest train.     */
aa_part aa_part_of(aa_digest document);

typedef struct aa_tokens {                  /* read-only view of one opened file */
    aa_sys_map map;
    const uint16_t *u16; const uint32_t *u32;   /* exactly one is set */
    uint64_t n_tokens, n_documents, n_bytes, vocab;
    const uint64_t *document;               /* n_documents + 1 */
    const uint8_t *part;                    /* n_documents */
    aa_digest tokenizer, source;            /* zero where the format has none */
    void *owned;                            /* heap side tables of headerless formats */
} aa_tokens;

static inline int32_t aa_tokens_at(const aa_tokens *t, uint64_t i) {
    return t->u16 ? (int32_t)t->u16[i] : (int32_t)t->u32[i];
}

/* Opens any of the formats (by magic; a .bin without one is raw uint16). vocab: ids must be smaller
 * (0: not checked). eos separates documents in headerless formats (-1: one document per 4096 tokens).
 * verify: also read everything and compare the digest.                                             */
aa_status aa_tokens_open(aa_tokens *out, const char *path, uint64_t vocab, int32_t eos, bool verify,
                         aa_err *err) AA_MUST_USE;
void aa_tokens_close(aa_tokens *t);
bool aa_tokens_is_file(const char *path);   /* has our or llm.c's magic, or ends in .bin            */

/* ---- from text --------------------------------------------------------------------------------- */

/* Documents of a source: a text file (cut at blank lines into documents of >= 4 KiB), JSONL (one object
 * per line, field "text"), or a directory (every *.txt, *.md, *.jsonl below it, in byte order of paths).
 * The callback sees each document once, in order; the bytes live only during the call.              */
typedef aa_status aa_document_fn(void *ctx, const char *text, size_t n, aa_err *err);
aa_status aa_documents(const char *path, aa_document_fn *fn, void *ctx, aa_err *err) AA_MUST_USE;
/* Digest over names, sizes and content of a source: the key of the token cache.                     */
aa_status aa_source_digest(aa_digest *out, const char *path, aa_err *err) AA_MUST_USE;

typedef struct aa_tokenize_progress { uint64_t done_bytes, total_bytes; } aa_tokenize_progress;
/* Tokenizes a source into our format at out_path (atomic). progress may be NULL.                    */
aa_status aa_tokenize(const char *source, const aa_tokenizer *tokenizer, aa_pool *pool, const char *out_path,
                      void (*progress)(void *ctx, aa_tokenize_progress p), void *ctx, aa_err *err) AA_MUST_USE;
/* At most `limit` bytes of a source's training documents, spread evenly: what a tokenizer is trained on. */
aa_status aa_source_sample(const char *source, size_t limit, aa_text *out, aa_err *err) AA_MUST_USE;

#endif
