/* Directions and what is computed along them. T1 .. T15 number the fifteen tests that zeroth-order
 * training has to pass; this file has those of the generator, T1 to T3, and T10 for one term. */
#include "num/lowrank.h"
#include "real.h"

/* T1: the generator's published answers (Random123) through the kernel of every set. */
static void T1_generator_known_answers(void **state) {
    static const struct { uint32_t ctr[4], key[2], want[4]; } rows[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
    (void)state;
    EACH_ISA(isa) {
        aa_kernels k;
        aa__kernels_choose(&k, isa);
        for (size_t i = 0; i < 3; i++) {
            uint32_t out[4];
            k.philox(out, rows[i].ctr, rows[i].key, 1);
            check_same_bits("philox", out, rows[i].want, sizeof out);
        }
    }
}

enum { N = 6007 };
static const aa_direction signs = {.seed = 0x123456789abcdef0u, .tensor = 77 | AA_FACTOR_B << 24,
                                   .step = 12, .stream = 5},
                          normals = {.seed = 9, .tensor = 3, .law = AA_LAW_NORMAL};

/* Element i by the definition in direction.h. */
static double sign_at(const aa_direction *z, uint64_t i) {
    const uint32_t ctr[4] = {(uint32_t)(i / 128), z->tensor, z->step, z->stream},
                   key[2] = {(uint32_t)z->seed, (uint32_t)(z->seed >> 32)};
    uint32_t out[4];
    aa_philox4x32_10(ctr, key, out);
    return out[i % 128 / 32] >> i % 32 & 1 ? -1 : 1;
}

static double normal_at(const aa_direction *z, uint64_t i) {
    const uint32_t ctr[4] = {(uint32_t)(i / 4), z->tensor, z->step, z->stream},
                   key[2] = {(uint32_t)z->seed, (uint32_t)(z->seed >> 32)};
    uint32_t out[4];
    aa_philox4x32_10(ctr, key, out);
    double r = sqrt(-2 * log(((double)out[i % 4 / 2 * 2] + 1) * 0x1p-32)),
           angle = 6.283185307179586 * out[i % 4 / 2 * 2 + 1] * 0x1p-32;
    return i % 2 ? r * sin(angle) : r * cos(angle);
}

/* T2: whole, tiles, reversed, single elements, threads and instruction sets: the same bits. */
static void T2_coordinates_are_independent(void **state) {
    aa_real *want = zeros(N), *got = zeros(N);
    (void)state;
    for (int law = 0; law < 2; law++) {
        const aa_direction *z = law ? &normals : &signs;
        for (size_t i = 0; i < N; i++) {
            want[i] = AA_R(law ? normal_at(z, i) : sign_at(z, i));
        }
        EACH_ISA(isa)
            for (int threads = 1; threads <= 8; threads += threads < 3 ? 1 : 5) {
                aa_cpu *cpu = team(threads, isa);
                aa_direction_add(cpu, got, NULL, 0, 1, z, 0, N);
                if (law == 1) {          /* the definition is libm's, then the first set's */
                    near_real("normals", got, want, N, 2 * REAL_EPS, 1e-9);
                    memcpy(want, got, N * sizeof *got);
                    law = 2;
                }
                same_bits("whole", got, want, N);
                for (size_t tile = 1; tile < 6000; tile = tile * 5 + 2) {
                    memset(got, 0, N * sizeof *got);
                    for (size_t at = (N - 1) / tile * tile;; at -= tile) { /* from the end */
                        aa_direction_add(cpu, got + at, NULL, 0, 1, z, at, aa__min(tile, N - at));
                        if (!at) break;
                    }
                    same_bits("tiles", got, want, N);
                }
                aa_cpu_free(cpu);
            }
    }
    aa_heap_free(want);
    aa_heap_free(got);
}

/* Far out, around 2^32 blocks, and ids that would run into the factor. */
static void T2_ends_of_the_counters(void **state) {
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    aa_real got[300];
    uint32_t tensor = 0;
    aa_err err = {0};
    const uint64_t first = ((uint64_t)1 << 39) - 300;
    (void)state;
    aa_direction_add(cpu, got, NULL, 0, 1, &signs, first, 300);
    for (size_t i = 0; i < 300; i++) assert_true((double)got[i] == sign_at(&signs, first + i));
    check_ok(aa_direction_tensor(&tensor, AA_DIRECTION_MOST_TENSORS - 1, AA_FACTOR_NORM, &err));
    assert_int_equal(tensor, 0x04ffffff);
    assert_int_equal(aa_direction_tensor(&tensor, AA_DIRECTION_MOST_TENSORS, AA_FACTOR_NORM, &err),
                     AA_EUNSUPPORTED);
    assert_string_equal(err.message,
                        "tensor id 16777216 has no directions of its own: ids go to 16777215");
    assert_int_equal(tensor, 0x04ffffff);
    aa_cpu_free(cpu);
}

/* ---- T3: statistics -------------------------------------------------------------------------- */

enum { SIDE = 256 };
static aa_real block[SIDE * SIDE], other[SIDE * SIDE];

/* z-score of a sum of n independent signs. */
static void check_sum(const char *what, double sum, double n) {
    if (fabs(sum) / sqrt(n) >= 4) fail_msg("%s: z-score %.2f", what, sum / sqrt(n));
}

static double product(const aa_real *x, const aa_real *y, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

static int rank_of_signs(void) {
    static uint64_t m[SIDE][SIDE / 64];
    int rank = 0;
    memset(m, 0, sizeof m);
    for (size_t i = 0; i < SIDE * SIDE; i++)
        if (block[i] < 0) m[i / SIDE][i % SIDE / 64] |= (uint64_t)1 << i % 64;
    for (int col = 0; col < SIDE; col++) {
        int pivot = rank;
        while (pivot < SIDE && !(m[pivot][col / 64] >> col % 64 & 1)) pivot++;
        if (pivot == SIDE) continue;
        for (int w = 0; w < SIDE / 64; w++) {
            uint64_t t = m[pivot][w];
            m[pivot][w] = m[rank][w], m[rank][w] = t;
        }
        for (int row = rank + 1; row < SIDE; row++)
            if (m[row][col / 64] >> col % 64 & 1)
                for (int w = 0; w < SIDE / 64; w++) m[row][w] ^= m[rank][w];
        rank++;
    }
    return rank;
}

static void draw_other(aa_cpu *cpu, aa_direction z) {
    aa_direction_add(cpu, other, NULL, 0, 1, &z, 0, SIDE * SIDE);
}

/* T3: catches checkerboards, collisions of seeds, linear hashes. */
static void T3_sign_statistics(void **state) {
    aa_cpu *cpu = team(1, AA_ISA_AUTO);
    const double n = SIDE * SIDE;
    (void)state;
    aa_direction_add(cpu, block, NULL, 0, 1, &signs, 0, SIDE * SIDE);
    double mean = 0, parity = 0, rows = 0, columns = 0;
    for (int i = 0; i < SIDE; i++) {
        double row = 0, column = 0;
        for (int j = 0; j < SIDE; j++) {
            double x = (double)block[i * SIDE + j];
            mean += x, row += x, column += (double)block[j * SIDE + i];
            parity += (i + j) % 2 ? -x : x;
        }
        rows += row * row, columns += column * column;
    }
    check_sum("mean", mean, n);
    check_sum("parity of row and column", parity, n);
    /* sum_i (row_i^2 - SIDE) has variance 2 SIDE (SIDE - 1) per row */
    check_sum("row sums", rows - n, 2 * n * (SIDE - 1));
    check_sum("column sums", columns - n, 2 * n * (SIDE - 1));
    for (size_t lag = 1; lag <= 64; lag++)
        check_sum("lag", product(block, block + lag, SIDE * SIDE - lag), n - (double)lag);
    assert_true(rank_of_signs() >= 250);
    for (uint32_t d = 1; d <= 64; d *= 2) {
        aa_direction z = signs;
        z.step += d, draw_other(cpu, z), z.step -= d;
        check_sum("steps", product(block, other, SIDE * SIDE), n);
        z.stream += d, draw_other(cpu, z), z.stream -= d;
        check_sum("streams", product(block, other, SIDE * SIDE), n);
        z.tensor += d, draw_other(cpu, z), z.tensor -= d;
        check_sum("tensors", product(block, other, SIDE * SIDE), n);
        z.tensor += (d % 7) << 24, draw_other(cpu, z), z.tensor -= (d % 7) << 24;
        check_sum("factors", product(block, other, SIDE * SIDE), n);
        z.seed += d, draw_other(cpu, z);
        check_sum("seeds", product(block, other, SIDE * SIDE), n);
    }
    aa_cpu_free(cpu);
}

/* ---- what is computed along them ------------------------------------------------------------- */

/* Every form of D against its definition; the sum in the order that is promised. */
static void sums_by_hand(void **state) {
    enum { TERMS = 131, M = 4500 };
    static aa_direction_term terms[TERMS];
    aa_real *gain = numbers(M, 1), *along = numbers(M, 2), *y = zeros(M), *want = zeros(M),
            *old = numbers(M, 3), *d = zeros(M);
    aa_cpu *reference = team(1, AA_ISA_SCALAR);
    (void)state;
    for (uint32_t s = 0; s < TERMS; s++)
        terms[s] = (aa_direction_term){.c = AA_R(0.01) * AA_R((int)(s % 11) - 5),
                                       .shift = AA_R(0.3) * AA_R(s % 3),
                                       .stream = s * 7 + 1};
    for (int form = 0; form < 8; form++) {
        aa_direction z = form & 1 ? normals : signs;
        bool add = form % 3 == 1;
        z.gain = form & 2 ? gain : NULL;
        z.along = form & 4 ? along : NULL;
        for (size_t i = 0; i < M; i++) want[i] = 0;
        for (size_t s = 0; s < TERMS; s++) {
            aa_direction zs = z;
            zs.stream = terms[s].stream, zs.gain = NULL, zs.shift = terms[s].shift;
            aa_direction_add(reference, d, NULL, 0, 1, &zs, 0, M);
            for (size_t i = 0; i < M; i++) {
                aa_real base = AA_R(form & 1 ? normal_at(&zs, i) : sign_at(&zs, i));
                if (form & 4) base += zs.shift * along[i];
                if (fabs((double)(base - d[i])) > 1e-6) fail_msg("direction %d [%zu]", form, i);
                volatile aa_real term = terms[s].c * d[i];
                want[i] += term;
            }
        }
        for (size_t i = 0; i < M; i++) {
            volatile aa_real sum = form & 2 ? gain[i] * want[i] : want[i];
            want[i] = add ? old[i] + sum : sum;
        }
        EACH_ISA(isa)
            for (int threads = 1; threads <= 3; threads++) {
                aa_cpu *cpu = team(threads, isa);
                memcpy(y, old, M * sizeof *y);
                aa_direction_sum(cpu, y, add, &z, terms, TERMS, M);
                same_bits("sum", y, want, M);
                aa_cpu_free(cpu);
            }
    }
    aa_real *all[] = {gain, along, y, want, old, d};
    for (size_t i = 0; i < 6; i++) aa_heap_free(all[i]);
    aa_cpu_free(reference);
}

typedef struct shape { size_t n_out, rank; } shape;
enum { LD = 3, STREAMS = 4, ROWS = 1 + 700 + 13 + 40 };
static const size_t stream_rows[STREAMS] = {1, 700, 13, 40};

static void fill_streams(aa_lowrank_stream *streams, const aa_real *gain) {
    size_t at = 0;
    for (uint32_t s = 0; s < STREAMS; s++) {
        streams[s] = (aa_lowrank_stream){
            at, stream_rows[s], s == 2 ? 0 : s % 2 ? AA_R(0.2) : AA_R(-0.3), signs};
        streams[s].z.stream = s;
        streams[s].z.gain = s == 3 ? gain : NULL;
        at += stream_rows[s];
    }
}

/* y += s (B + a D) p against the definition, and T10: streams in one pass, one by one, in other
 * order, on other teams. */
static void T10_streams_at_a_shape(shape sh) {
    const size_t n = sh.n_out, r = sh.rank, ldy = n + LD, ldp = r + LD;
    aa_real *b = numbers(n * r, 1), *p = numbers(ROWS * ldp, 2), *old = numbers(ROWS * ldy, 3),
            *gain = numbers(n * r, 4), *y = copy_of(old, ROWS * ldy), *first = NULL,
            *d = zeros(n * r);
    aa_lowrank_stream streams[STREAMS];
    fill_streams(streams, gain);
    EACH_ISA(isa)
        for (int form = 0; form < 4; form++) {
            aa_lowrank term = {n, r, form & 1 ? b : NULL, AA_R(0.5), form & 2};
            aa_cpu *cpu = team(1 + form, isa);
            memcpy(y, old, ROWS * ldy * sizeof *y);
            aa_lowrank_streams(cpu, y, ldy, p, ldp, &term, streams, STREAMS);
            aa_heap_free(first);
            first = copy_of(y, ROWS * ldy);
            for (size_t s = 0; s < STREAMS; s++) {
                const aa_lowrank_stream *st = &streams[s];
                aa_direction_add(cpu, d, term.b, 1, st->amplitude, &st->z, 0, n * r);
                for (size_t t = st->first; t < st->first + st->n_rows; t += 9)
                    for (size_t j = 0; j < n; j += 5) {
                        double want = 0, size = 1;
                        for (size_t k = 0; k < r; k++) {
                            want += 0.5 * (double)d[j * r + k] * (double)p[t * ldp + k];
                            size += fabs((double)d[j * r + k] * (double)p[t * ldp + k]);
                        }
                        if (!term.fresh) want += (double)old[t * ldy + j];
                        if (fabs((double)y[t * ldy + j] - want) >
                            ((double)r + 4) * REAL_EPS * (size + fabs(want)))
                            fail_msg("%zux%zu form %d [%zu,%zu]: %.9g, want %.9g", n, r, form, t, j,
                                     (double)y[t * ldy + j], want);
                    }
            }
            memcpy(y, old, ROWS * ldy * sizeof *y);
            aa_cpu_free(cpu);
            cpu = team(3, isa);
            for (int s = STREAMS - 1; s >= 0; s--)
                aa_lowrank_streams(cpu, y, ldy, p, ldp, &term, streams + s, 1);
            same_bits("streams one by one", y, first, ROWS * ldy);
            aa_cpu_free(cpu);
        }
    aa_real *all[] = {b, p, old, gain, y, first, d};
    for (size_t i = 0; i < 7; i++) aa_heap_free(all[i]);
}

static void T10_streams_in_one_pass(void **state) {
    static const shape shapes[] = {{1, 1}, {70, 8}, {33, 3}, {8, 300}, {40, 2100}, {300, 4}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) T10_streams_at_a_shape(shapes[i]);
}

static void merging(void **state) {
    enum { OUT = 19, IN = 37, RANK = 5 };
    aa_real *b = numbers(OUT * RANK, 1), *a = numbers(RANK * IN, 2), *w = numbers(OUT * IN, 3),
            *want = copy_of(w, OUT * IN), *y = zeros(OUT * IN);
    (void)state;
    for (size_t n = 0; n < OUT; n++)
        for (size_t r = 0; r < RANK; r++)
            for (size_t i = 0; i < IN; i++) {
                volatile aa_real c = AA_R(0.7) * b[n * RANK + r], term = c * a[r * IN + i];
                want[n * IN + i] += term;
            }
    EACH_ISA(isa) {
        aa_cpu *cpu = team(2, isa);
        memcpy(y, w, OUT * IN * sizeof *y);
        aa_lowrank_merge(cpu, y, b, a, OUT, IN, RANK, AA_R(0.7));
        same_bits("merge", y, want, OUT * IN);
        aa_cpu_free(cpu);
    }
    aa_real *all[] = {b, a, w, want, y};
    for (size_t i = 0; i < 5; i++) aa_heap_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(T1_generator_known_answers),
        cmocka_unit_test(T2_coordinates_are_independent),
        cmocka_unit_test(T2_ends_of_the_counters),
        cmocka_unit_test(T3_sign_statistics),
        cmocka_unit_test(sums_by_hand),
        cmocka_unit_test(T10_streams_in_one_pass),
        cmocka_unit_test(merging),
    };
    return cmocka_run_group_tests_name("kernels_direction", tests, NULL, NULL);
}
