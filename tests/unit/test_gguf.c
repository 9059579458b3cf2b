/* formats/gguf: files made by hand, good, damaged and hostile; models in several files. */
#include <stdlib.h>
#include "base/memory.h"
#include "formats/gguf.h"
#include "support/check.h"

static char *path_of(const char *name) {
    char *path = aa_path_join(check_temp_dir(), name);

    assert_non_null(path);
    return path;
}

/* Written plainly: aa_file_write syncs the disk, which hundreds of files would wait for. */
static void put_file(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put(aa_text *t, uint64_t v, size_t size) {
    for (size_t i = 0; i < size; i++) aa_text_add_bytes(t, &(char){(char)(v >> 8 * i)}, 1);
}

static void put_name(aa_text *t, const char *s) {
    put(t, strlen(s), 8);
    aa_text_add(t, s);
}

/* A file with a key of each kind and two tensors: "matrix" Q8_0 [2,32], "vector" F32 [3]. */
static aa_text make_good(uint32_t version) {
    static const struct { const char *name; uint32_t kind; uint64_t bits; size_t size; } keys[] = {
        {"k.u8", 0, 250, 1},          {"k.i8", 1, 250, 1},          {"k.u16", 2, 65000, 2},
        {"k.i16", 3, 65000, 2},       {"k.u32", 4, 4000000000u, 4}, {"k.i32", 5, 4000000000u, 4},
        {"k.f32", 6, 0x3fc00000, 4},  {"k.bool", 7, 1, 1},          {"k.u64", 10, UINT64_MAX, 8},
        {"k.i64", 11, UINT64_MAX, 8}, {"k.f64", 12, 0x3ff8000000000000, 8},
        {"general.alignment", 4, 64, 4},
    };
    enum { N = sizeof keys / sizeof *keys };
    aa_text t = {0};

    aa_text_add(&t, "GGUF");
    put(&t, version, 4), put(&t, 2, 8), put(&t, N + 4, 8);
    for (size_t i = 0; i < N; i++) {
        put_name(&t, keys[i].name);
        put(&t, keys[i].kind, 4), put(&t, keys[i].bits, keys[i].size);
    }
    put_name(&t, "k.string"), put(&t, 8, 4), put_name(&t, "hello");
    put_name(&t, "k.list"), put(&t, 9, 4), put(&t, 5, 4), put(&t, 3, 8);
    put(&t, 7, 4), put(&t, (uint64_t)-8, 4), put(&t, 9, 4);
    put_name(&t, "k.words"), put(&t, 9, 4), put(&t, 8, 4), put(&t, 2, 8);
    put_name(&t, "one"), put_name(&t, "");
    put_name(&t, "k.none"), put(&t, 9, 4), put(&t, 8, 4), put(&t, 0, 8);
    put_name(&t, "matrix"), put(&t, 2, 4), put(&t, 32, 8), put(&t, 2, 8), put(&t, 8, 4);
    put(&t, 0, 8);
    put_name(&t, "vector"), put(&t, 1, 4), put(&t, 3, 8), put(&t, 0, 4), put(&t, 128, 8);
    while (t.len % 64) aa_text_add_bytes(&t, "", 1);
    for (int i = 0; i < 128 + 12; i++) aa_text_add_bytes(&t, &(char){(char)i}, 1);
    assert_false(t.failed);
    return t;
}

static aa_status open_bytes(aa_gguf *g, const void *p, size_t n, aa_err *err) {
    char *path = path_of("model.gguf");

    put_file(path, p, n);
    aa_status st = aa_gguf_open(g, path, err);
    aa_heap_free(path);
    return st;
}

static int64_t whole(const aa_gguf *g, const char *name) {
    int64_t v = 0;

    assert_true(aa_gguf_int(aa_gguf_find_key(g, name), 0, &v));
    return v;
}

static double real(const aa_gguf *g, const char *name) {
    double v = 0;

    assert_true(aa_gguf_real(aa_gguf_find_key(g, name), 0, &v));
    return v;
}

static void check_words(const aa_gguf *g) {
    const aa_gguf_key *k = aa_gguf_find_key(g, "k.words");
    const unsigned char *at = k->data;

    assert_true(k->array && k->kind == AA_GGUF_STRING && k->n == 2);
    aa_gguf_name one = aa_gguf_string(&at), two = aa_gguf_string(&at);
    assert_true(one.n == 3 && memcmp(one.s, "one", 3) == 0 && two.n == 0);
    assert_ptr_equal(at, k->data + k->size_bytes);
}

static void test_good(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        aa_text t = make_good(version);
        aa_gguf g;
        aa_err err = {0};
        int64_t v = 0;
        double d = 0;
        bool b = false;

        check_ok(open_bytes(&g, t.data, t.len, &err));
        assert_int_equal(g.n_keys, 16);
        assert_true(whole(&g, "k.u8") == 250 && whole(&g, "k.i8") == -6);
        assert_true(whole(&g, "k.u16") == 65000 && whole(&g, "k.i16") == -536);
        assert_true(whole(&g, "k.u32") == 4000000000 && whole(&g, "k.i32") == -294967296);
        assert_true(whole(&g, "k.i64") == -1 && real(&g, "k.i16") == -536);
        assert_true(real(&g, "k.f32") == 1.5 && real(&g, "k.f64") == 1.5);
        assert_false(aa_gguf_int(aa_gguf_find_key(&g, "k.u64"), 0, &v));
        assert_false(aa_gguf_int(aa_gguf_find_key(&g, "k.f32"), 0, &v));
        assert_false(aa_gguf_int(aa_gguf_find_key(&g, "k.bool"), 0, &v));
        assert_false(aa_gguf_real(aa_gguf_find_key(&g, "k.string"), 0, &d));
        assert_true(aa_gguf_bool(aa_gguf_find_key(&g, "k.bool"), 0, &b) && b);
        assert_false(aa_gguf_bool(aa_gguf_find_key(&g, "k.u8"), 0, &b));
        assert_true(aa_gguf_int(aa_gguf_find_key(&g, "k.list"), 1, &v) && v == -8);
        assert_false(aa_gguf_int(aa_gguf_find_key(&g, "k.list"), 3, &v));
        check_words(&g);
        assert_null(aa_gguf_find_key(&g, "k.wor"));
        assert_null(aa_gguf_find_tensor(&g, "matri"));
        const aa_gguf_tensor *m = aa_gguf_find_tensor(&g, "matrix");
        const aa_gguf_tensor *x = aa_gguf_find_tensor(&g, "vector");
        assert_true(m->n_dims == 2 && m->dims[0] == 32 && m->dims[1] == 2 && m->size_bytes == 68);
        assert_true(m->data[67] == 67 && x->size_bytes == 12 && x->data[0] == 128);
        aa_gguf_close(&g);
        aa_text_release(&t);
    }
}

/* What is wrong: `size` bytes behind the first occurrence of `after`, or at a place of the file. */
typedef struct damage {
    const char *what, *after; int at; uint64_t value; size_t size; const char *message;
} damage;

static const damage damages[] = {
    {"magic", NULL, 0, 'X', 1, "no GGUF file"},
    {"version 1", NULL, 4, 1, 4, "version 1"},
    {"version 4", NULL, 4, 4, 4, "version 4"},
    {"big-endian", NULL, 4, 3 << 24, 4, "big-endian"},
    {"no tensors", NULL, 8, 0, 8, "bytes follow"},
    {"many tensors", NULL, 8, 1000, 8, "1000 tensors"},
    {"more tensors than numbers", NULL, 8, UINT64_MAX, 8, "tensors"},
    {"many keys", NULL, 16, 1000, 8, "1000 keys"},
    {"more keys than numbers", NULL, 16, UINT64_MAX, 8, "keys"},
    {"empty name", NULL, 24, 0, 8, "0 bytes"},
    {"long name", NULL, 24, 70000, 8, "cut short"},
    {"endless name", NULL, 24, UINT64_MAX, 8, "cut short"},
    {"escape sequence", "k.u", -1, 27, 1, "control character"},
    {"same name", "k.", 0, 'i', 1, "'k.i8' twice"},
    {"kind 13", "k.u8", 0, 13, 4, "'k.u8' is of kind 13"},
    {"huge kind", "k.u8", 0, UINT32_MAX, 4, "'k.u8' is of kind"},
    {"array of arrays", "k.list", 4, 9, 4, "array of arrays"},
    {"array of nothing known", "k.list", 4, 77, 4, "kind 77"},
    {"long array", "k.list", 8, 100000, 8, "'k.list'"},
    {"endless array", "k.list", 8, UINT64_MAX / 4 + 2, 8, "'k.list'"},
    {"endless strings", "k.words", 8, UINT64_MAX / 8, 8, "'k.words'"},
    {"many strings", "k.words", 8, 50, 8, ""},
    {"long string", "k.string", 4, 100000, 8, "cut short"},
    {"endless string", "k.string", 4, UINT64_MAX - 7, 8, "cut short"},
    {"bool 2", "k.bool", 4, 2, 1, "'k.bool'"},
    {"alignment 0", "general.alignment", 4, 0, 4, "general.alignment"},
    {"alignment 12", "general.alignment", 4, 12, 4, "multiple of 8"},
    {"huge alignment", "general.alignment", 4, 1u << 31, 4, "general.alignment"},
    {"alignment of floats", "general.alignment", 0, 6, 4, "general.alignment"},
    {"other alignment", "general.alignment", 4, 32, 4, ""},
    {"no dimensions", "matrix", 0, 0, 4, "'matrix': it must have 1 to 4"},
    {"five dimensions", "matrix", 0, 5, 4, "1 to 4"},
    {"endless dimensions", "matrix", 0, UINT32_MAX, 4, "1 to 4"},
    {"empty rows", "matrix", 4, 0, 8, "'matrix'"},
    {"odd rows", "matrix", 4, 33, 8, "multiple of 32"},
    {"many rows", "matrix", 12, 20, 8, "'vector' begins at byte 128"},
    {"overflowing rows", "matrix", 12, (uint64_t)1 << 60, 8, "too large"},
    {"too large for a file", "matrix", 12, (uint64_t)1 << 57, 8, "too large"},
    {"removed type", "matrix", 20, 4, 4, "type 4, which is unknown"},
    {"unknown type", "matrix", 20, 999, 4, "type 999"},
    {"type without room", "matrix", 20, 0, 4, "'vector' begins"},
    {"offset into nothing", "matrix", 24, 64, 8, "'matrix' begins at byte 64"},
    {"overlap", "vector", 16, 64, 8, "'vector' begins at byte 64"},
    {"hole", "vector", 16, 192, 8, "'vector' begins at byte 192"},
    {"odd offset", "vector", 16, 129, 8, "'vector' begins"},
    {"long vector", "vector", 4, 4000, 8, "ends inside tensor 'vector'"},
    {"same tensor", "vecto", 0, 'r', 1, NULL},           /* harmless: it is the same name */
};

static char *find_bytes(aa_text *t, const char *s) {
    for (size_t i = 0; i + strlen(s) <= t->len; i++)
        if (memcmp(t->data + i, s, strlen(s)) == 0) return t->data + i;
    fail_msg("no '%s'", s);
    return NULL;
}

static void test_damaged(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const damage *d = &damages[i];
        aa_text t = make_good(3);
        char *at = d->after ? find_bytes(&t, d->after) + strlen(d->after) : t.data;
        aa_gguf g;
        aa_err err = {0};

        for (size_t j = 0; j < d->size; j++) at[d->at + (int)j] = (char)(d->value >> 8 * j);
        aa_status st = open_bytes(&g, t.data, t.len, &err);
        if (!d->message) {
            check_ok(st);
            aa_gguf_close(&g);
        } else if (st != AA_EFORMAT && st != AA_EUNSUPPORTED)
            fail_msg("%s: status %d (%s)", d->what, st, err.message);
        else if (!strstr(err.message, d->message) || !strstr(err.message, "model.gguf"))
            fail_msg("%s: '%s' lacks '%s'", d->what, err.message, d->message);
        aa_text_release(&t);
    }
}

/* Cut at every length: never accepted, and never read beyond the cut (sanitizers watch). */
static void test_truncated(void **state) {
    (void)state;
    aa_text t = make_good(3);

    for (size_t n = 0; n < t.len; n++) {
        aa_gguf g;
        aa_err err = {0};

        if (!open_bytes(&g, t.data, n, &err)) fail_msg("%zu of %zu bytes are accepted", n, t.len);
    }
    aa_text_release(&t);
}

/* The padding behind the last tensor may be there; more may not. */
static void test_trailing(void **state) {
    (void)state;
    aa_text t = make_good(3);
    aa_gguf g;
    aa_err err = {0};

    while (t.len % 64) aa_text_add_bytes(&t, "", 1);
    check_ok(open_bytes(&g, t.data, t.len, &err));
    aa_gguf_close(&g);
    aa_text_add_bytes(&t, "", 1);
    assert_int_equal(open_bytes(&g, t.data, t.len, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "1 bytes follow"));
    aa_text_release(&t);
}

/* ---- writing, and several files -------------------------------------------------------------- */

enum { FILES = 3 };

/* File i of FILES holds one tensor, "t0" to "t2", of four numbers. */
static void write_part(const char *path, size_t i, int64_t no, int64_t count, int64_t tensors) {
    aa_gguf_header h = {0};
    aa_outfile *f;
    aa_err err = {0};
    char name[] = "t0";
    float data[4] = {1, 2, 3, (float)i};

    name[1] = (char)(name[1] + (int)i);
    aa_gguf_put_string(&h, "general.name", "several");
    aa_gguf_put_int(&h, "split.no", AA_GGUF_U16, no);
    aa_gguf_put_int(&h, "split.count", AA_GGUF_U16, count);
    aa_gguf_put_int(&h, "split.tensors.count", AA_GGUF_I32, tensors);
    aa_gguf_put_tensor(&h, name, 0, 1, &(uint64_t){4});
    check_ok(aa_outfile_open(&f, path, &err));
    check_ok(aa_gguf_begin(f, &h, &err));
    aa_outfile_write(f, data, sizeof data);
    aa_gguf_pad(f);
    check_ok(aa_outfile_commit(f, NULL, &err));
    aa_gguf_header_release(&h);
}

static char *part_path(size_t i) {
    char *stem = path_of("several.gguf"), *path = aa_gguf_split_path(stem, i, FILES);

    assert_non_null(path);
    aa_heap_free(stem);
    return path;
}

static aa_status open_part(aa_gguf *g, size_t i, aa_err *err) {
    char *path = part_path(i);
    aa_status st = aa_gguf_open(g, path, err);

    aa_heap_free(path);
    return st;
}

static void write_parts(void) {
    for (size_t i = 0; i < FILES; i++) {
        char *path = part_path(i);

        write_part(path, i, (int64_t)i, FILES, FILES);
        aa_heap_free(path);
    }
}

static void test_several(void **state) {
    (void)state;
    write_parts();
    for (size_t i = 0; i < FILES; i++) {
        aa_gguf g;
        aa_err err = {0};

        check_ok(open_part(&g, i, &err));
        assert_int_equal(g.n_files, FILES);
        assert_int_equal(g.n_tensors, FILES);
        assert_int_equal(g.n_keys, 4);
        const aa_gguf_tensor *t = aa_gguf_find_tensor(&g, "t2");
        float last;
        memcpy(&last, t->data + 12, 4);
        assert_true(last == 2);
        aa_gguf_close(&g);
    }
}

static void expect_broken(size_t open_as, const char *message) {
    aa_gguf g;
    aa_err err = {0};

    if (!open_part(&g, open_as, &err)) fail_msg("accepted where '%s' was due", message);
    if (!strstr(err.message, message)) fail_msg("'%s' lacks '%s'", err.message, message);
}

static void test_several_broken(void **state) {
    (void)state;
    static const struct { size_t i; int64_t no, count, tensors; const char *message; } bad[] = {
        {1, 2, FILES, FILES, "file 3 of 3; by its name it is 2 of 3"},
        {2, 2, 5, FILES, "file 3 of 5"},
        {0, 0, FILES, 7, "split.tensors.count"},
        {0, 0, FILES, -1, "split.tensors.count"},
        {0, 0, 60000, FILES, "60000 files"},
        {1, -2, FILES, FILES, "file 65535 of 3"},
    };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char *path = part_path(bad[k].i);

        write_parts();
        write_part(path, bad[k].i, bad[k].no, bad[k].count, bad[k].tensors);
        expect_broken(0, bad[k].message);
        aa_heap_free(path);
    }
    write_parts();
    char *second = part_path(1), *first = part_path(0);
    assert_int_equal(remove(second), 0);
    expect_broken(0, "00002-of-00003");
    write_part(second, 0, 1, FILES, FILES);              /* holds "t0" again */
    expect_broken(0, "'t0' twice");
    char *renamed = path_of("renamed.gguf");
    aa_gguf g;
    aa_err err = {0};
    assert_int_equal(rename(first, renamed), 0);
    assert_int_equal(aa_gguf_open(&g, renamed, &err), AA_EFORMAT);
    assert_non_null(strstr(err.message, "renamed.gguf"));
    assert_non_null(strstr(err.message, "NAME-00001-of-00003.gguf"));
    aa_heap_free(first), aa_heap_free(second), aa_heap_free(renamed);
}

static void test_types(void **state) {
    (void)state;
    uint32_t type;
    const uint64_t dims[] = {512, 3};

    assert_true(aa_gguf_type_named("Q6_K", &type) && type == 14);
    assert_true(aa_gguf_tensor_bytes(type, 2, dims) == 2 * 210 * 3);
    assert_true(aa_gguf_type_named("BF16", &type) && type == 30);
    assert_false(aa_gguf_type_named("Q4_2", &type));
    assert_null(aa_gguf_type_name(4));
    assert_null(aa_gguf_type_name(UINT32_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),     cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_trailing),
        cmocka_unit_test(test_several),  cmocka_unit_test(test_several_broken),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests_name("unit_gguf", tests, NULL, NULL);
}
