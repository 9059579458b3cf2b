/* convert, private: what the reader and the writer of flat files share. */
#ifndef AA_CONVERT_FLAT_INT_H
#define AA_CONVERT_FLAT_INT_H

#include "convert/convert_int.h"
#include "formats/flat.h"

/* The only values these formats can mean, for they do not say them. */
#define AA__FLAT_EPS 1e-5
#define AA__FLAT_THETA 10000.0           /* BLZT: unless told otherwise (flat_read.c) */
#define AA__LLAMA2C_TOKENIZER "tokenizer.bin"

/* The letter of this row in formats/flat.h; 0: none. */
char aa__flat_letter(const aa_tensor *row);
/* How the file orders the rows of the letter: aa_stored.paired_head. */
size_t aa__flat_paired(const aa_config *c, char letter);
/* The folder of the file, "." if its name has none, on the heap; NULL when out of memory. */
char *aa__folder_of(const char *path);

#endif
