/* The pool covers every task once, whatever the numbers of tasks and threads, and loses no wake-up:
 * runs much shorter than a spin, runs after the team has parked, more threads than cores. */
#include "base/pool.h"
#include "support/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

enum { MOST_TASKS = 1000 };

typedef struct cover {
    int threads;
    size_t n;
    unsigned char count[MOST_TASKS]; /* each task's own: no two threads share one */
    size_t begin[AA_POOL_MAX_THREADS], end[AA_POOL_MAX_THREADS];
} cover;

static void mark(void *ctx, size_t begin, size_t end, int thread) {
    cover *c = ctx;
    c->begin[thread] = begin;
    c->end[thread] = end;
    for (size_t i = begin; i < end; i++) c->count[i]++;
}

static void every_task_runs_once(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 64, 97, 255, 999, 1000};
    for (int threads = 1; threads <= 5; threads++) {
        aa_err err = {0};
        aa_pool *pool;
        check_ok(aa_pool_new(&pool, threads, &err));
        assert_int_equal(aa_pool_threads(pool), threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            static cover c;
            memset(&c, 0, sizeof c);
            aa_pool_run(pool, sizes[s], mark, &c);
            for (size_t i = 0; i < MOST_TASKS; i++)
                assert_int_equal(c.count[i], i < sizes[s] ? 1 : 0);
            size_t least = sizes[s] / (size_t)threads;
            for (int t = 0; t < threads; t++) {
                size_t n = c.end[t] - c.begin[t];
                assert_true(n == least || n == least + 1 || !n);
                if (n && t) assert_true(c.begin[t] == 0 || c.begin[t] >= c.end[t - 1]);
            }
        }
        aa_pool_free(pool);
    }
}

static void count_ranges(void *ctx, size_t begin, size_t end, int thread) {
    (void)thread;
    atomic_fetch_add((atomic_size_t *)ctx, end - begin);
}

static void stress(int threads, size_t runs, bool rest) {
    aa_err err = {0};
    aa_pool *pool;
    atomic_size_t sum = 0;
    size_t want = 0;
    check_ok(aa_pool_new(&pool, threads, &err));
    for (size_t i = 0; i < runs; i++) {
        size_t n = i % 7;
        aa_pool_run(pool, n, count_ranges, &sum);
        want += n;
        assert_int_equal(atomic_load(&sum), want);
        /* Rests around the time after which the team parks, to meet it on its way there. */
        if (rest) nanosleep(&(struct timespec){0, (long)(i % 40) * 20000}, NULL);
    }
    aa_pool_free(pool);
}

static void tiny_runs(void **state) {
    (void)state;
    stress(2, 20000, false);
    stress(3, 2000, false);
}

static void runs_around_parking(void **state) {
    (void)state;
    stress(2, 500, true);
    stress(4, 250, true);
}

static void more_threads_than_cores(void **state) {
    (void)state;
    stress(33, 100, false);
}

/* A rest a thousand times the spin costs next to no CPU time, or the team never parks. */
static void idle_teams_park(void **state) {
    (void)state;
    aa_err err = {0};
    aa_pool *pool;
    atomic_size_t sum = 0;
    check_ok(aa_pool_new(&pool, 3, &err));
    aa_pool_run(pool, 3, count_ranges, &sum);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    clock_t cpu = clock();
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    assert_true((double)(clock() - cpu) < 0.02 * CLOCKS_PER_SEC);
    aa_pool_run(pool, 3, count_ranges, &sum);
    assert_int_equal(atomic_load(&sum), 6);
    aa_pool_free(pool);
}

static void pools_one_after_another(void **state) {
    (void)state;
    for (int i = 0; i < 100; i++) stress(1 + i % 4, (size_t)(i % 3), false);
}

static void no_pool_is_the_caller(void **state) {
    (void)state;
    static cover c;
    memset(&c, 0, sizeof c);
    assert_int_equal(aa_pool_threads(NULL), 1);
    aa_pool_run(NULL, 10, mark, &c);
    assert_int_equal(c.end[0], 10);
    aa_pool_free(NULL);
}

static void sizes_are_checked(void **state) {
    (void)state;
    aa_pool *pool = NULL;
    aa_err err = {0};
    assert_int_equal(aa_pool_new(&pool, -1, &err), AA_EUSAGE);
    assert_int_equal(aa_pool_new(&pool, AA_POOL_MAX_THREADS + 1, NULL), AA_EUSAGE);
    assert_null(pool);
    assert_string_equal(err.message, "-1 threads: want 1 to 512, or 0 for one per core");
    memset(&err, 0, sizeof err);
    check_ok(aa_pool_new(&pool, 0, &err));
    assert_true(aa_pool_threads(pool) >= 1);
    aa_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),    cmocka_unit_test(tiny_runs),
        cmocka_unit_test(runs_around_parking),     cmocka_unit_test(more_threads_than_cores),
        cmocka_unit_test(pools_one_after_another), cmocka_unit_test(no_pool_is_the_caller),
        cmocka_unit_test(sizes_are_checked),       cmocka_unit_test(idle_teams_park),
    };
    return cmocka_run_group_tests_name("unit_pool", tests, NULL, NULL);
}
