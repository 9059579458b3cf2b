/* zo: zeroth-order training: gradients from differences of losses, along directions that nobody
 * stores.
 *
 * Owns the methods (rows of methods.c, each a set of values for the options of options.def), the
 * engine that runs all of them, and replay: a run is its seed, its bases and its scalars, so the
 * ledger (zo/ledger.h) of a few bytes per step is the checkpoint. Knows objectives
 * (zo/objective.h), not transformers.
 *
 *     step t:  basis, if it is due        merge the adapters, take new A (and B)
 *              measure                    losses of all probes in one call -> raw scalars
 *              (ranks exchange scalars)
 *              update                     raw -> coefficients -> ledger -> rows += sum c_s D_s
 *
 * What measure sees of the parameters is never anything but the parameters: a run whose rate is 0
 * leaves every bit as it was. What update does is a function of the record alone: live steps,
 * resumed ones, other ranks and replays share that one function, whose bits do not depend on
 * threads or instruction sets.
 */
#ifndef AA_ZO_ZO_H
#define AA_ZO_ZO_H

#include "base/digest.h"
#include "base/option.h"
#include "zo/objective.h"

/* ---- settings -------------------------------------------------------------------------------- */

typedef enum { AA_ZO_ADAPTER, AA_ZO_B, AA_ZO_A, AA_ZO_CORE, AA_ZO_WHOLE, AA_ZO_SCALE } aa_zo_moves;
typedef enum { AA_ZO_KEPT, AA_ZO_RANDOM, AA_ZO_ACTIVATION, AA_ZO_GRADIENT } aa_zo_basis;
typedef enum { AA_ZO_SIZE_ONE, AA_ZO_SIZE_CORE, AA_ZO_SIZE_ENTRIES } aa_zo_basis_size;
typedef enum { AA_ZO_SHARED, AA_ZO_OWN } aa_zo_data;
typedef enum { AA_ZO_TWO_SIDED, AA_ZO_BASE, AA_ZO_LOO, AA_ZO_CURVED } aa_zo_estimator;
typedef enum { AA_ZO_RAW, AA_ZO_STD, AA_ZO_EMA } aa_zo_combiner;
typedef enum { AA_ZO_SGD, AA_ZO_MOMENTUM, AA_ZO_ADAM, AA_ZO_MUON } aa_zo_update_kind;
typedef enum { AA_ZO_NO_MASK, AA_ZO_SMALL, AA_ZO_CURVATURE } aa_zo_mask;
typedef enum { AA_ZO_ALONE, AA_ZO_ADDAX, AA_ZO_ELASTIC } aa_zo_hybrid;

typedef struct aa_zo_config {             /* one field per row of options.def, explained there */
    int method, space, basis, basis_size, law, data, estimator, combiner, update, mask, hybrid;
    bool norms;
    int64_t first_layer, refresh, streams, groups, estimate, horizon, hybrid_layer, guard, check,
        pool, client, seed;
    double eps, ema, clip, rho, lr, momentum, beta2, sparsity, curvature_rate, hybrid_alpha,
        hybrid_lr, guard_factor;
} aa_zo_config;

extern const aa_opt aa_zo_rows[];         /* over an aa_zo_config */
/* Gives the options that stand at their default the values of the method named by zo-method. o may
 * be a larger table that has the rows of options.def among its own. */
aa_status aa_zo_settle(aa_opts *o, aa_err *err) AA_MUST_USE;
/* The same for a config of its own: method `name`, then settings "key=value ..." on top. */
aa_status aa_zo_configure(aa_zo_config *out, const char *name, const char *settings,
                          aa_err *err) AA_MUST_USE;
/* Combinations that cannot work are refused with the reason. Needs no objective. */
aa_status aa_zo_config_check(const aa_zo_config *c, aa_err *err) AA_MUST_USE;

/* Forward passes of one data id in one step, over all groups. */
size_t aa_zo_probes(const aa_zo_config *c);

/* ---- the engine ------------------------------------------------------------------------------ */

typedef struct aa_zo aa_zo;
typedef struct aa_ledger aa_ledger;        /* zo/ledger.h */

/* Borrows objective, its rows, and cpu. The objective may lack evaluate: then it can only be
 * replayed. Refuses a config that the objective has no rows for. */
aa_status aa_zo_open(aa_zo **out, const aa_zo_config *config, const aa_zo_objective *objective,
                     aa_cpu *cpu, aa_err *err) AA_MUST_USE;
/* What open would take; rows that have memory need only a data that is not NULL. */
aa_status aa_zo_measure_memory(uint64_t *out, const aa_zo_config *config,
                               const aa_zo_objective *objective, aa_err *err) AA_MUST_USE;
void aa_zo_close(aa_zo *z);
const aa_zo_config *aa_zo_config_of(const aa_zo *z);
uint64_t aa_zo_size_bytes(const aa_zo *z);  /* what open took */
size_t aa_zo_moved(const aa_zo *z);         /* elements that move */
uint64_t aa_zo_next_step(const aa_zo *z);   /* 0 in the beginning */
/* Of all rows that the engine writes, in the table's order. */
aa_digest aa_zo_digest(const aa_zo *z);
/* From now on steps are recorded; NULL: no more. The ledger is borrowed, and gets room for the
 * largest record, so that steps need no memory. A digest that a killed run no longer wrote behind
 * its last step is written first. */
aa_status aa_zo_attach(aa_zo *z, aa_ledger *ledger, aa_err *err) AA_MUST_USE;
/* This process measures groups first .. first + n - 1 of the config's; others are gathered. */
void aa_zo_share(aa_zo *z, size_t first, size_t n);
/* Replaces n bytes on all ranks by those of the first, which alone are then used. Bases differ in
 * their last bits between machines. */
typedef aa_status aa_zo_broadcast(void *ctx, void *bytes, size_t n, aa_err *err);
void aa_zo_set_broadcast(aa_zo *z, aa_zo_broadcast *broadcast, void *ctx);

/* Raw results of a step: groups * aa_zo_raw_size floats, and whether a group is there. Of a group:
 * its streams' scalars, (curved: their curvatures,) and its mean loss. Ranks exchange these bits as
 * they are, and nothing else. */
size_t aa_zo_raw_size(const aa_zo *z);
typedef struct aa_zo_raw { float *values; unsigned char *present; } aa_zo_raw;

typedef struct aa_zo_report {
    uint64_t step, sequence_forwards;      /* of this process in this step, without bases */
    double loss;                           /* mean over groups, at the perturbed points (base
                                            * estimators: at the point); NAN when rewound */
    double spread;                         /* slow mean of the scalars' standard deviation */
    double rate;                           /* learning rate applied, after backing off */
    bool rewound;                          /* nothing was applied: back at the last kept state */
    bool new_basis;                        /* the objective gave bases before it */
} aa_zo_report;

/* Takes a basis if one is due, evaluates, and fills raw with this process's groups, the others
 * absent. raw is the engine's, until the next call. */
aa_status aa_zo_measure(aa_zo *z, aa_zo_raw *raw, aa_err *err) AA_MUST_USE;
/* factor in 0..1: of the schedule. Where the loss is no number, or more than zo-guard-factor times
 * its slow mean (over about ten steps, from the twentieth on), goes back to the last kept state and
 * halves the rate from there on; AA_EDIVERGED where none is kept (nothing is changed then) or the
 * rate has been halved ten times. */
aa_status aa_zo_update(aa_zo *z, double factor, aa_zo_report *out, aa_err *err) AA_MUST_USE;
/* The two after each other. */
aa_status aa_zo_step(aa_zo *z, double factor, aa_zo_report *out, aa_err *err) AA_MUST_USE;

/* ---- replay (replay.c) ----------------------------------------------------------------------- */

typedef struct aa_zo_replayed {
    uint64_t records, steps, checks;       /* read; applied; digests compared */
    uint64_t torn_bytes;                   /* of a last record that was cut off (resume only) */
} aa_zo_replayed;

/* Brings a fresh engine, its rows at the base, to the end of the ledger at path. Refuses another
 * base (NULL: only the digest of the rows before the first step tells), other rows or settings, and
 * damage, naming the record. out may be NULL. */
aa_status aa_zo_replay(aa_zo *z, const char *path, const aa_digest *base, aa_zo_replayed *out,
                       aa_err *err) AA_MUST_USE;
/* The same for a run that goes on: a last record that a kill cut off is passed over; `at` out: the
 * bytes that are good, for aa_ledger_append. */
aa_status aa_zo_resume(aa_zo *z, const char *path, const aa_digest *base, uint64_t *at,
                       aa_zo_replayed *out, aa_err *err) AA_MUST_USE;

/* The same step by step, so that a run that goes on does between steps what it did: a ledger in the
 * place of measurements. torn: a cut last record is the end. */
typedef struct aa_zo_playback aa_zo_playback;
aa_status aa_zo_playback_open(aa_zo_playback **out, aa_zo *z, const char *path,
                              const aa_digest *base, bool torn, aa_err *err) AA_MUST_USE;
bool aa_zo_playback_more(const aa_zo_playback *p);
/* The next step, of which there must be more, reported as it was when it was taken; factor: as of
 * aa_zo_update. */
aa_status aa_zo_playback_step(aa_zo_playback *p, double factor, aa_zo_report *out,
                              aa_err *err) AA_MUST_USE;
uint64_t aa_zo_playback_good(const aa_zo_playback *p);     /* bytes, for aa_ledger_append */
void aa_zo_playback_close(aa_zo_playback *p);

#endif
