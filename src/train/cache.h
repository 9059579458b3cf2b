/* train/cache: where derived data live between runs: $XDG_CACHE_HOME/autoane, or ~/.cache/autoane.
 * Everything is named by the digest of what it was made from, and may be deleted at any time. */
#ifndef AA_TRAIN_CACHE_H
#define AA_TRAIN_CACHE_H

#include "train/train.h"

enum { AA_STORIES_MIB = 32 };
/* The corpus behind `--data stories`: AA_STORIES_MIB of generated text. */
aa_status aa_cache_stories(char **out_path, aa_err *err) AA_MUST_USE;
/* A tokenizer with n ids trained on source, from the cache if it was made before. */
aa_status aa_cache_tokenizer(aa_tokenizer **out, const char *source, size_t n, aa_split split,
                             aa_pool *pool, aa_err *err) AA_MUST_USE;
/* The token file of a source under a tokenizer, made if needed. options: as of aa_tokenize. */
aa_status aa_cache_tokens(char **out_path, const char *source, const aa_tokenizer *t, aa_pool *pool,
                          const aa_tokenize_options *options, const aa_job_hooks *hooks,
                          aa_err *err) AA_MUST_USE;

#endif
