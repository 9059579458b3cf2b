#include "base/sha.h"
#include <stdio.h>
#include <string.h>

static uint32_t left(uint32_t x, int n) { return x << n | x >> (32 - n); }
static uint32_t right(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (~x & z); }
static uint32_t majority(uint32_t x, uint32_t y, uint32_t z) {
    return (x & y) ^ (x & z) ^ (y & z);
}

static uint32_t big_endian(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* FIPS 180-4, 6.1.2 */
static void sha1_block(uint32_t *state, const unsigned char *p) {
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80];
    for (int t = 0; t < 16; t++) w[t] = big_endian(p + 4 * t);
    for (int t = 16; t < 80; t++) w[t] = left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 80; t++) {
        uint32_t f = t < 20              ? choose(b, c, d)
                     : t >= 40 && t < 60 ? majority(b, c, d)
                                         : b ^ c ^ d;
        uint32_t next = left(a, 5) + f + e + k[t / 20] + w[t];
        e = d;
        d = c;
        c = left(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static inline void sha256_step(uint32_t a, uint32_t b, uint32_t c, uint32_t *d, uint32_t e,
                               uint32_t f, uint32_t g, uint32_t *h, uint32_t kw) {
    *h += (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + choose(e, f, g) + kw;
    *d += *h;
    *h += (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + majority(a, b, c);
}

/* FIPS 180-4, 6.2.2 */
static void sha256_block(uint32_t *state, const unsigned char *p) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2};
    uint32_t w[64], v[8];
    for (int t = 0; t < 16; t++) w[t] = big_endian(p + 4 * t);
    for (int t = 16; t < 64; t++) {
        uint32_t x = w[t - 15], y = w[t - 2];
        w[t] = w[t - 16] + (right(x, 7) ^ right(x, 18) ^ x >> 3) + w[t - 7] +
               (right(y, 17) ^ right(y, 19) ^ y >> 10);
    }
    memcpy(v, state, sizeof v);
    uint32_t *a = v, *b = v + 1, *c = v + 2, *d = v + 3, *e = v + 4, *f = v + 5, *g = v + 6,
             *h = v + 7;
    for (int t = 0; t < 64; t += 8) {        /* the names move on, the values stay */
        sha256_step(*a, *b, *c, d, *e, *f, *g, h, k[t] + w[t]);
        sha256_step(*h, *a, *b, c, *d, *e, *f, g, k[t + 1] + w[t + 1]);
        sha256_step(*g, *h, *a, b, *c, *d, *e, f, k[t + 2] + w[t + 2]);
        sha256_step(*f, *g, *h, a, *b, *c, *d, e, k[t + 3] + w[t + 3]);
        sha256_step(*e, *f, *g, h, *a, *b, *c, d, k[t + 4] + w[t + 4]);
        sha256_step(*d, *e, *f, g, *h, *a, *b, c, k[t + 5] + w[t + 5]);
        sha256_step(*c, *d, *e, f, *g, *h, *a, b, k[t + 6] + w[t + 6]);
        sha256_step(*b, *c, *d, e, *f, *g, *h, a, k[t + 7] + w[t + 7]);
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
}

static void add_block(aa_sha *s, const unsigned char *p) {
    (s->kind == AA_SHA1 ? sha1_block : sha256_block)(s->state, p);
}

void aa_sha_init(aa_sha *s, aa_sha_kind kind) {
    static const uint32_t start[2][8] = {
        {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0, 0, 0, 0},
        {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
         0x5be0cd19}};
    *s = (aa_sha){.kind = kind};
    memcpy(s->state, start[kind], sizeof s->state);
}

void aa_sha_add(aa_sha *s, const void *data, size_t n) {
    const unsigned char *p = data;
    size_t fill = (size_t)(s->size_bytes % sizeof s->block);
    s->size_bytes += n;
    while (n) {
        if (!fill && n >= sizeof s->block) {
            add_block(s, p);
            p += sizeof s->block;
            n -= sizeof s->block;
            continue;
        }
        size_t some = sizeof s->block - fill < n ? sizeof s->block - fill : n;
        memcpy(s->block + fill, p, some);
        if ((fill += some) == sizeof s->block) {
            add_block(s, s->block);
            fill = 0;
        }
        p += some;
        n -= some;
    }
}

/* Padding: a bit 1, zeros, and the number of bits in the last eight bytes of a block. */
void aa_sha_hex(aa_sha *s, char out[AA_SHA_HEX]) {
    static const unsigned char padding[64] = {0x80};
    unsigned char size[8];
    uint64_t bits = 8 * s->size_bytes;
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)(bits >> (56 - 8 * i));
    aa_sha_add(s, padding, 1 + (size_t)(119 - s->size_bytes % 64) % 64);
    aa_sha_add(s, size, sizeof size);
    for (int i = 0; i < (s->kind == AA_SHA1 ? 5 : 8); i++)
        snprintf(out + 8 * i, 9, "%08x", (unsigned)s->state[i]);
}
