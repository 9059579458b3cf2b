/* ane/check: what is known to go wrong with a program, on a chip and under a profile.
 *
 * One row of constraints.def per published constraint, with its cause; a finding is a row that a
 * program touches. Chips are rows of chips.def. */
#ifndef AA_ANE_CHECK_H
#define AA_ANE_CHECK_H

#include "ane/mil.h"

typedef struct aa_ane_chip {
    const char *name, *arch;
    int generation;
    double t0_us, peak_tflops, single_tflops, gbs, resident_mb, int8_ratio, watts;
} aa_ane_chip;
const aa_ane_chip *aa_ane_chips(size_t *n);
/* AA_EUSAGE with the names there are. */
aa_status aa_ane_chip_find(const aa_ane_chip **out, const char *name, aa_err *err) AA_MUST_USE;

/* What a check looks for. FAST and FAITHFUL: the rules, and the rest as warnings. STRICT: every
 * published constraint is an error, so that what passes should run anywhere. SHUFFLED: as FAST, for
 * devices whose symbols have no order. LEGACY: an operating system of the first chips, too. */
#define AA_ANE_PROFILES "fast|faithful|strict|shuffled|legacy"
typedef enum {
    AA_ANE_FAST, AA_ANE_FAITHFUL, AA_ANE_STRICT, AA_ANE_SHUFFLED, AA_ANE_LEGACY
} aa_ane_profile;

typedef enum {
    AA_ANE_RULE, AA_ANE_FOLK, AA_ANE_CONTESTED, AA_ANE_NUMERIC, AA_ANE_SLOW, AA_ANE_RUN
} aa_ane_kind;
typedef struct aa_ane_constraint {
    int number;
    aa_ane_kind kind;
    const char *cause, *sentence;
} aa_ane_constraint;
const aa_ane_constraint *aa_ane_constraint_find(int number);   /* NULL: there is none */

typedef struct aa_ane_finding {
    const aa_ane_constraint *constraint;
    bool error;
    int line;                            /* of the text, 0 if the program was built */
    char where[64];                      /* of function and variable */
    char detail[160];
} aa_ane_finding;

typedef struct aa_ane_findings {         /* {0} is empty */
    aa_ane_finding *data;
    size_t n, room, n_errors;
} aa_ane_findings;
void aa_ane_findings_release(aa_ane_findings *f);

/* A weight file by the path a program gives it; size 0 and NULL: there is none. */
typedef struct aa_ane_files {
    void *ctx;
    const void *(*find)(void *ctx, const char *path, uint64_t *size);
} aa_ane_files;

/* Appends what is found. files NULL: weights are not looked at. Fails only without memory. */
aa_status aa_ane_check(aa_ane_findings *out, const aa_mil_program *p, const aa_ane_chip *chip,
                       aa_ane_profile profile, const aa_ane_files *files, aa_err *err) AA_MUST_USE;

#endif
