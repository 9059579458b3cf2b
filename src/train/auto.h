/* train/auto: the choice behind --preset auto. */
#ifndef AA_TRAIN_AUTO_H
#define AA_TRAIN_AUTO_H

#include "train/train.h"

/* *out is the preset to take for 'auto'; why says so in one line. text_bytes: of the source, 0 when
 * there is none. Settles --compute, too, if it was left open. */
aa_status aa__auto_preset(const aa_preset **out, aa_opts *opts, uint64_t text_bytes, aa_cpu *cpu,
                          char *why, size_t why_size, aa_err *err) AA_MUST_USE;

#endif
