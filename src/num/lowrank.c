/* num/lowrank: see lowrank.h. Threads take rows of Z, not tokens: each normal is drawn once per
 * call and used for all T rows, in the same order whatever the team. */
#include "base/rng.h"
#include "num/lowrank.h"
#include "num/num_int.h"

typedef struct lowrank {
    aa_cpu *cpu;
    aa_real *y; size_t ldy;
    const aa_real *p; size_t ldp, T;
    aa_real *b, a;
    const aa_lowrank *term;
    aa_rng stream;
} lowrank;

/* Row n of amplitude * Z, as aa_real. */
static void draw(const lowrank *l, size_t n, aa_real amplitude, aa_real *row) {
    float z[AA_LOWRANK_MAX];
    size_t R = l->term->rank;
    aa_rng_normals(&l->stream, (uint64_t)n * R, R, z);
    for (size_t r = 0; r < R; r++) row[r] = amplitude * z[r];
}

static void add_rows(void *ctx, size_t begin, size_t end, int thread) {
    const lowrank *l = ctx;
    const aa_lowrank *term = l->term;
    size_t R = term->rank;
    aa_real m[AA_LOWRANK_MAX] = {0};
    (void)thread;
    for (size_t n = begin; n < end; n++) {
        if (term->amplitude != 0) draw(l, n, term->amplitude, m);
        for (size_t r = 0; r < R; r++) {
            aa_real b = term->b ? term->b[n * R + r] : 0;
            m[r] = term->amplitude != 0 ? b + m[r] : b;
        }
        for (size_t t = 0; t < l->T; t++) {
            aa_real dot;
            l->cpu->k.dot_rows(&dot, m, l->p + t * l->ldp, R, 1, R);
            l->y[t * l->ldy + n] += term->scale * dot;
        }
    }
}

static void start_stream(lowrank *l) {
    aa_assert(l->term->rank >= 1 && l->term->rank <= AA_LOWRANK_MAX);
    aa_rng_init(&l->stream, l->term->seed, AA_RNG_PERTURB, l->term->stream);
}

void aa_lowrank_add(aa_cpu *cpu, aa_real *y, size_t ldy, const aa_real *p, size_t ldp, size_t T,
                    const aa_lowrank *term) {
    double start = aa__begin(cpu);
    lowrank l = {.cpu = cpu, .y = y, .ldy = ldy, .p = p, .ldp = ldp, .T = T, .term = term};
    start_stream(&l);
    if (T && term->n_out && (term->b || term->amplitude != 0))
        aa_pool_run(cpu->pool, term->n_out, add_rows, &l);
    aa__end(cpu, AA_PROF_LOWRANK, start, 2.0 * (double)(T * term->n_out * term->rank),
            (double)sizeof(aa_real) * (double)(2 * T * term->n_out + term->n_out * term->rank));
}

static void step_rows(void *ctx, size_t begin, size_t end, int thread) {
    const lowrank *l = ctx;
    size_t R = l->term->rank;
    aa_real m[AA_LOWRANK_MAX];
    (void)thread;
    for (size_t n = begin; n < end; n++) {
        draw(l, n, 1, m);
        for (size_t r = 0; r < R; r++) l->b[n * R + r] += l->a * m[r];
    }
}

void aa_lowrank_step(aa_cpu *cpu, aa_real *b, aa_real a, const aa_lowrank *term) {
    double start = aa__begin(cpu);
    lowrank l = {.cpu = cpu, .b = b, .a = a, .term = term};
    start_stream(&l);
    if (term->n_out) aa_pool_run(cpu->pool, term->n_out, step_rows, &l);
    aa__end(cpu, AA_PROF_LOWRANK, start, 2.0 * (double)(term->n_out * term->rank),
            2.0 * (double)sizeof(aa_real) * (double)(term->n_out * term->rank));
}
