/* cli: the program. One row per command, one file per command; the only room that prints and exits.
 *
 * A command is a row: its words, a sentence, its option tables, and a function. Parsing, --help,
 * --json, the collection of problems and the exit status are the same for all.
 */
#ifndef AA_CLI_CLI_H
#define AA_CLI_CLI_H

#include "base/option.h"
#include "data/chat.h"
#include "infer/infer.h"
#include "num/num.h"
#include "train/train.h"

enum { CLI_MAX_POSITIONAL = 8 };

typedef struct cli_call {
    const struct cli_command *command;
    aa_opts opts;                          /* all rows of the command; opts.values is its struct */
    const char *positional[CLI_MAX_POSITIONAL]; int n_positional;
    bool json;                             /* one object on standard output, talk on the other */
    aa_text out;                           /* to standard output when the command succeeds */
} cli_call;

typedef struct cli_command {
    const char *words, *group, *summary, *arguments;   /* "data stories", "data", "...", "MODEL" */
    const aa_opt *shared;                  /* rows whose struct begins the values, or NULL */
    const aa_opt *rows;                    /* its own rows; --json and --help belong to main */
    size_t values_size;
    int min_positional, max_positional;
    aa_status (*run)(cli_call *call, aa_err *err);
    const char *notes;                     /* remarks after the options, or NULL */
} cli_command;

/* The training options, which begin the values of a command that shares aa_train_rows. */
aa_opts cli_train_opts(cli_call *call);
aa_status cli_open_cpu(aa_cpu **out, int64_t threads, aa_err *err) AA_MUST_USE;
/* The option every command with threads has. */
#define CLI_THREADS_ROW(at)                                                                        \
    {"threads", "run", AA_OPT_INT, (at), "0", 0, AA_POOL_MAX_THREADS, 0, "N",                      \
     "threads; 0: one per core"}
/* And every command that runs a model from a file, at an int (an aa_compute). */
#define CLI_COMPUTE_ROW(at)                                                                        \
    {"compute", "run", AA_OPT_CHOICE, (at), "int8", 0, 0, 0, "f32|bf16|auto|int8",                 \
     "what is multiplied; int8: quantised weights as they are, floats otherwise"}
/* AA_EUSAGE when an option that must be given is not: "--key is missing: what". */
aa_status cli_need(const char *value, const char *key, const char *what, aa_err *err) AA_MUST_USE;
/* --tokenizer: a file of a tokenizer, a model that has one, or the word bytes. */
aa_status cli_open_tokenizer(aa_tokenizer **out, const char *path, aa_err *err) AA_MUST_USE;
/* The same and, of a model, its chat template; template: a file that is read instead. */
aa_status cli_open_tokenizer_and_template(aa_tokenizer **out, char **jinja, const char *path,
                                          const char *template, aa_err *err) AA_MUST_USE;
void cli_message(void *ctx, const char *line);         /* to standard error */
/* Problems collected in t become one AA_EUSAGE message (none: AA_OK); releases t. */
aa_status cli_problems(aa_text *t, aa_err *err) AA_MUST_USE;
/* Writes call->out now (a command that streams). */
void cli_flush(cli_call *call);
void cli_key_real(aa_text *out, const char *key, double v);
void cli_key_int(aa_text *out, const char *key, int64_t v);
void cli_key_string(aa_text *out, const char *key, const char *s);
void cli_key_ids(aa_text *out, const char *key, const int32_t *ids, size_t n);

/* Lines of standard input: edited, with a history, where it is a terminal and the library is there.
 * file: where the history is kept until the end of the program, or NULL. */
void cli_line_open(const char *file);
void cli_line_close(void);
/* The next line without its end; false when there is none. A backslash at its end asks for more. */
bool cli_line_read(const char *prompt, aa_text *out);

/* info of a model, of one file of weights, of an adapter. all: see the option. */
aa_status cli_info_model(cli_call *call, const char *path, bool all, aa_err *err) AA_MUST_USE;
aa_status cli_info_safetensors(cli_call *call, const char *path, bool all,
                               aa_err *err) AA_MUST_USE;
aa_status cli_info_adapter(cli_call *call, const char *path, aa_err *err) AA_MUST_USE;

/* generate --chat: reads messages from standard input and streams answers, until its end. first: a
 * message said before, or NULL. */
aa_status cli_chat(aa_session *s, const aa_chat *chat, const char *system, const char *first,
                   const aa_generation *g, aa_err *err) AA_MUST_USE;

/* The live line of a training run, or of anything else that takes long. */
typedef struct cli_progress {
    bool terminal, quiet; int width;
    double last_draw_s, last_line_s;
    double curve[512]; size_t n_curve; uint64_t curve_every;
    bool line_open;
    aa_text text;
} cli_progress;
void cli_progress_init(cli_progress *p, bool quiet);
void cli_progress_release(cli_progress *p);
/* Whether it is time to fill text and show it; last: the end is always shown on a terminal. */
bool cli_progress_due(cli_progress *p, bool last);
void cli_progress_show(cli_progress *p);
void cli_duration(double s, char *out, size_t n);
/* " ± 0.0123", or nothing where one sample cannot tell. */
typedef struct cli_error { char text[32]; } cli_error;
cli_error cli_plus_minus(double standard_error);
void cli_progress_step(void *ctx, const aa_train_progress *t);
void cli_progress_eval(void *ctx, const aa_train_progress *t, const aa_eval_result *r, bool best);
void cli_progress_sample(void *ctx, uint64_t step, const aa_text *text);
void cli_progress_message(void *ctx, const char *line);
bool cli_progress_stop(void *ctx);

extern const cli_command cli_train, cli_plan, cli_generate, cli_eval, cli_convert, cli_fetch,
    cli_info, cli_verify, cli_report, cli_tokenizer_train, cli_tokenizer_encode,
    cli_tokenizer_decode, cli_tokenizer_convert, cli_tokenizer_chat, cli_data_tokenize,
    cli_data_inspect, cli_data_stories, cli_data_batches, cli_bench_step, cli_bench_gemm,
    cli_bench_decode, cli_zo_replay, cli_zo_verify, cli_zo_merge, cli_zo_compact,
    cli_ane_lint, cli_ane_explain;

#endif
