/* support/models: small models on disk, for the tests of formats. */
#ifndef AA_TESTS_MODELS_H
#define AA_TESTS_MODELS_H

#include "convert/source.h"

enum { MODEL_ROWS = 64 };                /* at most */

/* A llama of two layers; change what the test needs. */
extern const aa_config model_base;
/* name in the test's directory; the caller frees it. */
char *model_path(const char *name);
/* A toy model as a Hugging Face directory, `toy`; the caller closes the source. */
aa_source *model_source(const aa_config *c);
void check_same_config(const aa_config *a, const aa_config *b);
/* Every row of b as of a, within `most` of the row's largest value; 0: the same bits. */
void check_same_rows(aa_source *a, aa_source *b, double most);

#endif
