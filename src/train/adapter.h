/* train/adapter: the options of an adapter as what the model needs. Private to train. */
#ifndef AA_TRAIN_ADAPTER_H
#define AA_TRAIN_ADAPTER_H

#include "train/train.h"

/* What can be said before the base is open. */
aa_status aa__adapter_check(const aa_train_options *o, aa_err *err) AA_MUST_USE;
/* alpha of o is settled. *out_sites is on the heap and the caller's, also after a failure. */
aa_status aa__adapter_of_options(const aa_train_options *o, const aa_config *c, aa_lora *out,
                                 aa_lora_site **out_sites, aa_err *err) AA_MUST_USE;

#endif
