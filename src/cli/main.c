/* The command table, and everything commands have in common. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "sys/sys.h"

static const cli_command *const commands[] = {
    &cli_train, &cli_plan, &cli_zo_replay, &cli_zo_verify, &cli_zo_merge, &cli_zo_compact,
    &cli_generate, &cli_eval, &cli_report, &cli_info, &cli_verify,
    &cli_convert, &cli_fetch, &cli_tokenizer_train, &cli_tokenizer_encode, &cli_tokenizer_decode,
    &cli_tokenizer_convert, &cli_tokenizer_chat,
    &cli_data_tokenize, &cli_data_inspect, &cli_data_stories, &cli_data_batches,
    &cli_bench_step, &cli_bench_gemm, &cli_bench_decode, &cli_ane_lint, &cli_ane_explain,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

/* ---- help ------------------------------------------------------------------------------------ */

static int width_of(int fd) { return aa_sys_is_terminal(fd) ? aa_sys_terminal_width(fd) : 100; }

static void help_all(aa_text *out) {
    aa_text_add(out,
                "autoane " AA_VERSION
                ": trains, fine-tunes and runs Llama-family language models on this machine\n\n"
                "usage: autoane COMMAND [ARGUMENTS] [--option value ...]\n");
    const char *group = "";
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const cli_command *c = commands[i];
        if (strcmp(group, c->group)) aa_text_printf(out, "\n%s\n", c->group);
        group = c->group;
        aa_text_printf(out, "  %-18s %s\n", c->words, c->summary);
    }
    aa_text_add(out, "\n`autoane COMMAND --help` explains a command and every option it has.\n"
                     "exit status: 0 done, 1 failed, 2 wrong usage, 3 training diverged, 130 "
                     "interrupted, a run after its checkpoint\n");
}

static void help_command(const cli_command *c, int width, aa_text *out) {
    aa_text_printf(out, "usage: autoane %s%s%s [--option value ...]\n\n%s\n", c->words,
                   *c->arguments ? " " : "", c->arguments, c->summary);
    if (c->shared) aa_opts_help(c->shared, out, width);
    aa_opts_help(c->rows, out, width);
    if (c->notes) aa_text_printf(out, "\n%s", c->notes);
}

/* ---- finding the command --------------------------------------------------------------------- */

static const char *command_words(const void *table, size_t i) {
    return ((const cli_command *const *)table)[i]->words;
}

/* The row whose words begin argv, or NULL; *used words of argv. */
static const cli_command *find_command(int argc, char **argv, int *used) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *words = commands[i]->words, *space = strchr(words, ' ');
        size_t n = space ? (size_t)(space - words) : strlen(words);
        if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], words, n)) continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1))) continue;
        *used = space ? 2 : 1;
        return commands[i];
    }
    return NULL;
}

static bool in_group(const cli_command *c, const char *group) {
    size_t n = strlen(group);
    return strncmp(c->words, group, n) == 0 && c->words[n] == ' ';
}

/* The commands that begin with this word, if there are any. */
static bool help_group(const char *group, aa_text *out) {
    bool any = false;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!in_group(commands[i], group)) continue;
        if (!any) aa_text_printf(out, "usage: autoane %s WORD [--option value ...]\n\n", group);
        aa_text_printf(out, "  autoane %-18s %s\n", commands[i]->words, commands[i]->summary);
        any = true;
    }
    return any;
}

static int unknown_command(int argc, char **argv) {
    aa_text group = {0};
    if (help_group(argv[0], &group)) {
        fprintf(stderr, "autoane: '%s%s%s' is not a command\n%s", argv[0], argc > 1 ? " " : "",
                argc > 1 ? argv[1] : "", group.data ? group.data : "");
        aa_text_release(&group);
        return 2;
    }
    const char *near = aa_nearest(argv[0], command_words, commands, N_COMMANDS);
    fprintf(stderr, "autoane: there is no command '%s'%s%s%s; `autoane --help` lists them\n",
            argv[0], near ? "; did you mean '" : "", near ? near : "", near ? "'" : "");
    return 2;
}

/* ---- running one ----------------------------------------------------------------------------- */

static size_t rows_in(const aa_opt *rows) { return rows ? aa_opts_count(rows) : 0; }

/* One table: the shared rows, then the command's own. */
static aa_opt *join_rows(const cli_command *c) {
    size_t n = rows_in(c->shared), m = rows_in(c->rows);
    aa_opt *all = aa_heap_alloc(n + m + 1, sizeof *all);
    if (!all) return NULL;
    if (n) memcpy(all, c->shared, n * sizeof *all);
    if (m) memcpy(all + n, c->rows, m * sizeof *all);
    return all;
}

/* Words of argv that belong together: an option of the command and its value. */
static int words_of(const cli_command *c, int argc, char **argv) {
    for (int own = 0; c && own < 2; own++) {
        const aa_opt *rows = own ? c->rows : c->shared;
        if (rows && aa_opts_words(rows, argc, argv) == 2) return 2;
    }
    return 1;
}

/* Takes --help and --json out of argv, wherever they stand, and finds the command (NULL: none).
 * Values of the command's options, and what follows "--", stay what they are. */
static const cli_command *take_flags(int *argc, char **argv, int *used, bool *help, bool *json) {
    const cli_command *c = NULL;
    int n = 0, i = 0;
    while (i < *argc && strcmp(argv[i], "--")) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) *help = true, i++;
        else if (!strcmp(argv[i], "--json")) *json = true, i++;
        else {
            for (int k = words_of(c, *argc - i, argv + i); k; k--) argv[n++] = argv[i++];
            if (!c) c = find_command(n, argv, used);
        }
    }
    while (i < *argc) argv[n++] = argv[i++];
    *argc = n;
    return c;
}

static aa_status check_positional(const cli_call *call, aa_err *err) {
    const cli_command *c = call->command;
    if (call->n_positional >= c->min_positional) return AA_OK;
    return aa_fail(err, AA_EUSAGE,
                   "missing %s; usage: autoane %s %s; `autoane %s --help` explains it",
                   c->arguments, c->words, c->arguments, c->words);
}

static aa_status run_command(const cli_command *c, int argc, char **argv, bool json, aa_err *err) {
    cli_call call = {.command = c, .json = json};
    aa_text problems = {0};
    aa_opt *rows = join_rows(c);
    void *values = aa_heap_alloc(1, c->values_size ? c->values_size : 1);
    aa_status st = rows && values ? AA_OK : aa_fail_memory(err, "the options", 0);
    if (!st) st = aa_opts_init(&call.opts, rows, values, err);
    bool ready = st == AA_OK;
    if (ready) {
        st = aa_opts_args(&call.opts, argc, argv, call.positional, c->max_positional,
                          &call.n_positional, &problems, err);
        if (!st) st = cli_problems(&problems, err);
        if (!st) st = check_positional(&call, err);
        if (!st) st = c->run(&call, err);
        if (!st) st = aa_text_status(&call.out, err);
        if (!st) cli_flush(&call);
        aa_opts_release(&call.opts);
    }
    aa_text_release(&problems);
    aa_text_release(&call.out);
    aa_heap_free(values);
    aa_heap_free(rows);
    return st;
}

/* Help and version: printed, or the failure to print. */
static int print_text(aa_text *t, int status) {
    fputs(t->data ? t->data : "", stdout);
    aa_text_release(t);
    if (!fflush(stdout) && !ferror(stdout)) return status;
    fprintf(stderr, "autoane: cannot write to standard output: %s\n", strerror(errno));
    return 1;
}

int main(int argc, char **argv) {
    argc--;
    argv++;
    aa_sys_end_tidily();
    bool help = false, json = false;
    if (argc && strcmp(argv[0], "help") == 0) { help = true; argc--; argv++; }
    int used = 0;
    const cli_command *c = take_flags(&argc, argv, &used, &help, &json);
    aa_text text = {0};
    if (argc && strcmp(argv[0], "--version") == 0) {
        aa_text_add(&text, "autoane " AA_VERSION "\n");
        return print_text(&text, 0);
    }
    if (!argc) {
        help_all(&text);
        return print_text(&text, help ? 0 : 2);
    }
    if (!c && help && argc == 1 && help_group(argv[0], &text)) return print_text(&text, 0);
    if (!c) return unknown_command(argc, argv);
    if (help) {
        help_command(c, width_of(1), &text);
        return print_text(&text, 0);
    }
    aa_err err = {0};
    aa_status st = run_command(c, argc - used, argv + used, json, &err);
    if ((fflush(stdout) || ferror(stdout)) && !st)
        st = aa_fail_errno(&err, errno, "cannot write to", "standard output");
    if (!st) return 0;
    fprintf(stderr, "autoane %s: %s\n", c->words, *err.message ? err.message : aa_status_text(st));
    return aa_status_exit(st);
}

/* ---- what commands share --------------------------------------------------------------------- */

aa_opts cli_train_opts(cli_call *call) {
    return (aa_opts){.rows = aa_train_rows, .values = call->opts.values, .from = call->opts.from};
}

aa_status cli_open_cpu(aa_cpu **out, int64_t threads, aa_err *err) {
    return aa_cpu_new(out, (int)threads, AA_ISA_AUTO, err);
}

aa_status cli_need(const char *value, const char *key, const char *what, aa_err *err) {
    return value ? AA_OK : aa_fail(err, AA_EUSAGE, "--%s is missing: %s", key, what);
}

/* A directory, or what begins as a GGUF file does, is a model. */
static bool is_model(const char *path) {
    char magic[4];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(magic, 1, 4, f) : 0;
    int no = f && ferror(f) ? errno : 0;
    if (f) fclose(f);
    return no == EISDIR || (n == 4 && memcmp(magic, "GGUF", 4) == 0);
}

aa_status cli_open_tokenizer_and_template(aa_tokenizer **out, char **jinja, const char *path,
                                          const char *template, aa_err *err) {
    aa_source *model = NULL;
    if (path && strcmp(path, "bytes") != 0 && is_model(path)) {
        AA_TRY(aa_source_open(&model, path, err));
        aa_status st = aa_source_tokenizer(model, out, err);
        *jinja = model->chat_template;
        model->chat_template = NULL;
        aa_source_close(model);
        if (st) {
            aa_heap_free(*jinja);
            *jinja = NULL;
            return st;
        }
    } else AA_TRY(cli_open_tokenizer(out, path, err));
    if (!template) return AA_OK;
    aa_heap_free(*jinja);
    *jinja = NULL;
    aa_status st = aa_file_text(jinja, template, err);
    if (st) {
        aa_tokenizer_free(*out);
        *out = NULL;
    }
    return st;
}

aa_status cli_open_tokenizer(aa_tokenizer **out, const char *path, aa_err *err) {
    char *jinja = NULL;
    AA_TRY(cli_need(path, "tokenizer", "a tokenizer.json, a model, or 'bytes'", err));
    if (strcmp(path, "bytes") == 0) return aa_tokenizer_new_bytes(out, err);
    if (!is_model(path)) return aa_tokenizer_load(out, path, err);
    aa_status st = cli_open_tokenizer_and_template(out, &jinja, path, NULL, err);
    aa_heap_free(jinja);
    return st;
}

void cli_message(void *ctx, const char *line) {
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

aa_status cli_problems(aa_text *t, aa_err *err) {
    aa_status st = aa_text_status(t, err);
    if (!st && t->len) {
        if (t->data[t->len - 1] == '\n') t->data[t->len - 1] = 0;
        st = aa_fail(err, AA_EUSAGE, "%s", t->data);
    }
    aa_text_release(t);
    return st;
}

void cli_flush(cli_call *call) {
    if (call->out.len) fwrite(call->out.data, 1, call->out.len, stdout);
    fflush(stdout);
    aa_text_clear(&call->out);
}

void cli_key_real(aa_text *out, const char *key, double v) {
    aa_text_json_key(out, key);
    aa_text_json_real(out, v);
}

void cli_key_int(aa_text *out, const char *key, int64_t v) {
    aa_text_json_key(out, key);
    aa_text_json_int(out, v);
}

void cli_key_string(aa_text *out, const char *key, const char *s) {
    aa_text_json_key(out, key);
    aa_text_json_string(out, s, strlen(s));
}

void cli_key_ids(aa_text *out, const char *key, const int32_t *ids, size_t n) {
    aa_text_json_key(out, key);
    aa_text_add(out, "[");
    for (size_t i = 0; i < n; i++) aa_text_printf(out, i ? ",%d" : "%d", (int)ids[i]);
    aa_text_add(out, "]");
}
