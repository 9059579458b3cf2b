/* Ledgers: what a file may be, damage that is named, folding and merging. */
#include <math.h>
#include <unistd.h>
#include "base/memory.h"
#include "support/check.h"
#include "support/zonet.h"
#include "zo/zo_int.h"

static const aa_digest base = {3, 4};

static char *temp(const char *name) {
    char *path = aa_heap_printf("%s/%s", check_temp_dir(), name);
    assert_non_null(path);
    (void)unlink(path);
    return path;
}

/* n steps of a run on the little net; its weights, which the caller frees. */
static aa_real *run(const char *path, const char *method, const char *settings, int n_steps) {
    zonet n;
    aa_zo_config c;
    aa_zo *z = NULL;
    aa_ledger *l = NULL;
    aa_zo_report r;
    aa_err err = {0};
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    n.offset = 5;
    check_ok(aa_zo_configure(&c, method, settings, &err));
    check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
    const aa_ledger_header h = aa_ledger_header_of(z, base);
    check_ok(aa_ledger_create(&l, path, &h, &err));
    check_ok(aa_zo_attach(z, l, &err));
    for (int i = 0; i < n_steps; i++) check_ok(aa_zo_step(z, 1, &r, &err));
    check_ok(aa_ledger_sync(l, &err));
    aa_real *w = zonet_weights(&n);
    aa_ledger_close(l);
    aa_zo_close(z);
    zonet_close(&n);
    return w;
}

/* The weights that a ledger gives, or NULL and its failure. */
static aa_real *replayed(const char *path, const char *method, const char *settings, aa_err *err) {
    zonet n;
    aa_zo_config c;
    aa_zo *z = NULL;
    aa_real *w = NULL;
    zonet_open(&n, 2, AA_ISA_SCALAR, false);
    assert_int_equal(aa_zo_configure(&c, method, settings, err), AA_OK);
    assert_int_equal(aa_zo_open(&z, &c, &n.objective, n.cpu, err), AA_OK);
    if (!aa_zo_replay(z, path, &base, NULL, err)) w = zonet_weights(&n);
    aa_zo_close(z);
    zonet_close(&n);
    return w;
}

/* Without a flush to the disk: thousands of files. */
static void put(const char *path, const void *bytes, size_t n) {
    (void)unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(bytes, 1, n, f) == n && !fclose(f));
}

static aa_sys_map read_all(const char *path) {
    aa_sys_map map;
    aa_err err = {0};
    check_ok(aa_map_open(&map, path, &err));
    return map;
}

/* 10,000 steps of 16 scalars in 2 MB at most. */
static void size_of_a_long_run(void **state) {
    char *path = temp("long.ledger");
    zonet n;
    aa_zo_config c;
    aa_zo *z = NULL;
    aa_ledger *l = NULL;
    aa_err err = {0};
    float scalars[16] = {0};
    (void)state;
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    check_ok(aa_zo_configure(&c, "auto", "", &err));
    check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
    const aa_ledger_header h = aa_ledger_header_of(z, base);
    check_ok(aa_ledger_create(&l, path, &h, &err));
    aa_ledger_record r = {.kind = AA_LEDGER_STEP,
                          .step_of = {.n = 16, .present = 16, .n_scalars = 16, .scalars = scalars}};
    check_ok(aa_zo_attach(z, l, &err));
    const uint64_t calls = aa_heap_calls();
    for (r.step = 0; r.step < 10000; r.step++) check_ok(aa_ledger_write(l, &r, &err));
    assert_int_equal(aa_heap_calls(), calls);              /* no memory is asked for on the way */
    const uint64_t size = aa_ledger_size(l);
    aa_ledger_close(l);
    aa_ledger_summary s;
    check_ok(aa_ledger_verify(path, &s, &err));
    assert_true(size <= 2000000 && s.size_bytes == size);
    assert_true(s.steps == 10000 && s.scalars == 160000 && s.last_step == 9999);
    aa_zo_close(z);
    zonet_close(&n);
    aa_heap_free(path);
}

static void what_a_summary_says(void **state) {
    char *path = temp("summary.ledger");
    aa_ledger_summary s;
    aa_err err = {0};
    (void)state;
    aa_heap_free(run(path, "auto", "check=5 refresh=4", 12));
    check_ok(aa_ledger_verify(path, &s, &err));
    assert_true(s.steps == 12 && s.checks == 2 && s.bases == 6 && s.rewinds == 0);
    assert_true(s.basis_bytes == 3 * ZN_RANK * (ZN_IN + ZN_HIDDEN));
    assert_true(s.first_step == 0 && s.last_step == 11 && s.last_loss > 5);
    aa_heap_free(path);
}

/* Every byte with a flipped bit: found, and where it is in a record, that record is named. */
static void flipped_bits_are_found(void **state) {
    char *path = temp("flip.ledger"), *bad = temp("bad.ledger"), expected[64];
    aa_ledger_reader r;
    aa_ledger_record record;
    aa_err err = {0};
    (void)state;
    aa_heap_free(run(path, "auto", "check=2 streams=4", 4));
    aa_sys_map map = read_all(path);
    unsigned char *bytes = aa_heap_alloc(map.size_bytes, 1);
    memcpy(bytes, map.data, map.size_bytes);
    check_ok(aa_ledger_open(&r, path, &err));
    const uint64_t header = r.at;
    uint64_t begin = header;
    bool more = true;
    for (size_t i = 0; i < header; i++) {
        aa_ledger_summary s;
        err = (aa_err){0};
        bytes[i] ^= (unsigned char)(1 << i % 8);
        put(bad, bytes, map.size_bytes);
        assert_int_not_equal(aa_ledger_verify(bad, &s, &err), AA_OK);
        bytes[i] ^= (unsigned char)(1 << i % 8);
    }
    for (;;) {
        err = (aa_err){0};
        check_ok(aa_ledger_next(&r, &record, &more, &err));
        if (!more) break;
        snprintf(expected, sizeof expected, "record %u, at byte %llu", record.index,
                 (unsigned long long)begin);
        for (uint64_t i = begin; i < r.at; i++) {
            aa_ledger_summary s;
            err = (aa_err){0};
            bytes[i] ^= (unsigned char)(1 << i % 8);
            put(bad, bytes, map.size_bytes);
            assert_int_equal(aa_ledger_verify(bad, &s, &err), AA_ECORRUPT);
            if (!strstr(err.message, expected)) fail_msg("byte %d: '%s'", (int)i, err.message);
            bytes[i] ^= (unsigned char)(1 << i % 8);
        }
        begin = r.at;
    }
    aa_ledger_reader_close(&r);
    aa_sys_map_close(&map);
    aa_heap_free(bytes), aa_heap_free(path), aa_heap_free(bad);
}

/* Cut anywhere: a shorter run where a record ends, else named. */
static void cut_files_are_found(void **state) {
    char *path = temp("whole.ledger"), *cut = temp("cut.ledger");
    aa_err err = {0};
    size_t whole = 0;
    (void)state;
    aa_heap_free(run(path, "auto", "streams=4 check=2", 4));
    aa_sys_map map = read_all(path);
    for (size_t n = 0; n < map.size_bytes; n++) {
        aa_ledger_summary s;
        err = (aa_err){0};
        put(cut, map.data, n);
        aa_status st = aa_ledger_verify(cut, &s, &err);
        whole += !st;
        if (st && n > 2000) assert_non_null(strstr(err.message, "is cut off"));
    }
    assert_int_equal(whole, 8);           /* header, 2 bases, 4 steps, 2 checks: all but the end */
    aa_sys_map_close(&map);
    aa_heap_free(path), aa_heap_free(cut);
}

/* Records of another run, another order, another base, other settings, other rows. */
static void strangers_are_refused(void **state) {
    char *path = temp("a.ledger"), *other = temp("b.ledger"), *mixed = temp("mixed.ledger");
    aa_err err = {0};
    aa_ledger_reader a, b;
    aa_ledger_record r;
    aa_ledger_summary s;
    bool more;
    (void)state;
    aa_heap_free(run(path, "mezo", "lr=0.01", 3));
    aa_heap_free(run(other, "mezo", "lr=0.02", 3));
    check_ok(aa_ledger_open(&a, path, &err));
    check_ok(aa_ledger_open(&b, other, &err));
    check_ok(aa_ledger_next(&a, &r, &more, &err));
    check_ok(aa_ledger_next(&b, &r, &more, &err));
    aa_text t = {0};
    aa_text_add_bytes(&t, a.map.data, a.at);
    aa_text_add_bytes(&t, b.map.data + b.at, b.map.size_bytes - b.at);
    put(mixed, t.data, t.len);
    assert_int_equal(aa_ledger_verify(mixed, &s, &err), AA_ECORRUPT);
    assert_non_null(strstr(err.message, "record 1"));
    err = (aa_err){0};
    assert_null(replayed(path, "mezo", "lr=0.02", &err));
    assert_non_null(strstr(err.message, "other settings"));
    err = (aa_err){0};
    zonet n;
    aa_zo *z = NULL;
    aa_zo_config c;
    check_ok(aa_zo_configure(&c, "mezo", "lr=0.01", &err));
    zonet_open(&n, 1, AA_ISA_AUTO, false);
    n.tensors[1].data[3] += 1e-3f;
    check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
    assert_int_equal(aa_zo_replay(z, path, NULL, NULL, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "another base"));
    aa_zo_close(z);
    err = (aa_err){0};
    memcpy(n.tensors[1].data, n.start[1], aa_tensor_size(&n.tensors[1]) * sizeof(aa_real));
    check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
    assert_int_equal(aa_zo_replay(z, path, &(aa_digest){3, 5}, NULL, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "its digest is 00000000000000040000000000000003, that of "
                                        "this one 00000000000000050000000000000003"));
    err = (aa_err){0};
    check_ok(aa_zo_replay(z, path, &base, NULL, &err));
    aa_zo_close(z);
    memcpy(n.tensors[1].data, n.start[1], aa_tensor_size(&n.tensors[1]) * sizeof(aa_real));
    n.tensors[1].name[0] = 'x';
    check_ok(aa_zo_open(&z, &c, &n.objective, n.cpu, &err));
    assert_int_equal(aa_zo_replay(z, path, NULL, NULL, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "other parameters"));
    aa_zo_close(z);
    zonet_close(&n);
    aa_ledger_reader_close(&a), aa_ledger_reader_close(&b);
    aa_text_release(&t);
    aa_heap_free(path), aa_heap_free(other), aa_heap_free(mixed);
}

static void writing_is_careful(void **state) {
    char *path = temp("there.ledger");
    aa_ledger *l = NULL;
    aa_err err = {0};
    aa_ledger_header h = {.generator = AA_DIRECTION_GENERATOR};
    (void)state;
    put(path, "x", 1);
    check_ok(aa_zo_configure(&h.config, "auto", "", &err));
    assert_int_equal(aa_ledger_create(&l, path, &h, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "never written over"));
    err = (aa_err){0};
    check_ok(aa_zo_configure(&h.config, "addax", "", &err));
    assert_int_equal(aa_ledger_create(&l, path, &h, &err), AA_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "has no ledger"));
    aa_heap_free(path);
}

/* A scalar that is not the run's, with checksums that fit: the next digest tells. */
static void a_check_that_fails_is_named(void **state) {
    char *path = temp("check.ledger"), *forged = temp("forged.ledger");
    aa_err err = {0};
    aa_ledger_reader r;
    aa_ledger_record record;
    aa_ledger *l = NULL;
    bool more = true;
    (void)state;
    aa_heap_free(run(path, "mezo", "check=3", 6));
    check_ok(aa_ledger_open(&r, path, &err));
    check_ok(aa_ledger_create(&l, forged, &r.header, &err));
    for (;;) {
        float scalars[4];
        check_ok(aa_ledger_next(&r, &record, &more, &err));
        if (!more) break;
        if (record.kind == AA_LEDGER_STEP) {
            memcpy(scalars, record.step_of.scalars, record.step_of.n_scalars * sizeof *scalars);
            if (record.step == 4) scalars[0] += 1e-3f;
            record.step_of.scalars = scalars;
        }
        check_ok(aa_ledger_write(l, &record, &err));
    }
    aa_ledger_close(l);
    aa_ledger_reader_close(&r);
    assert_null(replayed(forged, "mezo", "check=3", &err));
    assert_int_equal(err.code, AA_ECORRUPT);
    assert_non_null(strstr(err.message, "after step 5 the weights are not those of the run"));
    aa_heap_free(path), aa_heap_free(forged);
}

/* Ledgers written on another machine (signs and normals, merges, estimates, square roots) hold
 * digests of its weights; wherever this runs, a replay must meet them. */
static void ledgers_of_another_machine(void **state) {
    static const struct { const char *name; uint64_t checks; } rows[] = {
        {"auto", 2}, {"p-gap", 2}, {"hizoo", 3}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (aa_isa isa = AA_ISA_SCALAR; isa <= AA_ISA_AVX512; isa = (aa_isa)(isa + 1)) {
            char *path = aa_heap_printf(AA_TEST_DIR "/fuzz/seeds/ledger/%s.ledger", rows[i].name);
            aa_ledger_reader r;
            aa_zo_replayed done;
            aa_zo *z = NULL;
            zonet n;
            aa_err err = {0};
            if (aa_isa_available(isa)) {
                zonet_open(&n, 1 + (int)i, isa, true);
                check_ok(aa_ledger_open(&r, path, &err));
                check_ok(aa_zo_open(&z, &r.header.config, &n.objective, n.cpu, &err));
                check_ok(aa_zo_replay(z, path, NULL, &done, &err));
                assert_int_equal(done.checks, rows[i].checks);
                aa_ledger_reader_close(&r);
                aa_zo_close(z);
                zonet_close(&n);
            }
            aa_heap_free(path);
        }
}

static void check_close(const char *what, const aa_real *got, const double *want) {
    for (size_t i = 0; i < zonet_size(); i++)
        if (fabs((double)got[i] - want[i]) > 2e-6 * (1 + fabs(want[i])))
            fail_msg("%s: element %zu is %.9g, not %.9g", what, i, (double)got[i], want[i]);
}

/* A pool's ledger becomes its sums: the weights up to rounding, in less space. */
static void compaction(void **state) {
    const char *settings = "rho=1e-2 streams=4 pool=64";
    char *path = temp("pool.ledger"), *small = temp("small.ledger"), *none = temp("none.ledger"),
         *twice = temp("twice.ledger");
    aa_err err = {0};
    aa_ledger_summary s, t;
    (void)state;
    aa_real *live = run(path, "auto", settings, 80);
    check_ok(aa_ledger_compact(path, small, &err));
    check_ok(aa_ledger_verify(path, &s, &err));
    check_ok(aa_ledger_verify(small, &t, &err));
    assert_true(t.steps == 80 && t.bases == 2 && t.size_bytes < s.size_bytes / 3);
    double want[512];
    assert_true(zonet_size() <= 512);
    for (size_t i = 0; i < zonet_size(); i++) want[i] = (double)live[i];
    aa_real *got = replayed(small, "auto", settings, &err);
    assert_non_null(got);
    check_close("compacted", got, want);
    check_ok(aa_ledger_compact(small, twice, &err));       /* what is compact stays what it is */
    aa_real *again = replayed(twice, "auto", settings, &err);
    assert_memory_equal(again, got, zonet_size() * sizeof *got);
    aa_heap_free(live), aa_heap_free(got), aa_heap_free(again);

    static const struct { const char *method, *settings, *reason; } rows[] = {
        {"auto", "", "has no pool"},
        {"lozo", "pool=8", "its basis changes"},
        {"qzo", "pool=8", "its scales are kept above 0"},
        {"sparse-mezo", "pool=8", "depend on the weights"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err = (aa_err){0};
        (void)unlink(none);
        aa_heap_free(run(none, rows[i].method, rows[i].settings, 1));
        (void)unlink(small);
        assert_int_not_equal(aa_ledger_compact(none, small, &err), AA_OK);
        if (!strstr(err.message, rows[i].reason)) fail_msg("'%s'", err.message);
    }
    aa_heap_free(path), aa_heap_free(small), aa_heap_free(none), aa_heap_free(twice);
}

/* Three clients from one start, of which one ran longer: the mean of what they did, weighted. */
static void merging(void **state) {
    static const char *const forms[] = {"rho=1e-2 streams=4 norms=yes basis=random",
                                        "rho=1e-2 streams=4 basis=random pool=32"};
    static const int steps[] = {10, 10, 20};
    (void)state;
    for (int form = 0; form < 2; form++) {
        char *paths[3], *out = temp("merged.ledger"), settings[96];
        aa_real *w[3];
        aa_err err = {0};
        double want[512] = {0};
        aa_ledger_summary s;
        for (int i = 0; i < 3; i++) {
            snprintf(settings, sizeof settings, "%s client=%d", forms[form], i);
            char name[] = "client0.ledger";
            name[6] = (char)('0' + i);
            paths[i] = temp(name);
            w[i] = run(paths[i], "auto", settings, steps[i]);
            for (int k = 0; k < i; k++)
                assert_memory_not_equal(w[i], w[k], zonet_size() * sizeof(aa_real));
        }
        check_ok(aa_ledger_merge((const char *const *)paths, 3, out, &err));
        check_ok(aa_ledger_verify(out, &s, &err));
        assert_int_equal(s.steps, 40);
        for (size_t i = 0; i < zonet_size(); i++)
            for (int k = 0; k < 3; k++) want[i] += steps[k] / 40.0 * (double)w[k][i];
        aa_real *got = replayed(out, "auto", forms[form], &err);
        if (!got) fail_msg("%s", err.message);
        check_close("merged", got, want);
        const char *const same[] = {paths[0], paths[0]};
        (void)unlink(out);
        assert_int_equal(aa_ledger_merge(same, 2, out, &err), AA_EUSAGE);
        assert_non_null(strstr(err.message, "used the same directions"));
        assert_int_equal(access(out, F_OK), -1);
        for (int i = 0; i < 3; i++) aa_heap_free(w[i]), aa_heap_free(paths[i]);
        aa_heap_free(got), aa_heap_free(out);
    }
}

static void other_runs_are_not_merged(void **state) {
    char *a = temp("m1.ledger"), *b = temp("m2.ledger"), *out = temp("m.ledger");
    const char *const both[] = {a, b};
    aa_err err = {0};
    (void)state;
    aa_heap_free(run(a, "auto", "client=0", 2));
    aa_heap_free(run(b, "auto", "client=1 eps=1e-2", 2));
    assert_int_equal(aa_ledger_merge(both, 2, out, &err), AA_EUSAGE);
    assert_non_null(strstr(err.message, "have different settings"));
    assert_int_equal(access(out, F_OK), -1);
    aa_heap_free(a), aa_heap_free(b), aa_heap_free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_of_a_long_run),
        cmocka_unit_test(what_a_summary_says),
        cmocka_unit_test(flipped_bits_are_found),
        cmocka_unit_test(cut_files_are_found),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(writing_is_careful),
        cmocka_unit_test(a_check_that_fails_is_named),
        cmocka_unit_test(ledgers_of_another_machine),
        cmocka_unit_test(compaction),
        cmocka_unit_test(merging),
        cmocka_unit_test(other_runs_are_not_merged),
    };
    return cmocka_run_group_tests_name("unit_ledger", tests, NULL, NULL);
}
