/* model/backend_blas: linear maps through the CBLAS of a library that is opened at run time: the
 * oracle of our own products, and the peer they are measured against. Everything else stays with
 * the CPU. Which library, and so the order of its sums, is the user's choice: the promise of the
 * same bits ends here.
 *
 * gemm as in the reference CBLAS (Lawson et al. 1979; Dongarra et al. 1990): C = alpha A B + beta C
 * with 32-bit sizes. Its epilogues are loops of ours: a residual is laid into C beforehand, a bias
 * added behind. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "model/backend.h"
#include "sys/sys.h"

enum { ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112 }; /* of cblas.h */

typedef void (*gemm_fn)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                        aa_real alpha, const aa_real *a, int lda, const aa_real *b, int ldb,
                        aa_real beta, aa_real *c, int ldc);
#ifdef AA_REAL_DOUBLE
#define GEMM "cblas_dgemm"
#else
#define GEMM "cblas_sgemm"
#endif

typedef struct blas { gemm_fn gemm; } blas;

static aa_status check_sizes(size_t a, size_t b, size_t c, aa_err *err) {
    if (a <= INT_MAX && b <= INT_MAX && c <= INT_MAX) return AA_OK;
    return aa_fail(err, AA_ETOOBIG, "a product of %zu x %zu x %zu is beyond the sizes of CBLAS",
                   a, b, c);
}

static void add_bias(aa_real *y, size_t ldy, size_t T, const aa_linear *lin, aa_real scale) {
    const aa_real *b = lin->bias->data;
    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < lin->n_out; j++) y[t * ldy + j] += scale * b[j];
}

static aa_status forward_begin(void *self, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                               size_t T, aa_linear *lin, const aa_epilogue *e, aa_err *err) {
    const blas *s = self;
    const size_t M = lin->n_out, K = lin->n_in;

    AA_TRY(check_sizes(T, M, K, err));
    if (e->residual && e->residual != y)
        for (size_t t = 0; t < T; t++)
            memcpy(y + t * ldy, e->residual + t * e->ld_residual, M * sizeof *y);
    s->gemm(ROW_MAJOR, AS_IT_IS, TRANSPOSED, (int)T, (int)M, (int)K, e->scale, x, (int)ldx,
             lin->weight->data, (int)K, e->residual || e->accumulate ? 1 : 0, y, (int)ldy);
    if (lin->bias) add_bias(y, ldy, T, lin, e->scale);
    return AA_OK;
}

static aa_status dx_begin(void *self, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                          size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                          aa_err *err) {
    const blas *s = self;
    const size_t M = lin->n_out, K = lin->n_in;

    AA_TRY(check_sizes(T, M, K, err));
    s->gemm(ROW_MAJOR, AS_IT_IS, AS_IT_IS, (int)T, (int)K, (int)M, scale, dy, (int)lddy,
             lin->weight->data, (int)K, accumulate ? 1 : 0, dx, (int)lddx);
    return AA_OK;
}

static aa_status dw_begin(void *self, const aa_linear *lin, const aa_real *dy, size_t lddy,
                          const aa_real *x, size_t ldx, size_t T, aa_real scale, aa_err *err) {
    const blas *s = self;
    const size_t M = lin->n_out, K = lin->n_in;

    AA_TRY(check_sizes(T, M, K, err));
    s->gemm(ROW_MAJOR, TRANSPOSED, AS_IT_IS, (int)M, (int)K, (int)T, scale, dy, (int)lddy, x,
             (int)ldx, 1, lin->weight->grad, (int)K);
    if (lin->bias)
        for (size_t t = 0; t < T; t++)
            for (size_t j = 0; j < M; j++) lin->bias->grad[j] += scale * dy[t * lddy + j];
    return AA_OK;
}

static aa_status wait(void *self, aa_err *err) {
    (void)self, (void)err;
    return AA_OK;
}

static void release(void *self) { aa_heap_free(self); }

/* ---- finding one ----------------------------------------------------------------------------- */

/* The library inside the Python package scipy-openblas32 has its names prefixed. */
static const char *const prefixes[] = {"", "scipy_"};
enum { N_PREFIXES = sizeof prefixes / sizeof *prefixes };

static void *symbol_of(void *library, const char *prefix, const char *name) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return aa_sys_dl_symbol(library, full);
}

/* Takes the functions of a library, told to use n_threads if it can be told. */
static aa_status take(blas *out, void *library, const char *path, int n_threads, aa_err *err) {
    for (int i = 0; i < N_PREFIXES; i++) {
        /* A pointer to data may become one to a function where libraries are opened (POSIX). */
        void *gemm = symbol_of(library, prefixes[i], GEMM),
             *config = symbol_of(library, prefixes[i], "openblas_get_config"),
             *threads = symbol_of(library, prefixes[i], "openblas_set_num_threads");
        char *(*get_config)(void);
        void (*set_threads)(int);

        if (!gemm) continue;
        memcpy(&out->gemm, &gemm, sizeof gemm);
        memcpy(&get_config, &config, sizeof config);
        memcpy(&set_threads, &threads, sizeof threads);
        if (config && strstr(get_config(), "USE64BITINT"))
            return aa_fail(err, AA_EUNSUPPORTED,
                           "'%s' counts in 64-bit integers; give a build with 32-bit ones", path);
        if (threads) set_threads(n_threads);
        return AA_OK;
    }
    return aa_fail(err, AA_EUNSUPPORTED, "'%s' has no function " GEMM, path);
}

static aa_status open_any(blas *out, int n_threads, aa_err *err) {
    static const char *const names[] = {
        "libopenblas.so.0", "libopenblas.so", "libblis.so.4", "libcblas.so.3", "libmkl_rt.so.2",
        "/System/Library/Frameworks/Accelerate.framework/Accelerate", "libopenblas.dylib"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *library = aa_sys_dl_open(names[i]);
        if (library && take(out, library, names[i], n_threads, err) == AA_OK) return AA_OK;
    }
    return aa_fail(err, AA_ENOTFOUND,
                   "no CBLAS library is installed under a usual name (libopenblas.so.0, libblis, "
                   "libcblas, libmkl_rt, Accelerate): install one, for example Debian's "
                   "libopenblas0, or name its file with --blas FILE");
}

aa_status aa_backend_blas(aa_backend *out, aa_cpu *cpu, const char *path, aa_err *err) {
    blas found = {0};
    int n_threads = aa_cpu_threads(cpu);

    aa_sys_pin_thread(-1); /* the library's threads would inherit the one core of this one */
    if (!path) {
        AA_TRY(open_any(&found, n_threads, err));
    } else {
        void *library = aa_sys_dl_open(path);
        if (!library)
            return aa_fail(err, AA_ENOTFOUND, "'%s' cannot be opened as a library", path);
        AA_TRY(take(&found, library, path, n_threads, err));
    }
    blas *self = aa_heap_alloc(1, sizeof *self);
    if (!self) return aa_fail_memory(err, "a back end", sizeof *self);
    *self = found;
    *out = (aa_backend){
        .name = "blas",
        .self = self,
        .cpu = cpu,
        .linear_forward_begin = forward_begin,
        .linear_dx_begin = dx_begin,
        .linear_dw_begin = dw_begin,
        .wait = wait,
        .release = release,
    };
    return AA_OK;
}
