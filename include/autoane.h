/* autoane.h: the public door of libautoane. Stable, small, plain C.
 *
 *     #include <autoane.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     int main(void) {
 *         char error[AA_LM_ERROR];
 *         const char *job[] = {"data", "novel.txt", "out", "runs/novel", "budget", "60s", NULL};
 *         if (aa_lm_train(job, NULL, NULL, NULL, error)) { fputs(error, stderr); return 1; }
 *
 *         aa_lm *lm;
 *         char *text;
 *         if (aa_lm_open(&lm, "runs/novel", 0, error)) { fputs(error, stderr); return 1; }
 *         aa_lm_options o = {.max_tokens = 100, .temperature = 0.8, .top_p = 0.95, .seed = 1};
 *         if (aa_lm_generate(lm, "It was", &o, &text, error)) {
 *             fputs(error, stderr);
 *             return 1;
 *         }
 *         puts(text);
 *         aa_lm_text_free(text);
 *         aa_lm_close(lm);
 *         return 0;
 *     }
 *
 * Functions return 0, or the exit status that the program of the same name would have ended with (1
 * failed, 2 wrong usage, 3 training diverged, 130 interrupted), and then put one or more sentences
 * into `error`, which may be NULL. Outputs are untouched on failure. A handle belongs to one thread
 * at a time; different handles are independent.
 */
#ifndef AUTOANE_H
#define AUTOANE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AA_LM_ERROR 768                    /* bytes of an error buffer */

const char *aa_lm_version(void);

/* ---- a language model, ready to run ---------------------------------------------------------- */

typedef struct aa_lm aa_lm;

/* path: a run directory, a checkpoint directory or a
 * Hugging Face directory. threads: 0 = one per core. */
int aa_lm_open(aa_lm **out, const char *path, int threads, char *error);
void aa_lm_close(aa_lm *lm);               /* NULL is fine */

typedef struct aa_lm_info {
    uint64_t params;
    int64_t dim, layers, heads, kv_heads, vocab, positions;
} aa_lm_info;
void aa_lm_describe(const aa_lm *lm, aa_lm_info *out);

typedef struct aa_lm_options {             /* all zero: greedy, up to the model's positions */
    int64_t max_tokens; /* new tokens at most; 0: as many as there are positions */
    double temperature;                    /* 0: greedy */
    int64_t top_k;                         /* 0: off */
    double top_p, min_p;                   /* 0: off */
    uint64_t seed;
    const char *stop;                      /* text that ends the generation, or NULL */
} aa_lm_options;

/* Continues prompt; *out_text is the new text alone,
 * NUL-terminated, to be given to aa_lm_text_free. */
int aa_lm_generate(aa_lm *lm, const char *prompt, const aa_lm_options *options, char **out_text,
                   char *error);
void aa_lm_text_free(char *text);

typedef struct aa_lm_loss {
    double loss, loss_stderr, bits_per_byte, perplexity;
    uint64_t tokens, bytes;
} aa_lm_loss;
/* Mean loss in nats per token over a text file, JSONL, directory or token file. */
int aa_lm_evaluate(aa_lm *lm, const char *data, aa_lm_loss *out, char *error);

/* ---- training -------------------------------------------------------------------------------- */

typedef struct aa_lm_progress {
    uint64_t step, tokens;
    double fraction, loss, tokens_per_s, left_s;
} aa_lm_progress;
/* Called after every update; returning non-zero stops with a checkpoint (status 130). */
typedef int aa_lm_on_progress(void *ctx, const aa_lm_progress *progress);

/* options: key, value, key, value ..., NULL; the keys are those of `autoane train --help`.
 * on_progress and out may be NULL; *out is the validation loss at the end. */
int aa_lm_train(const char *const *options, aa_lm_on_progress *on_progress, void *ctx,
                aa_lm_loss *out, char *error);

#ifdef __cplusplus
}
#endif
#endif
