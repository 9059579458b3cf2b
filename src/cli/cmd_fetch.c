/* autoane fetch: models and texts from a hub or any address. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "cli/cli.h"
#include "fetch/fetch.h"
#include "sys/sys.h"

#define HUB "https://huggingface.co"

typedef struct fetch_values {
    char *to, *file, *revision, *base_url;
    int64_t retries, timeout;
} fetch_values;

#define AT(field) offsetof(fetch_values, field)
static const aa_opt fetch_rows[] = {
    {"to", "what and where", AA_OPT_STRING, AT(to), NULL, 0, 0, 0, "DIR",
     "directory; otherwise NAME, for an address this one"},
    {"file", "what and where", AA_OPT_STRING, AT(file), NULL, 0, 0, 0, "NAME",
     "this file of the repository alone (of a split GGUF: all parts); for an address: its name "
     "here"},
    {"revision", "what and where", AA_OPT_STRING, AT(revision), "main", 0, 0, 0, "NAME",
     "branch, tag or commit"},
    {"base-url", "hub", AA_OPT_STRING, AT(base_url), NULL, 0, 0, 0, "URL",
     "otherwise HF_ENDPOINT, else " HUB},
    {"retries", "hub", AA_OPT_INT, AT(retries), "5", 0, 1000, 0, "N",
     "tries more, with growing pauses, while nothing comes"},
    {"timeout", "hub", AA_OPT_INT, AT(timeout), "60", 1, 86400, 0, "SECONDS",
     "a connection that brings nothing for so long is given up"},
    {0}};

static void size(uint64_t bytes, char *out, size_t n) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 999.5 && u < 4; u++) v /= 1000;
    snprintf(out, n, u && v < 99.95 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void progress(void *ctx, const aa_fetch_progress *f) {
    cli_progress *p = ctx;
    char have[16], total[16], rate[16], left[32];
    if (!cli_progress_due(p, false)) return;
    aa_text_clear(&p->text);
    size(f->have, have, sizeof have);
    size(f->total, total, sizeof total);
    aa_text_printf(&p->text, "%s  %s", f->name, have);
    if (f->total)
        aa_text_printf(&p->text, " of %s  %.0f%%", total,
                       100 * (double)f->have / (double)f->total);
    if (isfinite(f->bytes_per_s)) {
        size((uint64_t)f->bytes_per_s, rate, sizeof rate);
        aa_text_printf(&p->text, "  %s/s", rate);
    }
    if (isfinite(f->left_s)) {
        cli_duration(f->left_s, left, sizeof left);
        aa_text_printf(&p->text, "  %s left", left);
    }
    cli_progress_show(p);
}

static const char *kind_of(const aa_fetched_file *f) {
    return !*f->sha ? "size" : f->kind == AA_SHA256 ? "sha256" : "git-sha1";
}

static void print_json(const aa_fetched *got, aa_text *out) {
    aa_text_add(out, "{");
    cli_key_string(out, "to", got->to);
    aa_text_json_key(out, "files");
    aa_text_add(out, "[");
    for (size_t i = 0; i < got->n; i++) {
        const aa_fetched_file *f = &got->file[i];
        aa_text_add(out, i ? ",{" : "{");
        cli_key_string(out, "name", f->name);
        cli_key_int(out, "size_bytes", (int64_t)f->size_bytes);
        cli_key_string(out, "checked", kind_of(f));
        cli_key_string(out, "sum", f->sha);
        aa_text_json_key(out, "was_there");
        aa_text_json_bool(out, f->was_there);
        aa_text_add(out, "}");
    }
    aa_text_add(out, "]}\n");
}

static void print_text(const aa_fetched *got, aa_text *out) {
    uint64_t total = 0;
    char shown[16];
    for (size_t i = 0; i < got->n; i++) {
        const aa_fetched_file *f = &got->file[i];
        size(f->size_bytes, shown, sizeof shown);
        aa_text_printf(out, "  %-32s %9s  %s%s\n", f->name, shown,
                       *f->sha ? "checked by " : "only its size could be checked",
                       *f->sha ? kind_of(f) : "");
        if (f->was_there && out->len) {
            out->len--;
            aa_text_add(out, ", was there\n");
        }
        total += f->size_bytes;
    }
    size(total, shown, sizeof shown);
    aa_text_printf(out, "%zu file%s, %s, in %s\n", got->n, got->n == 1 ? "" : "s", shown, got->to);
}

static const char *from_environment(const char *name, const char *otherwise) {
    const char *v = getenv(name);
    return v && *v ? v : otherwise;
}

static aa_status run_fetch(cli_call *call, aa_err *err) {
    const fetch_values *v = call->opts.values;
    cli_progress line;
    aa_fetched got;
    aa_sys_interrupt_install();
    cli_progress_init(&line, false);
    const aa_fetch_options o = {
        .from = call->positional[0],
        .to = v->to,
        .base_url = v->base_url ? v->base_url : from_environment("HF_ENDPOINT", HUB),
        .revision = v->revision,
        .file = v->file,
        .token = from_environment("HF_TOKEN", NULL),
        .retries = v->retries,
        .timeout_s = v->timeout,
        .stop = cli_progress_stop,
        .message = cli_progress_message,
        .progress = progress,
        .ctx = &line,
    };
    aa_status st = aa_fetch(&o, &got, err);
    cli_progress_release(&line);
    if (st) return st;
    (call->json ? print_json : print_text)(&got, &call->out);
    aa_fetched_release(&got);
    return AA_OK;
}

const cli_command cli_fetch = {
    .words = "fetch",
    .group = "use",
    .arguments = "OWNER/NAME|tinystories|URL",
    .summary = "download a model or a text: resumed, checked, whole or not at all",
    .rows = fetch_rows,
    .values_size = sizeof(fetch_values),
    .min_positional = 1,
    .max_positional = 1,
    .run = run_fetch,
    .notes = "Of a model: configuration, tokenizer, chat template and safetensors, or its GGUF. "
             "datasets/OWNER/NAME with --file\n"
             "is a file of a data set; tinystories are the texts of "
             "datasets/roneneldan/TinyStories. What is there already and\n"
             "right is not fetched again; an interrupted fetch goes on where it was. HF_TOKEN in "
             "the environment opens private\n"
             "repositories. Needs libcurl.so.4, which it looks for when it starts.\n",
};
