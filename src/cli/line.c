/* Lines from a person or a pipe. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#ifdef AA_LIBEDIT
#include <histedit.h>
#endif

static bool terminal(void) { return aa_sys_is_terminal(0) && aa_sys_is_terminal(1); }

static bool plain(aa_text *out) {
    int c = getchar();
    if (c == EOF) return false;
    for (; c != EOF && c != '\n'; c = getchar()) {
        char byte = (char)c;
        aa_text_add_bytes(out, &byte, 1);
    }
    if (out->len && out->data[out->len - 1] == '\r') out->data[--out->len] = 0;
    return true;
}

#ifdef AA_LIBEDIT
enum { HISTORY_LINES = 1000 };

static EditLine *editor;
static History *history_of;
static const char *history_file;
static char prompt_now[8];

static char *tell_prompt(EditLine *e) {
    (void)e;
    return prompt_now;
}

void cli_line_open(const char *file) {
    HistEvent event;
    if (!terminal()) return;
    setlocale(LC_CTYPE, ""); /* of what is typed */
    editor = el_init("autoane", stdin, stdout, stderr);
    history_of = history_init();
    if (!editor || !history_of) return;
    history(history_of, &event, H_SETSIZE, HISTORY_LINES);
    history(history_of, &event, H_SETUNIQUE, 1);
    history_file = file;
    if (file) history(history_of, &event, H_LOAD, file);
    el_set(editor, EL_PROMPT, tell_prompt);
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_SIGNAL, 1); /* an interrupt leaves the terminal as it was */
    el_set(editor, EL_HIST, history, history_of);
}

void cli_line_close(void) {
    if (history_of) history_end(history_of);
    if (editor) el_end(editor);
    history_of = NULL;
    editor = NULL;
}

static bool edited(const char *prompt, aa_text *out) {
    HistEvent event;
    int n = 0;
    snprintf(prompt_now, sizeof prompt_now, "%s", prompt);
    const char *line = el_gets(editor, &n);
    if (!line || n < 1) return false;
    size_t at = out->len;
    aa_text_add_bytes(out, line, line[n - 1] == '\n' ? (size_t)n - 1 : (size_t)n);
    if (out->failed || out->len == at) return true;
    history(history_of, &event, H_ENTER, out->data + at);
    if (history_file) history(history_of, &event, H_SAVE, history_file);
    return true;
}

static bool one(const char *prompt, aa_text *out) {
    return editor && history_of ? edited(prompt, out) : plain(out);
}
#else
void cli_line_open(const char *file) { (void)file; }
void cli_line_close(void) {}

static bool one(const char *prompt, aa_text *out) {
    if (terminal()) fputs(prompt, stdout);
    fflush(stdout);
    return plain(out);
}
#endif

bool cli_line_read(const char *prompt, aa_text *out) {
    aa_text_clear(out);
    aa_text_add(out, "");
    for (;;) {
        if (!one(prompt, out)) return out->len > 0;
        if (!out->len || out->data[out->len - 1] != '\\') return !out->failed;
        out->data[out->len - 1] = '\n';
        prompt = ". ";
    }
}
