/* model/backend_cpu: the backend that is always there. It implements the finest level, the linear
 * maps, and does the work at once, so that there is never anything to wait for. */
#include "model/backend.h"

static aa_status forward_begin(void *self, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                               size_t T, aa_linear *lin, const aa_epilogue *e, aa_err *err) {
    (void)err;
    aa_linear_forward(self, y, ldy, x, ldx, T, lin, e);
    return AA_OK;
}

static aa_status dx_begin(void *self, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                          size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                          const aa_real *dp, aa_err *err) {
    (void)err;
    aa_linear_dx(self, dx, lddx, dy, lddy, T, lin, scale, accumulate, dp);
    return AA_OK;
}

static aa_status dw_begin(void *self, const aa_linear *lin, const aa_real *dy, size_t lddy,
                          const aa_real *x, size_t ldx, size_t T, aa_real scale, aa_err *err) {
    (void)err;
    aa_linear_dw(self, lin, dy, lddy, x, ldx, T, scale);
    return AA_OK;
}

static aa_status wait(void *self, aa_err *err) {
    (void)self, (void)err;
    return AA_OK;
}

void aa_backend_cpu(aa_backend *out, aa_cpu *cpu) {
    *out = (aa_backend){
        .name = "cpu",
        .self = cpu,
        .cpu = cpu,
        .linear_forward_begin = forward_begin,
        .linear_dx_begin = dx_begin,
        .linear_dw_begin = dw_begin,
        .wait = wait,
    };
}
