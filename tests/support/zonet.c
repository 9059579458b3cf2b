#include "support/zonet.h"

#include <math.h>
#include "base/memory.h"
#include "base/rng.h"
#include "support/check.h"

static const size_t shapes[ZN_ROWS][2] = {
    {ZN_HIDDEN, ZN_IN}, {ZN_RANK, ZN_IN}, {ZN_RANK, ZN_RANK}, {ZN_HIDDEN, ZN_RANK},
    {ZN_OUT, ZN_HIDDEN}, {ZN_RANK, ZN_HIDDEN}, {ZN_RANK, ZN_RANK}, {ZN_OUT, ZN_RANK},
    {1, ZN_HIDDEN}, {1, ZN_OUT}};
static const aa_factor factors[ZN_ROWS] = {
    AA_FACTOR_WHOLE, AA_FACTOR_A, AA_FACTOR_CORE, AA_FACTOR_B, AA_FACTOR_WHOLE,
    AA_FACTOR_A, AA_FACTOR_CORE, AA_FACTOR_B, AA_FACTOR_NORM, AA_FACTOR_SCALE};
enum { LARGEST = ZN_HIDDEN * ZN_HIDDEN };

typedef struct point { double row[ZN_ROWS][LARGEST]; } point;

/* m [out,in] = whole + scale b (core) a */
static void compose(const zonet *n, const point *p, int l, double *m) {
    const aa_zo_matrix *x = &n->matrices[l];
    const size_t out = shapes[4 * l][0], in = shapes[4 * l][1];
    for (size_t i = 0; i < out; i++)
        for (size_t j = 0; j < in; j++) {
            double sum = 0;
            for (size_t r = 0; r < ZN_RANK; r++)
                for (size_t q = 0; q < ZN_RANK; q++) {
                    double core = x->core >= 0 ? p->row[x->core][r * ZN_RANK + q] : r == q;
                    sum += p->row[4 * l + 3][i * ZN_RANK + r] * core *
                           p->row[4 * l + 1][q * in + j];
                }
            m[i * in + j] = p->row[4 * l][i * in + j] + (double)x->scale * sum;
        }
}

static void sample(uint64_t data, size_t s, double *x, double *t) {
    aa_rng rng;
    aa_rng_init(&rng, 5, AA_RNG_TEST, data * ZN_BATCH + s);
    for (int i = 0; i < ZN_IN; i++) x[i] = 2 * aa_rng_uniform(&rng) - 1;
    for (int i = 0; i < ZN_OUT; i++) t[i] = sin(3 * x[i]) + x[(i + 1) % ZN_IN] * x[i];
}

static double linear_loss(const zonet *n, double *const *m, uint64_t data) {
    double sum = 0;
    size_t at = 0;
    aa_rng rng;
    aa_rng_init(&rng, 6, AA_RNG_TEST, data);
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < shapes[4 * l][0] * shapes[4 * l][1]; i++, at++) {
            double noise = n->noise > 0 ? n->noise * sqrt(12) * (aa_rng_uniform(&rng) - 0.5) : 0;
            sum += (n->slope[at] + noise) * m[l][i] + n->curvature * m[l][i] * m[l][i] / 2;
        }
    return sum;
}

static double sample_loss(const point *p, double *const *m, uint64_t data, size_t s) {
    double x[ZN_IN], t[ZN_OUT], h[ZN_HIDDEN], sum = 0;
    sample(data, s, x, t);
    for (int i = 0; i < ZN_HIDDEN; i++) {
        double a = 0;
        for (int j = 0; j < ZN_IN; j++) a += m[0][i * ZN_IN + j] * x[j];
        h[i] = p->row[8][i] * tanh(a);
    }
    for (int i = 0; i < ZN_OUT; i++) {
        double y = 0;
        for (int j = 0; j < ZN_HIDDEN; j++) y += m[1][i * ZN_HIDDEN + j] * h[j];
        y = p->row[9][i] * y - t[i];
        sum += y * y / 2;
    }
    return sum;
}

static double loss_at(const zonet *n, const point *p, uint64_t data, double *each) {
    double m0[LARGEST], m1[LARGEST], *m[2] = {m0, m1}, sum = 0;
    if (n->fixed_data) data = 0;
    for (int l = 0; l < 2; l++) compose(n, p, l, m[l]);
    for (size_t s = 0; s < ZN_BATCH; s++) {
        double one = n->linear ? linear_loss(n, m, data) : sample_loss(p, m, data, s);
        one = n->factor * one + n->offset;
        if (each) each[s] = one;
        sum += one / ZN_BATCH;
    }
    return sum;
}

static point here(const zonet *n) {
    point p;
    for (int i = 0; i < ZN_ROWS; i++)
        for (size_t k = 0; k < aa_tensor_size(&n->tensors[i]); k++)
            p.row[i][k] = (double)n->tensors[i].data[k];
    return p;
}

static aa_status evaluate(void *self, const aa_zo_view *view, const aa_zo_probe *probes,
                          size_t count, double *losses, double *each, aa_err *err) {
    zonet *n = self;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        point p = here(n);
        aa_real d[LARGEST];
        aa_direction z;
        for (size_t row = 0; row < ZN_ROWS; row++) {
            size_t size = aa_tensor_size(&n->tensors[row]);
            if (!aa_zo_direction(view, row, &probes[i], &z)) continue;
            aa_direction_add(n->cpu, d, NULL, 0, 1, &z, 0, size);
            for (size_t k = 0; k < size; k++)
                p.row[row][k] += (double)probes[i].amplitude * (double)d[k];
        }
        losses[i] = loss_at(n, &p, probes[i].data, each ? each + i * ZN_BATCH : NULL);
        n->n_losses++;
    }
    return AA_OK;
}

double zonet_loss(zonet *n, uint64_t data) {
    point p = here(n);
    return loss_at(n, &p, data, NULL);
}

/* Top directions of x, or of h at the present point: power iterations over 64 samples. */
static aa_status basis(void *self, size_t row, size_t rank, uint64_t data, aa_real *a,
                       aa_err *err) {
    zonet *n = self;
    const size_t in = shapes[row][1];
    point p = here(n);
    double m0[LARGEST];
    (void)err;
    n->n_bases++;
    compose(n, &p, 0, m0);
    for (size_t i = 0; i < rank * in; i++) a[i] = (aa_real)(i % (in + 1) == 0);
    for (int round = 0; round < 3; round++) {
        double y[ZN_RANK * ZN_HIDDEN] = {0};
        for (uint64_t s = 0; s < 64; s++) {
            double x[ZN_IN], t[ZN_OUT], h[ZN_HIDDEN];
            sample(data * 16 + 1000, s, x, t);
            for (int i = 0; i < ZN_HIDDEN; i++) {
                h[i] = 0;
                for (int j = 0; j < ZN_IN; j++) h[i] += m0[i * ZN_IN + j] * x[j];
                h[i] = p.row[8][i] * tanh(h[i]);
            }
            const double *v = row < 4 ? x : h;
            for (size_t r = 0; r < rank; r++) {
                double along = 0;
                for (size_t j = 0; j < in; j++) along += (double)a[r * in + j] * v[j];
                for (size_t j = 0; j < in; j++) y[r * in + j] += along * v[j];
            }
        }
        for (size_t i = 0; i < rank * in; i++) a[i] = (aa_real)y[i];
        aa_zo_orthonormalize(a, rank, in);
    }
    return AA_OK;
}

/* Central differences: there are few parameters. */
static aa_status gradient(void *self, uint64_t data, aa_err *err) {
    zonet *n = self;
    (void)err;
    for (size_t row = 0; row < ZN_ROWS; row++)
        for (size_t k = 0; k < aa_tensor_size(&n->tensors[row]); k++) {
            point p = here(n);
            p.row[row][k] += 1e-4;
            double up = loss_at(n, &p, data, NULL);
            p.row[row][k] -= 2e-4;
            n->tensors[row].grad[k] += (aa_real)((up - loss_at(n, &p, data, NULL)) / 2e-4);
        }
    return AA_OK;
}

size_t zonet_size(void) {
    size_t n = 0;
    for (int i = 0; i < ZN_ROWS; i++) n += shapes[i][0] * shapes[i][1];
    return n;
}

static void fill(zonet *n, int i) {
    aa_tensor *t = &n->tensors[i];
    aa_rng rng;
    aa_rng_init(&rng, 3, AA_RNG_TEST, (uint64_t)i);
    for (size_t k = 0; k < aa_tensor_size(t); k++) {
        double u = 2 * aa_rng_uniform(&rng) - 1;
        t->data[k] = factors[i] == AA_FACTOR_NORM || factors[i] == AA_FACTOR_SCALE ? 1
                     : factors[i] == AA_FACTOR_B                                   ? 0
                     : factors[i] == AA_FACTOR_CORE ? (aa_real)(k % (ZN_RANK + 1) == 0)
                                                    : (aa_real)(0.7 * u);
        n->start[i][k] = t->data[k];
    }
}

void zonet_open(zonet *n, int threads, aa_isa isa, bool core) {
    static const char *const names[] = {"1.whole", "1.A", "1.core", "1.B", "2.whole",
                                        "2.A",     "2.core", "2.B",  "gain", "scale"};
    aa_err err = {0};
    *n = (zonet){.factor = 1};
    check_ok(aa_cpu_new(&n->cpu, threads, isa, &err));
    for (int i = 0; i < ZN_ROWS; i++) {
        aa_tensor *t = &n->tensors[i];
        *t = (aa_tensor){.kind = i < 8 ? AA_KIND_MATRIX : AA_KIND_NORM, .layer = i < 4 ? 0 : 1,
                         .rows = shapes[i][0], .cols = shapes[i][1]};
        snprintf(t->name, sizeof t->name, "%s", names[i]);
        t->data = aa_heap_alloc(aa_tensor_size(t), sizeof *t->data);
        t->grad = aa_heap_alloc(aa_tensor_size(t), sizeof *t->grad);
        n->start[i] = aa_heap_alloc(aa_tensor_size(t), sizeof *t->data);
        assert_true(t->data && t->grad && n->start[i]);
        fill(n, i);
        n->rows[i] = (aa_zo_row){t, (uint64_t)i, factors[i]};
    }
    for (int l = 0; l < 2; l++)
        n->matrices[l] = (aa_zo_matrix){4 * l, 4 * l + 1, core ? 4 * l + 2 : -1, 4 * l + 3, 0.5f};
    n->slope = aa_heap_alloc(2 * LARGEST, sizeof *n->slope);
    assert_non_null(n->slope);
    for (int i = 0; i < 2 * LARGEST; i++) n->slope[i] = sin(1.7 * i + 0.3);
    n->objective = (aa_zo_objective){.self = n, .space = {n->rows, ZN_ROWS, n->matrices, 2},
                                     .n_sequences = ZN_BATCH, .evaluate = evaluate, .basis = basis,
                                     .gradient = gradient};
}

void zonet_reset(zonet *n) {
    for (int i = 0; i < ZN_ROWS; i++)
        memcpy(n->tensors[i].data, n->start[i],
               aa_tensor_size(&n->tensors[i]) * sizeof(aa_real));
}

void zonet_close(zonet *n) {
    for (int i = 0; i < ZN_ROWS; i++) {
        aa_heap_free(n->tensors[i].data);
        aa_heap_free(n->tensors[i].grad);
        aa_heap_free(n->start[i]);
    }
    aa_heap_free(n->slope);
    aa_cpu_free(n->cpu);
}

aa_real *zonet_weights(const zonet *n) {
    aa_real *w = aa_heap_alloc(zonet_size(), sizeof *w);
    size_t at = 0;
    assert_non_null(w);
    for (int i = 0; i < ZN_ROWS; i++) {
        memcpy(w + at, n->tensors[i].data, aa_tensor_size(&n->tensors[i]) * sizeof *w);
        at += aa_tensor_size(&n->tensors[i]);
    }
    return w;
}
