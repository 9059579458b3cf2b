/* The comparisons of tests/support must be able to fail. Each case runs as this program again. */
#include "support/check.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char *self;

static const struct {
    double got, want, rel, abs;
    int same;
} near[] = {
    {1, 1, 0, 0, 1},
    {1, 1.001, 1e-2, 0, 1},
    {1, 1.1, 1e-2, 0, 0},
    {1e-9, 0, 1e-2, 1e-8, 1},
    {1e-7, 0, 1e-2, 1e-8, 0},
    {INFINITY, INFINITY, 1e-2, 0, 1},
    {-INFINITY, INFINITY, 1e-2, 0, 0},
    {5, INFINITY, 1e-2, 0, 0},
    {INFINITY, 5, 1e-2, 1, 0},
    {NAN, 5, 1e-2, 1, 0},
    {5, NAN, 1e-2, 1, 0},
};
enum { NEAR = sizeof near / sizeof *near };

static int which; /* in the child: the row to compare, or one of these */
enum { OTHER_BITS = NEAR, FAILED_STATUS };

static void one_case(void **state) {
    (void)state;
    if (which == OTHER_BITS) check_same_bits("bits", "abc", "abd", 3);
    else if (which == FAILED_STATUS) {
        aa_err err = {0};
        check_ok(aa_fail(&err, AA_EIO, "broken"));
    } else {
        double got[] = {0, near[which].got}, want[] = {0, near[which].want};
        float got32[] = {0, (float)got[1]}, want32[] = {0, (float)want[1]};
        check_near_f64("f64", got, want, 2, near[which].rel, near[which].abs);
        check_near_f32("f32", got32, want32, 2, near[which].rel, near[which].abs);
    }
}

/* Exit status of this program run with the case's number. */
static int child(int number) {
    char word[16];
    snprintf(word, sizeof word, "%d", number);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        execl(self, self, word, (char *)NULL);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void differences_fail(void **state) {
    (void)state;
    for (int i = 0; i < NEAR; i++) {
        if (child(i) == !near[i].same) continue;
        print_error("row %d: %g against %g\n", i, near[i].got, near[i].want);
        fail();
    }
    assert_int_equal(child(OTHER_BITS), 1);
    assert_int_equal(child(FAILED_STATUS), 1);
    check_same_bits("bits", "abc", "abc", 3);
}

static void children_leave_the_directory(void **state) {
    (void)state;
    const char *dir = check_temp_dir();
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(access(dir, F_OK), 0);
    assert_ptr_equal(check_temp_dir(), dir);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_fail),
        cmocka_unit_test(children_leave_the_directory),
    };
    const struct CMUnitTest one[] = {cmocka_unit_test(one_case)};
    if (argc > 1) {
        which = (int)strtol(argv[1], NULL, 10);
        return cmocka_run_group_tests_name("one_case", one, NULL, NULL);
    }
    self = argv[0];
    return cmocka_run_group_tests_name("unit_check", tests, NULL, NULL);
}
