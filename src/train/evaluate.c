/* Evaluation: mean loss over a fixed set of windows, with the standard error that its reader needs.
 *
 * The error bar treats windows, or examples, as the independent units: neighbouring tokens are not.
 * Bits per byte counts the bytes of ordinary target tokens and their losses only, so it compares
 * across tokenizers. */
#include <math.h>
#include "sys/sys.h"
#include "train/train.h"

typedef struct sums {
    double nats, window_sum, window_sq, text_nats;
    uint64_t tokens, bytes;
    size_t windows;
} sums;

static int32_t full_id(const aa_evaluator *e, int32_t id) {
    return e->active_ids ? e->active_ids[id] : id;
}

/* One window's losses into the sums, in order of position. */
static double add_window(const aa_evaluator *e, const aa_real *loss, const int32_t *targets,
                         size_t n_rows, sums *s) {
    double nats = 0; size_t n = 0;
    for (size_t t = 0; t < n_rows; t++) {
        if (targets[t] < 0) continue;
        size_t bytes =
            e->tokenizer ? aa_tokenizer_piece_bytes(e->tokenizer, full_id(e, targets[t])) : 0;
        if (bytes) { s->text_nats += (double)loss[t]; s->bytes += bytes; }
        nats += (double)loss[t];
        n++;
    }
    double mean = n ? nats / (double)n : 0;
    s->nats += nats; s->tokens += n; s->windows++;
    s->window_sum += mean; s->window_sq += mean * mean;
    return mean;
}

static void finish(const sums *s, double start_s, aa_eval_result *out) {
    double n = (double)s->windows, mean = s->window_sum / n;
    double variance = n > 1 ? fmax(0, s->window_sq / n - mean * mean) * n / (n - 1) : NAN;
    *out = (aa_eval_result){
        .loss = s->nats / (double)s->tokens,
        .loss_stderr = sqrt(variance / n),
        .bits_per_byte = s->bytes ? s->text_nats / (log(2) * (double)s->bytes) : NAN,
        .tokens = s->tokens, .bytes = s->bytes, .n_windows = s->windows,
        .wall_s = aa_sys_clock_s() - start_s,
    };
    out->perplexity = exp(out->loss);
}

/* i of n_windows as an index of n_all: spread evenly. */
static uint64_t spread(uint64_t i, uint64_t n_windows, uint64_t n_all) {
    return n_all / n_windows * i + n_all % n_windows * i / n_windows;
}

/* The next examples from number `first` on that fit one pass. */
static aa_batch next_examples(const aa_evaluator *e, size_t first) {
    aa_packed p = {.ids = e->ids, .targets = e->targets, .start = e->start};
    e->start[0] = 0;
    for (size_t i = first; i < e->n_windows; i++) {
        uint64_t which = spread(i, e->n_windows, e->examples->n);
        if (p.n_rows + e->examples->rows[which] > e->max_B * e->T) break;
        aa_examples_read(e->examples, which, &p);
    }
    return (aa_batch){.B = p.n_sequences, .T = e->T, .ids = e->ids, .targets = e->targets,
                      .start = e->start};
}

static aa_batch next_windows(const aa_evaluator *e, size_t first) {
    size_t B = e->n_windows - first < e->max_B ? e->n_windows - first : e->max_B;
    for (size_t b = 0; b < B; b++)
        aa_stream_eval_window(e->stream, first + b, e->n_windows, e->T, e->ids + b * e->T,
                              e->targets + b * e->T);
    return (aa_batch){.B = B, .T = e->T, .ids = e->ids, .targets = e->targets};
}

size_t aa_eval_windows(const aa_stream *s, const aa_examples *e, size_t T, uint64_t tokens) {
    uint64_t have = e ? e->n : aa_stream_eval_windows(s, T);
    double each = e ? (double)e->n_rows / (double)e->n : (double)T;
    double want = tokens ? ceil((double)tokens / each) : (double)have;
    return (size_t)(want < (double)have ? (uint64_t)want : have);
}

aa_status aa_evaluate(const aa_evaluator *e, double *window_loss, aa_eval_result *out,
                      aa_err *err) {
    double start_s = aa_sys_clock_s();
    sums s = {0};
    if (!e->n_windows)
        return aa_fail(err, AA_EUSAGE,
                       "the validation part is shorter than one window of %zu tokens; "
                       "give more text or a smaller seq",
                       e->T);
    for (size_t first = 0, n; first < e->n_windows; first += n) {
        aa_batch batch = (e->examples ? next_examples : next_windows)(e, first);
        n = batch.B;
        AA_TRY(aa_model_loss(e->model, e->backend, e->activations, &batch, e->loss, err));
        for (size_t b = 0; b < n; b++) {
            size_t begin = batch.start ? (size_t)batch.start[b] : b * e->T,
                   end = batch.start ? (size_t)batch.start[b + 1] : begin + e->T;
            double mean = add_window(e, e->loss + begin, e->targets + begin, end - begin, &s);
            if (window_loss) window_loss[first + b] = mean;
        }
    }
    if (!s.tokens)
        return aa_fail(err, AA_EUSAGE, "no token of the validation windows carries a loss");
    finish(&s, start_s, out);
    return AA_OK;
}
