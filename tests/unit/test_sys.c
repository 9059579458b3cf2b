/* The operating-system seam: trees, links, locks, memory, clocks, the processor, signals,
 * other programs. */
#include "sys/sys.h"
#include "base/memory.h"
#include "support/check.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *in_temp(const char *name) { return aa_heap_printf("%s/%s", check_temp_dir(), name); }

static void touch(const char *dir, const char *name, const char *text) {
    char *path = aa_heap_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    aa_heap_free(path);
}

enum { NAMES_BYTES = 256 };

static int append(void *ctx, const char *name) {
    char *names = ctx;
    size_t n = strlen(names);
    snprintf(names + n, NAMES_BYTES - n, "%s ", name);
    return strcmp(name, "b") ? 0 : 77;
}

static void trees(void **state) {
    (void)state;
    char *dir = in_temp("tree"), *sub = in_temp("tree/a/sub"), *link = in_temp("tree/a/link"),
         *kept = in_temp("kept"), names[NAMES_BYTES] = "";
    assert_int_equal(aa_sys_make_dirs(sub), 0);
    assert_int_equal(aa_sys_make_dirs(kept), 0);
    touch(kept, "file", "x");
    assert_int_equal(aa_sys_link_replace(kept, link), 0);
    assert_int_equal(aa_sys_list_dir(dir, append, names), 0);
    assert_string_equal(names, "a ");
    touch(dir, "c", "");
    touch(dir, "b", "");
    touch(dir, "B", "");
    *names = 0;
    assert_int_equal(aa_sys_list_dir(dir, append, names), 77);
    assert_string_equal(names, "B a b ");
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        touch(sub, name, "y");
    }
    assert_int_equal(aa_sys_remove_tree(dir), 0);
    assert_int_equal(aa_sys_remove_tree(dir), 0);
    aa_sys_info info;
    assert_int_equal(aa_sys_stat(&info, dir), 0);
    assert_int_equal(info.kind, AA_SYS_ABSENT);
    *names = 0;
    assert_int_equal(aa_sys_list_dir(kept, append, names), 0);
    assert_string_equal(names, "file "); /* links are not followed */
    assert_int_equal(aa_sys_list_dir(dir, append, names), ENOENT);
    aa_heap_free(dir), aa_heap_free(sub), aa_heap_free(link), aa_heap_free(kept);
}

static void files(void **state) {
    (void)state;
    const char *dir = check_temp_dir();
    char *path = in_temp("f"), *link = in_temp("l");
    aa_sys_map map;
    aa_sys_info info;
    touch(dir, "f", "hello");
    assert_int_equal(aa_sys_map_open(&map, path), 0);
    assert_int_equal(map.size_bytes, 5);
    assert_memory_equal(map.data, "hello", 5);
    aa_sys_map_close(&map);
    assert_int_equal(aa_sys_link_replace("f", link), 0);
    assert_int_equal(aa_sys_link_replace("f", link), 0);
    assert_int_equal(aa_sys_stat(&info, link), 0);
    assert_true(info.kind == AA_SYS_FILE && info.size_bytes == 5 && info.inode);
    assert_int_equal(aa_sys_truncate(path, 2), 0);
    assert_int_equal(aa_sys_map_open(&map, link), 0);
    assert_int_equal(map.size_bytes, 2);
    aa_sys_map_close(&map);
    assert_int_equal(aa_sys_truncate(path, 0), 0);
    assert_int_equal(aa_sys_map_open(&map, path), 0);
    assert_true(!map.data && !map.size_bytes);
    aa_sys_map_close(&map);
    assert_int_equal(aa_sys_map_open(&map, dir), EISDIR);
    assert_int_equal(aa_sys_truncate("/nowhere", 0), ENOENT);
    assert_int_equal(aa_sys_fsync_dir(dir), 0);
    assert_int_equal(aa_sys_make_dirs(path), ENOTDIR);
    aa_heap_free(path), aa_heap_free(link);
}

static void locks_exclude(void **state) {
    (void)state;
    char *path = in_temp("lock");
    int first = -1, second = -1;
    assert_int_equal(aa_sys_lock(path, &first), 0);
    assert_int_equal(aa_sys_lock(path, &second), EWOULDBLOCK);
    assert_int_equal(second, -1);
    aa_sys_unlock(first);
    assert_int_equal(aa_sys_lock(path, &second), 0);
    aa_sys_unlock(second);
    aa_heap_free(path);
}

static void memory(void **state) {
    (void)state;
    const size_t n = 9 << 20;
    void *p = NULL;
    assert_int_equal(aa_sys_pages_alloc(&p, n), 0);
    unsigned char *bytes = p;
    assert_int_equal((uintptr_t)p % 4096, 0);
    for (size_t i = 0; i < n; i += 4096) assert_int_equal(bytes[i], 0);
    memset(bytes, 1, n);
    assert_true(aa_sys_peak_rss() >= n);
    aa_sys_pages_free(p, n);
    p = NULL;
    assert_int_equal(aa_sys_pages_alloc(&p, 0), EINVAL);
    assert_null(p);
    assert_true(aa_sys_memory_total() > (64 << 20));
    assert_true(aa_sys_memory_available() > 0);
    assert_true(aa_sys_memory_available() <= aa_sys_memory_total());
}

static void clocks(void **state) {
    (void)state;
    double wall = aa_sys_clock_s();
    while (aa_sys_clock_s() - wall < 0.02) {}
    assert_true(aa_sys_clock_s() - wall < 10);
    assert_true(aa_sys_unix_ms() > INT64_C(1600000000000));
}

static void processor(void **state) {
    (void)state;
    aa_sys_cpu c;
    aa_sys_cpu_info(&c);
    assert_true(c.n_cores >= 1 && c.n_cores <= 100000);
    assert_true(*c.brand);
    assert_true(!c.avx512 || c.avx2_fma);
    assert_true(!c.avx512_bf16 || c.avx512);
#ifdef __aarch64__
    assert_true(c.neon);
#endif
    assert_true(c.l1d_bytes <= c.l2_bytes || !c.l2_bytes);
    aa_sys_pin_thread(0);
    aa_sys_cpu pinned;
    aa_sys_cpu_info(&pinned);
    assert_int_equal(pinned.n_cores, c.n_cores); /* of the process, not of the thread */
    aa_sys_pin_thread(-1);
    assert_int_equal(aa_sys_terminal_width(-1), 80);
    assert_false(aa_sys_is_terminal(-1));
    assert_null(aa_sys_dl_open("/nowhere/lib.so"));
}

static int signalled(int first, int second) {
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        aa_sys_interrupt_install();
        if (aa_sys_interrupt_pending()) _exit(1);
        raise(first);
        if (!aa_sys_interrupt_pending()) _exit(2);
        if (second) raise(second);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void signals(void **state) {
    (void)state;
    assert_int_equal(signalled(SIGINT, 0), 0);
    assert_int_equal(signalled(SIGTERM, SIGTERM), 0);
    assert_int_equal(signalled(SIGINT, SIGINT), 130);
    assert_int_equal(signalled(SIGTERM, SIGINT), 130);
}

/* Another program between two pipes: whatever it reads, writes, or does not. */
static void filters(void **state) {
    enum { N = 1 << 20 };
    char *in = malloc(N), *out = malloc(N + 1);
    size_t size = 0;
    int status = -1;

    (void)state;
    assert_non_null(in);
    assert_non_null(out);
    for (size_t i = 0; i < N; i++) in[i] = (char)('a' + i % 26);
    assert_int_equal(aa_sys_filter("cat", in, N, out, N + 1, 20, &size, &status), 0);
    assert_int_equal(size, N);
    assert_int_equal(status, 0);
    assert_memory_equal(in, out, N);
    assert_int_equal(aa_sys_filter("cat", in, N, out, N - 1, 20, &size, &status), EOVERFLOW);
    assert_int_equal(aa_sys_filter("echo no; exit 3", in, N, out, N, 20, &size, &status), 0);
    assert_int_equal(size, 3);
    assert_int_equal(status, 3);
    assert_int_equal(aa_sys_filter("kill -9 $$", in, 1, out, N, 20, &size, &status), 0);
    assert_int_equal(status, 128 + 9);
    const double start_s = aa_sys_clock_s();
    /* what it has started ends with it, and so does what has closed its output */
    assert_int_equal(aa_sys_filter("sleep 60 & sleep 60", in, 1, out, N, 0.2, &size, &status),
                     ETIMEDOUT);
    assert_int_equal(aa_sys_filter("exec >&-; sleep 60", in, 1, out, N, 0.2, &size, &status),
                     ETIMEDOUT);
    assert_true(aa_sys_clock_s() - start_s < 30);
    free(in);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees),   cmocka_unit_test(files),  cmocka_unit_test(locks_exclude),
        cmocka_unit_test(memory),  cmocka_unit_test(clocks), cmocka_unit_test(processor),
        cmocka_unit_test(filters),
        cmocka_unit_test(signals),
    };
    return cmocka_run_group_tests_name("unit_sys", tests, NULL, NULL);
}
