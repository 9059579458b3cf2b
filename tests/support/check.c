#include "support/check.h"
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/memory.h"
#include "sys/sys.h"

void check_status(aa_status st, const aa_err *err, const char *file, int line) {
    if (!st) return;
    print_error("%s:%d: %s: %s\n", file, line, aa_status_text(st), err ? err->message : "");
    _fail(file, line);
}

#define CHECK_NEAR(suffix, type)                                                                   \
    void check_near_##suffix(const char *name, const type *got, const type *want, size_t n,        \
                             double rel, double abs) {                                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            double g = (double)got[i], w = (double)want[i];                                        \
            if (g == w || (isfinite(w) && fabs(g - w) <= abs + rel * fabs(w))) continue;           \
            print_error("%s[%zu of %zu]: got %.9g, want %.9g, off by %.3g\n", name, i, n, g, w,    \
                        g - w);                                                                    \
            _fail(__FILE__, __LINE__);                                                             \
        }                                                                                          \
    }
CHECK_NEAR(f32, float)
CHECK_NEAR(f64, double)

void check_same_bits(const char *name, const void *got, const void *want, size_t n_bytes) {
    const unsigned char *g = got, *w = want;
    for (size_t i = 0; i < n_bytes; i++) {
        if (g[i] == w[i]) continue;
        print_error("%s: byte %zu of %zu differs: %02x, want %02x\n", name, i, n_bytes, g[i], w[i]);
        _fail(__FILE__, __LINE__);
    }
}

static char temp_dir[512];
static pid_t temp_dir_owner;

/* A child that ends by exit must not take its parent's directory along. */
static void remove_temp_dir(void) {
    if (getpid() == temp_dir_owner) (void)aa_sys_remove_tree(temp_dir);
}

const char *check_temp_dir(void) {
    if (*temp_dir) return temp_dir;
    const char *base = getenv("TMPDIR");
    snprintf(temp_dir, sizeof temp_dir, "%s/autoane-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(temp_dir)) {
        print_error("cannot make a directory like %s\n", temp_dir);
        *temp_dir = 0;
        _fail(__FILE__, __LINE__);
    }
    temp_dir_owner = getpid();
    atexit(remove_temp_dir);
    return temp_dir;
}
