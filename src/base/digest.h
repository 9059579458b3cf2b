/* base/digest: 128-bit content digests (XXH3, by the xxHash library). They detect damage and name
 * content; they are no defence against a forger. */
#ifndef AA_BASE_DIGEST_H
#define AA_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct aa_digest { uint64_t lo, hi; } aa_digest;
enum { AA_DIGEST_HEX = 33 };                            /* 32 digits, hi first, and a NUL */

aa_digest aa_digest_bytes(const void *p, size_t n);
typedef struct aa_digester aa_digester;                 /* streaming */
aa_status aa_digester_new(aa_digester **out, aa_err *err) AA_MUST_USE;
void aa_digester_add(aa_digester *d, const void *p, size_t n);
aa_digest aa_digester_get(const aa_digester *d);
void aa_digester_free(aa_digester *d);
void aa_digest_hex(aa_digest d, char out[AA_DIGEST_HEX]);
bool aa_digest_parse(const char *hex, aa_digest *out);  /* false, out untouched: not 32 digits */
int  aa_digest_equal(aa_digest a, aa_digest b);
aa_status aa_digest_file(aa_digest *out, const char *path, aa_err *err) AA_MUST_USE;

#endif
