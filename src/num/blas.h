/* num/blas: linear maps by a BLAS library of this machine, found at run time.
 *
 * A second opinion on our own products, and a peer to be measured against; never the default. The
 * program is not linked with any BLAS: the library is opened by name, and all that is asked of it
 * is cblas_sgemm with 32-bit integers (LP64; "64-bit" builds with ILP64 are refused), a way to set
 * its threads, and where OpenBLAS offers it, the door for running its jobs in our team instead of
 * beside it.
 *
 * The contracts are those of the same functions in num.h, but for one: the order of sums is the
 * library's, so the bits may depend on library, threads and the split into micro-batches.
 */
#ifndef AA_NUM_BLAS_H
#define AA_NUM_BLAS_H

#include "num/num.h"

typedef struct aa_blas aa_blas;

/* path NULL: the environment variable AA_BLAS, else the usual names. One at a time per process: the
 * library's threads are process-wide. AA_ENOTFOUND says what was tried. It stays loaded after
 * close. */
aa_status aa_blas_open(aa_blas **out, aa_cpu *cpu, const char *path, aa_err *err) AA_MUST_USE;
void aa_blas_close(aa_blas *b);
const char *aa_blas_name(const aa_blas *b);         /* file, and what it says about itself */

aa_status aa_blas_linear_forward(aa_blas *b, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                                 size_t T, const aa_linear *lin, const aa_epilogue *e,
                                 aa_err *err) AA_MUST_USE;
aa_status aa_blas_linear_dx(aa_blas *b, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                            size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                            aa_err *err) AA_MUST_USE;
aa_status aa_blas_linear_dw(aa_blas *b, const aa_linear *lin, const aa_real *dy, size_t lddy,
                            const aa_real *x, size_t ldx, size_t T, aa_real scale,
                            aa_err *err) AA_MUST_USE;

/* What such libraries keep for packing, per thread: a figure for the plan. */
enum { AA_BLAS_THREAD_BYTES = 8 << 20 };

#endif
