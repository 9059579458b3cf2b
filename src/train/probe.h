/* train/probe: a backend whose rows see weights of their own.
 *
 *     w + amplitude_s D_s      for the rows of stream s
 *
 * in one pass over the weights w, which nobody writes. D_s is a direction of the zeroth-order
 * engine (zo/objective.h), made where it is multiplied. What moves, and what it costs:
 *
 *     B of an adapter       y += amplitude scale D p      p = x A^T as it is; a product of depth R
 *     A                     p += amplitude D x            before B sees it
 *     core                  y += scale B (amplitude D p)
 *     a whole matrix        y += amplitude D x            as much work again as the map itself
 *     a token table         the same at the head; a row of D for each token looked up
 *     a bias                y += amplitude D
 *     a norm's gain         the norm, stream by stream
 *     scales of rows        the map, stream by stream: W is read as often
 *
 * Rows of a stream have the bits they have without the other streams. Private to train.
 */
#ifndef AA_TRAIN_PROBE_H
#define AA_TRAIN_PROBE_H

#include "model/lora.h"
#include "num/lowrank.h"
#include "zo/objective.h"

/* What a tensor of the model is to the engine: indices of rows of its space, -1 where it is none.
 * own: itself; core: on a B, which is then basis times core; scale: on a whole matrix. */
typedef struct aa_probe_rows { int own, core, scale; } aa_probe_rows;

typedef struct aa_probe_stream { size_t first, n_rows; const aa_zo_probe *probe; } aa_probe_stream;

/* For bases: sums over tokens of p^T x, p = x A^T, for the A of every map: [R,n_in] each. */
typedef struct aa_probe_watch {
    const size_t *at;                     /* [n_tensors] of an A in sum */
    aa_real *sum;
} aa_probe_watch;

typedef struct aa_prober {
    aa_backend backend;                   /* what the model is given; self is this */
    aa_cpu *cpu; aa_model *model;
    const aa_activations *activations;    /* of the pass */
    const aa_probe_rows *rows;            /* [n_tensors] */
    /* [n_tensors] two tensors that have rows in the place of one of the model: of a B its basis and
     * core, of a whole matrix the lengths and scales of its rows. */
    aa_tensor *const *parts;
    const aa_zo_view *view;               /* NULL: the weights as they are */
    const aa_probe_stream *streams; size_t n_streams;
    const aa_probe_watch *watch;          /* NULL: nobody looks */
    aa_lowrank_stream *list;              /* [streams at most] */
    aa_real *vector;                      /* of the largest norm or bias, and of n_out */
    aa_real *inner;                       /* [rows at most, R] with cores; else NULL */
} aa_prober;

/* Fills in backend; the rest is the caller's. */
void aa_prober_init(aa_prober *p);

#endif
