/* Arenas hand out aligned zeroes and measure what they would hand out; the heap fails when told to
 * and stops whoever calls it inside a guarded phase. The children are this program run again. */
#include "base/memory.h"
#include "base/json.h"
#include "base/option.h"
#include "base/text.h"
#include "support/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char *self;

/* Runs this program with one word, silent; returns its wait status. */
static int child(const char *word, const char *fail_at) {
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        if (fail_at) setenv("AA_FAIL_ALLOC_AT", fail_at, 1);
        else unsetenv("AA_FAIL_ALLOC_AT");
        execl(self, self, word, (char *)NULL);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* ---- arenas ---------------------------------------------------------------------------------- */

static void check_zero(const unsigned char *p, size_t n) {
    assert_int_equal((uintptr_t)p % AA_ALIGN, 0);
    for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
}

static void memory_is_aligned_and_zero(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 65536, 100000, 1 << 20, 3 << 20, 5};
    aa_arena a;
    aa_arena_init(&a, "test");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *p = aa_arena_alloc(&a, sizes[i], 1);
        assert_non_null(p);
        check_zero(p, sizes[i]);
        memset(p, 0xA5, sizes[i]);
    }
    assert_true(a.used_bytes > (4 << 20) && a.used_bytes < (5 << 20));
    aa_arena_release(&a);
    assert_int_equal(a.used_bytes, 0);
    assert_null(a.blocks);
}

static void reserved_memory_cannot_fail(void **state) {
    (void)state;
    aa_arena a;
    aa_err err = {0};
    aa_arena_init(&a, "test");
    check_ok(aa_arena_reserve(&a, 4 << 20, &err));
    uint64_t calls = aa_heap_calls();
    check_zero(aa_arena_alloc(&a, 4 << 20, 1), 4 << 20);
    assert_int_equal(aa_heap_calls(), calls);
    aa_arena_release(&a);
}

static void lay_out(aa_arena *a) {
    for (size_t i = 0; i < 50; i++) (void)aa_arena_new(a, double, i *i);
    (void)aa_arena_strdup(a, "hello", 5);
}

static void measuring_equals_laying_out(void **state) {
    (void)state;
    aa_arena counted, real;
    aa_err err = {0};
    aa_arena_init_measure(&counted, "test");
    lay_out(&counted);
    assert_null(counted.blocks);
    aa_arena_init(&real, "test");
    check_ok(aa_arena_reserve(&real, counted.used_bytes, &err));
    struct aa_arena_block *only = real.blocks;
    lay_out(&real);
    assert_ptr_equal(real.blocks, only);
    assert_int_equal(real.used_bytes, counted.used_bytes);
    check_ok(aa_arena_status(&real, &err));
    aa_arena_release(&real);
    aa_arena_release(&counted);
}

static void overflow_is_sticky(void **state) {
    (void)state;
    aa_arena a;
    aa_err err = {0};
    aa_arena_init(&a, "test");
    assert_null(aa_arena_alloc(&a, SIZE_MAX / 2, 3));
    assert_null(aa_arena_alloc(&a, SIZE_MAX, 1));
    (void)aa_arena_alloc(&a, 1, 1);
    assert_int_equal(aa_arena_status(&a, &err), AA_ENOMEM);
    assert_non_null(strstr(err.message, "test"));
    aa_arena_release(&a);
    assert_int_equal(aa_arena_status(&a, &err), AA_OK);
    aa_arena_init(&a, "huge");
    err = (aa_err){0};
    assert_int_equal(aa_arena_reserve(&a, SIZE_MAX, &err), AA_ENOMEM);
    aa_arena_release(&a);
}

static void measuring_saturates(void **state) {
    (void)state;
    static const size_t huge[][2] = {
        {SIZE_MAX / 2, 3}, {SIZE_MAX, 1}, {AA_ARENA_MOST, 2}, {AA_ARENA_MOST - 1, 1}};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        aa_arena a;
        aa_err err = {0};
        aa_arena_init_measure(&a, "test");
        (void)aa_arena_alloc(&a, huge[i][0], huge[i][1]);
        (void)aa_arena_alloc(&a, 1000, 1);
        assert_int_equal(a.used_bytes, AA_ARENA_MOST);
        check_ok(aa_arena_status(&a, &err));
        assert_int_equal(aa_memory_check("it", a.used_bytes, "less", &err), AA_ETOOBIG);
        assert_non_null(strstr(err.message, "less"));
        aa_arena_release(&a);
    }
}

static void strings_are_copied(void **state) {
    (void)state;
    aa_arena a;
    aa_arena_init(&a, "test");
    assert_string_equal(aa_arena_strdup(&a, "abcdef", 3), "abc");
    assert_string_equal(aa_arena_strdup(&a, "", 0), "");
    aa_arena_release(&a);
}

/* ---- heap ------------------------------------------------------------------------------------ */

static void heap_checks_sizes(void **state) {
    (void)state;
    assert_null(aa_heap_alloc(SIZE_MAX / 2, 4));
    assert_null(aa_heap_realloc(NULL, SIZE_MAX / 2, 4));
    unsigned char *p = aa_heap_alloc(100, 3);
    for (int i = 0; i < 300; i++) assert_int_equal(p[i], 0);
    p = aa_heap_realloc(p, 1000, 1);
    aa_heap_free(p);
    aa_heap_free(NULL);
    char *s = aa_heap_printf("%s %d", "x", 5), *t = aa_heap_strdup(s);
    assert_string_equal(t, "x 5");
    aa_heap_free(s);
    aa_heap_free(t);
}

typedef struct values {
    char *name, *path;
    int64_t n;
} values;

static const aa_opt rows[] = {{.key = "name",
                               .group = "g",
                               .type = AA_OPT_STRING,
                               .at = offsetof(values, name),
                               .init = "a",
                               .help = "a name"},
                              {.key = "path",
                               .group = "g",
                               .type = AA_OPT_STRING,
                               .at = offsetof(values, path),
                               .help = "a path"},
                              {.key = "n",
                               .group = "g",
                               .type = AA_OPT_INT,
                               .at = offsetof(values, n),
                               .lo = 0,
                               .hi = 9,
                               .help = "a number"},
                              {0}};

static aa_status use_options(aa_err *err) {
    values v;
    aa_opts o;
    aa_text problems = {0}, out = {0};
    char *argv[] = {"--name", "b", "--n=77", "--path", "c d"};
    const char *words[1];
    int n;
    aa_status st = aa_opts_init(&o, rows, &v, err);
    if (st) return st;
    st = aa_opts_args(&o, 5, argv, words, 1, &n, &problems, err);
    aa_opts_write_ini(&o, &out);
    aa_opts_write_json(&o, &out);
    aa_opts_help(rows, &out, 60);
    if (!st) st = aa_text_status(&out, err);
    if (!st && (strcmp(v.name, "b") || strcmp(v.path, "c d") || !problems.len || n))
        st = aa_fail(err, AA_EINTERNAL, "the options are wrong");
    aa_text_release(&problems);
    aa_text_release(&out);
    aa_opts_release(&o);
    return st;
}

static aa_status use_json(aa_err *err) {
    static const char text[] = "{\"a\":[1,2,{\"b\":\"c\"}],\"d\":1.5}";
    json_t *o;
    int64_t n;
    AA_TRY(aa_json_parse(&o, text, sizeof text - 1, "text", err));
    aa_status st =
        aa_json_int_need(o, "d", "text", 0, 9, &n, NULL) == AA_EFORMAT ? AA_OK : AA_EINTERNAL;
    json_decref(o);
    return st;
}

static aa_status use_arena(aa_err *err) {
    aa_arena a;
    aa_arena_init(&a, "test");
    aa_status st = aa_arena_reserve(&a, 2 << 20, err);
    if (!st) lay_out(&a);
    (void)aa_arena_alloc(&a, 3 << 20, 1);
    if (!st) st = aa_arena_status(&a, err);
    aa_arena_release(&a);
    return st;
}

/* Exit 0: all went well; 3: out of memory, and said so; anything else is a defect. */
static int work(void) {
    aa_err err = {0};
    aa_status st = use_options(&err);
    if (!st) st = use_json(&err);
    if (!st) st = use_arena(&err);
    if (!st) return 0;
    return st == AA_ENOMEM && strstr(err.message, "out of memory") ? 3 : 4;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    int n = 1, failures = 0;
    for (;; n++) {
        char number[16];
        snprintf(number, sizeof number, "%d", n);
        int status = child("work", number);
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 3)) {
            print_error("allocation %d: wait status %x\n", n, status);
            fail();
        }
        failures += WEXITSTATUS(status) == 3;
        if (WEXITSTATUS(status) == 0 && n > 30) break;
        assert_true(n < 1000);
    }
    assert_true(failures >= 20);
    assert_int_equal(child("work", NULL), 0);
}

static void guard_stops_heap_calls(void **state) {
    (void)state;
    static const char *const words[] = {"guard-alloc", "guard-realloc", "guard-free"};
    for (size_t i = 0; i < 3; i++) {
        int status = child(words[i], NULL);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
    assert_int_equal(child("guard-none", NULL), 0);
}

static int guarded(const char *what) {
    void *p = aa_heap_alloc(1, 1);
    aa_heap_guard("test");
    if (strcmp(what, "alloc") == 0) p = aa_heap_alloc(1, 1);
    if (strcmp(what, "realloc") == 0) p = aa_heap_realloc(p, 2, 1);
    if (strcmp(what, "free") == 0) aa_heap_free(p);
    aa_heap_free(NULL);
    aa_heap_guard(NULL);
    aa_heap_free(p);
    return 0;
}

static void limit_stops_large_ones(void **state) {
    (void)state;
    static const char *const words[] = {"limit-alloc", "limit-realloc", "limit-arena"};
    for (size_t i = 0; i < 3; i++) {
        int status = child(words[i], NULL);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
    assert_int_equal(child("limit-none", NULL), 0);
}

static int limited(const char *what) {
    aa_arena a;
    aa_arena_init(&a, "test");
    aa_heap_limit(100000);
    void *p = aa_heap_realloc(aa_heap_alloc(1000, 100), 100000, 1);
    aa_arena_alloc(&a, 1, 90000);
    if (strcmp(what, "alloc") == 0) aa_heap_free(aa_heap_alloc(1001, 100));
    if (strcmp(what, "realloc") == 0) p = aa_heap_realloc(p, SIZE_MAX, 2);
    if (strcmp(what, "arena") == 0) aa_arena_alloc(&a, 1, 1 << 20);
    aa_heap_limit(0);
    aa_heap_free(p);
    aa_heap_free(aa_heap_alloc(1, 1 << 20));
    aa_arena_release(&a);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strncmp(argv[1], "limit-", 6) == 0) return limited(argv[1] + 6);
    if (argc > 1) return strncmp(argv[1], "guard-", 6) == 0 ? guarded(argv[1] + 6) : work();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_zero),
        cmocka_unit_test(reserved_memory_cannot_fail),
        cmocka_unit_test(measuring_equals_laying_out),
        cmocka_unit_test(overflow_is_sticky),
        cmocka_unit_test(measuring_saturates),
        cmocka_unit_test(strings_are_copied),
        cmocka_unit_test(heap_checks_sizes),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(guard_stops_heap_calls),
        cmocka_unit_test(limit_stops_large_ones),
    };
    self = argv[0];
    return cmocka_run_group_tests_name("unit_memory", tests, NULL, NULL);
}
