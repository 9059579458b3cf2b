/* formats/safetensors, private: the reader on bytes that are already in memory (for tests that want
 * every read outside the file to be seen by a sanitizer). */
#ifndef AA_FORMATS_SAFETENSORS_INT_H
#define AA_FORMATS_SAFETENSORS_INT_H

#include "formats/safetensors.h"

enum { AA__ST_MAX_HEADER = 100 * 1000 * 1000 };      /* bytes; the limit of the reference library */

/* Fills tensors, index and json from st->map and st->path. On failure these stay empty. */
aa_status aa__safetensors_parse(aa_safetensors *st, aa_err *err) AA_MUST_USE;

#endif
