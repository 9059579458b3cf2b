/* num/cpu: the team: which kernels, how many threads, scratch, profile and probes. */
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "num/num_int.h"
#include "sys/sys.h"

/* ---- instruction sets ------------------------------------------------------------------------ */

static const char *const isa_names[] = {"auto", "scalar", "neon", "avx2", "avx512", "amx"};
enum { N_ISAS = sizeof isa_names / sizeof *isa_names };

const char *aa_isa_name(aa_isa isa) { return isa_names[isa]; }

static const char *const compute_names[] = {"f32", "bf16", "auto", "int8"};

const char *aa_compute_name(aa_compute compute) { return compute_names[compute]; }

/* What rows of kernels.def are called here. The last are no sets of their own for the user: they
 * add to NEON and AVX-512 where the processor has these instructions. */
enum {
    AA_SET_scalar = AA_ISA_SCALAR,
    AA_SET_neon = AA_ISA_NEON,
    AA_SET_avx2 = AA_ISA_AVX2,
    AA_SET_avx512 = AA_ISA_AVX512,
    AA_SET_amx = AA_ISA_AMX,
    AA_SET_neonbf16,
    AA_SET_avx512bf16,
    AA_SET_avx512vnni
};

/* Built for this architecture at all? Rows of kernels.def tell. */
static bool isa_built(aa_isa isa) {
    static const int built[] = {
#define KERNEL(op, type, parameters, isa) AA_SET_##isa,
#include "num/kernels.def"
    };
    for (size_t i = 0; i < sizeof built / sizeof *built; i++)
        if (built[i] == (int)isa) return true;
    return false;
}

bool aa_isa_available(aa_isa isa) {
    aa_sys_cpu cpu;
    if (isa == AA_ISA_AUTO) return true;
    if (!isa_built(isa)) return false;
    aa_sys_cpu_info(&cpu);
    switch (isa) {
    case AA_ISA_NEON: return cpu.neon;
    case AA_ISA_AVX2: return cpu.avx2_fma && cpu.f16c;
    case AA_ISA_AVX512: return cpu.avx2_fma && cpu.f16c && cpu.avx512;
    case AA_ISA_AMX: return cpu.avx2_fma && cpu.f16c && cpu.avx512_bf16 && cpu.amx_bf16;
    default: return true;
    }
}

/* A row of set `row` serves a team of set `wanted`: its own, or one that `wanted` contains. */
static bool serves(int row, aa_isa wanted, const aa_sys_cpu *cpu) {
    if (row == AA_SET_neonbf16) return wanted == AA_ISA_NEON && cpu->neon_bf16;
    if (row == AA_SET_avx512bf16) return wanted >= AA_ISA_AVX512 && cpu->avx512_bf16;
    if (row == AA_SET_avx512vnni) return wanted >= AA_ISA_AVX512 && cpu->avx512_vnni;
    return row == AA_SET_scalar || row == (int)wanted ||
           (row >= AA_SET_avx2 && row < (int)wanted);
}

static void check_shape(aa_gemm_shape s) {
    aa_assert(s.mc / s.mr * aa__round_up(s.mr, 4) * s.kc <= AA_SCRATCH_A &&
              s.mc * (s.kc + 32) <= AA_SCRATCH_A && s.kc * s.nc <= AA_SCRATCH_B &&
              s.mc * s.nc <= AA_SCRATCH_C && s.nr * s.kc * 2 <= AA_SCRATCH_ROWS);
}

void aa__kernels_choose(aa_kernels *k, aa_isa isa) {
    aa_sys_cpu cpu;
    aa_sys_cpu_info(&cpu);
#define KERNEL(op, type, parameters, set) \
    if (serves(AA_SET_##set, isa, &cpu)) k->op = aa_##op##__##set;
#include "num/kernels.def"
    k->shape = k->gemm_shape();
    k->linear[AA_COMPUTE_F32] =
        (aa_operands){1, k->shape, k->gemm_tile, k->pack_rows, k->pack_rows, k->pack_transposed,
                      NULL};
    k->linear[AA_COMPUTE_BF16] =
        (aa_operands){2, k->bf16_shape(), k->bf16_tile, k->bf16_pack_rows, k->bf16_pack_copy,
                      k->bf16_pack_transposed, k->bf16_pack_columns};
    for (int i = 0; i < AA_COMPUTE_COUNT; i++) check_shape(k->linear[i].shape);
}

static aa_status isa_from_environment(aa_isa *isa, aa_err *err) {
    const char *name = getenv("AA_ISA");
    if (!name || !*name || strcmp(name, "auto") == 0) return AA_OK;
    for (int i = AA_ISA_SCALAR; i < N_ISAS; i++)
        if (strcmp(name, isa_names[i]) == 0) {
            *isa = (aa_isa)i;
            return AA_OK;
        }
    return aa_fail(
        err, AA_EUNSUPPORTED,
        "environment variable AA_ISA is '%.40s'; it may be scalar, neon, avx2, avx512, amx or auto",
        name);
}

static aa_status choose_isa(aa_isa *isa, aa_err *err) {
    if (*isa == AA_ISA_AUTO) AA_TRY(isa_from_environment(isa, err));
    if (*isa == AA_ISA_AUTO) {
        for (int i = N_ISAS - 1; i > AA_ISA_AUTO; i--)
            if (aa_isa_available((aa_isa)i)) {
                *isa = (aa_isa)i;
                return AA_OK;
            }
    }
    if (aa_isa_available(*isa)) return AA_OK;
    char there[64] = "";
    size_t n = 0;
    for (int i = AA_ISA_SCALAR; i < N_ISAS; i++)
        if (aa_isa_available((aa_isa)i))
            n += (size_t)snprintf(there + n, sizeof there - n, " %s", isa_names[i]);
    return aa_fail(err, AA_EUNSUPPORTED,
                   "instruction set %s is not available on this processor; there is:%s",
                   isa_names[*isa], there);
}

/* ---- the team -------------------------------------------------------------------------------- */

static size_t scratch_bytes(int n_threads) {
    return (size_t)n_threads * AA_SCRATCH * sizeof(aa_real);
}
static size_t shared_bytes(void) {
    return AA_CHUNKS_MAX * sizeof(double) + AA_OPERAND * sizeof(aa_real);
}

size_t aa_cpu_scratch_bytes(int n_threads) {
    if (n_threads == 0) {
        aa_sys_cpu cpu;
        aa_sys_cpu_info(&cpu);
        n_threads = cpu.n_cores;
    }
    return scratch_bytes(n_threads) + shared_bytes();
}

static void profile_clear(aa_cpu *cpu);

aa_status aa_cpu_new(aa_cpu **out, int n_threads, aa_isa isa, aa_err *err) {
    AA_TRY(choose_isa(&isa, err));
    aa_cpu *cpu = aa_heap_alloc(1, sizeof *cpu);
    if (!cpu) return aa_fail_memory(err, "the team of threads", sizeof *cpu);
    aa_arena_init(&cpu->arena, "kernel scratch");
    aa_status st = aa_pool_new(&cpu->pool, n_threads, err);
    if (!st) {
        cpu->n_threads = aa_pool_threads(cpu->pool);
        st = aa_arena_reserve(&cpu->arena, scratch_bytes(cpu->n_threads) + shared_bytes(), err);
    }
    if (!st) {
        cpu->scratch = aa_arena_new(&cpu->arena, aa_real, (size_t)cpu->n_threads * AA_SCRATCH);
        cpu->operand = aa_arena_new(&cpu->arena, aa_real, AA_OPERAND);
        cpu->chunks = aa_arena_new(&cpu->arena, double, AA_CHUNKS_MAX);
        st = aa_arena_status(&cpu->arena, err);
    }
    if (st) {
        aa_cpu_free(cpu);
        return st;
    }
    cpu->isa = isa;
    aa__kernels_choose(&cpu->k, isa);
    profile_clear(cpu);
    *out = cpu;
    return AA_OK;
}

void aa_cpu_free(aa_cpu *cpu) {
    if (!cpu) return;
    aa_pool_free(cpu->pool);
    aa_arena_release(&cpu->arena);
    aa_heap_free(cpu);
}

aa_isa aa_cpu_isa(const aa_cpu *cpu) { return cpu->isa; }
aa_compute aa_cpu_compute(const aa_cpu *cpu) { return cpu->compute; }
size_t aa_cpu_batch_unit(const aa_cpu *cpu) {
    if (cpu->compute != AA_COMPUTE_BF16) return 1;
    const aa_operands *o = &cpu->k.linear[AA_COMPUTE_BF16];
    return o->step * o->shape.unit;
}

/* Of one thread, the best of a few runs of some microseconds. */
static double probed_speed(aa_cpu *cpu, double (*run)(size_t, aa_real *)) {
    double best = 0;
    for (int i = 0; i < 8; i++) {
        double start = aa__clock(), flop = run(2000, aa__scratch(cpu, 0));
        best = fmax(best, flop / (aa__clock() - start));
    }
    return best;
}

/* Processors have such instructions at twice the speed of floats, at sixteen times, and at half. */
static bool bf16_is_faster(aa_cpu *cpu) {
    return cpu->k.bf16_tile != aa_bf16_tile__scalar &&
           probed_speed(cpu, cpu->k.bf16_peak_probe) > probed_speed(cpu, cpu->k.peak_probe);
}

aa_status aa_cpu_set_compute(aa_cpu *cpu, aa_compute compute, aa_err *err) {
    bool fast = cpu->k.bf16_tile != aa_bf16_tile__scalar;
    if (compute == AA_COMPUTE_AUTO)
        compute = bf16_is_faster(cpu) ? AA_COMPUTE_BF16 : AA_COMPUTE_F32;
    if (compute == AA_COMPUTE_BF16 && !fast && cpu->isa != AA_ISA_SCALAR)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "compute is bf16, but the instruction set in use (%s) has no bfloat16 "
                       "products; use f32 or auto (AA_ISA=scalar models them, slowly)",
                       aa_isa_name(cpu->isa));
    cpu->compute = compute;
    return AA_OK;
}

int aa_cpu_threads(const aa_cpu *cpu) { return cpu->n_threads; }
aa_pool *aa_cpu_pool(aa_cpu *cpu) { return cpu->pool; }

typedef struct columns { aa_pool_fn *fn; void *ctx; size_t n; } columns;

static void run_units(void *ctx, size_t begin, size_t end, int thread) {
    const columns *c = ctx;
    c->fn(c->ctx, begin * AA_COLUMN_UNIT, aa__min(end * AA_COLUMN_UNIT, c->n), thread);
}

void aa__run_columns(aa_cpu *cpu, size_t n, aa_pool_fn *fn, void *ctx) {
    columns c = {fn, ctx, n};
    if (n) aa_pool_run(cpu->pool, aa__ceil_div(n, AA_COLUMN_UNIT), run_units, &c);
}

/* ---- profile --------------------------------------------------------------------------------- */

static const char *const prof_names[AA_PROF_COUNT] = {
    [AA_PROF_PACK] = "linear pack",
    [AA_PROF_LINEAR_FORWARD] = "linear forward",
    [AA_PROF_LINEAR_DX] = "linear dx",
    [AA_PROF_LINEAR_DW] = "linear dw",
    [AA_PROF_GEMM] = "gemm",
    [AA_PROF_RMSNORM] = "rmsnorm",
    [AA_PROF_RMSNORM_BACKWARD] = "rmsnorm backward",
    [AA_PROF_ROPE] = "rope",
    [AA_PROF_ATTENTION] = "attention",
    [AA_PROF_ATTENTION_BACKWARD] = "attention backward",
    [AA_PROF_SWIGLU] = "swiglu",
    [AA_PROF_SWIGLU_BACKWARD] = "swiglu backward",
    [AA_PROF_EMBEDDING] = "embedding",
    [AA_PROF_EMBEDDING_BACKWARD] = "embedding backward",
    [AA_PROF_CROSS_ENTROPY] = "cross entropy",
    [AA_PROF_SUM_SQUARES] = "sum of squares",
    [AA_PROF_ZERO] = "zero",
    [AA_PROF_AXPY] = "axpy",
    [AA_PROF_SCALE] = "scale",
    [AA_PROF_ADAMW] = "adamw",
    [AA_PROF_SGD] = "sgd",
    [AA_PROF_ORTHOGONAL] = "orthogonalize",
    [AA_PROF_LOWRANK] = "low rank",
    [AA_PROF_DIRECTION] = "directions",
    [AA_PROF_MAGNITUDE] = "magnitudes",
    [AA_PROF_DROPOUT] = "dropout",
};

double aa__clock(void) { return aa_sys_clock_s(); }

static void profile_clear(aa_cpu *cpu) {
    for (int i = 0; i < AA_PROF_COUNT; i++) cpu->profile[i] = (aa_profile_row){.op = prof_names[i]};
}

void aa_cpu_profile(aa_cpu *cpu, bool on) {
    if (on) profile_clear(cpu);
    cpu->profiling = on;
}

bool aa_cpu_profile_switch(aa_cpu *cpu, bool on) {
    bool before = cpu->profiling;
    cpu->profiling = on;
    return before;
}

void aa__profile_add(aa_cpu *cpu, aa_prof row, double start_s, double flop, double bytes) {
    aa_profile_row *p = &cpu->profile[row];
    p->calls++;
    p->wall_s += aa__clock() - start_s;
    p->flop += flop;
    p->bytes += bytes;
}

static int slower(const void *a, const void *b) {
    double x = ((const aa_profile_row *)a)->wall_s, y = ((const aa_profile_row *)b)->wall_s;
    return (x < y) - (x > y);
}

size_t aa_cpu_profile_rows(const aa_cpu *cpu, aa_profile_row *out, size_t max) {
    aa_profile_row rows[AA_PROF_COUNT];
    size_t n = 0;
    for (int i = 0; i < AA_PROF_COUNT; i++)
        if (cpu->profile[i].calls) rows[n++] = cpu->profile[i];
    qsort(rows, n, sizeof *rows, slower);
    n = aa__min(n, max);
    memcpy(out, rows, n * sizeof *rows);
    return n;
}

/* ---- probes ---------------------------------------------------------------------------------- */

typedef struct probe {
    aa_cpu *cpu;
    size_t n_rounds, n;                   /* rounds of multiply-adds; elements of the array */
    const aa_real *x;
    double flop;                          /* of one thread */
} probe;

static void peak_task(void *ctx, size_t begin, size_t end, int thread) {
    probe *p = ctx;
    for (size_t i = begin; i < end; i++) {
        const aa_kernels *k = &p->cpu->k;
        double (*run)(size_t, aa_real *) =
            p->cpu->compute == AA_COMPUTE_BF16 ? k->bf16_peak_probe : k->peak_probe;
        double flop = run(p->n_rounds, aa__scratch(p->cpu, thread));
        if (i == 0) p->flop = flop;
    }
}

static void read_task(void *ctx, size_t begin, size_t end, int thread) {
    const probe *p = ctx;
    p->cpu->k.read_probe(p->x + begin, end - begin, aa__scratch(p->cpu, thread));
}

/* Seconds of the fastest run within about `seconds`, three at least. Other programs make runs
 * longer, never shorter, and seldom twice as long as each other: until the two best agree, it goes
 * on for up to PATIENCE times as long. */
static double best_time(aa_cpu *cpu, double seconds, size_t n_tasks, aa_pool_fn *fn, probe *p) {
    enum { PATIENCE = 6 };
    double begin = aa__clock(), now = begin, best = INFINITY, second = INFINITY;
    for (int i = 0; i < 3 || now - begin < seconds ||
                    (second > 1.02 * best && now - begin < PATIENCE * seconds); i++) {
        double start = aa__clock();
        aa_pool_run(cpu->pool, n_tasks, fn, p);
        now = aa__clock();
        second = fmin(second, fmax(best, now - start));
        best = fmin(best, now - start);
    }
    return best;
}

double aa_cpu_peak_gflops(aa_cpu *cpu, double seconds) {
    probe p = {.cpu = cpu, .n_rounds = 1000};
    size_t n = (size_t)cpu->n_threads;
    double *best = &cpu->peak_gflops[cpu->compute];
    /* Runs of about half a millisecond: long against the start of the threads, short against the
     * time slices of other programs. */
    double wall = best_time(cpu, 0, n, peak_task, &p);
    p.n_rounds = (size_t)(1000 * (wall > 0 && wall < 5e-4 ? 5e-4 / wall : 1));
    wall = best_time(cpu, seconds, n, peak_task, &p);
    if (wall > 0) *best = fmax(*best, p.flop * (double)n / wall / 1e9);
    return *best;
}

double aa_cpu_read_gbs(aa_cpu *cpu, double seconds) {
    aa_sys_cpu info;
    void *pages;
    aa_sys_cpu_info(&info);
    size_t size = (size_t)256 << 20;
    if (size < 4 * info.l3_bytes) size = 4 * info.l3_bytes;
    if (aa_sys_pages_alloc(&pages, size) != 0) return 0;
    memset(pages, 0, size);               /* so that every page is there */
    probe p = {.cpu = cpu, .x = pages, .n = size / sizeof(aa_real)};
    double wall = best_time(cpu, seconds, p.n, read_task, &p);
    aa_sys_pages_free(pages, size);
    return wall > 0 ? (double)size / wall / 1e9 : 0;
}
