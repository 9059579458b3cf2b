/* tests/support/toy: a small model with everything it needs, filled with numbers that a script in
 * any language can repeat: element i of row `name` is mix(fnv1a(name) ^ mix(i+1)) as a real in [-1,
 * 1), times 1/4, plus 1 in norms. tests/golden/make_golden.py holds the same formula.
 */
#ifndef AA_TESTS_TOY_H
#define AA_TESTS_TOY_H

#include "model/lora.h"

typedef struct toy {
    aa_arena arena;
    aa_cpu *cpu;
    aa_backend backend;
    aa_model model;
    aa_activations *train, *eval;
    size_t B, T, N;
    int32_t *ids, *targets;               /* [N]; every fifth target is masked when asked */
    aa_real *loss;                        /* [N] */
} toy;

typedef struct toy_options {
    aa_isa isa;                           /* AUTO = 0 */
    int threads;                          /* 0 counts as 1 */
    size_t B, T, head_rows;
    bool unpacked, no_lookup, masked;
    bool checkpoint;                      /* the training pass keeps only what enters the blocks */
    const aa_lora *lora;
} toy_options;

/* Resolves the config, lays out, fills. Fails the test when anything fails. */
void toy_open(toy *out, const aa_config *c, const toy_options *o);
void toy_close(toy *t);

double toy_number(const char *name, uint32_t i);      /* [-1, 1) */
void toy_fill(aa_model *m);
void toy_tokens(int32_t *ids, int32_t *targets, size_t n, int64_t vocab, bool masked);

/* Zeroes grads, runs the B sequences `step` at a time, finishes; returns the sum of the losses. */
double toy_gradients(toy *t, size_t step);
double toy_loss(toy *t);                              /* sum, by the evaluation pass */

/* Exchanges query heads 1 and 2 of every block, in weights and gradients: Wq's rows, Wo's columns.
 * For four heads over two kv heads this is what the mapping h mod K in place of h / (H/K) would
 * amount to. */
void toy_exchange_heads(aa_model *m);

#endif
