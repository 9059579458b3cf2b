/* tests/support/check: cmocka with the includes it needs, and comparisons of real arrays that say
 * where they first differ. */
#ifndef AA_TESTS_CHECK_H
#define AA_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/status.h"

/* status is AA_OK, or the test fails with the message of err (an aa_err in scope named err). */
#define check_ok(expr) check_status((expr), &err, __FILE__, __LINE__)
void check_status(aa_status st, const aa_err *err, const char *file, int line);
/* |got - want| <= abs + rel * |want| for every element, and infinities equal; reports name, index,
 * both values. */
void check_near_f32(const char *name, const float *got, const float *want, size_t n, double rel,
                    double abs);
void check_near_f64(const char *name, const double *got, const double *want, size_t n, double rel,
                    double abs);
void check_same_bits(const char *name, const void *got, const void *want, size_t n_bytes);
/* A fresh directory under TMPDIR, removed at exit of the process. The string lives until then. */
const char *check_temp_dir(void);

#endif
