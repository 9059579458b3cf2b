/* convert, private: what the reader and the writer of GGUF share. */
#ifndef AA_CONVERT_GGUF_INT_H
#define AA_CONVERT_GGUF_INT_H

#include "convert/convert_int.h"
#include "formats/gguf.h"

enum { AA__GGUF_NAME = 96 };             /* room for the name of a tensor or key */

/* Names of tensors: ours to theirs, theirs to ours; false if the table has none. */
bool aa__gguf_name(const char *ours, char out[AA__GGUF_NAME]);
bool aa__gguf_ours(const char *theirs, char out[AA__GGUF_NAME]);
/* How GGUF orders the rows of this tensor of ours: aa_stored.paired_head. */
size_t aa__gguf_paired(const aa_config *c, const char *ours);

bool aa__gguf_type_of(uint32_t theirs, aa_type *out);    /* false: one we cannot read */
int aa__gguf_file_type(aa_type type);                    /* general.file_type; -1: none */

/* Keys that are sizes of the configuration, without "llama."; ends with suffix NULL. */
typedef struct aa__gguf_size { const char *suffix; size_t at; bool needed; } aa__gguf_size;
extern const aa__gguf_size aa__gguf_sizes[];

/* Divisors of the rotary frequencies as the tensor rope_freqs.weight has them: [head_dim/2]. */
#define AA__GGUF_ROPE_FREQS "rope_freqs.weight"
void aa__gguf_rope_divisors(const aa_config *c, double *out);

/* The file behind a source whose format is "gguf". */
const aa_gguf *aa__gguf_of(const aa_source *s);

#endif
