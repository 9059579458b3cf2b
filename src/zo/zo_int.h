/* zo/zo_int: the engine's inside, shared by its files. */
#ifndef AA_ZO_ZO_INT_H
#define AA_ZO_ZO_INT_H

#include "base/memory.h"
#include "base/number.h"
#include "num/lowrank.h"
#include "zo/ledger.h"

/* What the engine keeps for a row of the space. */
typedef struct zo_state {
    bool moves, written;                  /* by updates; by these or by bases and merges */
    uint32_t tensor;                      /* id | factor << 24 */
    aa_real *m, *v;                       /* momentum; squares (Adam) */
    aa_real *gain, *curvature;            /* mask or 1/sqrt(curvature); that */
    aa_real *along, *shift;               /* gradient bases: S, and how much of it each of the
                                           * step's directions gets */
    uint32_t threshold;                   /* bits of the largest |w| that a mask keeps */
    aa_real *kept, *kept_m, *kept_v, *kept_curvature, *kept_along;
} zo_state;

/* Numbers that go back with the rows. */
typedef struct zo_numbers {
    uint64_t next_step, updates;          /* updates: Adam's count, products of betas below */
    double spread, spread_weight;         /* slow mean of standard deviations */
    double loss, loss_weight;             /* slow mean of losses */
    double beta1_power, beta2_power;
    bool has_basis;
} zo_numbers;

struct aa_zo_view { const aa_zo *z; bool estimate; };

/* Bases of a replay, in the place of those that the objective makes. */
typedef struct zo_stored {
    const aa_ledger_record *bases; size_t n_bases, next;
    const aa_ledger_record *estimate;
} zo_stored;

struct aa_zo {
    aa_zo_config config;
    const aa_zo_objective *objective;
    const aa_zo_space *space;
    aa_cpu *cpu;
    aa_arena arena;
    aa_ledger *ledger;                    /* borrowed, or NULL */
    zo_state *state;                      /* [n_rows] */
    zo_numbers now, kept;
    bool has_kept;
    uint64_t basis_step;                  /* of the newest basis */
    double backoff; int n_backoffs;
    bool owes_check;                     /* the record ends before the check of its last step */
    size_t first_group, n_groups;         /* this process's */
    aa_zo_broadcast *broadcast; void *broadcast_ctx;       /* or NULL */
    size_t total, per_group;              /* directions of a step; floats of a group in raw */
    aa_zo_probe *probes;
    double *losses;
    float *raw, *scalars;                 /* [groups * per_group], [total * (1 or 2)] */
    unsigned char *present;               /* [groups] */
    aa_direction_term *terms;             /* [total] */
    aa_real *scratch, *scratch2;
    uint64_t step_forwards;
    bool new_basis;                       /* the objective was asked for some in this step */
    bool measured;
};

/* methods.c */
void aa__zo_config_write(const aa_zo_config *c, aa_text *out);
aa_status aa__zo_config_read(aa_zo_config *out, const char *text, size_t n, const char *name,
                             aa_err *err) AA_MUST_USE;
const char *aa__zo_method_name(const aa_zo_config *c);

/* scalars.c: pure functions. losses of one group in the order of its probes. c [S] out; curvature
 * [S] out (curved alone); the mean loss returned. */
double aa__zo_differences(const aa_zo_config *c, const double *losses, float *scalars,
                          float *curvature);
double aa__zo_spread(const float *scalars, size_t n);      /* population standard deviation */
/* Coefficients of all groups from raw; absent groups get 0. `spread` divides (0: no update). */
void aa__zo_coefficients(const aa_zo_config *c, const float *raw, const unsigned char *present,
                         size_t per_group, double spread, double factor, float *out);
/* What a sum over streams is scaled by outside of coefficients; 0 for sgd, which has it inside. */
double aa__zo_rate(const aa_zo_config *c, const unsigned char *present, double factor);
size_t aa__zo_present(const aa_zo_config *c, const unsigned char *present);

/* engine.c */
/* Of the coming step; step NULL: of one that is taken back. */
aa_zo_report aa__zo_report(aa_zo *z, const aa_ledger_step *step);
double aa__zo_shown_rate(const aa_zo *z, double factor);
/* After a step that is played back: whether its check must follow. */
void aa__zo_owe_check(aa_zo *z);
/* Coordinates in the generator of direction i of those that begin at `first` in this step. */
typedef struct zo_place { uint32_t step, stream; } zo_place;
zo_place aa__zo_place(const aa_zo *z, uint32_t first, uint32_t i);
uint32_t aa__zo_pool_at(const aa_zo_config *c, uint64_t step, uint32_t first, uint32_t i);
uint32_t aa__zo_first_stream(const aa_zo_config *c);
bool aa__zo_is_frozen_factor(const aa_zo_config *c, aa_factor factor);
/* Basis, masks and shifts of the step that begins. stored NULL: from the objective. */
aa_status aa__zo_prepare(aa_zo *z, zo_stored *stored, aa_err *err) AA_MUST_USE;
void aa__zo_keep(aa_zo *z);               /* the state to go back to */
void aa__zo_go_back(aa_zo *z);

/* update.c */
void aa__zo_apply(aa_zo *z, const aa_ledger_step *step);   /* next_step's, and counts it */
/* Every direction of a pool by its sum: what a compacted ledger applies. */
aa_status aa__zo_apply_pool(aa_zo *z, const double *sums, size_t n, aa_err *err) AA_MUST_USE;
/* Loss and normaliser after a step: the slow means. */
void aa__zo_mean(double *mean, double *weight, double memory, double value);

/* basis.c */
aa_status aa__zo_refresh(aa_zo *z, zo_stored *stored, aa_err *err) AA_MUST_USE;
void aa__zo_thresholds(aa_zo *z);
void aa__zo_masks(aa_zo *z);
void aa__zo_shifts(aa_zo *z);
size_t aa__zo_basis_scratch(const aa_zo *z);               /* reals, each of two */

/* algebra.c */
void aa__zo_msign(aa_cpu *cpu, aa_real *x, size_t rows, size_t cols, aa_real *scratch);
size_t aa__zo_msign_scratch(size_t rows, size_t cols);
/* c [m,n] = a [m,k] b, b [k,n] or, transposed, [n,k]: sums in double, ascending k. */
void aa__zo_product(aa_cpu *cpu, aa_real *c, const aa_real *a, const aa_real *b, size_t m, size_t n,
                    size_t k, bool transpose_b);
void aa__zo_transpose(aa_real *y, const aa_real *x, size_t rows, size_t cols);   /* y [cols,rows] */

/* ledger.c: room for a record of so many bytes. */
aa_status aa__ledger_reserve(aa_ledger *l, size_t size, aa_err *err) AA_MUST_USE;

/* ledger.c: the kind of the record that comes next; 0: none that is whole. */
int aa__ledger_peek(const aa_ledger_reader *r);

/* replay.c: a first reading, which finds damage, what rewinds took back, and the end. */
enum { LEDGER_REWINDS = 64 };
typedef struct ledger_plan {
    struct { uint32_t index; uint64_t to; } rewinds[LEDGER_REWINDS];
    size_t n_rewinds;
    double factor;                        /* of the last */
    uint64_t next_step;
    uint64_t good;                        /* bytes up to the last record that ends a step */
    uint32_t n_records;                   /* in these */
} ledger_plan;
aa_status aa__ledger_plan(aa_ledger_reader *r, ledger_plan *out, aa_err *err) AA_MUST_USE;
bool aa__ledger_undone(const ledger_plan *p, const aa_ledger_record *r);

#endif
