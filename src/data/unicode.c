/* data/unicode: classes by table for the basic plane, by search beyond it. */
#include "data/unicode.h"

#include <pthread.h>

#define L AA__LETTER
#define N AA__NUMBER
#define S AA__SPACE
const uint8_t aa__ascii_class[128] = {
    [9] = S, S, S, S, S, [' '] = S, ['0'] = N, N, N,         N, N, N, N, N, N, N, ['A'] = L,
    L,       L, L, L, L, L,         L,         L, L,         L, L, L, L, L, L, L, L,
    L,       L, L, L, L, L,         L,         L, ['a'] = L, L, L, L, L, L, L, L, L,
    L,       L, L, L, L, L,         L,         L, L,         L, L, L, L, L, L, L, L,
};
#undef L
#undef N
#undef S

enum { BASIC = 0x10000 };
static uint8_t basic_class[BASIC];
static pthread_once_t basic_once = PTHREAD_ONCE_INIT;

static void fill_basic(void) {
    for (size_t i = 0; i < aa__n_class_changes; i++) {
        uint32_t first = aa__class_changes[i] >> 3;
        uint32_t end = i + 1 < aa__n_class_changes ? aa__class_changes[i + 1] >> 3 : BASIC;
        for (uint32_t c = first; c < end && c < BASIC; c++)
            basic_class[c] = aa__class_changes[i] & 7;
    }
}

aa__class aa__class_of(uint32_t code) {
    if (code < BASIC) {
        pthread_once(&basic_once, fill_basic);
        return (aa__class)basic_class[code];
    }
    size_t lo = 0, hi = aa__n_class_changes; /* the last change at or before code */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (aa__class_changes[mid] >> 3 <= code) lo = mid;
        else hi = mid;
    }
    return (aa__class)(aa__class_changes[lo] & 7);
}

/* The first byte fixes the length and, for some, the range of the second (table 3-7); those after
 * it are 80..BF. */
uint32_t aa__utf8_decode(const unsigned char *p, size_t n, uint32_t *code) {
    unsigned char c = p[0], lo = 0x80, hi = 0xBF;
    if (c < 0x80) {
        *code = c;
        return 1;
    }
    uint32_t k = c < 0xC2 || c > 0xF4 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (k == 0 || n < k) return 0;
    if (c == 0xE0) lo = 0xA0;
    if (c == 0xED) hi = 0x9F;
    if (c == 0xF0) lo = 0x90;
    if (c == 0xF4) hi = 0x8F;
    if (p[1] < lo || p[1] > hi) return 0;
    uint32_t value = c & (0x7Fu >> k);
    for (uint32_t i = 1; i < k; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (p[i] & 63u);
    }
    *code = value;
    return k;
}

aa__symbol aa__symbol_at_slow(const unsigned char *p, size_t n) {
    uint32_t code, k = aa__utf8_decode(p, n, &code);
    return k ? (aa__symbol){k, aa__class_of(code)} : (aa__symbol){1, AA__OTHER};
}
