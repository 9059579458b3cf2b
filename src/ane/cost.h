/* ane/cost: how long a program takes and what it costs, simulated.
 *
 *   t = t0 + max(F / P, bytes / B)          energy = W * (t - t0)
 *
 * F counts multiply-adds of products twice, bytes the constants and ports, and again each tensor
 * that is too large to stay on the chip; P is the rate inside a program of several operations, P1
 * that of a product alone. The constants are those of chips.def: published, from several machines,
 * and good for about 15 % of a whole step and 30 % of a single odd shape. Nobody ran any of it:
 * whoever prints such a number calls it simulated. */
#ifndef AA_ANE_COST_H
#define AA_ANE_COST_H

#include "ane/check.h"

typedef struct aa_ane_work {
    double flop, int8_flop;              /* the second of products of 8-bit operands */
    double constant_bytes, port_bytes, spill_bytes;
    int products, others;                /* operations that compute */
} aa_ane_work;

typedef struct aa_ane_cost {
    double dispatch_s, device_s;         /* t0, and what comes on top of it */
    double joule;
    bool memory_bound;
} aa_ane_cost;

/* What one evaluation of a function does on a chip. */
void aa_ane_work_of(aa_ane_work *out, const aa_mil_func *f, const aa_ane_chip *chip);
/* n evaluations of work in all. alone: each is one product with nothing behind it. */
aa_ane_cost aa_ane_cost_of(const aa_ane_work *work, double n, bool alone, const aa_ane_chip *chip);

#endif
