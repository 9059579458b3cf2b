#include "base/rng.h"
#include <math.h>
#include "base/status.h"

/* Round constants of Philox4x32 (Salmon et al. 2011, section 4.3 and Random123): two multipliers,
 * and the golden ratio and sqrt(3)-1 as Weyl increments of the key. */
#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

void aa_philox4x32_10(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)M0 * c0, p1 = (uint64_t)M1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += W0;
        k1 += W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Finaliser of SplitMix64 (Steele, Lea, Flood 2014): spreads stream indices over the 64 bits of
 * words 2 and 3. */
static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

void aa_rng_init(aa_rng *r, uint64_t seed, aa_rng_purpose purpose, uint64_t index) {
    uint64_t stream = mix(index ^ mix((uint64_t)purpose));
    *r = (aa_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                  .ctr = {0, 0, (uint32_t)stream, (uint32_t)(stream >> 32)}};
}

void aa_rng_seek(aa_rng *r, uint64_t at) {
    uint64_t block = at / 4;
    r->ctr[0] = (uint32_t)block;
    r->ctr[1] = (uint32_t)(block >> 32);
    r->left = 0;
    for (uint64_t i = 0; i < at % 4; i++) (void)aa_rng_u32(r);
}

uint32_t aa_rng_u32(aa_rng *r) {
    if (!r->left) {
        aa_philox4x32_10(r->ctr, r->key, r->out);
        if (!++r->ctr[0]) r->ctr[1]++;
        r->left = 4;
    }
    return r->out[4 - r->left--];
}

uint64_t aa_rng_u64(aa_rng *r) {
    uint64_t lo = aa_rng_u32(r);
    return lo | (uint64_t)aa_rng_u32(r) << 32;
}

double aa_rng_uniform(aa_rng *r) { return (double)(aa_rng_u64(r) >> 11) * 0x1p-53; }

uint64_t aa_rng_below(aa_rng *r, uint64_t n) {
    __extension__ typedef unsigned __int128 wide;
    wide p = (wide)aa_rng_u64(r) * n;
    if ((uint64_t)p < n) {
        uint64_t least = (0 - n) % n;
        while ((uint64_t)p < least) p = (wide)aa_rng_u64(r) * n;
    }
    return (uint64_t)(p >> 64);
}

void aa_rng_normals(const aa_rng *stream, uint64_t first, size_t n, float *out) {
    /* One Philox block makes two normals: u1 in (0,1] and u2 of 53 bits each would waste it; 32
     * bits each give a tail to 6.7 sigma, enough for perturbations and initial weights. Elements
     * 4k..4k+3 come from block k. */
    uint32_t ctr[4] = {0, 0, stream->ctr[2], stream->ctr[3]}, u[4];
    for (size_t i = 0; i < n;) {
        uint64_t at = first + i, blk = at / 4;
        double z[4];
        ctr[0] = (uint32_t)blk;
        ctr[1] = (uint32_t)(blk >> 32);
        aa_philox4x32_10(ctr, stream->key, u);
        for (int p = 0; p < 4; p += 2) {
            double radius = sqrt(-2 * log(((double)u[p] + 1) * 0x1p-32)),
                   angle = 6.283185307179586 * ((double)u[p + 1] * 0x1p-32);
            z[p] = radius * cos(angle);
            z[p + 1] = radius * sin(angle);
        }
        for (uint64_t j = at % 4; j < 4 && i < n; j++) out[i++] = (float)z[j];
    }
}

/* A balanced Feistel network over 2*half bits, the smallest even width that holds n; values >= n
 * walk on. Expected steps below 4. Black & Rogaway 2002, "Ciphers with arbitrary finite domains".
 */
uint64_t aa_rng_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i) {
    aa_assert(i < n); /* other walks need not end */
    int half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, key = mix(seed ^ mix(epoch));
    do {
        uint64_t l = i >> half, r = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t f = mix(r ^ mix(key + round)) & mask, next = l ^ f;
            l = r;
            r = next;
        }
        i = l << half | r;
    } while (i >= n);
    return i;
}
