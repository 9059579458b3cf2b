/* Numbers and foreign text as people should see them. printf's %f follows the locale of the
 * process; reports must be the same bytes everywhere, so the digits are made from integers here. */
#include "report/report_int.h"

#include <math.h>
#include <string.h>

static const char dash[] = "\xE2\x80\x93";

/* Mantissa and exponent: 1.5e-07 as "1.5e-7". */
static void add_scientific(aa_text *t, double v, int decimals) {
    int e = (int)floor(log10(fabs(v)));
    double m = e >= -300 ? v / pow(10, e) : v * 1e300 / pow(10, e + 300);
    if (fabs(m) * pow(10, decimals) + 0.5 >= pow(10, decimals + 1)) {
        m /= 10;
        e++;
    }
    aa__add_fixed(t, m, decimals);
    aa_text_printf(t, "e%d", e);
}

void aa__add_fixed(aa_text *t, double v, int decimals) {
    if (isnan(v)) {
        aa_text_add(t, dash);
        return;
    }
    if (isinf(v)) {
        aa_text_add(t, v > 0 ? "\xE2\x88\x9E" : "-\xE2\x88\x9E");
        return;
    }
    uint64_t unit = 1;
    for (int i = 0; i < decimals; i++) unit *= 10;
    double scaled = fabs(v) * (double)unit;
    if (scaled >= 1e15) {
        add_scientific(t, v, 2);
        return;
    }
    uint64_t n = (uint64_t)(scaled + 0.5);
    if (v < 0 && n > 0) aa_text_add(t, "-");
    aa_text_printf(t, "%llu", (unsigned long long)(n / unit));
    if (decimals > 0) aa_text_printf(t, ".%0*llu", decimals, (unsigned long long)(n % unit));
}

/* Removes zeros at the end of the fraction that begins after position `from`. */
static void trim_zeros(aa_text *t, size_t from) {
    if (t->failed || t->len <= from || !memchr(t->data + from, '.', t->len - from)) return;
    while (t->data[t->len - 1] == '0') t->len--;
    if (t->data[t->len - 1] == '.') t->len--;
    t->data[t->len] = '\0';
}

/* As add_scientific, without zeros at the end of the mantissa. */
static void add_scientific_trimmed(aa_text *t, double v, int decimals) {
    aa_text m = {0};
    add_scientific(&m, v, decimals);
    char *at = m.data ? strchr(m.data, 'e') : NULL;
    if (at) {
        size_t start = t->len;
        aa_text_add_bytes(t, m.data, (size_t)(at - m.data));
        trim_zeros(t, start);
        aa_text_add(t, at);
    }
    if (m.failed) t->failed = true;
    aa_text_release(&m);
}

void aa__add_short(aa_text *t, double v, int digits) {
    if (!isfinite(v) || v == 0) {
        aa__add_fixed(t, v, 0);
        return;
    }
    int e = (int)floor(log10(fabs(v)));
    if (e < -4 || e >= 15) {
        add_scientific_trimmed(t, v, digits - 1);
        return;
    }
    size_t start = t->len;
    int decimals = digits - 1 - e;
    aa__add_fixed(t, v, decimals > 0 ? decimals : 0);
    trim_zeros(t, start);
}

void aa__add_si(aa_text *t, double v, const char *unit) {
    static const char prefix[] = " kMGTPEZY";
    int i = 0;
    double a = v;
    if (isfinite(v))
        while (fabs(a) >= 999.5 && i < 8) {
            a /= 1000;
            i++;
        }
    int decimals = fabs(a) >= 99.95 ? 0 : fabs(a) >= 9.995 ? 1 : 2;
    size_t start = t->len;
    aa__add_fixed(t, a, decimals);
    if (i == 0) trim_zeros(t, start);
    if (i == 0 && !*unit) return;
    aa_text_add(t, " ");
    if (i > 0) aa_text_add_bytes(t, prefix + i, 1);
    aa_text_add(t, unit);
}

void aa__add_count(aa_text *t, uint64_t v) {
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n > 0) {
        aa_text_add_bytes(t, &digits[--n], 1);
        if (n > 0 && n % 3 == 0) aa_text_add(t, ",");
    }
}

void aa__add_duration(aa_text *t, double seconds) {
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e12) {
        aa_text_add(t, dash);
        return;
    }
    if (seconds < 99.95) {
        aa__add_fixed(t, seconds, seconds < 10 ? 2 : 1);
        aa_text_add(t, " s");
        return;
    }
    uint64_t s = (uint64_t)(seconds + 0.5);
    if (s < 3600) aa_text_printf(t, "%d m %02d s", (int)(s / 60), (int)(s % 60));
    else aa_text_printf(t, "%llu h %02d m", (unsigned long long)(s / 3600), (int)(s % 3600 / 60));
}

/* Decimals it takes to write v exactly, or nearly so. */
static int decimals_of(double v) {
    int d = 0;
    for (double scaled = fabs(v); d < 6; d++, scaled *= 10)
        if (fabs(scaled - floor(scaled + 0.5)) <= 1e-6 * scaled) break;
    return d;
}

void aa__add_tick(aa_text *t, double v, double step) {
    if (v == 0) {
        aa_text_add(t, "0");
        return;
    }
    double a = fabs(v), unit = step > 0 ? step : a; /* logarithmic axes have no step */
    if (a < 0.00095 || (step > 0 && step < 0.00095 && a < 0.0095)) {
        add_scientific_trimmed(t, v, decimals_of(unit / pow(10, floor(log10(a) + 1e-9))));
        return;
    }
    static const struct {
        double from, size;
        const char *suffix;
    } scales[] = {{1e12, 1e12, "T"}, {1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}, {0, 1, ""}};
    int i = 0;
    while (a < scales[i].from) i++;
    if (i == 4 && a >= 1e3 && step >= 100) i = 3;
    size_t start = t->len;
    aa__add_fixed(t, v / scales[i].size, decimals_of(unit / scales[i].size));
    if (i < 4) trim_zeros(t, start);
    aa_text_add(t, scales[i].suffix);
}

/* Bytes of the character at s, its code in *c; a broken one is one byte, U+FFFD. */
static size_t next_char(const unsigned char *s, uint32_t *c) {
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] >= 0x80 && (s[0] < 0xC2 || s[0] > 0xF4)) {
        *c = 0xFFFD;
        return 1;
    }
    *c = n == 1 ? s[0] : s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            *c = 0xFFFD;
            return 1;
        }
        *c = *c << 6 | (s[i] & 0x3Fu);
    }
    return n;
}

void aa__add_clean(aa_text *t, const char *text, bool html) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        uint32_t c;
        size_t n = next_char(s, &c);
        char piece[5] = {0};
        if (c < 0x20 && c != '\n' && c != '\t') {
            unsigned char picture[4] = {0xE2, 0x90, (unsigned char)(0x80 + c), 0};
            memcpy(piece, picture, 4);
        } else if ((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069)) {
            piece[0] = '\0';
        } else if ((c >= 0x7F && c < 0xA0) || (c & 0xFFFE) == 0xFFFE || c == 0xFFFD ||
                   (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF) {
            memcpy(piece, "\xEF\xBF\xBD", 4);
        } else {
            memcpy(piece, s, n);
        }
        if (html) aa_text_add_html(t, piece);
        else aa_text_add(t, piece);
        s += n;
    }
}
