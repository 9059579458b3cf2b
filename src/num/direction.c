/* num/direction: see direction.h. Work is cut into pieces of whole blocks, so that where a thread
 * begins does not matter to the generator either. */
#include "num/direction.h"

#include <string.h>
#include "num/num_int.h"

enum {
    PIECE = 2048,                         /* elements: 16 blocks, a vector of them in AVX-512 */
    AT_ONCE = 64,                         /* streams whose bits are in L1 together */
    PIECE_WORDS = PIECE / 32 + 4          /* and what may be read behind them */
};

aa_status aa_direction_tensor(uint32_t *out, uint64_t id, aa_factor factor, aa_err *err) {
    aa_assert(factor < AA_FACTOR_COUNT);
    if (id >= AA_DIRECTION_MOST_TENSORS)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "tensor id %llu has no directions of its own: ids go to %llu",
                       (unsigned long long)id,
                       (unsigned long long)AA_DIRECTION_MOST_TENSORS - 1);
    *out = (uint32_t)id | (uint32_t)factor << 24;
    return AA_OK;
}

/* Blocks first .. first + n_blocks - 1. */
static void draw(const aa_cpu *cpu, uint32_t *words, const aa_direction *z, uint64_t first,
                 size_t n_blocks) {
    const uint32_t ctr[4] = {(uint32_t)first, z->tensor, z->step, z->stream},
                   key[2] = {(uint32_t)z->seed, (uint32_t)(z->seed >> 32)};
    aa_assert(first + n_blocks <= (uint64_t)1 << 32);
    cpu->k.philox(words, ctr, key, n_blocks);
}

/* y = w * scale + a * z for signs, at most PIECE elements. */
static void expand_signs(const aa_cpu *cpu, aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                         const aa_direction *z, uint64_t first, size_t n) {
    uint32_t words[PIECE_WORDS + 4];
    size_t bit = first % AA_DIRECTION_BLOCK, blocks = aa__ceil_div(bit + n, AA_DIRECTION_BLOCK);
    draw(cpu, words, z, first / AA_DIRECTION_BLOCK, blocks);
    memset(words + 4 * blocks, 0, 4 * sizeof *words);
    cpu->k.sign_expand(y, w, scale, a, (const unsigned char *)words, bit, n);
}

static void expand_normals(const aa_cpu *cpu, aa_real *y, const aa_direction *z, uint64_t first,
                           size_t n) {
    enum { BLOCKS = 64 };
    uint32_t words[4 * BLOCKS];
    aa_real x[4 * BLOCKS];
    for (size_t i = 0; i < n;) {
        size_t skip = (size_t)((first + i) % 4), k = aa__min(n - i, 4 * BLOCKS - skip),
               blocks = aa__ceil_div(skip + k, 4);
        draw(cpu, words, z, (first + i) / 4, blocks);
        aa__direction_normals(x, words, blocks);
        memcpy(y + i, x + skip, k * sizeof *y);
        i += k;
    }
}

void aa__direction_expand(const aa_cpu *cpu, aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                          const aa_direction *z, uint64_t first, size_t n) {
    const bool plain = z->law == AA_LAW_SIGNS && !z->gain && !z->along;
    aa_real d[PIECE];
    for (size_t i = 0; i < n;) {
        size_t k = aa__min(n - i, PIECE);
        const aa_real *wi = w ? w + i : NULL;
        if (plain) expand_signs(cpu, y + i, wi, scale, a, z, first + i, k);
        else {
            if (z->law == AA_LAW_SIGNS) expand_signs(cpu, d, NULL, 0, 1, z, first + i, k);
            else expand_normals(cpu, d, z, first + i, k);
            aa__direction_shape(d, wi, scale, a, z->gain ? z->gain + first + i : NULL,
                                z->along ? z->along + first + i : NULL, z->shift, k);
            memcpy(y + i, d, k * sizeof *y);
        }
        i += k;
    }
}

/* ---- over the team --------------------------------------------------------------------------- */

typedef struct job {
    aa_cpu *cpu;
    aa_real *y;
    const aa_real *w;
    aa_real scale, a;
    const aa_direction *z;
    uint64_t first;
    size_t n;
    bool add;
    const aa_direction_term *terms; size_t n_terms;
} job;

static void add_pieces(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    size_t at = begin * PIECE, n = aa__min(end * PIECE, j->n) - at;
    (void)thread;
    aa__direction_expand(j->cpu, j->y + at, j->w ? j->w + at : NULL, j->scale, j->a, j->z,
                         j->first + at, n);
}

void aa_direction_add(aa_cpu *cpu, aa_real *y, const aa_real *w, aa_real scale, aa_real a,
                      const aa_direction *z, uint64_t first, size_t n) {
    double start = aa__begin(cpu);
    job j = {.cpu = cpu, .y = y, .w = w, .scale = scale, .a = a, .z = z, .first = first, .n = n};
    if (n) aa_pool_run(cpu->pool, aa__ceil_div(n, PIECE), add_pieces, &j);
    aa__end(cpu, AA_PROF_DIRECTION, start, 2 * (double)n, 2.0 * sizeof(aa_real) * (double)n);
}

/* sum += terms begin .. end of signs, n elements from the block that holds `first`. */
static void sum_signs(const job *j, aa_real *sum, uint64_t first, size_t n) {
    uint32_t words[AT_ONCE * PIECE_WORDS];
    aa_real c[AT_ONCE];
    size_t blocks = aa__ceil_div(n, AA_DIRECTION_BLOCK);
    memset(words, 0, sizeof words);       /* what is read behind the last block of each */
    for (size_t s0 = 0; s0 < j->n_terms; s0 += AT_ONCE) {
        size_t k = aa__min(j->n_terms - s0, AT_ONCE);
        for (size_t s = 0; s < k; s++) {
            aa_direction z = *j->z;
            z.stream = j->terms[s0 + s].stream;
            c[s] = j->terms[s0 + s].c;
            draw(j->cpu, words + s * PIECE_WORDS, &z, first / AA_DIRECTION_BLOCK, blocks);
        }
        j->cpu->k.sign_sum(sum, (const unsigned char *)words, PIECE_WORDS * sizeof *words, c, k, n);
    }
}

static void sum_others(const job *j, aa_real *sum, uint64_t first, size_t n) {
    aa_real d[PIECE];
    aa_direction z = *j->z;
    z.gain = NULL;                        /* once, at the end */
    for (size_t s = 0; s < j->n_terms; s++) {
        z.stream = j->terms[s].stream;
        z.shift = j->terms[s].shift;
        aa__direction_expand(j->cpu, d, NULL, 0, 1, &z, first, n);
        aa__direction_axpy(sum, j->terms[s].c, d, n);
    }
}

static void sum_pieces(void *ctx, size_t begin, size_t end, int thread) {
    const job *j = ctx;
    aa_real sum[PIECE];
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        size_t at = p * PIECE, n = aa__min(j->n - at, PIECE);
        memset(sum, 0, n * sizeof *sum);
        if (j->z->law == AA_LAW_SIGNS && !j->z->along) sum_signs(j, sum, at, n);
        else sum_others(j, sum, at, n);
        aa__direction_finish(j->y + at, j->add, sum, j->z->gain ? j->z->gain + at : NULL, n);
    }
}

void aa_direction_sum(aa_cpu *cpu, aa_real *y, bool add, const aa_direction *z,
                      const aa_direction_term *terms, size_t n_terms, size_t n) {
    double start = aa__begin(cpu);
    job j = {.cpu = cpu, .y = y, .z = z, .n = n, .add = add, .terms = terms, .n_terms = n_terms};
    if (n) aa_pool_run(cpu->pool, aa__ceil_div(n, PIECE), sum_pieces, &j);
    aa__end(cpu, AA_PROF_DIRECTION, start, (double)n_terms * (double)n,
            2.0 * sizeof(aa_real) * (double)n);
}
