/* num/dropout: masks that are never stored.
 *
 * Sixteen bits of the counter-based generator per element: element j of row t comes from block j/8
 * of the counter (j/8, t, stream), so backward makes the mask of forward again, and a batch cut in
 * any way has the mask of the whole.
 */
#include "base/rng.h"
#include "num/num_int.h"

enum { PIECE = 32, PER_BLOCK = 8 };      /* blocks made at a time; elements of a block */

typedef struct job {
    const aa_cpu *cpu;
    aa_real *y;
    const aa_real *x;
    size_t n;
    bool accumulate;
    aa_rng stream;
    uint32_t first, least;               /* what falls below `least` is dropped */
    aa_real scale;
} job;

static void mask_piece(const job *j, const uint32_t *words, aa_real *restrict y,
                       const aa_real *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = words[i / 2] >> 16 * (i % 2) & 0xFFFF;
        aa_real kept = bits < j->least ? 0 : j->scale * x[i];
        y[i] = j->accumulate ? y[i] + kept : kept;
    }
}

static void mask_rows(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    uint32_t words[4 * PIECE];
    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t i = 0; i < j->n; i += PIECE * PER_BLOCK) {
            size_t n = aa__min(j->n - i, PIECE * PER_BLOCK);
            const uint32_t at[4] = {(uint32_t)(i / PER_BLOCK), j->first + (uint32_t)t,
                                    j->stream.ctr[2], j->stream.ctr[3]};
            j->cpu->k.philox(words, at, j->stream.key, aa__ceil_div(n, PER_BLOCK));
            mask_piece(j, words, j->y + t * j->n + i, j->x + t * j->n + i, n);
        }
}

void aa_dropout_apply(aa_cpu *cpu, aa_real *y, const aa_real *x, size_t T, size_t n,
                      bool accumulate, const aa_dropout *d) {
    const uint32_t least = (uint32_t)(d->p * 65536 + 0.5);
    job j = {.cpu = cpu, .y = y, .x = x, .n = n, .accumulate = accumulate,
             .first = (uint32_t)d->first, .least = least,
             .scale = (aa_real)(65536.0 / (65536 - least))};
    aa_assert(least < 65536 && (uint64_t)d->first + T <= UINT32_MAX && !(accumulate && y == x));
    double start = aa__begin(cpu);
    aa_rng_init(&j.stream, d->seed, AA_RNG_DROPOUT, d->index);
    aa_pool_run(cpu->pool, T, mask_rows, &j);
    aa__end(cpu, AA_PROF_DROPOUT, start, 0,
            (accumulate ? 3 : 2) * (double)(T * n) * (double)sizeof(aa_real));
}
