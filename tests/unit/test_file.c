/* Files are replaced whole or not at all: also when the disk is full, the directory is closed, or
 * the writer gives up. */
#include "base/file.h"
#include "base/memory.h"
#include "support/check.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *dir, *path;

static int set_up(void **state) {
    (void)state;
    aa_err err = {0};
    dir = aa_path_join(check_temp_dir(), "files");
    path = aa_path_join(dir, "target");
    check_ok(aa_make_dirs(dir, &err));
    check_ok(aa_file_write(path, "old", 3, &err));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    assert_int_equal(aa_sys_remove_tree(dir), 0);
    aa_heap_free(dir);
    aa_heap_free(path);
    return 0;
}

static int count_entry(void *ctx, const char *name) {
    (void)name;
    ++*(int *)ctx;
    return 0;
}

/* The target holds this, and nothing else lies in its directory. */
static void target_is(const void *want, size_t n) {
    aa_err err = {0};
    aa_sys_map map;
    int entries = 0;
    check_ok(aa_map_open(&map, path, &err));
    assert_int_equal(map.size_bytes, n);
    if (n) assert_memory_equal(map.data, want, n);
    aa_sys_map_close(&map);
    assert_int_equal(aa_sys_list_dir(dir, count_entry, &entries), 0);
    assert_int_equal(entries, 1);
}

static void commit_replaces(void **state) {
    (void)state;
    aa_err err = {0};
    aa_outfile *f;
    aa_digest d;
    check_ok(aa_outfile_open(&f, path, &err));
    aa_outfile_write(f, "new ", 4);
    aa_outfile_write(f, NULL, 0);
    aa_outfile_write(f, "text", 4);
    assert_int_equal(aa_outfile_size(f), 8);
    aa_sys_map map;
    check_ok(aa_map_open(&map, path, &err));
    assert_memory_equal(map.data, "old", 3);
    aa_sys_map_close(&map);
    check_ok(aa_outfile_commit(f, &d, &err));
    assert_true(aa_digest_equal(d, aa_digest_bytes("new text", 8)));
    target_is("new text", 8);
    check_ok(aa_file_write(path, NULL, 0, &err));
    target_is("", 0);
}

/* What is not committed goes with a process that a signal ends. */
static void signals_leave_nothing(void **state) {
    (void)state;
    static const struct { bool flag; int first, second, status; } rows[] = {
        {false, SIGTERM, 0, SIGTERM}, {false, SIGINT, 0, SIGINT}, {true, SIGINT, SIGINT, 130 << 8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (!pid) {
            aa_outfile *f;
            aa_sys_end_tidily();
            if (rows[i].flag) aa_sys_interrupt_install();
            if (aa_outfile_open(&f, path, NULL)) _exit(1);
            aa_outfile_write(f, "new", 3);
            raise(rows[i].first);
            if (rows[i].second) raise(rows[i].second);
            _exit(2);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, rows[i].status);
        target_is("old", 3);
    }
}

static void abort_keeps(void **state) {
    (void)state;
    aa_err err = {0};
    aa_outfile *f;
    check_ok(aa_outfile_open(&f, path, &err));
    aa_outfile_write(f, "new", 3);
    aa_outfile_abort(f);
    target_is("old", 3);
}

static void large_writes(void **state) {
    (void)state;
    static const size_t pieces[] = {1, 262143, 1, 262144, 262145, 100, 1000000, 3};
    enum { N = 2000000 };
    unsigned char *bytes = aa_heap_alloc(N, 1);
    aa_err err = {0};
    aa_outfile *f;
    aa_digest d;
    size_t n = 0;
    for (uint32_t i = 0; i < N; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 24);
    check_ok(aa_outfile_open(&f, path, &err));
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; n += pieces[i++])
        aa_outfile_write(f, bytes + n, pieces[i]);
    assert_int_equal(aa_outfile_size(f), n);
    check_ok(aa_outfile_commit(f, &d, &err));
    target_is(bytes, n);
    assert_true(aa_digest_equal(d, aa_digest_bytes(bytes, n)));
    aa_heap_free(bytes);
}

/* In a child, where a limit on the size of files stands for the full disk. */
static void full_disk_keeps_the_old(void **state) {
    (void)state;
    for (size_t size = 5000; size <= 500000; size *= 10) {
        fflush(NULL);
        pid_t pid = fork();
        if (!pid) {
            aa_err err = {0};
            aa_outfile *f;
            unsigned char *bytes = calloc(size, 1);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
            signal(SIGXFSZ, SIG_IGN);
            if (!bytes || aa_outfile_open(&f, path, &err)) _exit(1);
            aa_outfile_write(f, bytes, size);
            aa_outfile_write(f, bytes, 10);
            if (aa_outfile_size(f) != size + 10) _exit(2);
            if (aa_outfile_commit(f, NULL, &err) != AA_EIO) _exit(3);
            if (!strstr(err.message, "cannot write '") || !strstr(err.message, path)) _exit(4);
            free(bytes);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        target_is("old", 3);
    }
}

static void impossible_targets(void **state) {
    (void)state;
    aa_err err = {0};
    aa_outfile *f = NULL;
    assert_int_equal(aa_outfile_open(&f, dir, &err), AA_EIO);
    assert_non_null(strstr(err.message, "it is a directory"));
    err = (aa_err){0};
    assert_int_equal(aa_outfile_open(&f, "/dev/null", &err), AA_EIO);
    assert_non_null(strstr(err.message, "not a regular file"));
    err = (aa_err){0};
    assert_int_equal(aa_file_write("/nowhere/at/all", "x", 1, &err), AA_ENOTFOUND);
    assert_non_null(strstr(err.message, "cannot write '/nowhere/at/all': there is no directory "
                                        "'/nowhere/at'"));
    assert_null(f);
    if (geteuid() == 0) return; /* whom no directory is closed to */
    err = (aa_err){0};
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(aa_file_write(path, "x", 1, &err), AA_EIO);
    assert_int_equal(chmod(dir, 0755), 0);
    target_is("old", 3);
}

/* A killed process of the same id left a file behind. */
static void leftovers_do_not_matter(void **state) {
    (void)state;
    aa_err err = {0};
    aa_outfile *f;
    for (unsigned i = 0; i < 200; i++) {
        char *name = aa_heap_printf("%s.%ld-%u.tmp", path, (long)getpid(), i);
        FILE *left = fopen(name, "w");
        assert_non_null(left);
        fclose(left);
        aa_heap_free(name);
    }
    check_ok(aa_outfile_open(&f, path, &err));
    aa_outfile_write(f, "new", 3);
    check_ok(aa_outfile_commit(f, NULL, &err));
    for (unsigned i = 0; i < 200; i++) {
        char *name = aa_heap_printf("%s.%ld-%u.tmp", path, (long)getpid(), i);
        assert_int_equal(unlink(name), 0);
        aa_heap_free(name);
    }
    target_is("new", 3);
}

static void touch(const char *name) {
    char *p = aa_path_join(dir, name);
    FILE *f = fopen(p, "w");
    assert_non_null(f);
    fclose(f);
    aa_heap_free(p);
}

/* The sweep takes what killed writers left, and neither files in use nor other people's. */
static void sweep_takes_only_the_abandoned(void **state) {
    (void)state;
    static const char *const others[] = {"a.tmp", "a.12.tmp", "a.-1.tmp", "a.1-.tmp", "1-2.tmp",
                                         "a.1-2.tmpx", "a.x1-2.tmp"};
    aa_err err = {0};
    aa_outfile *f;
    check_ok(aa_outfile_open(&f, path, &err));
    aa_outfile_write(f, "new", 3);
    touch("target.77777777-0.tmp");
    touch("tokens-00ff.tok.12-345.tmp");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) touch(others[i]);
    aa_outfile_sweep(dir);
    int entries = 0;
    assert_int_equal(aa_sys_list_dir(dir, count_entry, &entries), 0);
    assert_int_equal(entries, 2 + sizeof others / sizeof *others);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char *p = aa_path_join(dir, others[i]);
        assert_int_equal(unlink(p), 0);
        aa_heap_free(p);
    }
    check_ok(aa_outfile_commit(f, NULL, &err));
    target_is("new", 3);
}

static void reading_explains(void **state) {
    (void)state;
    aa_err err = {0};
    aa_sys_map map;
    assert_int_equal(aa_map_open(&map, "/nowhere", &err), AA_ENOTFOUND);
    err = (aa_err){0};
    assert_int_equal(aa_map_open(&map, dir, &err), AA_EIO);
    assert_non_null(strstr(err.message, "directory"));
    char *pipe = aa_path_join(dir, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    err = (aa_err){0};
    assert_int_equal(aa_map_open(&map, pipe, &err), AA_EIO);
    assert_non_null(strstr(err.message, "not a regular file"));
    aa_heap_free(pipe);
}

static void paths_join(void **state) {
    (void)state;
    static const char *const rows[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}};
    for (size_t i = 0; i < 3; i++) {
        char *s = aa_path_join(rows[i][0], rows[i][1]);
        assert_string_equal(s, rows[i][2]);
        aa_heap_free(s);
    }
    aa_err err = {0};
    char *deep = aa_path_join(dir, "x//y/z/"), *under = aa_path_join(path, "x");
    check_ok(aa_make_dirs(deep, &err));
    check_ok(aa_make_dirs(deep, &err));
    assert_int_equal(aa_make_dirs(under, &err), AA_EIO);
    assert_non_null(strstr(err.message, under));
    assert_int_equal(aa_make_dirs("", NULL), AA_ENOTFOUND);
    aa_heap_free(deep);
    aa_heap_free(under);
}

int main(void) {
#define WITH_TARGET(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TARGET(commit_replaces),    WITH_TARGET(abort_keeps),
        WITH_TARGET(large_writes),       WITH_TARGET(full_disk_keeps_the_old),
        WITH_TARGET(impossible_targets), WITH_TARGET(leftovers_do_not_matter),
        WITH_TARGET(reading_explains),   WITH_TARGET(paths_join),
        WITH_TARGET(sweep_takes_only_the_abandoned), WITH_TARGET(signals_leave_nothing),
    };
    return cmocka_run_group_tests_name("unit_file", tests, NULL, NULL);
}
