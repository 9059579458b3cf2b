/* model/backend_blas: linear maps by a BLAS library; everything else stays with the CPU. */
#include "model/backend.h"
#include "num/blas.h"

static aa_status forward_begin(void *self, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                               size_t T, aa_linear *lin, const aa_epilogue *e, aa_err *err) {
    return aa_blas_linear_forward(self, y, ldy, x, ldx, T, lin, e, err);
}

static aa_status dx_begin(void *self, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                          size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                          const aa_real *dp, aa_err *err) {
    aa_assert(!dp);                       /* adapters are the CPU's: train/job.c refuses them */
    return aa_blas_linear_dx(self, dx, lddx, dy, lddy, T, lin, scale, accumulate, err);
}

static aa_status dw_begin(void *self, const aa_linear *lin, const aa_real *dy, size_t lddy,
                          const aa_real *x, size_t ldx, size_t T, aa_real scale, aa_err *err) {
    return aa_blas_linear_dw(self, lin, dy, lddy, x, ldx, T, scale, err);
}

static aa_status wait(void *self, aa_err *err) {
    (void)self, (void)err;
    return AA_OK;
}

void aa_backend_blas(aa_backend *out, aa_cpu *cpu, aa_blas *blas) {
    *out = (aa_backend){
        .name = "blas",
        .self = blas,
        .cpu = cpu,
        .linear_forward_begin = forward_begin,
        .linear_dx_begin = dx_begin,
        .linear_dw_begin = dw_begin,
        .wait = wait,
    };
}
