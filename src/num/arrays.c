/* num/arrays: passes over whole arrays. Element-wise ones are split at multiples of a cache line;
 * the one sum goes by fixed chunks, added in order. */
#include <string.h>
#include "num/num_int.h"

enum { CHUNK = 16384 };                   /* elements of one partial sum */

typedef struct pass {
    aa_cpu *cpu;
    aa_real *y, *z, *m, *v;
    const aa_real *x;
    aa_real a;
    size_t n;
    const aa_adamw *adamw;
    const aa_sgd *sgd;
} pass;

static double bytes(double elements) { return elements * (double)sizeof(aa_real); }

static void square_chunks(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        p->cpu->chunks[i] =
            p->cpu->k.sum_squares(p->x + i * CHUNK, aa__min(CHUNK, p->n - i * CHUNK));
}

double aa_sum_squares(aa_cpu *cpu, const aa_real *x, size_t n) {
    double start = aa__begin(cpu), sum = 0;
    for (size_t at = 0; at < n; at += (size_t)AA_CHUNKS_MAX * CHUNK) {
        pass p = {.cpu = cpu, .x = x + at, .n = aa__min(n - at, (size_t)AA_CHUNKS_MAX * CHUNK)};
        size_t n_chunks = aa__ceil_div(p.n, CHUNK);
        aa_pool_run(cpu->pool, n_chunks, square_chunks, &p);
        for (size_t i = 0; i < n_chunks; i++) sum += cpu->chunks[i];
    }
    aa__end(cpu, AA_PROF_SUM_SQUARES, start, 2 * (double)n, bytes((double)n));
    return sum;
}

static void zero_part(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    memset(p->y + begin, 0, (end - begin) * sizeof(aa_real));
}

void aa_zero(aa_cpu *cpu, aa_real *x, size_t n) {
    double start = aa__begin(cpu);
    pass p = {.cpu = cpu, .y = x};
    aa__run_columns(cpu, n, zero_part, &p);
    aa__end(cpu, AA_PROF_ZERO, start, 0, bytes((double)n));
}

static void axpy_part(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    p->cpu->k.axpy(p->y + begin, p->a, p->x + begin, end - begin);
}

void aa_axpy(aa_cpu *cpu, aa_real *y, aa_real a, const aa_real *x, size_t n) {
    double start = aa__begin(cpu);
    pass p = {.cpu = cpu, .y = y, .a = a, .x = x};
    aa__run_columns(cpu, n, axpy_part, &p);
    aa__end(cpu, AA_PROF_AXPY, start, 2 * (double)n, bytes(3 * (double)n));
}

static void scale_part(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    p->cpu->k.scale(p->y + begin, p->a, end - begin);
}

void aa_scale(aa_cpu *cpu, aa_real *x, aa_real a, size_t n) {
    double start = aa__begin(cpu);
    pass p = {.cpu = cpu, .y = x, .a = a};
    aa__run_columns(cpu, n, scale_part, &p);
    aa__end(cpu, AA_PROF_SCALE, start, (double)n, bytes(2 * (double)n));
}

static void adamw_part(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    p->cpu->k.adamw(p->y + begin, p->z + begin, p->m + begin, p->v + begin, end - begin, p->adamw);
}

void aa_adamw_update(aa_cpu *cpu, aa_real *w, aa_real *grad, aa_real *m, aa_real *v, size_t n,
                     const aa_adamw *h) {
    double start = aa__begin(cpu);
    pass p = {.cpu = cpu, .y = w, .z = grad, .m = m, .v = v, .adamw = h};
    aa__run_columns(cpu, n, adamw_part, &p);
    aa__end(cpu, AA_PROF_ADAMW, start, 16 * (double)n, bytes(8 * (double)n));
}

static void sgd_part(void *ctx, size_t begin, size_t end, int thread) {
    const pass *p = ctx;
    (void)thread;
    p->cpu->k.sgd(p->y + begin, p->z + begin, p->m ? p->m + begin : NULL, end - begin, p->sgd);
}

void aa_sgd_update(aa_cpu *cpu, aa_real *w, aa_real *grad, aa_real *mom, size_t n, aa_real lr,
                   aa_real momentum, aa_real decay, aa_real grad_scale) {
    double start = aa__begin(cpu);
    aa_sgd h = {lr, momentum, decay, grad_scale};
    pass p = {.cpu = cpu, .y = w, .z = grad, .m = mom, .sgd = &h};
    aa__run_columns(cpu, n, sgd_part, &p);
    aa__end(cpu, AA_PROF_SGD, start, 6 * (double)n, bytes((mom ? 6 : 4) * (double)n));
}

void aa_to_f16(const aa_cpu *cpu, uint16_t *y, const aa_real *x, size_t n) {
    cpu->k.to_f16(y, x, n);
}
