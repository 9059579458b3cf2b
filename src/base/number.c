#include "base/number.h"
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

/* Kept until the process ends. If it cannot be had, uselocale leaves the thread's locale alone. */
static locale_t c_locale;

static void make_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

/* The locale of this thread alone; returns what it was. */
static locale_t enter(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    return uselocale(c_locale);
}

double aa_number_read(const char *s, char **end) {
    locale_t before = enter();
    double v = strtod(s, end);
    uselocale(before);
    return v;
}

int aa_number_vprint(char *out, size_t size, const char *fmt, va_list args) {
    locale_t before = enter();
    int n = vsnprintf(out, size, fmt, args);
    uselocale(before);
    return n;
}

int aa_number_print(char *out, size_t size, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int n = aa_number_vprint(out, size, fmt, args);
    va_end(args);
    return n;
}
