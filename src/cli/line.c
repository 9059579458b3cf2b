/* Lines from a person or a pipe. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#ifdef AA_LIBEDIT
#include <editline/readline.h>
#endif

enum { HISTORY_LINES = 1000 };

static bool terminal(void) { return aa_sys_is_terminal(0) && aa_sys_is_terminal(1); }

#ifdef AA_LIBEDIT
static const char *history_file;

void cli_line_open(const char *history) {
    if (!terminal()) return;
    setlocale(LC_CTYPE, ""); /* of what is typed */
    rl_catch_signals = 1; /* an interrupt leaves the terminal as it was */
    using_history();
    stifle_history(HISTORY_LINES);
    history_file = history;
    if (history) read_history(history);
}

static bool edited(const char *prompt, aa_text *out) {
    char *line = readline(prompt);
    if (line) aa_text_add(out, line);
    if (line && *line) add_history(line);
    if (line && *line && history_file) write_history(history_file);
    free(line);
    return line != NULL;
}
#else
void cli_line_open(const char *history) { (void)history; }

static bool plain(aa_text *out);
static bool edited(const char *prompt, aa_text *out) {
    fputs(prompt, stdout);
    fflush(stdout);
    return plain(out);
}
#endif

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

bool cli_line_read(const char *prompt, aa_text *out) {
    aa_text_clear(out);
    aa_text_add(out, "");
    for (;;) {
        if (!(terminal() ? edited(prompt, out) : plain(out))) return out->len > 0;
        if (!out->len || out->data[out->len - 1] != '\\') return !out->failed;
        out->data[out->len - 1] = '\n';
        prompt = ". ";
    }
}
