/* base/number: numbers to and from text, with a point whatever the locale.
 *
 * A program that uses the library may have set a locale whose decimal separator is a comma, and
 * strtod and printf obey it. Journals, option values and JSON must not: all text with numbers that
 * this library reads or writes comes through here. */
#ifndef AA_BASE_NUMBER_H
#define AA_BASE_NUMBER_H

#include <stdarg.h>
#include <stddef.h>
#include "base/status.h"

/* strtod, snprintf and vsnprintf of the "C" locale. */
double aa_number_read(const char *s, char **end);
int aa_number_print(char *out, size_t size, const char *fmt, ...) AA_PRINTF(3, 4);
int aa_number_vprint(char *out, size_t size, const char *fmt, va_list args) AA_PRINTF(3, 0);

#endif
