#include "support/models.h"

#include <math.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/memory.h"
#include "support/check.h"
#include "support/toy.h"

char *model_path(const char *name) {
    char *path = aa_path_join(check_temp_dir(), name);

    assert_non_null(path);
    return path;
}

const aa_config model_base = {.arch = AA_ARCH_LLAMA, .dim = 64, .layers = 2, .heads = 4,
                              .kv_heads = 2, .ffn = 256, .vocab = 257, .seq = 128, .tied = true};

aa_source *model_source(const aa_config *c) {
    const toy_options o = {.B = 1, .T = 8};
    aa_hf_options hf = {0};
    aa_source *s = NULL;
    aa_err err = {0};
    toy t;
    bool exact;
    char *dir = model_path("toy");

    toy_open(&t, c, &o);
    assert_int_equal(aa_sys_remove_tree(dir), 0);
    check_ok(aa_make_dirs(dir, &err));
    check_ok(aa_hf_write(dir, &t.model, &hf, &exact, &err));
    check_ok(aa_source_open(&s, dir, &err));
    toy_close(&t);
    aa_heap_free(dir);
    return s;
}

void check_same_config(const aa_config *a, const aa_config *b) {
    check_same_bits("config", a, b, sizeof *a);
}

void check_same_rows(aa_source *a, aa_source *b, double most) {
    aa_tensor rows[MODEL_ROWS];
    size_t n = aa_model_rows(&a->config, rows, MODEL_ROWS);
    aa_err err = {0};

    assert_true(n <= MODEL_ROWS);
    for (size_t i = 0; i < n; i++) {
        size_t size = aa_tensor_size(&rows[i]);
        float *x = malloc(size * sizeof *x), *y = malloc(size * sizeof *y), largest = 0;

        check_ok(aa_source_read(a, &rows[i], x, &err));
        check_ok(aa_source_read(b, &rows[i], y, &err));
        for (size_t k = 0; k < size; k++) largest = fmaxf(largest, fabsf(x[k]));
        if (most == 0) check_same_bits(rows[i].name, y, x, size * sizeof *x);
        else check_near_f32(rows[i].name, y, x, size, 0, most * (double)largest);
        free(x), free(y);
    }
    check_ok(b->check_all_read(b, &err));
}
