/* zo/objective: what the zeroth-order engine sees of the thing it trains.
 *
 * An objective has rows (parameters that may be moved), and answers one question: the loss at the
 * present parameters plus an amplitude times a random direction, for several directions at once.
 * How it computes that is its own affair; a language model runs all streams of a step through its
 * blocks together (num/lowrank.h). The engine owns directions, scalars and updates; it never sees
 * a token, and never moves a parameter to look at another place: while an objective evaluates, the
 * rows are what they were.
 *
 * Matrices come with an adapter, whole of it or parts:
 *
 *     y = (whole + scale * B core A) x        whole [out,in]  B [out,R]  core [R,R]  A [R,in]
 *
 * where what is absent is absent from the product. A may be shared by matrices that see the same x
 * (q, k, v), so that p = A x is computed once.
 */
#ifndef AA_ZO_OBJECTIVE_H
#define AA_ZO_OBJECTIVE_H

#include "num/direction.h"

/* A parameter. `tensor` is the objective's and must stay where it is; data is float (a row that
 * only a file holds cannot be moved: leave it out). The engine writes data between evaluations and
 * raises version. */
typedef struct aa_zo_row {
    aa_tensor *tensor;
    uint64_t id;                          /* below 2^24; with factor it names the directions, so it
                                           * must be the same in every run over the same model */
    aa_factor factor;                     /* WHOLE, A, B, CORE, NORM or SCALE (initially 1) */
} aa_zo_row;

/* Indices of rows, -1 for what is not there. */
typedef struct aa_zo_matrix { int whole, a, core, b; aa_real scale; } aa_zo_matrix;

typedef struct aa_zo_space {
    const aa_zo_row *rows; size_t n_rows;
    const aa_zo_matrix *matrices; size_t n_matrices;
} aa_zo_space;

/* One forward pass: the loss on data `data` at parameters + amplitude * direction of `stream`.
 * amplitude 0 is the present point, whatever stream says. Equal data ids are the same sequences in
 * the same order; an id is used again for streams that are compared with each other, and in
 * replays. */
typedef struct aa_zo_probe {
    uint32_t stream;
    aa_real amplitude;
    uint64_t data;
} aa_zo_probe;

/* What a step perturbs, valid during a call. */
typedef struct aa_zo_view aa_zo_view;
/* The direction of a row for a probe: false, and nothing in out, where the row is not perturbed. It
 * borrows from the view. amplitude is not in it. */
bool aa_zo_direction(const aa_zo_view *view, size_t row, const aa_zo_probe *probe,
                     aa_direction *out);

typedef struct aa_zo_objective {
    void *self;
    aa_zo_space space;
    size_t n_sequences;                   /* behind one data id */
    /* losses[i] out: mean loss of probe i, comparable among probes of one data id. each
     * [n][n_sequences] out, or NULL: of its sequences. A loss that is no number is an answer, not
     * a failure. Deterministic: the same view and probes give the same bits. */
    aa_status (*evaluate)(void *self, const aa_zo_view *view, const aa_zo_probe *probes, size_t n,
                          double *losses, double *each, aa_err *err);
    /* a [rank, n_in] out: orthonormal rows that span what enters the matrices of row `row` (an A)
     * on data `data`, most of it first; best made of at least 64 sequences, behind the norm. It is
     * asked for all rows with one data id after the other, so the passes are needed once. Usual
     * way: a few rounds of Y = sum over tokens of p^T x with p = A x, A = aa_zo_orthonormalize(Y).
     * NULL: no such bases. */
    aa_status (*basis)(void *self, size_t row, size_t rank, uint64_t data, aa_real *a, aa_err *err);
    /* Adds the gradient of the mean loss on data into the rows' grad, for those that have one.
     * NULL: no backward pass. For hybrids. */
    aa_status (*gradient)(void *self, uint64_t data, aa_err *err);
} aa_zo_objective;

/* Rows of y [rank, n] made orthonormal from the first on, by Gram-Schmidt twice, in double, each
 * with a positive part along what it was: no sign is free. A row that depends on those before it
 * becomes 0. The same bits everywhere. */
void aa_zo_orthonormalize(aa_real *y, size_t rank, size_t n);

#endif
