/* autoane report: what runs did, from their journals. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "report/report.h"

typedef struct report_values { char *html, *csv; } report_values;
static const aa_opt report_rows[] = {
    {"html", "output", AA_OPT_STRING, offsetof(report_values, html), NULL, 0, 0, 0, "FILE",
     "write one self-contained page of all runs"},
    {"csv", "output", AA_OPT_STRING, offsetof(report_values, csv), NULL, 0, 0, 0, "FILE",
     "write the (first) run's steps and evaluations"},
    {0}};

static aa_status write_text(const char *path, aa_text *t, aa_err *err) {
    aa_status st = aa_text_status(t, err);
    if (!st) st = aa_file_write(path, t->data ? t->data : "", t->len, err);
    aa_text_release(t);
    return st;
}

static aa_status report(cli_call *call, aa_journal *journals, size_t n, aa_err *err) {
    const report_values *v = call->opts.values;
    const aa_journal *list[CLI_MAX_POSITIONAL];
    aa_text t = {0};
    for (size_t i = 0; i < n; i++) list[i] = &journals[i];
    if (v->html) {
        aa_report_html(list, n, &t);
        AA_TRY(write_text(v->html, &t, err));
    }
    if (v->csv) {
        aa_report_csv(list[0], &t);
        AA_TRY(write_text(v->csv, &t, err));
    }
    if (call->json) {
        if (n > 1) return aa_fail(err, AA_EUSAGE, "--json reports one run; call it once per run");
        aa_report_json(list[0], &call->out);
        return AA_OK;
    }
    if (!v->html && !v->csv)
        for (size_t i = 0; i < n; i++)
            aa_report_text(list[i], aa_sys_terminal_width(1), &call->out);
    return AA_OK;
}

static aa_status run_report(cli_call *call, aa_err *err) {
    aa_journal journals[CLI_MAX_POSITIONAL];
    size_t n = 0;
    aa_status st = AA_OK;
    while (!st && n < (size_t)call->n_positional) {
        st = aa_journal_open(&journals[n], call->positional[n], err);
        n += st == AA_OK;
    }
    if (!st) st = report(call, journals, n, err);
    for (size_t i = 0; i < n; i++) aa_journal_release(&journals[i]);
    return st;
}

const cli_command cli_report = {
    .words = "report",
    .group = "use",
    .arguments = "RUN...",
    .summary = "curves and figures of finished or running runs",
    .rows = report_rows,
    .values_size = sizeof(report_values),
    .min_positional = 1,
    .max_positional = CLI_MAX_POSITIONAL,
    .run = run_report,
};
