/* base/rng: counter-based randomness, Philox4x32-10.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
 *
 * There is no state to save: the n-th number of a stream is a function of (seed, stream, n), so the
 * order of evaluation, threads and resume cannot matter. A stream is a purpose from the list below
 * and an index within it (parameter row, epoch, sequence).
 *
 * Known answers (key, counter all zero): 6627e8d5 e169c58d bc57ac4c 9b00dbd8. (all ones):
 * 408f276d 41c83b0e a20bc7c6 6d5451fd. A test holds both.
 */
#ifndef AA_BASE_RNG_H
#define AA_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef enum {                            /* the numbers are part of the checkpoint format */
    AA_RNG_INIT = 1,                      /* index: hash of the parameter's name */
    AA_RNG_DATA = 2,                      /* index: epoch */
    AA_RNG_SAMPLE = 3,                    /* index: generated sequence */
    AA_RNG_STORY = 4,                     /* index: story number */
    AA_RNG_PERTURB = 5,                   /* index: ZO stream */
    AA_RNG_DROPOUT = 6,                   /* index: update and linear map */
    AA_RNG_APOLLO = 7,                    /* index: epoch and row */
    AA_RNG_TEST = 99
} aa_rng_purpose;

typedef struct aa_rng { uint32_t key[2]; uint32_t ctr[4]; uint32_t out[4]; int left; } aa_rng;

void aa_philox4x32_10(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

/* key = seed; counter words 2..3 = purpose and a hash of index; words 0..1 count from `at`/4. */
void aa_rng_init(aa_rng *r, uint64_t seed, aa_rng_purpose purpose, uint64_t index);
void aa_rng_seek(aa_rng *r, uint64_t at);               /* next u32 is number `at` of the stream */
uint32_t aa_rng_u32(aa_rng *r);
uint64_t aa_rng_u64(aa_rng *r);
double aa_rng_uniform(aa_rng *r);                       /* [0, 1), 53 bits */
uint64_t aa_rng_below(aa_rng *r, uint64_t n);           /* 0..n-1, unbiased (Lemire 2019) */
/* n standard normals by Box-Muller, element i a function of (stream, first+i) alone. */
void aa_rng_normals(const aa_rng *stream, uint64_t first, size_t n, float *out);
/* Position of item i in a pseudo-random permutation of 0..n-1 keyed by (seed, epoch): a Feistel
 * network with cycle walking, so that a shuffled epoch needs no table. i < n. */
uint64_t aa_rng_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i);

#endif
