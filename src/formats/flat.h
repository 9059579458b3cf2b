/* formats/flat: model files that are a header and then floats in a fixed order.
 *
 * BLZT v4 is the checkpoint of the first AutoANE, llama2c and llama2c-v1 are the two kinds of
 * llama2.c's model.bin that hold floats. None has names or a table of tensors: the header gives the
 * sizes, the sizes give where everything is and how long the file must be. All is little-endian,
 * matrices are [out, in] row-major binary32, and the rows of Q and K lie as rotary pairs.
 *
 *     blzt        96 bytes of header; per layer Q K V O gate down up, both norms, and twice as much
 *                 again: the first and second moments of Adam (by tensor, m before v); final norm,
 *                 embedding, each with its moments. Always tied.
 *     llama2c     28 bytes: dim, ffn, layers, heads, kv_heads, vocab (negative: untied), seq;
 *                 embedding, then each tensor of a layer for all layers, the final norm, tables of
 *                 cosines and sines that readers pass over, the head if untied.
 *     llama2c-v1  "24ka", version 1, the seven sizes, a byte: tied, zeros to 256; the norms first.
 */
#ifndef AA_FORMATS_FLAT_H
#define AA_FORMATS_FLAT_H

#include <stdbool.h>
#include "base/file.h"

typedef enum { AA_FLAT_BLZT, AA_FLAT_LLAMA2C, AA_FLAT_LLAMA2C_V1, AA_FLAT_KIND_COUNT } aa_flat_kind;
const char *aa_flat_kind_name(aa_flat_kind kind);        /* "blzt" ... */

typedef struct aa_flat_shape {
    int64_t dim, ffn, layers, heads, kv_heads, head_dim, vocab, seq;
    bool tied;
} aa_flat_shape;

typedef struct aa_flat {                     /* read-only view of one file */
    aa_sys_map map; char *path;
    aa_flat_kind kind; aa_flat_shape shape;
    int64_t steps, updates;                  /* BLZT: how long it was trained; both 0: converted */
} aa_flat;

/* Whether a file of n bytes begins as one of these, whole or not. */
bool aa_flat_is(const unsigned char *data, size_t n);
/* The file is as long as its header says, to the byte. */
aa_status aa_flat_open(aa_flat *out, const char *path, aa_err *err) AA_MUST_USE;
void aa_flat_close(aa_flat *f);

/* Tensors by letters: of a layer q k v o g d u (gate, down, up), a f (norms before attention and
 * feed-forward); E N H (embedding, final norm, head); R (llama2c's cosines, then its sines). */
typedef struct aa_flat_place { uint64_t offset, rows, cols; } aa_flat_place;
/* False if the kind has none. layer counts for those of a layer. */
bool aa_flat_find(aa_flat_kind kind, const aa_flat_shape *s, char letter, uint64_t layer,
                  aa_flat_place *out);
/* Of the whole file. */
uint64_t aa_flat_size(aa_flat_kind kind, const aa_flat_shape *s);

enum { AA_FLAT_MAX_HEADER = 256 };
/* The header of a file that was converted, not trained; its length is returned. */
size_t aa_flat_header(aa_flat_kind kind, const aa_flat_shape *s,
                      unsigned char out[AA_FLAT_MAX_HEADER]);

#endif
