/* Digests: the known one of nothing, and pieces of any size equal to the whole. */
#include "base/digest.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "support/check.h"

#include <sys/stat.h>

static void known_value(void **state) {
    (void)state;
    char hex[AA_DIGEST_HEX];
    aa_digest_hex(aa_digest_bytes("", 0), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    aa_digest_hex((aa_digest){.lo = 1, .hi = 0xAB}, hex);
    assert_string_equal(hex, "00000000000000ab0000000000000001");
    assert_true(aa_digest_equal((aa_digest){1, 2}, (aa_digest){1, 2}));
    assert_false(aa_digest_equal((aa_digest){1, 2}, (aa_digest){2, 1}));
    assert_false(aa_digest_equal((aa_digest){1, 2}, (aa_digest){1, 1}));
}

static void pieces_equal_the_whole(void **state) {
    (void)state;
    enum { N = 5000 };
    unsigned char bytes[N];
    aa_rng r;
    aa_err err = {0};
    aa_rng_init(&r, 1, AA_RNG_TEST, 0);
    for (int i = 0; i < N; i++) bytes[i] = (unsigned char)aa_rng_u32(&r);
    aa_digest last = {0};
    for (size_t n = 0; n < N; n += n < 300 ? 1 : 471) {
        aa_digester *d;
        check_ok(aa_digester_new(&d, &err));
        for (size_t i = 0; i < n;) {
            size_t piece = 1 + aa_rng_below(&r, 700);
            if (piece > n - i) piece = n - i;
            aa_digester_add(d, bytes + i, piece);
            i += piece;
        }
        aa_digest got = aa_digester_get(d);
        assert_true(aa_digest_equal(got, aa_digest_bytes(bytes, n)));
        assert_true(aa_digest_equal(got, aa_digester_get(d)));
        assert_false(aa_digest_equal(got, last));
        last = got;
        aa_digester_free(d);
    }
    aa_digester_free(NULL);
}

static void files_have_digests(void **state) {
    (void)state;
    aa_err err = {0};
    aa_digest d = {5, 6};
    char *path = aa_path_join(check_temp_dir(), "d");
    check_ok(aa_file_write(path, "hello", 5, &err));
    check_ok(aa_digest_file(&d, path, &err));
    assert_true(aa_digest_equal(d, aa_digest_bytes("hello", 5)));
    check_ok(aa_file_write(path, "", 0, &err));
    check_ok(aa_digest_file(&d, path, &err));
    assert_true(aa_digest_equal(d, aa_digest_bytes("", 0)));
    assert_int_equal(aa_digest_file(&d, "/nowhere/d", &err), AA_ENOTFOUND);
    assert_true(aa_digest_equal(d, aa_digest_bytes("", 0)));
    assert_int_equal(aa_digest_file(&d, check_temp_dir(), NULL), AA_EIO);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: a reader would wait for ever */
    err = (aa_err){0};
    assert_int_equal(aa_digest_file(&d, path, &err), AA_EIO);
    assert_non_null(strstr(err.message, "not a regular file"));
    aa_heap_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_value),
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(files_have_digests),
    };
    return cmocka_run_group_tests_name("unit_digest", tests, NULL, NULL);
}
