/* Drawing the next token.
 *
 * top_k, top_p and min_p each keep a prefix of the tokens ordered by falling logit (ties: rising
 * id), so together they keep the shortest of three prefixes. A heap gives that order lazily: V
 * steps to build, log V for each token taken, so a nucleus of fifty out of fifty thousand costs no
 * sort. Taken tokens collect at the end of the heap's own array.
 *
 * Weights are exp((logit - best) / temperature): the best token has weight 1 and nothing overflows.
 * Holtzman et al. 2020, arXiv:1904.09751 (top_p); Fan et al. 2018, arXiv:1805.04833 (top_k);
 * Nguyen et al. 2024, arXiv:2407.01082 (min_p); Keskar et al. 2019, arXiv:1909.05858 (penalty).
 */
#include "infer/infer.h"

#include <math.h>
#include <string.h>

typedef struct candidate {
    aa_real logit;
    int32_t id;
} candidate;

void aa_sampling_defaults(aa_sampling *s) {
    *s = (aa_sampling){.temperature = 0.8,
                       .top_k = 40,
                       .top_p = 0.95,
                       .min_p = 0,
                       .repetition_penalty = 1,
                       .repetition_window = 64,
                       .seed = 0};
}

size_t aa_sample_scratch_bytes(size_t V) { return V * sizeof(candidate) + 8; }

/* Each token of the window once, however often it occurs; seen is one bit per id. */
static void penalize(const aa_sampling *s, aa_real *logits, size_t V, const int32_t *recent,
                     size_t n_recent, unsigned char *seen) {
    if (s->repetition_penalty == 1 || !(s->repetition_penalty > 0) || s->repetition_window <= 0)
        return;
    size_t n = (uint64_t)s->repetition_window < n_recent ? (size_t)s->repetition_window : n_recent;
    memset(seen, 0, V / 8 + 1);
    for (size_t i = n_recent - n; i < n_recent; i++) {
        if (recent[i] < 0 || (size_t)recent[i] >= V) continue;
        size_t id = (size_t)recent[i];
        if (seen[id / 8] >> (id % 8) & 1) continue;
        seen[id / 8] |= (unsigned char)(1u << (id % 8));
        logits[id] = (aa_real)(logits[id] > 0 ? logits[id] / s->repetition_penalty
                                              : logits[id] * s->repetition_penalty);
    }
}

static bool above(const candidate *a, const candidate *b) {
    return a->logit > b->logit || (!(a->logit < b->logit) && a->id < b->id);
}

static void sift_down(candidate *heap, size_t n, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1, top = i;
        if (child < n && above(&heap[child], &heap[top])) top = child;
        if (child + 1 < n && above(&heap[child + 1], &heap[top])) top = child + 1;
        if (top == i) return;
        candidate other = heap[i];
        heap[i] = heap[top];
        heap[top] = other;
        i = top;
    }
}

/* Moves the best of a heap of n to its end, heap[n - 1]. */
static void take_best(candidate *heap, size_t n) {
    candidate best = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = best;
    sift_down(heap, n - 1, 0);
}

static double weight(aa_real logit, aa_real best, double temperature) {
    if (!(logit < best)) return 1; /* also where both are infinite */
    return exp(((double)logit - (double)best) / temperature);
}

static double uniform_at(uint64_t seed, uint64_t index) {
    aa_rng r;
    aa_rng_init(&r, seed, AA_RNG_SAMPLE, 0);
    aa_rng_seek(&r, 2 * index); /* a uniform takes two words */
    return aa_rng_uniform(&r);
}

/* Nothing is cut: a walk over all tokens in order of their ids. */
static int32_t draw_from_all(const aa_real *logits, size_t V, aa_real best, double temperature,
                             double u) {
    double total = 0;
    for (size_t i = 0; i < V; i++) total += weight(logits[i], best, temperature);
    double left = u * total;
    int32_t last = 0;
    for (size_t i = 0; i < V; i++) {
        double w = weight(logits[i], best, temperature);
        if (w > 0) last = (int32_t)i;
        left -= w;
        if (left < 0) break;
    }
    return last;
}

static int32_t draw_from_best(const aa_sampling *s, const aa_real *logits, size_t V, candidate *c,
                              double u) {
    for (size_t i = 0; i < V; i++) c[i] = (candidate){logits[i], (int32_t)i};
    for (size_t i = V / 2; i-- > 0;) sift_down(c, V, i);
    aa_real best = c[0].logit;
    bool limited = s->top_k > 0 && (uint64_t)s->top_k < V;
    size_t most = limited ? (size_t)s->top_k : V, kept = 0;
    double total = 0, mass = 0; /* of what top_p is a share of; of what is kept */
    for (size_t i = 0; i < V && !limited; i++) total += weight(logits[i], best, s->temperature);
    for (size_t i = 0; i < most && limited; i++) {
        take_best(c, V - i);
        total += weight(c[V - 1 - i].logit, best, s->temperature);
    }
    while (kept < most) {
        if (kept > 0 && s->top_p < 1 && mass >= s->top_p * total) break;
        if (!limited) take_best(c, V - kept);
        double w = weight(c[V - 1 - kept].logit, best, s->temperature);
        if (kept > 0 && w < s->min_p) break;
        mass += w;
        kept++;
    }
    double left = u * mass;
    size_t pick = 0;
    for (; pick + 1 < kept; pick++) {
        left -= weight(c[V - 1 - pick].logit, best, s->temperature);
        if (left < 0) break;
    }
    return c[V - 1 - pick].id;
}

int32_t aa_sample(const aa_sampling *s, aa_real *logits, size_t V, const int32_t *recent,
                  size_t n_recent, uint64_t index, void *scratch) {
    penalize(s, logits, V, recent, n_recent, scratch);
    size_t best = 0;
    for (size_t i = 0; i < V; i++) {
        if (isnan(logits[i])) logits[i] = (aa_real)-INFINITY;
        if (logits[i] > logits[best]) best = i;
    }
    if (!(s->temperature > 0)) return (int32_t)best;
    double u = uniform_at(s->seed, index);
    bool cut = (s->top_k > 0 && (uint64_t)s->top_k < V) || s->top_p < 1 || s->min_p > 0;
    if (!cut) return draw_from_all(logits, V, logits[best], s->temperature, u);
    return draw_from_best(s, logits, V, scratch, u);
}
