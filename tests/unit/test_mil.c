/* ane/mil, ane/blob: programs built, printed, parsed and refused; weight files. */
#include "ane/blob.h"
#include "ane/mil.h"
#include "support/check.h"

static void parse(aa_mil_program *p, const char *text) {
    aa_err err = {0};
    check_ok(aa_mil_parse(p, text, strlen(text), "test.mil", &err));
}

static void refused(const char *text, const char *message) {
    aa_mil_program p;
    aa_err err = {0};

    if (!aa_mil_parse(&p, text, strlen(text), "test.mil", &err)) fail_msg("accepted: %s", text);
    if (!strstr(err.message, message)) fail_msg("'%s' is not in '%s'", message, err.message);
}

static aa_text print(const aa_mil_program *p) {
    aa_text t = {0};
    aa_err err = {0};
    aa_mil_print(p, &t);
    check_ok(aa_text_status(&t, &err));
    return t;
}

/* ---- a program by hand ----------------------------------------------------------------------- */

static const char golden[] =
    "program(1.3)\n"
    "{\n"
    "    func main<ios18>(tensor<fp16, [1, 64, 1, 32]> x, tensor<fp16, [1, 1, 64, 64]> w) {\n"
    "        tensor<int32, [4]> t_perm = const()[name = string(\"t_perm\"), val = tensor<int32, "
    "[4]>([0, 2, 3, 1])];\n"
    "        tensor<fp16, [1, 1, 32, 64]> t = transpose(x = x, perm = t_perm)[name = string("
    "\"t\")];\n"
    "        bool y_transpose_y = const()[name = string(\"y_transpose_y\"), val = bool(true)];\n"
    "        tensor<fp16, [1, 1, 32, 64]> y = matmul(x = t, y = w, transpose_y = y_transpose_y)"
    "[name = string(\"y\")];\n"
    "        fp16 scale = const()[name = string(\"scale\"), val = fp16(0x1p-3)];\n"
    "        tensor<fp16, [1, 1, 32, 64]> out = mul(x = y, y = scale)[name = string(\"out\")];\n"
    "    } -> (out);\n"
    "}\n";

static void build_golden(aa_mil_program *p, aa_mil_dialect dialect) {
    aa_err err = {0};
    aa_mil_init(p, dialect);
    aa_mil_func *f = aa_mil_function(p, "main", dialect == AA_MIL_1_3 ? "ios18" : "ios16");
    int x = aa_mil_input(f, "x", AA_MIL_TENSOR(FP16, 1, 64, 1, 32));
    int w = aa_mil_input(f, "w", AA_MIL_TENSOR(FP16, 1, 1, 64, 64));
    aa_mil_begin(f, "transpose");
    aa_mil_use(f, "x", x);
    aa_mil_use_ints(f, "perm", 4, (int64_t[]){0, 2, 3, 1});
    int t = aa_mil_end(f, "t");
    aa_mil_begin(f, "matmul");
    aa_mil_use(f, "x", t), aa_mil_use(f, "y", w);
    aa_mil_use_number(f, "transpose_y", AA_MIL_BOOL, 1);
    int y = aa_mil_end(f, "y"), scale = aa_mil_const_number(f, "scale", AA_MIL_FP16, 0.125);
    aa_mil_begin(f, "mul");
    aa_mil_use(f, "x", y), aa_mil_use(f, "y", scale);
    aa_mil_output(f, aa_mil_end(f, "out"));
    check_ok(aa_mil_finish(p, &err));
}

static void one_text(void **state) {
    (void)state;
    aa_mil_program p, q;
    build_golden(&p, AA_MIL_1_3);
    aa_text t = print(&p);
    assert_string_equal(t.data, golden);
    parse(&q, golden);
    aa_text again = print(&q);
    assert_string_equal(again.data, golden);
    aa_text_release(&t), aa_text_release(&again);
    aa_mil_release(&p), aa_mil_release(&q);
}

static void old_dialect(void **state) {
    (void)state;
    aa_mil_program p, q;
    build_golden(&p, AA_MIL_1_0);
    aa_text t = print(&p);
    assert_non_null(strstr(t.data, "program(1.0)"));
    assert_non_null(strstr(t.data, "tensor<fp16, []> scale = const()[name = tensor<string, []>("
                                   "\"scale\"), val = tensor<fp16, []>(0x1p-3)];"));
    parse(&q, t.data);
    aa_text again = print(&q);
    assert_string_equal(again.data, t.data);
    assert_true(q.funcs[0]->vars[aa_mil_arg_var(&q.funcs[0]->ops[5], "y")].type.scalar);
    aa_text_release(&t), aa_text_release(&again);
    aa_mil_release(&p), aa_mil_release(&q);
}

/* What other programs write: build information, literals in place, no names, comments, buffers. */
static void foreign_text(void **state) {
    (void)state;
    aa_mil_program p;
    parse(&p,
          "program(1.3)\n[buildInfo = dict<string, string>({{\"coremlc-version\", \"3505.4.1\"}, "
          "{\"a \\\"b\\\"\", \"\"}})]\n{\n // a remark\n"
          "  func main<ios18>(tensor_buffer<fp16, shape=[1, 1, 4, 48], strides=[256, 256, 64, 1], "
          "interleave_factors=[1, 1, 1, 1]> x) {\n"
          "    tensor<fp16, [1,1,4,48]> t = tensor_buffer_to_tensor<ios17>(input = x);\n"
          "    tensor<fp16, [1,1,4,24]> a, tensor<fp16, [1,1,4,24]> b = split(axis = int32(-1), "
          "num_splits = int32(2), x = t);\n"
          "    tensor<fp16, [1,1,4,48]> c = concat(axis = int32(3), interleave = bool(false), "
          "values = (b, a));\n"
          "    tensor<fp16, [48,48]> w = const()[val = tensor<fp16, [48,48]>(BLOBFILE(path = "
          "string(\"@model_path/weights.bin\"), offset = uint64(64)))];\n"
          "    tensor<fp16, [1,1,4,48]> y = linear(weight = w, x = c);\n"
          "  } -> (y);\n"
          "  func two<ios18>(tensor<int8, [1,1,2,64]> x) {\n"
          "    tensor<fp16, [1,1,2,64]> y = dequantize(input = x, scale = fp16(0x1p-4));\n"
          "  } -> (y);\n}\n");
    assert_int_equal(p.n_funcs, 2);
    assert_int_equal(p.n_info, 4);
    assert_string_equal(p.info[2], "a \"b\"");
    aa_mil_func *f = p.funcs[0];
    assert_int_equal(aa_mil_port_bytes(&f->vars[0].type), 512);
    assert_int_equal(aa_mil_port_bytes(&f->vars[f->outputs[0]].type), 4 * 128);
    assert_int_equal(f->ops[1].n_results, 2);
    assert_int_equal(f->ops[1].line, 7);
    const aa_mil_literal *w = f->vars[aa_mil_arg_var(&f->ops[4], "weight")].constant;
    assert_true(w->kind == AA_MIL_BLOB && w->offset == 64);
    aa_mil_program q;
    aa_text t = print(&p);
    parse(&q, t.data);
    aa_text again = print(&q);
    assert_string_equal(t.data, again.data);
    aa_text_release(&t), aa_text_release(&again);
    aa_mil_release(&p), aa_mil_release(&q);
}

/* ---- what is refused ------------------------------------------------------------------------- */

#define MAIN(inputs, body) \
    "program(1.3)\n{\nfunc main<ios18>(" inputs ") {\n" body "} -> (y);\n}\n"
#define X "tensor<fp16, [1, 2, 3]> x"

static void texts_that_are_refused(void **state) {
    (void)state;
    static const struct { const char *text, *message; } cases[] = {
        {"", "test.mil:1: a name should be here"},
        {"program(1.2)\n{}", "version 1.2"},
        {"program(1.3)\n{}", "no function"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = relu(x = x);") "more", "text follows"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = relu(x = z);\n"), "test.mil:4: 'z' is not defined"},
        {MAIN(X, "tensor<fp16, [1, 2, 4]> y = relu(x = x);\n"), "declared tensor<fp16, [1, 2, 4]>"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> x = relu(x = x);\n"), "'x' is defined twice"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = relux(x = x);\n"), "no operation 'relux'"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = relu(x = x, y = x);\n"), "no argument 'y'"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = relu(x = x, x = x);\n"), "'x' twice"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = add(x = x);\n"), "needs the argument 'y'"},
        {MAIN(X, "tensor<fp16, [1, 3, 2]> y = reshape(x = x, shape = tensor<int32, [2]>([1, 5]))"
                 ";\n"), "'reshape' of 6 elements to a shape of 5"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = softmax(x = x, axis = int32(3));\n"), "axis 3"},
        {MAIN(X, "tensor<fp16, [1, 2, 2]> y = matmul(x = x, y = x);\n"), "sums over 3 places"},
        {MAIN("tensor<fp16, [1, ?]> x", ""), "shapes must be static (C37)"},
        {MAIN("tensor<fp16, [1, 1, 1, 1, 1, 1]> x", ""), "more than 5 axes"},
        {MAIN("tensor<fp16, [1073741824, 1073741824]> x", ""), "2^40"},
        {MAIN("tensor<fp16, [0]> x", ""), "whole, 1 to"},
        {MAIN("tensor<fp17, [1]> x", ""), "'fp17' is no type"},
        {MAIN(X, "fp16 c = const()[val = fp16(1e999)];\n"), "is no number"},
        {MAIN(X, "tensor<fp16, [999999]> c = const()[val = tensor<fp16, [999999]>([1])];\n"),
         "do not fit into what is left"},
        {MAIN(X, "int32 c = const()[val = int32(0x1p70)];\n"), "whole, -9007199254740992 to"},
        {MAIN(X, "tensor<fp16, [1, 2, 3]> y = softmax(x = x, axis = fp16(1));\n"), "scalar, whole"},
        {MAIN("tensor<fp16, [1048576, 1048576, 1]> x, tensor<fp16, [1048576]> w",
              "tensor<fp16, [1]> y = add(x = x, y = w);\n"), "2^40"},
        {MAIN(X, "string c = const()[val = string(\"abc"), "does not end"},
        {MAIN(X, "tensor<fp16, [4]> c = const()[val = tensor<fp16, [4]>(BLOBFILE(path = "
                 "string(\"p\")))];\n"), "needs path and offset"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i].text, cases[i].message);
}

/* A mistake of a builder comes out at the end, and names the operation. */
static void builders_mistakes(void **state) {
    (void)state;
    aa_mil_program p;
    aa_err err = {0};
    aa_mil_init(&p, AA_MIL_1_3);
    aa_mil_func *f = aa_mil_function(&p, "main", "ios18");
    int x = aa_mil_input(f, "x", AA_MIL_TENSOR(FP16, 1, 2, 3));
    aa_mil_begin(f, "matmul");
    aa_mil_use(f, "x", x), aa_mil_use(f, "y", x);
    int y = aa_mil_end(f, "product");
    assert_int_equal(y, -1);
    aa_mil_begin(f, "relu");
    aa_mil_use(f, "x", y);
    aa_mil_output(f, aa_mil_end(f, "z"));
    assert_int_equal(aa_mil_finish(&p, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "'product' of 'main': 'matmul' sums over 3"));
    aa_mil_release(&p);
}

/* ---- a thousand random programs -------------------------------------------------------------- */

static uint64_t seed;
static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* One operation on v, which has rank 4; what it gives has rank 4 again. */
static int random_op(aa_mil_func *f, int v, int other) {
    static const char *const unary[] = {"relu", "sigmoid", "tanh", "silu", "exp", "abs", "square"};
    static const char *const reduce[] = {"reduce_sum", "reduce_max", "reduce_mean"};
    const int64_t *d = f->vars[v].type.dim;
    int64_t shape[4] = {d[0], d[1], d[2], d[3]};
    switch (below(12)) {
    case 0:
        aa_mil_begin(f, unary[below(7)]);
        aa_mil_use(f, "x", v);
        break;
    case 1:
        aa_mil_begin(f, below(2) ? "add" : "mul");
        aa_mil_use(f, "x", v);
        aa_mil_use(f, "y", aa_mil_type_equal(&f->vars[v].type, &f->vars[other].type) ? other : v);
        break;
    case 2:
        aa_mil_begin(f, "mul");
        aa_mil_use(f, "x", v);
        aa_mil_use_number(f, "y", AA_MIL_FP16, (double)below(4096) / 64 - 32);
        break;
    case 3:
        aa_mil_begin(f, "transpose");
        aa_mil_use(f, "x", v);
        aa_mil_use_ints(f, "perm", 4, below(2) ? (int64_t[]){0, 1, 3, 2} : (int64_t[]){0, 3, 1, 2});
        break;
    case 4:
        aa_mil_begin(f, "reshape");
        aa_mil_use(f, "x", v);
        aa_mil_use_ints(f, "shape", 4, (int64_t[]){1, d[1] * d[0], -1, d[2]});
        break;
    case 5:
        aa_mil_begin(f, reduce[below(3)]);
        aa_mil_use(f, "x", v);
        aa_mil_use_ints(f, "axes", 1, (int64_t[]){(int64_t)below(4)});
        aa_mil_use_number(f, "keep_dims", AA_MIL_BOOL, 1);
        break;
    case 6:
        aa_mil_begin(f, "softmax");
        aa_mil_use(f, "x", v);
        aa_mil_use_number(f, "axis", AA_MIL_INT32, -1);
        break;
    case 7:
        shape[3] = 1 + below((unsigned)d[3]);
        aa_mil_begin(f, "slice_by_size");
        aa_mil_use(f, "x", v);
        aa_mil_use_ints(f, "begin", 4, (int64_t[]){0, 0, 0, d[3] - shape[3]});
        aa_mil_use_ints(f, "size", 4, shape);
        break;
    case 8:
        aa_mil_begin(f, "concat");
        aa_mil_use_tuple(f, "values", 2, (int[]){v, v});
        aa_mil_use_number(f, "axis", AA_MIL_INT32, below(2) ? 1 : 3);
        aa_mil_use_number(f, "interleave", AA_MIL_BOOL, 0);
        break;
    case 9:
        if (d[1] % 2) return v;
        aa_mil_begin(f, "split");
        aa_mil_use(f, "x", v);
        aa_mil_use_number(f, "axis", AA_MIL_INT32, 1);
        aa_mil_use_number(f, "num_splits", AA_MIL_INT32, 2);
        break;
    case 10:
        aa_mil_begin(f, "matmul");
        aa_mil_use(f, "x", v), aa_mil_use(f, "y", v);
        aa_mil_use_number(f, below(2) ? "transpose_x" : "transpose_y", AA_MIL_BOOL, 1);
        break;
    default: {
        int64_t out = 1 + below(64);
        int w = aa_mil_const_blob(f, "weight", AA_MIL_TENSOR(FP16, out, d[1], 1, 1),
                                  "@model_path/w.bin", 64 * (1 + (uint64_t)below(99)));
        aa_mil_begin(f, "conv");
        aa_mil_use(f, "x", v), aa_mil_use(f, "weight", w);
        aa_mil_use_text(f, "pad_type", "valid");
        aa_mil_use_ints(f, "strides", 2, (int64_t[]){1, 1});
    }
    }
    int y = aa_mil_end(f, "v");
    const int64_t most = 1 << 24;
    return y >= 0 && aa_mil_elements(&f->vars[y].type) > most ? v : y;
}

static void random_programs(void **state) {
    (void)state;
    enum { PROGRAMS = 1000 };
    size_t ops = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        aa_mil_program p, q;
        aa_err err = {0};
        seed = (uint64_t)i;
        aa_mil_init(&p, below(2) ? AA_MIL_1_3 : AA_MIL_1_0);
        for (unsigned k = 0, n = 1 + below(3); k < n; k++) {
            aa_mil_func *f = aa_mil_function(&p, (const char *[]){"main", "two", "three"}[k],
                                             "ios18");
            int v = aa_mil_input(f, "x", AA_MIL_TENSOR(FP16, 1, 1 + below(32), 1, 1 + below(64)));
            int w = aa_mil_input(f, "w", AA_MIL_TENSOR(FP16, 1, 1 + below(32), 1, 1 + below(64)));
            for (unsigned j = 0, m = 1 + below(20); j < m; j++) {
                int y = random_op(f, v, w);
                w = below(2) ? v : w;
                v = y;
            }
            aa_mil_output(f, v);
            ops += (size_t)f->n_ops;
        }
        check_ok(aa_mil_finish(&p, &err));
        aa_text t = print(&p);
        parse(&q, t.data);
        aa_text again = print(&q);
        assert_string_equal(t.data, again.data);
        aa_text_release(&t), aa_text_release(&again);
        aa_mil_release(&p), aa_mil_release(&q);
    }
    assert_true(ops > 10 * PROGRAMS);
}

static void liveness(void **state) {
    (void)state;
    aa_mil_program p;
    parse(&p, MAIN("tensor<fp16, [1, 64]> x",
                   "tensor<fp16, [1, 64]> a = relu(x = x);\n"
                   "tensor<fp16, [1, 64]> b = mul(x = a, y = a);\n"
                   "tensor<fp16, [1, 64]> c = add(x = a, y = b);\n"
                   "tensor<fp16, [1, 64]> d = relu(x = c);\n"
                   "tensor<fp16, [1, 64]> y = relu(x = d);\n"));
    int last[6];
    /* a, b and c at once: 3 * 128 bytes; y is an output, x an input. */
    assert_int_equal(aa_mil_liveness(p.funcs[0], last), 384);
    assert_int_equal(last[0], 0);
    assert_int_equal(last[1], 2);
    assert_int_equal(last[5], 5);
    aa_mil_release(&p);
}

/* ---- weight files ---------------------------------------------------------------------------- */

static void blobs(void **state) {
    (void)state;
    const float x[6] = {1, 2, 3, -4, 0.5f, 65504};
    const int8_t small[3] = {-1, 0, 127};
    aa_blob_writer w = {0};
    aa_blob_entry e;
    aa_err err = {0};
    assert_int_equal(aa_blob_add_fp16(&w, x, 2, 3, false), 64);
    uint64_t second = aa_blob_add_fp16(&w, x, 2, 3, true);
    uint64_t third = aa_blob_add(&w, AA_MIL_INT8, small, sizeof small);
    assert_int_equal(second, 192);
    check_ok(aa_blob_finish(&w, &err));
    /* Byte by byte: the header, the first record. */
    static const unsigned char head[] = {3, 0, 0, 0, 2, 0, 0, 0};
    static const unsigned char first[] = {0xEF, 0xBE, 0xAD, 0xDE, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0,
                                          0,    128,  0,    0,    0, 0, 0, 0, 0};
    assert_memory_equal(w.bytes.data, head, sizeof head);
    assert_memory_equal(w.bytes.data + 64, first, sizeof first);
    static const uint16_t rows[] = {0x3C00, 0x4000, 0x4200, 0xC400, 0x3800, 0x7BFF};
    static const uint16_t columns[] = {0x3C00, 0xC400, 0x4000, 0x3800, 0x4200, 0x7BFF};
    check_ok(aa_blob_read(&e, w.bytes.data, w.bytes.len, 64, "w", &err));
    assert_memory_equal(e.data, rows, sizeof rows);
    check_ok(aa_blob_read(&e, w.bytes.data, w.bytes.len, second, "w", &err));
    assert_memory_equal(e.data, columns, sizeof columns);
    aa_mil_type t = AA_MIL_TENSOR(INT8, 3);
    check_ok(aa_blob_tensor(&e, w.bytes.data, w.bytes.len, third, &t, "w", &err));
    assert_memory_equal(e.data, small, sizeof small);
    t = AA_MIL_TENSOR(INT8, 4);
    assert_int_equal(aa_blob_tensor(&e, w.bytes.data, w.bytes.len, third, &t, "w", &err),
                     AA_EFORMAT);
    err = (aa_err){0};
    assert_int_equal(aa_blob_read(&e, w.bytes.data, w.bytes.len, 128, "w", &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "(C14)"));
    aa_blob_writer_release(&w);
}

/* The blob that popular benchmarks carry: a size in the wrong place, and the data at 0 (ane.md U3).
 */
static void malformed_blob(void **state) {
    (void)state;
    unsigned char file[256] = {1, 0, 0, 0, 2};
    memcpy(file + 64, "\xEF\xBE\xAD\xDE\x01", 5);
    file[64 + 10] = 8;
    aa_blob_entry e;
    aa_err err = {0};
    assert_int_equal(aa_blob_read(&e, file, sizeof file, 64, "w", &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "524288 bytes at 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_text), cmocka_unit_test(old_dialect), cmocka_unit_test(foreign_text),
        cmocka_unit_test(texts_that_are_refused), cmocka_unit_test(builders_mistakes),
        cmocka_unit_test(random_programs), cmocka_unit_test(liveness), cmocka_unit_test(blobs),
        cmocka_unit_test(malformed_blob)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
