/* data/tokens_int: the layout of a token file, for its reader and its writer. */
#ifndef AA_DATA_TOKENS_INT_H
#define AA_DATA_TOKENS_INT_H

#include "base/digest.h"

#define AA__TOKENS_MAGIC "AATOKENS"
#define AA__TOKENS_END "AATOKEND"
enum { AA__TOKENS_HEAD = 64, AA__LLMC_U16 = 20240520, AA__LLMC_U32 = 20240801 };

typedef struct aa__tokens_tail {
    char magic[8];
    uint64_t flags, n_tokens, n_documents, n_bytes, vocab;
    aa_digest tokenizer, source;
    uint64_t zeros[4];
    aa_digest digest;                        /* of the file up to here */
} aa__tokens_tail;
enum { AA__TOKENS_MASK = 1 };                /* of flags: some tokens are not learned */
_Static_assert(sizeof(aa__tokens_tail) == 128, "the tail is written as it is");

static inline uint64_t aa__mask_bytes(uint64_t n) { return n / 8 + (n % 8 > 0); }
static inline uint64_t aa__pad64(uint64_t n) { return (n + 63) & ~(uint64_t)63; }

#endif
