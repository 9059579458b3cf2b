/* ane/exec: operations against plain sums in double, the published probes of the engine's numerics.
 */
#include <math.h>
#include <stdlib.h>
#include "ane/blob.h"
#include "ane/exec.h"
#include "support/check.h"

enum { MOST = 1 << 16, PORTS = 4 };

static aa_cpu *cpu;

typedef struct bench {
    aa_mil_program p;
    aa_exec *e;
    float in[PORTS][MOST], out[PORTS][MOST];
} bench;
static bench b;

static const aa_ane_chip *chip_of(const char *name) {
    const aa_ane_chip *chip = NULL;
    aa_err err = {0};
    check_ok(aa_ane_chip_find(&chip, name, &err));
    return chip;
}

static void close_bench(void) {
    aa_exec_free(b.e);
    aa_mil_release(&b.p);
    b.e = NULL;
}

static void load(const char *text, const char *chip, aa_exec_mode mode,
                 const aa_ane_files *files) {
    aa_err err = {0};
    if (b.e) close_bench();
    check_ok(aa_mil_parse(&b.p, text, strlen(text), "test", &err));
    check_ok(aa_exec_new(&b.e, b.p.funcs[0], chip_of(chip), mode, files, cpu, &err));
}

/* b.in through fp16 ports to b.out. */
static void run(void) {
    static uint16_t in[PORTS][MOST], out[PORTS][MOST];
    const aa_mil_func *f = b.p.funcs[0];
    const void *inputs[PORTS];
    void *outputs[PORTS];
    for (int i = 0; i < f->n_inputs; i++) {
        aa_f16_from_f32(in[i], b.in[i], (size_t)aa_mil_elements(&f->vars[i].type));
        inputs[i] = in[i];
    }
    for (int i = 0; i < f->n_outputs; i++) outputs[i] = out[i];
    aa_exec_run(b.e, inputs, outputs);
    for (int i = 0; i < f->n_outputs; i++)
        aa_f32_from_f16(b.out[i], out[i], (size_t)aa_mil_elements(&f->vars[f->outputs[i]].type));
}

/* Binary16 values of about 1. */
static void fill(int port, size_t n, unsigned seed) {
    uint16_t half[MOST];
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        b.in[port][i] = (float)((int)(seed >> 16) - 32768) / 16384;
    }
    aa_f16_from_f32(half, b.in[port], n);
    aa_f32_from_f16(b.in[port], half, n);
}

#define MAIN(inputs, body) \
    "program(1.3)\n{\nfunc main<ios18>(" inputs ") {\n" body "} -> (z);\n}\n"

/* ---- products -------------------------------------------------------------------------------- */

/* Rounding of the result, and sums of n terms of size about 1: floats in FAST, binary16 in fours in
 * FAITHFUL, which loses 2^-11 of each of them. */
static double tolerance(aa_exec_mode mode, size_t n, double y) {
    const double sum = mode == AA_EXEC_FAST ? 1e-6 * (double)n : 0x1p-10 * sqrt((double)n) * 4;
    return fabs(y) * 0x1p-11 + sum + 0x1p-24;
}

static void matmuls(void **state) {
    (void)state;
    enum { B = 3, M = 5, K = 37, N = 19 };
    for (int form = 0; form < 4; form++)
        for (int mode = 0; mode < 2; mode++) {
            const bool tx = form & 1, ty = form & 2;
            char text[1024];
            snprintf(text, sizeof text,
                     MAIN("tensor<fp16, [%d, 2, %d, %d]> a, tensor<fp16, [2, %d, %d]> b",
                          "tensor<fp16, [%d, 2, %d, %d]> z = matmul(x = a, y = b, transpose_x = "
                          "bool(%s), transpose_y = bool(%s));\n"),
                     B, tx ? K : M, tx ? M : K, ty ? N : K, ty ? K : N, B, M, N,
                     tx ? "true" : "false", ty ? "true" : "false");
            load(text, "m1", (aa_exec_mode)mode, NULL);
            fill(0, B * 2 * M * K, 1);
            fill(1, 2 * K * N, 2);
            run();
            for (size_t i = 0; i < B * 2 * M * N; i++) {
                const size_t m = i / N % M, n = i % N, batch = i / N / M;
                const float *x = b.in[0] + batch * M * K, *y = b.in[1] + batch % 2 * K * N;
                double want = 0;
                for (size_t k = 0; k < K; k++)
                    want += (double)x[tx ? k * M + m : m * K + k] * y[ty ? n * K + k : k * N + n];
                if (fabs(b.out[0][i] - want) > tolerance((aa_exec_mode)mode, K, want))
                    fail_msg("form %d, mode %d, place %zu: %g, not %g", form, mode, i,
                             b.out[0][i], want);
            }
        }
}

/* Strides, dilations, padding, groups against the definition. */
static void convolutions(void **state) {
    (void)state;
    static const struct { int H, W, kh, kw, groups, sh, sw, dh, dw, ph, pw; } cases[] = {
        {1, 9, 1, 1, 1, 1, 1, 1, 1, 0, 0}, {5, 7, 3, 3, 1, 1, 1, 1, 1, 1, 1},
        {6, 8, 3, 2, 2, 2, 1, 1, 2, 1, 2}, {4, 4, 1, 1, 4, 1, 2, 1, 1, 0, 0}};
    enum { N = 2, C = 4, O = 8 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int H = cases[c].H, W = cases[c].W, kh = cases[c].kh, kw = cases[c].kw;
        const int G = cases[c].groups, sh = cases[c].sh, sw = cases[c].sw;
        const int h = (H + 2 * cases[c].ph - (kh - 1) * cases[c].dh - 1) / sh + 1;
        const int w = (W + 2 * cases[c].pw - (kw - 1) * cases[c].dw - 1) / sw + 1;
        char text[2048];
        snprintf(text, sizeof text,
                 MAIN("tensor<fp16, [%d, %d, %d, %d]> a, tensor<fp16, [%d, %d, %d, %d]> k",
                      "tensor<fp16, [%d, %d, %d, %d]> z = conv(x = a, weight = k, groups = int32("
                      "%d), strides = tensor<int32, [2]>([%d, %d]), dilations = tensor<int32, [2]>"
                      "([%d, %d]), pad_type = string(\"custom\"), pad = tensor<int32, [4]>([%d, %d,"
                      " %d, %d]));\n"),
                 N, C, H, W, O, C / G, kh, kw, N, O, h, w, G, sh, sw, cases[c].dh, cases[c].dw,
                 cases[c].ph, cases[c].ph, cases[c].pw, cases[c].pw);
        load(text, "m4", AA_EXEC_FAST, NULL);
        fill(0, (size_t)(N * C * H * W), 3);
        fill(1, (size_t)(O * C / G * kh * kw), 4);
        run();
        for (int i = 0; i < N * O * h * w; i++) {
            const int px = i % w, py = i / w % h, o = i / w / h % O, n = i / w / h / O;
            double want = 0;
            for (int t = 0; t < C / G * kh * kw; t++) {
                const int x = px * sw - cases[c].pw + t % kw * cases[c].dw;
                const int y = py * sh - cases[c].ph + t / kw % kh * cases[c].dh;
                const int ch = o / (O / G) * (C / G) + t / kw / kh;
                if (x < 0 || x >= W || y < 0 || y >= H) continue;
                want += (double)b.in[0][((n * C + ch) * H + y) * W + x] *
                        b.in[1][o * (C / G) * kh * kw + t];
            }
            if (fabs(b.out[0][i] - want) > tolerance(AA_EXEC_FAST, 36, want))
                fail_msg("case %zu, place %d: %g, not %g", c, i, b.out[0][i], want);
        }
    }
}

/* ---- the published probes -------------------------------------------------------------------- */

#define DOT(n) MAIN("tensor<fp16, [1, " #n "]> a, tensor<fp16, [" #n ", 1]> b", \
                    "tensor<fp16, [1, 1]> z = matmul(x = a, y = b);\n")

static float dot(size_t n) {
    for (size_t i = 0; i < n; i++) b.in[1][i] = 1;
    run();
    return b.out[0][0];
}

static void sums_of_products(void **state) {
    (void)state;
    load(DOT(16384), "m1", AA_EXEC_FAITHFUL, NULL);
    for (size_t i = 0; i < 16384; i++) b.in[0][i] = 1;
    assert_true(dot(16384) == 16384);
    load(DOT(1025), "m1", AA_EXEC_FAITHFUL, NULL);
    for (size_t i = 0; i < 1025; i++) b.in[0][i] = i ? 1 : 4096;
    assert_true(dot(1025) == 5116);      /* 5120 in truth, 4096 if all of it were binary16 */
    static const struct { float B, survive; } cases[] = {
        {512, 16}, {1024, 16}, {2048, 8} /* 16 were reported */, {4096, 4}, {8192, 4}};
    load(DOT(48), "m1", AA_EXEC_FAITHFUL, NULL);
    for (size_t c = 0; c < 5; c++) {
        for (size_t i = 0; i < 48; i++)
            b.in[0][i] = i % 3 == 0 ? cases[c].B : i % 3 == 1 ? -cases[c].B : 1;
        assert_true(dot(48) == cases[c].survive);
    }
}

/* Products end at 2^15, sums of one term and elementwise results do not. */
static void ceiling(void **state) {
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        load(DOT(2), "m4", (aa_exec_mode)mode, NULL);
        b.in[0][0] = 16376, b.in[0][1] = 16376;
        assert_true(dot(2) == 32752);
        b.in[0][0] = 16384, b.in[0][1] = 16384;
        assert_true(dot(2) == INFINITY);
        load(MAIN("tensor<fp16, [1, 1, 1, 2]> a, tensor<fp16, [1, 1, 1, 1]> k",
                  "tensor<fp16, [1, 1, 1, 2]> z = conv(x = a, weight = k);\n"), "m4",
             (aa_exec_mode)mode, NULL);
        b.in[0][0] = 60000, b.in[0][1] = -60000, b.in[1][0] = 1;
        run();
        assert_true(b.out[0][0] == 60000 && b.out[0][1] == -60000);
    }
}

static float unary(const char *op, float x) {
    char text[400];
    snprintf(text, sizeof text, MAIN("tensor<fp16, [1]> a", "tensor<fp16, [1]> z = %s;\n"), op);
    load(text, "m1", AA_EXEC_FAST, NULL);
    b.in[0][0] = x;
    run();
    return b.out[0][0];
}

static void specials(void **state) {
    (void)state;
    static const struct { const char *op; float x, y; } cases[] = {
        {"add(x = a, y = fp16(0x0p0))", NAN, INFINITY},
        {"sigmoid(x = a)", NAN, 1}, {"exp(x = a)", NAN, INFINITY},
        {"maximum(x = a, y = fp16(0x1p0))", NAN, INFINITY},
        {"sub(x = a, y = a)", INFINITY, 0}, {"mul(x = a, y = fp16(0x0p0))", INFINITY, 0},
        {"sqrt(x = a)", -1, 0}, {"rsqrt(x = a, epsilon = fp16(0x0p0))", -1, 0},
        {"log(x = a, epsilon = fp16(0x0p0))", -1, 0},
        {"log(x = a, epsilon = fp16(0x0p0))", 0, -45440},
        {"inverse(x = a, epsilon = fp16(0x0p0))", -0.0f, INFINITY},
        {"softsign(x = a)", INFINITY, 0}, {"exp(x = a)", 11.1015625f, INFINITY},
        {"identity(x = a)", 0x1p-24f, 0x1p-24f},      /* subnormals stay, outside of products */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!(unary(cases[i].op, cases[i].x) == cases[i].y))
            fail_msg("%s of %g is %g, not %g", cases[i].op, cases[i].x, b.out[0][0], cases[i].y);
    assert_false(signbit(unary("identity(x = a)", -0.0f)));
}

static void faithful_quirks(void **state) {
    (void)state;
    /* Subnormal operands of products: lost on M1, kept on M5. */
    for (int c = 0; c < 2; c++) {
        load(DOT(2), c ? "m5" : "m1", AA_EXEC_FAITHFUL, NULL);
        b.in[0][0] = 0x1p-20f, b.in[0][1] = 1;
        b.in[0][1] = 0;
        assert_true(dot(2) == (c ? 0x1p-20f : 0));
    }
    /* A running sum in binary16 stays at 2048. */
    for (int mode = 0; mode < 2; mode++) {
        load(MAIN("tensor<fp16, [1, 4096]> a",
                  "tensor<fp16, [1]> z = reduce_sum(x = a, axes = tensor<int32, [1]>([1]));\n"),
             "m4", (aa_exec_mode)mode, NULL);
        for (int i = 0; i < 4096; i++) b.in[0][i] = 1;
        run();
        assert_true(b.out[0][0] == (mode ? 2048 : 4096));
    }
    /* A slice from inside the last axis: up to 4094, on M1 and M2. */
    static const char slice[] = MAIN("tensor<fp16, [1, 4]> a",
        "tensor<fp16, [1, 2]> z = slice_by_size(x = a, begin = tensor<int32, [2]>([0, 2]), size = "
        "tensor<int32, [2]>([1, 2]));\n");
    for (int c = 0; c < 2; c++) {
        load(slice, c ? "m3" : "m2", AA_EXEC_FAITHFUL, NULL);
        b.in[0][2] = 4094, b.in[0][3] = 4096;
        run();
        assert_true(b.out[0][0] == 4094);
        assert_true(b.out[0][1] == (c ? 4096 : INFINITY));
    }
    /* The table of sigmoid: within 0.004, and clamped. */
    load(MAIN("tensor<fp16, [1, 2001]> a", "tensor<fp16, [1, 2001]> z = sigmoid(x = a);\n"), "m1",
         AA_EXEC_FAITHFUL, NULL);
    float worst = 0;
    for (int i = 0; i < 2001; i++) b.in[0][i] = (float)(i - 1000) / 64;
    run();
    for (int i = 0; i < 2001; i++)
        worst = fmaxf(worst, fabsf(b.out[0][i] - 1 / (1 + expf(-b.in[0][i]))));
    assert_true(worst > 0.002 && worst < 0.0045);
    assert_true(b.out[0][0] > 0 && b.out[0][0] == b.out[0][1]);
}

/* ---- everything else, one result each -------------------------------------------------------- */

#define A6 "tensor<fp16, [2, 3]> a"      /* 0 1 2 / 3 4 5 */
static const struct { const char *body; int n; float want[12]; } cases[] = {
#define Z(shape, op) "tensor<fp16, " shape "> z = " op ";\n"
    {Z("[3, 2]", "reshape(x = a, shape = tensor<int32, [2]>([3, -1]))"), 6, {0, 1, 2, 3, 4, 5}},
    {Z("[3, 2]", "transpose(x = a, perm = tensor<int32, [2]>([1, 0]))"), 6, {0, 3, 1, 4, 2, 5}},
    {Z("[2, 2]", "slice_by_size(x = a, begin = tensor<int32, [2]>([0, 1]), size = tensor<int32, "
       "[2]>([2, -1]))"), 4, {1, 2, 4, 5}},
    {Z("[2]", "slice_by_index(x = a, begin = tensor<int32, [2]>([-1, 0]), end = tensor<int32, [2]>"
       "([0, 3]), stride = tensor<int32, [2]>([1, 2]), squeeze_mask = tensor<bool, [2]>([true, "
       "false]))"), 2, {3, 5}},
    {Z("[2, 6]", "concat(values = (a, a), axis = int32(1), interleave = bool(false))"), 12,
     {0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5}},
    {Z("[2, 6]", "concat(values = (a, a), axis = int32(-1), interleave = bool(true))"), 12,
     {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5}},
    {Z("[2, 2, 3]", "stack(values = (a, a), axis = int32(1))"), 12,
     {0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5}},
    {"tensor<fp16, [2, 1]> p, tensor<fp16, [2, 2]> z = split(x = a, axis = int32(1), split_sizes = "
     "tensor<int32, [2]>([1, 2]));\n", 4, {1, 2, 4, 5}},
    {Z("[2, 6]", "tile(x = a, reps = tensor<int32, [2]>([1, 2]))"), 12,
     {0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5}},
    {Z("[3, 4]", "pad(x = a, pad = tensor<int32, [4]>([1, 0, 0, 1]), constant_val = fp16(0x1p3))"),
     12, {8, 8, 8, 8, 0, 1, 2, 8, 3, 4, 5, 8}},
    {Z("[2, 2]", "gather(x = a, indices = tensor<int32, [2]>([2, 0]), axis = int32(1))"), 4,
     {2, 0, 5, 3}},
    {Z("[2]", "reduce_sum(x = a, axes = tensor<int32, [1]>([1]))"), 2, {3, 12}},
    {Z("[1, 3]", "reduce_max(x = a, axes = tensor<int32, [1]>([0]), keep_dims = bool(true))"), 3,
     {3, 4, 5}},
    {Z("[2]", "reduce_mean(x = a, axes = tensor<int32, [1]>([-1]))"), 2, {1, 4}},
    {Z("[]", "reduce_min(x = a)"), 1, {0}},
    {Z("[2]", "reduce_sum_square(x = a, axes = tensor<int32, [1]>([1]))"), 2, {5, 50}},
    {"tensor<int32, [2]> i = reduce_argmax(x = a, axis = int32(1));\n"
     Z("[2]", "cast(x = i, dtype = string(\"fp16\"))"), 2, {2, 2}},
    {"tensor<bool, [2, 3]> m = greater(x = a, y = fp16(0x1p1));\n"
     Z("[2, 3]", "select(cond = m, a = a, b = fp16(-0x1p0))"), 6, {-1, -1, -1, 3, 4, 5}},
    {Z("[2, 3]", "sub(x = a, y = tensor<fp16, [2, 1]>([[1], [2]]))"), 6, {-1, 0, 1, 1, 2, 3}},
    {Z("[2, 3]", "mul(x = tensor<fp16, [3]>([1, 2, 4]), y = a)"), 6, {0, 2, 8, 3, 8, 20}},
    {Z("[2, 3]", "clip(x = a, alpha = fp16(1), beta = fp16(4))"), 6, {1, 1, 2, 3, 4, 4}},
    {Z("[2, 3]", "pow(x = a, y = fp16(2))"), 6, {0, 1, 4, 9, 16, 25}},
    {"tensor<int8, [2, 3]> q = quantize(input = a, scale = fp16(0.5), output_dtype = string("
     "\"int8\"));\n" Z("[2, 3]", "dequantize(input = q, scale = fp16(0.25))"), 6,
     {0, 0.5, 1, 1.5, 2, 2.5}},
    {"tensor<fp16, [2, 3]> w = constexpr_affine_dequantize(quantized_data = tensor<int8, [2, 3]>"
     "([[1, 2, 3], [4, 5, 6]]), zero_point = tensor<int8, [2]>([1, 4]), scale = tensor<fp16, [2]>"
     "([1, 2]), axis = int32(0));\n" Z("[2, 3]", "add(x = a, y = w)"), 6, {0, 2, 4, 3, 6, 9}},
    {"tensor<fp16, [2, 3]> w = constexpr_lut_to_dense(indices = tensor<uint4, [2, 3]>([[0, 1, 3], "
     "[3, 2, 0]]), lut = tensor<fp16, [1, 1, 4, 1]>([[[[1], [2], [4], [8]]]]));\n"
     Z("[2, 3]", "mul(x = a, y = w)"), 6, {0, 2, 16, 24, 16, 5}},
    {Z("[2, 3]", "linear(x = a, weight = tensor<fp16, [3, 3]>([[0, 1, 0], [1, 0, 0], [0, 0, 2]]), "
       "bias = tensor<fp16, [3]>([1, 1, 1]))"), 6, {2, 1, 5, 5, 4, 11}},
};

static void small_results(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        snprintf(text, sizeof text, MAIN(A6, "%s"), cases[i].body);
        for (int mode = 0; mode < 2; mode++) {
            load(text, "m4", (aa_exec_mode)mode, NULL);
            for (int k = 0; k < 6; k++) b.in[0][k] = (float)k;
            run();
            for (int k = 0; k < cases[i].n; k++)
                if (b.out[0][k] != cases[i].want[k])
                    fail_msg("%s: place %d is %g, not %g", cases[i].body, k, b.out[0][k],
                             cases[i].want[k]);
        }
    }
}

/* Attention as one operation ignores its mask, and else is what its parts come to. */
static void attention(void **state) {
    (void)state;
    static float whole[2 * 5 * 8];
    load(MAIN("tensor<fp16, [1, 2, 5, 8]> a, tensor<fp16, [5, 5]> m",
              "tensor<fp16, [1, 2, 5, 8]> z = scaled_dot_product_attention(query = a, key = a, "
              "value = a, attn_mask = m);\n"), "m4", AA_EXEC_FAST, NULL);
    fill(0, 80, 9);
    for (int i = 0; i < 25; i++) b.in[1][i] = -100;
    run();
    memcpy(whole, b.out[0], sizeof whole);
    load(MAIN("tensor<fp16, [1, 2, 5, 8]> a",
              "tensor<fp16, [1, 2, 5, 5]> s = matmul(x = a, y = a, transpose_y = bool(true));\n"
              "tensor<fp16, [1, 2, 5, 5]> t = mul(x = s, y = fp16(0.35355339));\n"
              "tensor<fp16, [1, 2, 5, 5]> p = softmax(x = t, axis = int32(3));\n"
              "tensor<fp16, [1, 2, 5, 8]> z = matmul(x = p, y = a);\n"), "m4", AA_EXEC_FAST, NULL);
    run();
    check_near_f32("attention", whole, b.out[0], 80, 4e-3, 2e-3);
}

static const void *one_file(void *ctx, const char *path, uint64_t *size) {
    const aa_text *file = ctx;
    if (strcmp(path, "w") != 0) return NULL;
    *size = file->len;
    return file->data;
}

/* Weights from a file; without the file, a clear error. */
static void weights(void **state) {
    (void)state;
    static const char text[] = MAIN("tensor<fp16, [1, 3]> a",
        "tensor<fp16, [2, 3]> w = const()[val = tensor<fp16, [2, 3]>(BLOBFILE(path = string(\"w\"),"
        " offset = uint64(64)))];\ntensor<fp16, [1, 2]> z = linear(x = a, weight = w);\n");
    const float w[6] = {1, 2, 3, 4, 5, 6};
    aa_blob_writer file = {0};
    aa_mil_program p;
    aa_exec *e;
    aa_err err = {0};
    (void)aa_blob_add_fp16(&file, w, 2, 3, false);
    check_ok(aa_blob_finish(&file, &err));
    const aa_ane_files files = {&file.bytes, one_file};
    load(text, "m4", AA_EXEC_FAST, &files);
    b.in[0][0] = 1, b.in[0][1] = 10, b.in[0][2] = 100;
    run();
    assert_true(b.out[0][0] == 321 && b.out[0][1] == 654);
    aa_blob_writer_release(&file);
    check_ok(aa_mil_parse(&p, text, strlen(text), "test", &err));
    assert_int_equal(aa_exec_new(&e, p.funcs[0], chip_of("m4"), AA_EXEC_FAST, NULL, cpu, &err),
                     AA_ENOTFOUND);
    aa_mil_release(&p);
}

/* Slots of dead values are used again, and never before. */
static void memory_is_shared(void **state) {
    (void)state;
    aa_text t = {0};
    aa_text_add(&t, "program(1.3)\n{\nfunc main<ios18>(tensor<fp16, [64, 64]> v0) {\n");
    for (int i = 1; i <= 50; i++)
        aa_text_printf(&t, "tensor<fp16, [64, 64]> v%d = add(x = v%d, y = v%d);\n", i, i - 1,
                       i > 1 ? i - 2 : 0);
    aa_text_add(&t, "} -> (v50);\n}\n");
    load(t.data, "m4", AA_EXEC_FAST, NULL);
    for (int i = 0; i < 64 * 64; i++) b.in[0][i] = 0x1p-14f;
    run();
    /* Fibonacci: 2, 3, 5, ...; exact in binary16 up to 2048 units, then rounded like this. */
    double x = 0x1p-14, y = 0x1p-13;
    for (int i = 2; i <= 50; i++) {
        uint16_t h;
        float s = (float)(x + y);
        aa_f16_from_f32(&h, &s, 1);
        aa_f32_from_f16(&s, &h, 1);
        x = y, y = s;
    }
    assert_true(b.out[0][0] == (float)y);
    assert_true(aa_exec_bytes(b.e) < 8 * 64 * 64 * sizeof(float));
    aa_text_release(&t);
}

static void refusals(void **state) {
    (void)state;
    static const struct { const char *text, *message; aa_status status; } wrong[] = {
        {MAIN("tensor<bf16, [2]> a", "tensor<fp16, [2]> z = cast(x = a, dtype = string(\"fp16\"));"
              "\n"), "no type of ports", AA_EUNSUPPORTED},
        {MAIN("tensor<fp16, [2]> a", "tensor<fp16, [2]> z = cumsum(x = a, axis = int32(0));\n"),
         "line 4: 'cumsum' cannot be run", AA_EUNSUPPORTED},
        {MAIN("tensor<fp16, [1000000, 1000000]> a",
              "tensor<fp16, [1000000, 1000000]> z = relu(x = a);\n"), "the values of a program",
         AA_ETOOBIG},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        aa_mil_program p;
        aa_exec *e;
        aa_err err = {0};
        check_ok(aa_mil_parse(&p, wrong[i].text, strlen(wrong[i].text), "test", &err));
        assert_int_equal(aa_exec_new(&e, p.funcs[0], chip_of("m4"), AA_EXEC_FAST, NULL, cpu, &err),
                         wrong[i].status);
        if (!strstr(err.message, wrong[i].message)) fail_msg("'%s'", err.message);
        aa_mil_release(&p);
    }
}

static int open_cpu(void **state) {
    aa_err err = {0};
    (void)state;
    return aa_cpu_new(&cpu, 2, AA_ISA_AUTO, &err) != AA_OK;
}

static int close_cpu(void **state) {
    (void)state;
    close_bench();
    aa_cpu_free(cpu);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmuls), cmocka_unit_test(convolutions),
        cmocka_unit_test(sums_of_products), cmocka_unit_test(ceiling), cmocka_unit_test(specials),
        cmocka_unit_test(faithful_quirks), cmocka_unit_test(small_results),
        cmocka_unit_test(attention), cmocka_unit_test(weights), cmocka_unit_test(memory_is_shared),
        cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
