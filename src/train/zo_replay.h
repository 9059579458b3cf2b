/* train/zo_replay: from a ledger and its base, the run's weights.
 *
 * A ledger of ours says which adapter the run had; so the two files are all that is needed. What is
 * written is what the run wrote: a PEFT directory, or a whole model where the method rewrites
 * matrices.
 */
#ifndef AA_TRAIN_ZO_REPLAY_H
#define AA_TRAIN_ZO_REPLAY_H

#include "train/train.h"

/* The options that a ledger's header has in `about`: rows of aa_train_rows, as JSON. */
aa_status aa_zo_about_write(const aa_train_options *o, aa_text *out, aa_err *err) AA_MUST_USE;

typedef struct aa_zo_rebuilt {
    aa_zo_replayed replayed;
    aa_digest digest;                     /* of all rows that the run moved */
    uint64_t moved;                       /* parameters */
    bool whole;                           /* the model was written, not an adapter */
    double wall_s;                        /* of the replay alone */
} aa_zo_rebuilt;

/* ledger: the file, or a run directory that holds it. out: a directory that is not there, and
 * appears when it is whole; NULL: nothing is written, only checked. Refuses another base. */
aa_status aa_zo_rebuild(const char *ledger, const char *base, const char *out, aa_cpu *cpu,
                        aa_zo_rebuilt *done, aa_err *err) AA_MUST_USE;
/* The ledger in a run directory, or path itself; heap. */
aa_status aa_zo_ledger_path(char **out, const char *path, aa_err *err) AA_MUST_USE;

#endif
