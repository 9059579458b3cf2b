/* num/blas: a foreign matrix product under our linear maps.
 *
 * Finding it. A library is tried under each of the name patterns in `spellings`: distributions
 * export cblas_sgemm as it is, the PyPI packages put scipy_ before every name, and ILP64 builds
 * put 64_ behind it. That suffix, USE64BITINT in OpenBLAS's own description, or a wrong answer to a
 * product of small whole numbers, for which every order of sums is exact, all mean: not this one.
 *
 * Threads. Two teams on the same cores would wait for each other. OpenBLAS can hand its jobs to a
 * callback: then they run in our pool, one per thread, because the jobs of one product wait for
 * each other. Other libraries start threads of their own, and these inherit the affinity of
 * whoever starts them: the caller gives up its core while the library is opened and makes its first
 * product.
 *
 * Epilogues. C = alpha A B + beta C is all there is, so what is added (residual, bias) goes into y
 * first and the product is accumulated onto it.
 */
#include "num/blas.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "num/num_int.h"
#include "sys/sys.h"

#ifdef AA_REAL_DOUBLE
#define PRODUCT "cblas_dgemm"
#else
#define PRODUCT "cblas_sgemm"
#endif

enum { ROW_MAJOR = 101, AS_IS = 111, TRANSPOSED = 112 }; /* of the CBLAS standard */
typedef void gemm_fn(int order, int trans_a, int trans_b, int M, int N, int K, aa_real alpha,
                     const aa_real *a, int lda, const aa_real *b, int ldb, aa_real beta, aa_real *c,
                     int ldc);
typedef void set_threads_fn(int n);
typedef char *describe_fn(void);
/* OpenBLAS: job i of n is run by do_job(i, jobs + i*size, data). */
typedef void do_job_fn(int i, void *job, int data);
typedef void run_jobs_fn(int wait, do_job_fn *do_job, int n, size_t size, void *jobs, int data);
typedef void set_run_jobs_fn(run_jobs_fn *run_jobs);

struct aa_blas {
    aa_cpu *cpu;
    gemm_fn *gemm;
    set_run_jobs_fn *set_run_jobs;        /* NULL: the library has threads of its own */
    char name[320];
};

static const char *const usual_names[] = {
#ifdef __APPLE__
    "/System/Library/Frameworks/Accelerate.framework/Accelerate", "libopenblas.dylib",
    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
#else
    "libopenblas.so.0", "libopenblas.so", "libscipy_openblas.so", "libcblas.so.3", "libblas.so.3",
    "libmkl_rt.so.2",
#endif
};
enum { N_USUAL = sizeof usual_names / sizeof *usual_names };

static const char *const spellings[] = {"%s", "scipy_%s"};
enum { N_SPELLINGS = sizeof spellings / sizeof *spellings };

/* dlsym gives an object pointer; POSIX says that it holds a function's address. */
#define SYMBOL(type, lib, spelling, name) \
    ((union { void *p; type *f; }){.p = symbol(lib, spelling, name)}.f)

static void *symbol(void *lib, const char *spelling, const char *name) {
    char full[96];
    const char *mark = strstr(spelling, "%s");
    snprintf(full, sizeof full, "%.*s%s%s", (int)(mark - spelling), spelling, name, mark + 2);
    return aa_sys_dl_symbol(lib, full);
}

/* ---- our team under OpenBLAS ----------------------------------------------------------------- */

static aa_pool *team;                     /* the callback has no room for a context */

typedef struct jobs { do_job_fn *do_job; char *first; size_t size; int data; } jobs;

static void do_jobs(void *ctx, size_t begin, size_t end, int thread) {
    const jobs *j = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) j->do_job((int)i, j->first + i * j->size, j->data);
}

static void run_jobs(int wait, do_job_fn *do_job, int n, size_t size, void *first, int data) {
    jobs j = {do_job, first, size, data};
    (void)wait;
    aa_pool_run(team, (size_t)n, do_jobs, &j);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void describe(aa_blas *b, const char *file, describe_fn *config, bool threads_set) {
    const char *says = config ? config() : NULL;
    const char *slash = strrchr(file, '/');
    snprintf(b->name, sizeof b->name, "%s%s%.200s%s%s", slash ? slash + 1 : file, says ? " (" : "",
             says ? says : "", says ? ")" : "", threads_set ? "" : ", threads as it likes");
}

/* A product that every order of sums gives exactly, large enough to wake the library's threads. */
static aa_status check_product(const aa_blas *b, const char *file, aa_err *err) {
    enum { M = 96, N = 80, K = 112 };
    aa_real *a = aa_heap_alloc(M * K + N * K + M * N, sizeof *a);
    if (!a) return aa_fail_memory(err, "a product", 0);
    aa_real *w = a + M * K, *y = w + N * K;
    bool right = true;
    for (size_t i = 0; i < M * K + N * K; i++) a[i] = (aa_real)(i % 13) - 6;
    b->gemm(ROW_MAJOR, AS_IS, TRANSPOSED, M, N, K, 1, a, K, w, K, 0, y, N);
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            aa_real sum = 0;
            for (size_t k = 0; k < K; k++) sum += a[i * K + k] * w[j * K + k];
            right = right && y[i * N + j] == sum;
        }
    aa_heap_free(a);
    if (right) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED,
                   "'%s' gives a wrong product: perhaps it wants 64-bit integers (ILP64); "
                   "--device blas needs a library with 32-bit ones (LP64)",
                   file);
}

static aa_status refuse_wide(const char *file, aa_err *err) {
    return aa_fail(err, AA_EUNSUPPORTED,
                   "'%s' is built for 64-bit integers (ILP64); --device blas needs 32-bit ones "
                   "(LP64), as in libopenblas0 of Debian and scipy-openblas32 of PyPI",
                   file);
}

/* Looks for the product and the rest under one spelling. */
static aa_status take(aa_blas *b, void *lib, const char *file, const char *spelling, aa_err *err) {
    describe_fn *config = SYMBOL(describe_fn, lib, spelling, "openblas_get_config");
    set_threads_fn *set = SYMBOL(set_threads_fn, lib, spelling, "openblas_set_num_threads");
    if (config && strstr(config(), "USE64BITINT")) return refuse_wide(file, err);
    if (!set) set = SYMBOL(set_threads_fn, lib, spelling, "MKL_Set_Num_Threads");
    b->set_run_jobs =
        SYMBOL(set_run_jobs_fn, lib, spelling, "openblas_set_threads_callback_function");
    aa_pool *pool = aa_cpu_pool(b->cpu);
    if (set) set(aa_cpu_threads(b->cpu));
    else b->set_run_jobs = NULL;          /* as many jobs as threads, or they wait for ever */
    if (b->set_run_jobs) {
        team = pool;
        b->set_run_jobs(run_jobs);
    }
    describe(b, file, config, set != NULL);
    return check_product(b, file, err);
}

static aa_status open_file(aa_blas *b, const char *file, bool *found, aa_err *err) {
    void *lib = aa_sys_dl_open(file);
    *found = lib != NULL;
    if (!lib) return aa_fail(err, AA_ENOTFOUND, "cannot open '%s' as a BLAS library", file);
    for (size_t i = 0; i < N_SPELLINGS; i++)
        if ((b->gemm = SYMBOL(gemm_fn, lib, spellings[i], PRODUCT)))
            return take(b, lib, file, spellings[i], err);
    for (size_t i = 0; i < N_SPELLINGS; i++)
        if (symbol(lib, spellings[i], PRODUCT "64_")) return refuse_wide(file, err);
    return aa_fail(err, AA_EUNSUPPORTED, "'%s' has no %s: it is not a BLAS library", file, PRODUCT);
}

/* The first of the usual names that works; the error is that of the last one that is there. */
static aa_status search(aa_blas *b, aa_err *err) {
    aa_err last = {0};
    char tried[256] = "";
    for (size_t i = 0; i < N_USUAL; i++) {
        aa_err one = {0};
        bool found;
        if (open_file(b, usual_names[i], &found, &one) == AA_OK) return AA_OK;
        if (found) last = one;
        size_t n = strlen(tried);
        snprintf(tried + n, sizeof tried - n, "%s%s", i ? ", " : "", usual_names[i]);
    }
    return aa_fail(err, AA_ENOTFOUND,
                   "no BLAS library: tried %s%s%s; install one (`apt install libopenblas0`, or "
                   "`pip install scipy-openblas32` and the path of its libscipy_openblas) and "
                   "name it with --blas FILE or AA_BLAS=FILE",
                   tried, last.message[0] ? "; " : "", last.message);
}

aa_status aa_blas_open(aa_blas **out, aa_cpu *cpu, const char *path, aa_err *err) {
    aa_blas *b = aa_heap_alloc(1, sizeof *b);
    bool found;
    if (!b) return aa_fail_memory(err, "a BLAS library", sizeof *b);
    b->cpu = cpu;
    if (!path || !*path) path = getenv("AA_BLAS");
    aa_pool_pin_caller(aa_cpu_pool(cpu), false);
    aa_status st = path && *path ? open_file(b, path, &found, err) : search(b, err);
    aa_pool_pin_caller(aa_cpu_pool(cpu), true);
    if (st) aa_blas_close(b);
    else *out = b;
    return st;
}

void aa_blas_close(aa_blas *b) {
    if (!b) return;
    if (b->set_run_jobs) b->set_run_jobs(NULL);
    aa_heap_free(b);
}

const char *aa_blas_name(const aa_blas *b) { return b->name; }

/* ---- the products ---------------------------------------------------------------------------- */

static aa_status fits_int(size_t a, size_t b, size_t c, aa_err *err) {
    if (a <= INT_MAX && b <= INT_MAX && c <= INT_MAX) return AA_OK;
    return aa_fail(err, AA_EUNSUPPORTED,
                   "a product of %zu, %zu and %zu rows and columns is beyond the integers of a "
                   "BLAS library; use --device cpu",
                   a, b, c);
}

typedef struct beginning {
    aa_real *y;
    const aa_real *onto, *bias;           /* NULL: nothing */
    size_t ldy, ld_onto, N;
    aa_real scale;
} beginning;

/* y = onto + scale * bias */
static void begin_rows(void *ctx, size_t begin, size_t end, int thread) {
    const beginning *g = ctx;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        aa_real *y = g->y + t * g->ldy;
        const aa_real *onto = g->onto ? g->onto + t * g->ld_onto : NULL;
        for (size_t j = 0; j < g->N; j++)
            y[j] = (onto ? onto[j] : 0) + (g->bias ? g->scale * g->bias[j] : 0);
    }
}

aa_status aa_blas_linear_forward(aa_blas *b, aa_real *y, size_t ldy, const aa_real *x, size_t ldx,
                                 size_t T, const aa_linear *lin, const aa_epilogue *e,
                                 aa_err *err) {
    const size_t N = lin->n_out, K = lin->n_in;
    const aa_real *onto = e->accumulate ? y : e->residual;
    const aa_real *bias = lin->bias ? lin->bias->data : NULL;
    aa_assert(!(e->accumulate && e->residual));
    AA_TRY(fits_int(T, ldy, ldx, err));
    double start = aa__begin(b->cpu);
    if (bias || (onto && onto != y)) {
        beginning g = {y, onto, bias, ldy, e->accumulate ? ldy : e->ld_residual, N, e->scale};
        aa_pool_run(aa_cpu_pool(b->cpu), T, begin_rows, &g);
    }
    b->gemm(ROW_MAJOR, AS_IS, TRANSPOSED, (int)T, (int)N, (int)K, e->scale, x, (int)ldx,
            lin->weight->data, (int)K, onto || bias ? 1 : 0, y, (int)ldy);
    aa__end(b->cpu, AA_PROF_LINEAR_FORWARD, start, aa__product_flop(T, N, K),
            aa__product_bytes(T, N, K));
    return AA_OK;
}

aa_status aa_blas_linear_dx(aa_blas *b, aa_real *dx, size_t lddx, const aa_real *dy, size_t lddy,
                            size_t T, const aa_linear *lin, aa_real scale, bool accumulate,
                            aa_err *err) {
    const size_t N = lin->n_in, K = lin->n_out;
    AA_TRY(fits_int(T, lddx, lddy, err));
    double start = aa__begin(b->cpu);
    b->gemm(ROW_MAJOR, AS_IS, AS_IS, (int)T, (int)N, (int)K, scale, dy, (int)lddy,
            lin->weight->data, (int)N, accumulate ? 1 : 0, dx, (int)lddx);
    aa__end(b->cpu, AA_PROF_LINEAR_DX, start, aa__product_flop(T, N, K),
            aa__product_bytes(T, N, K));
    return AA_OK;
}

aa_status aa_blas_linear_dw(aa_blas *b, const aa_linear *lin, const aa_real *dy, size_t lddy,
                            const aa_real *x, size_t ldx, size_t T, aa_real scale, aa_err *err) {
    const size_t M = lin->n_out, N = lin->n_in;
    AA_TRY(fits_int(T, lddy, ldx, err));
    double start = aa__begin(b->cpu);
    b->gemm(ROW_MAJOR, TRANSPOSED, AS_IS, (int)M, (int)N, (int)T, scale, dy, (int)lddy, x, (int)ldx,
            1, lin->weight->grad, (int)N);
    aa__bias_gradient(b->cpu, lin, dy, lddy, T, scale);
    aa__end(b->cpu, AA_PROF_LINEAR_DW, start, aa__product_flop(T, M, N),
            aa__product_bytes(T, M, N));
    return AA_OK;
}
