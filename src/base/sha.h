/* base/sha: SHA-1 and SHA-256 (FIPS 180-4), the digests that others give for their files. Our own
 * digests are those of base/digest, ten times as fast. */
#ifndef AA_BASE_SHA_H
#define AA_BASE_SHA_H

#include <stddef.h>
#include <stdint.h>

typedef enum { AA_SHA1, AA_SHA256 } aa_sha_kind;

typedef struct aa_sha {                      /* begins with aa_sha_init; owns nothing */
    aa_sha_kind kind;
    uint32_t state[8];
    uint64_t size_bytes;
    unsigned char block[64];
} aa_sha;

enum { AA_SHA_HEX = 65 };                    /* 40 or 64 digits and a NUL */

void aa_sha_init(aa_sha *s, aa_sha_kind kind);
void aa_sha_add(aa_sha *s, const void *p, size_t n);
void aa_sha_hex(aa_sha *s, char out[AA_SHA_HEX]);   /* ends it */

#endif
