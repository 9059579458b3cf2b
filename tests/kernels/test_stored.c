/* Linear maps over stored weights against the product with their values in double precision. */
#include "real.h"

enum { PARTS = 3, D = 32, MAX_T = 21 };

typedef struct stored_map {
    aa_stored stored[PARTS];
    aa_tensor weight[PARTS], bias;
    aa_linear lin;
    unsigned char *bytes[PARTS];
    float *values;                        /* [n_out,n_in] */
} stored_map;

/* Any bytes, but for the highest bit of the exponent where a half may be: it stays under 2. */
static unsigned char *random_rows(size_t n, uint64_t stream) {
    unsigned char *x = aa_heap_alloc(n + 1, 1);
    aa_rng rng;
    aa_rng_init(&rng, stream, AA_RNG_TEST, 0);
    for (size_t i = 0; i < n; i++) {
        x[i] = (unsigned char)aa_rng_below(&rng, 256);
        if (i % 2) x[i] &= 0xbf;
    }
    return x;
}

static stored_map map_of(const aa_type types[PARTS], const size_t rows[PARTS], size_t K,
                         aa_real *bias) {
    stored_map m = {.lin = {.n_parts = PARTS, .n_in = K}};
    for (int i = 0; i < PARTS; i++) {
        m.bytes[i] = random_rows(rows[i] * aa_type_bytes(types[i], K) + 2, (uint64_t)i + 1);
        m.stored[i] = (aa_stored){.type = types[i], .rows = rows[i], .cols = K,
                                  .data = m.bytes[i], .paired_head = i < 2 ? D : 0};
        m.weight[i] = (aa_tensor){.rows = rows[i], .cols = K};
        m.lin.n_out += rows[i];
    }
    m.values = aa_heap_alloc(m.lin.n_out * K, sizeof *m.values);
    for (size_t i = 0, row = 0; i < PARTS; row += rows[i++])
        aa_stored_read(&m.stored[i], 0, rows[i], m.values + row * K);
    m.bias = (aa_tensor){.rows = 1, .cols = m.lin.n_out, .data = bias};
    return m;
}

static void point(stored_map *m, bool bias) {         /* at itself, where it is now */
    for (int i = 0; i < PARTS; i++) m->weight[i].stored = &m->stored[i];
    m->lin.weight = m->weight;
    m->lin.bias = bias ? &m->bias : NULL;
}

static void release(stored_map *m) {
    for (int i = 0; i < PARTS; i++) aa_heap_free(m->bytes[i]);
    aa_heap_free(m->values);
}

/* What each output may be off by: rounding x to 8 bits moves each element by half a step of its
 * group, to bfloat16 both factors by 2^-9; and n sums and products in floats. */
static double allowed(const stored_map *m, aa_compute compute, size_t row, const aa_real *x) {
    const float *w = m->values + row * m->lin.n_in;
    double step = 0, size = 0;
    for (size_t g = 0; g < m->lin.n_in; g += 32) {
        double top = 0, weights = 0;
        for (size_t k = g; k < g + 32; k++) {
            top = fmax(top, fabs((double)x[k]));
            weights += fabs((double)w[k]);
            size += fabs((double)w[k] * (double)x[k]);
        }
        step += weights * top / 254 * (1 + 1e-5);
    }
    /* d q + m cancels: a factor for terms larger than the values they add up to. */
    double tol = 64 * (double)m->lin.n_in * (double)FLT_EPSILON * (size + 1);
    if (compute == AA_COMPUTE_INT8) tol += step;
    if (compute == AA_COMPUTE_BF16) tol += size * 0x1p-7;
    return tol;
}

static void check_map(stored_map *m, aa_cpu *cpu, size_t T, const aa_real *x, const aa_real *res,
                      aa_real *y, bool plain) {
    const size_t K = m->lin.n_in, N = m->lin.n_out;
    const aa_epilogue e = {.scale = plain ? 1 : AA_R(0.5), .residual = plain ? NULL : res,
                           .ld_residual = N};
    point(m, !plain);
    aa_linear_forward(cpu, y, N, x, K, T, &m->lin, &e);
    for (size_t t = 0; t < T; t++)
        for (size_t j = 0; j < N; j++) {
            double want = plain ? 0 : (double)m->bias.data[j];
            for (size_t k = 0; k < K; k++)
                want += (double)x[t * K + k] * (double)m->values[j * K + k];
            if (!plain) want = 0.5 * want + (double)res[t * N + j];
            double got = (double)y[t * N + j],
                   tol = allowed(m, aa_cpu_compute(cpu), j, x + t * K);
            if (!(fabs(got - want) <= tol))
                fail_msg("%s, %zu rows, (%zu,%zu): got %g, want %g, allowed %g",
                         aa_compute_name(aa_cpu_compute(cpu)), T, t, j, got, want, tol);
        }
}

/* dx = dy W from rows in a file, whole blocks at a time, to the bits of dy W from their values. */
static void check_dx(stored_map *m, aa_cpu *cpu, size_t T, const aa_real *dy) {
    const size_t K = m->lin.n_in, N = m->lin.n_out;
    aa_real *values = zeros(N * K), *want = zeros(T * K), *got = zeros(T * K);
    aa_tensor floats = {.rows = N, .cols = K, .data = values};
    const aa_linear lin = {.weight = &floats, .n_parts = 1, .n_out = N, .n_in = K};
    for (size_t i = 0; i < N * K; i++) values[i] = m->values[i];
    point(m, false);
    aa_linear_dx(cpu, want, K, dy, N, T, &lin, AA_R(0.5), false, NULL);
    aa_linear_dx(cpu, got, K, dy, N, T, &m->lin, AA_R(0.5), false, NULL);
    same_bits("dx", got, want, T * K);
    aa_heap_free(values);
    aa_heap_free(want);
    aa_heap_free(got);
}

/* Every type, in maps of three parts; few and many rows, with epilogue and without; any number of
 * threads gives the same bits, and integers do so for a row alone. */
static void test_types(void **state) {
    static const size_t rows[PARTS] = {2 * D, D, 21}, counts[] = {1, 3, 9};
    static const aa_type floats[] = {AA_TYPE_F32, AA_TYPE_F16, AA_TYPE_BF16};
    const size_t K = 512, N = 3 * D + 21;
    aa_err err = {0};
    aa_real *x = numbers(MAX_T * K, 1), *res = numbers(MAX_T * N, 2), *bias = numbers(N, 3);
    aa_real *y = zeros(MAX_T * N), *again = zeros(MAX_T * N);
    (void)state;
    EACH_ISA(isa)
        for (int type = 0; type < AA_TYPE_COUNT; type++) {
            if (!aa__type_group((aa_type)type)) continue;
            if (isa == AA_ISA_SCALAR && type % 4 != AA_TYPE_Q4_K % 4) continue; /* it is slow */
            const aa_type types[PARTS] = {(aa_type)type, floats[type % 3], (aa_type)type};
            stored_map m = map_of(types, rows, K, bias);
            /* A random float has any exponent: ordinary ones instead. */
            if (types[1] == AA_TYPE_F32 || types[1] == AA_TYPE_BF16) {
                for (size_t i = 0; i < D * K; i++) {
                    float v = (float)x[i % (MAX_T * K)];
                    uint16_t half;
                    aa_bf16_from_f32(&half, &v, 1);
                    if (types[1] == AA_TYPE_F32) memcpy(m.bytes[1] + 4 * i, &v, 4);
                    else memcpy(m.bytes[1] + 2 * i, &half, 2);
                }
                aa_stored_read(&m.stored[1], 0, D, m.values + rows[0] * K);
            }
            for (int c = AA_COMPUTE_F32; c <= AA_COMPUTE_INT8; c++) {
                aa_cpu *cpu = team(1, isa), *more = team(3, isa);
                if (c == AA_COMPUTE_AUTO || aa_cpu_set_compute(cpu, (aa_compute)c, &err) ||
                    aa_cpu_set_compute(more, (aa_compute)c, &err)) {
                    aa_cpu_free(cpu);
                    aa_cpu_free(more);
                    continue;
                }
                for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
                    check_map(&m, cpu, counts[i], x, res, y, i % 2);
                check_map(&m, cpu, MAX_T, x, res, y, false);
                if (sizeof(aa_real) == sizeof(float)) check_dx(&m, cpu, counts[c % 3], res);
                check_map(&m, more, MAX_T, x, res, again, false);
                same_bits("threads", again, y, MAX_T * N);
                check_map(&m, more, 1, x, res, again, false);
                if (c == AA_COMPUTE_INT8) {
                    same_bits("a row alone", again, y, rows[0]);
                    same_bits("a row alone", again + 3 * D, y + 3 * D, 21);
                }
                aa_cpu_free(cpu);
                aa_cpu_free(more);
            }
            release(&m);
        }
    aa_heap_free(x);
    aa_heap_free(res);
    aa_heap_free(bias);
    aa_heap_free(y);
    aa_heap_free(again);
}

/* A block of 32 more than whole vectors, and more rows than are rounded at a time. */
static void test_shapes(void **state) {
    static const size_t rows[PARTS] = {64, 32, 5};
    static const aa_type types[PARTS] = {AA_TYPE_Q4_1, AA_TYPE_Q8_0, AA_TYPE_Q5_0};
    const size_t K = 96, T = 1100, N = 101;
    aa_err err = {0};
    aa_real *x = numbers(T * K, 1), *res = numbers(T * N, 2), *bias = numbers(N, 3);
    aa_real *y = zeros(T * N), *one = zeros(N);
    const aa_epilogue e = {.scale = 1, .residual = res, .ld_residual = N};
    stored_map m = map_of(types, rows, K, bias);
    (void)state;
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        check_ok(aa_cpu_set_compute(cpu, AA_COMPUTE_INT8, &err));
        check_map(&m, cpu, 17, x, res, y, true);
        check_map(&m, cpu, 1, x, res, y, true);
        point(&m, true);
        aa_linear_forward(cpu, y, N, x, K, T, &m.lin, &e);
        for (size_t t = 0; t < T; t += 97) {
            const aa_epilogue here = {.scale = 1, .residual = res + t * N, .ld_residual = N};
            aa_linear_forward(cpu, one, N, x + t * K, K, 1, &m.lin, &here);
            same_bits("a row alone", one, y + t * N, N);
        }
        aa_cpu_free(cpu);
    }
    release(&m);
    aa_heap_free(x);
    aa_heap_free(res);
    aa_heap_free(bias);
    aa_heap_free(y);
    aa_heap_free(one);
}

static void test_lookup(void **state) {
    enum { V = 20, C = 256 };
    static const int32_t ids[] = {19, 0, 7, 7};
    (void)state;
    EACH_ISA(isa)
        for (int type = 0; type < AA_TYPE_COUNT; type++) {
            unsigned char *bytes = random_rows(V * aa_type_bytes((aa_type)type, C) + 2, 5);
            const aa_stored table = {.type = (aa_type)type, .rows = V, .cols = C,
                                     .data = bytes};
            aa_cpu *cpu = team(2, isa);
            aa_real got[4 * C];
            float want[C];
            aa_embedding_stored(cpu, got, &table, ids, 4);
            for (size_t t = 0; t < 4; t++) {
                aa_stored_read(&table, (size_t)ids[t], 1, want);
                for (size_t i = 0; i < C; i++) {
                    float g = (float)got[t * C + i];
                    if (g != want[i] && !(isnan(g) && isnan(want[i])))
                        fail_msg("%s of id %d: got %g, want %g", aa_type_name((aa_type)type),
                                 ids[t], (double)g, (double)want[i]);
                }
            }
            aa_cpu_free(cpu);
            aa_heap_free(bytes);
        }
}

/* Keys and values in binary16: the bits of their values as floats. */
static void test_half_keys(void **state) {
    enum { H = 4, K = 2, D_ = 24, N = 130, LD = K * D_ };
    (void)state;
    EACH_ISA(isa)
        for (size_t n_query = 1; n_query <= N; n_query = n_query == 1 ? 70 : n_query + 60) {
            aa_cpu *cpu = team(2, isa);
            aa_real *q = numbers(N * H * D_, 1), *k = numbers(N * LD, 2), *v = numbers(N * LD, 3);
            aa_real *want = zeros(N * H * D_), *got = zeros(N * H * D_);
            uint16_t k16[N * LD], v16[N * LD];
            aa_to_f16(cpu, k16, k, N * LD);
            aa_to_f16(cpu, v16, v, N * LD);
            cpu->k.from_f16(k, (const unsigned char *)k16, N * LD);
            cpu->k.from_f16(v, (const unsigned char *)v16, N * LD);
            aa_attention a = {.B = 1, .n_query = n_query, .n_key = N, .H = H, .K = K, .D = D_,
                              .ld_q = H * D_, .ld_k = LD, .ld_v = LD, .ld_o = H * D_};
            aa_attention_forward(cpu, want, NULL, q, k, v, &a);
            a.k16 = k16, a.v16 = v16;
            aa_attention_forward(cpu, got, NULL, q, NULL, NULL, &a);
            same_bits("attention", got, want, n_query * H * D_);
            aa_heap_free(q);
            aa_heap_free(k);
            aa_heap_free(v);
            aa_heap_free(want);
            aa_heap_free(got);
            aa_cpu_free(cpu);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types), cmocka_unit_test(test_shapes),
                                       cmocka_unit_test(test_lookup),
                                       cmocka_unit_test(test_half_keys)};
    return cmocka_run_group_tests_name("kernels_stored", tests, NULL, NULL);
}
