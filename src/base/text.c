#include "base/text.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/memory.h"
#include "base/number.h"

static bool reserve(aa_text *t, size_t more) {
    if (t->failed) return false;
    size_t need;
    if (__builtin_add_overflow(t->len, more, &need) || need == SIZE_MAX) {
        t->failed = true;
        return false;
    }
    if (++need <= t->capacity) return true;
    size_t capacity = t->capacity ? t->capacity : 64;
    while (capacity < need) capacity = capacity > SIZE_MAX / 2 ? need : 2 * capacity;
    char *data = aa_heap_realloc(t->data, capacity, 1);
    if (!data) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->capacity = capacity;
    return true;
}

void aa_text_add_bytes(aa_text *t, const void *p, size_t n) {
    if (!reserve(t, n)) return;
    if (n) memcpy(t->data + t->len, p, n);
    t->len += n;
    t->data[t->len] = 0;
}

void aa_text_add(aa_text *t, const char *s) { aa_text_add_bytes(t, s, strlen(s)); }

void aa_text_printf(aa_text *t, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = aa_number_vprint(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) t->failed = true;
    else if (reserve(t, (size_t)n)) {
        aa_number_vprint(t->data + t->len, (size_t)n + 1, fmt, again);
        t->len += (size_t)n;
    }
    va_end(again);
}

void aa_text_clear(aa_text *t) {
    t->len = 0;
    if (t->data) t->data[0] = 0;
}

void aa_text_release(aa_text *t) {
    aa_heap_free(t->data);
    *t = (aa_text){0};
}

aa_status aa_text_status(const aa_text *t, aa_err *err) {
    return t->failed ? aa_fail_memory(err, "a text being written", t->len) : AA_OK;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void aa_text_json_key(aa_text *t, const char *key) {
    char last = t->len ? t->data[t->len - 1] : '{';
    if (last != '{' && last != '[') aa_text_add(t, ",");
    aa_text_json_string(t, key, strlen(key));
    aa_text_add(t, ":");
}

/* Length of the valid UTF-8 character at s (Unicode 15, table 3-7), or 0. */
static size_t utf8_length(const unsigned char *s, size_t n) {
    unsigned char c = s[0];
    if (c < 0x80) return 1;
    if (c < 0xC2 || c > 0xF4) return 0;
    size_t len = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (n < len) return 0;
    unsigned char lo = c == 0xE0   ? 0xA0
                       : c == 0xF0 ? 0x90
                                   : 0x80,
                  hi = c == 0xED   ? 0x9F
                       : c == 0xF4 ? 0x8F
                                   : 0xBF;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return len;
}

void aa_text_json_string(aa_text *t, const char *s, size_t n) {
    const unsigned char *p = (const unsigned char *)s;
    aa_text_add(t, "\"");
    for (size_t i = 0; i < n;) {
        size_t plain = i;
        while (plain < n && p[plain] >= 0x20 && p[plain] < 0x7F && p[plain] != '"' &&
               p[plain] != '\\')
            plain++;
        if (plain > i) {
            aa_text_add_bytes(t, p + i, plain - i);
            i = plain;
            continue;
        }
        size_t len = utf8_length(p + i, n - i);
        if (!len) {
            aa_text_add(t, "\\ufffd");
            i++;
            continue;
        }
        switch (p[i]) {
        case '"': aa_text_add(t, "\\\""); break;
        case '\\': aa_text_add(t, "\\\\"); break;
        case '\n': aa_text_add(t, "\\n"); break;
        case '\r': aa_text_add(t, "\\r"); break;
        case '\t': aa_text_add(t, "\\t"); break;
        default:
            if (p[i] < 0x20 || p[i] == 0x7F) aa_text_printf(t, "\\u%04x", p[i]);
            else aa_text_add_bytes(t, p + i, len);
        }
        i += len;
    }
    aa_text_add(t, "\"");
}

void aa_text_json_real(aa_text *t, double v) {
    if (!isfinite(v)) {
        aa_text_add(t, "null");
        return;
    }
    char s[32];
    if (v == floor(v) && fabs(v) < 1e15) {         /* counts read as counts, not as 2.5e+06 */
        aa_number_print(s, sizeof s, "%.0f", v);
        aa_text_add(t, s);
        return;
    }
    /* Six digits or fewer print alike under %g, but subnormals have fewer to begin with. */
    for (int digits = fabs(v) < DBL_MIN ? 1 : 6; digits <= 17; digits++) {
        aa_number_print(s, sizeof s, "%.*g", digits, v);
        if (aa_number_read(s, NULL) == v) break;
    }
    aa_text_add(t, s);
}

void aa_text_json_int(aa_text *t, int64_t v) { aa_text_printf(t, "%lld", (long long)v); }
void aa_text_json_bool(aa_text *t, bool v) { aa_text_add(t, v ? "true" : "false"); }

void aa_text_add_html(aa_text *t, const char *s) {
    for (; *s; s++) switch (*s) {
        case '&': aa_text_add(t, "&amp;"); break;
        case '<': aa_text_add(t, "&lt;"); break;
        case '>': aa_text_add(t, "&gt;"); break;
        case '"': aa_text_add(t, "&quot;"); break;
        case '\'': aa_text_add(t, "&#39;"); break;
        default: aa_text_add_bytes(t, s, 1);
        }
}
