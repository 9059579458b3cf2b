/* data/examples: which examples a step sees.
 *
 * The examples of one part of a token file with a mask. Each is a sequence of its own, with
 * positions from 0; what follows its last learned token is left out, and so is what exceeds the
 * window. Epoch e gives every example once, in the order of a keyed permutation; a window of T rows
 * is filled with whole examples, the next ones of that order, until one does not fit. Example
 * number n is a function of (seed, n) and a window of the number of its first example: there is no
 * other state, so resume, accumulation and threads cannot change what is seen.
 */
#ifndef AA_DATA_EXAMPLES_H
#define AA_DATA_EXAMPLES_H

#include "data/batch.h"

typedef struct aa_examples {
    const aa_tokens *tokens;
    const int32_t *map;                     /* as of aa_stream */
    size_t T;
    bool packing;                           /* else one example in a window */
    size_t unit;                            /* windows have a multiple of this (T is one) of rows:
                                               rows without loss are added where they do not */
    uint64_t n, n_rows;                     /* examples, and their rows together */
    uint64_t n_cut, n_empty; /* longer than T; and of them left out: nothing to learn is left */
    uint64_t *first; uint32_t *rows;        /* [n] heap: token in the file, rows (targets follow) */
} aa_examples;

/* AA_PART_COUNT: all. Packing, unit and map are the caller's to set. */
aa_status aa_examples_init(aa_examples *out, const aa_tokens *tokens, aa_part part, size_t T,
                           aa_err *err) AA_MUST_USE;
void aa_examples_release(aa_examples *e);

/* Sequences end to end, as aa_batch wants them: n_sequences rows of start and one more. */
typedef struct aa_packed {
    int32_t *ids, *targets, *start;         /* borrowed, start[0] = 0 */
    size_t n_rows, n_sequences;
} aa_packed;

/* Appends example i (of the file's order): ids, and targets, -1 where they are not learned. */
void aa_examples_read(const aa_examples *e, uint64_t i, aa_packed *out);
/* Appends a training window that begins with example number n (any n; epochs follow each other), at
 * most T rows; returns how many examples it holds. */
uint64_t aa_examples_window(const aa_examples *e, uint64_t seed, uint64_t n, aa_packed *out);
/* Windows of the first epoch: how well they are filled is n_rows / (windows T). */
uint64_t aa_examples_windows(const aa_examples *e, uint64_t seed);

#endif
