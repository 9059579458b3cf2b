/* generate --chat: a conversation in the terminal, or line by line through pipes. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/file.h"
#include "base/memory.h"
#include "cli/cli.h"

typedef struct chat_loop {
    aa_conversation *conversation;
    aa_generation g;
    uint64_t seed, turn;   /* each answer draws numbers of its own */
    bool begun;            /* the answer has shown something */
} chat_loop;

/* $XDG_STATE_HOME/autoane/chat-history, its directory made; NULL where there is no such place. */
static char *history_path(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool given = state && *state == '/';
    if (!given && (!home || !*home)) return NULL;
    char *dir = given ? aa_path_join(state, "autoane") : aa_path_join(home, ".local/state/autoane");
    char *path = dir && aa_make_dirs(dir, NULL) == AA_OK ? aa_path_join(dir, "chat-history") : NULL;
    aa_heap_free(dir);
    return path;
}

/* White space before an answer belongs to the format. */
static bool show(void *ctx, const char *text, size_t n) {
    chat_loop *l = ctx;
    while (!l->begun && n && isspace((unsigned char)*text)) text++, n--;
    l->begun |= n > 0;
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0 && !aa_sys_interrupt_pending();
}

/* What cannot be said is no end of the conversation. */
static aa_status say(chat_loop *l, const char *text, aa_err *err) {
    aa_generated out = {0};
    aa_err mine = {0};
    l->begun = false;
    l->g.sampling.seed = l->seed + l->turn++;
    aa_sys_interrupt_install();
    aa_status st = aa_conversation_say(l->conversation, text, &l->g, &out, &mine);
    aa_sys_interrupt_release();
    if (st == AA_EUSAGE || st == AA_EUNSUPPORTED) {
        fprintf(stderr, "%s\n", mine.message);
        return AA_OK;
    }
    if (st) return aa_fail(err, st, "%s", mine.message);
    if (out.reason == AA_STOP_CALLER) fputs(" [stopped]", stdout);
    putchar('\n');
    fflush(stdout);
    aa_generated_release(&out);
    return AA_OK;
}

/* A line that begins with a slash; true: the end. */
static bool command(chat_loop *l, const char *line, aa_err *err, aa_status *st) {
    static const char system[] = "/system ";
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) return true;
    if (strcmp(line, "/reset") == 0) *st = aa_conversation_reset(l->conversation, NULL, err);
    else if (strncmp(line, system, sizeof system - 1) == 0)
        *st = aa_conversation_reset(l->conversation, line + sizeof system - 1, err);
    else
        fputs("/reset         forget the conversation, but not the system prompt\n"
              "/system TEXT   begin anew with this system prompt\n"
              "/exit          end (so does Ctrl-D)\n"
              "//TEXT         a message that begins with a slash\n"
              "A backslash at the end of a line continues it. Ctrl-C stops an answer.\n",
              stderr);
    return false;
}

static aa_status talk(chat_loop *l, const char *first, aa_err *err) {
    aa_text line = {0};
    aa_status st = first ? say(l, first, err) : AA_OK;
    while (!st && cli_line_read("> ", &line)) {
        const char *text = line.data;
        bool slash = text[0] == '/' && text[1] != '/';
        if (slash && command(l, text, err, &st)) break;
        if (!slash && *text) st = say(l, text + (*text == '/'), err);
    }
    aa_text_release(&line);
    return st;
}

aa_status cli_chat(aa_session *s, const aa_chat *chat, const char *system, const char *first,
                   const aa_generation *g, aa_err *err) {
    chat_loop l = {.g = *g, .seed = g->sampling.seed};
    char date[32] = "";
    time_t now = time(NULL);
    struct tm day;
    if (localtime_r(&now, &day)) strftime(date, sizeof date, "%d %b %Y", &day);
    l.g.on_text = show;
    l.g.ctx = &l;
    AA_TRY(aa_conversation_new(&l.conversation, s, chat, system, date, err));
    char *history = aa_sys_is_terminal(0) ? history_path() : NULL;
    cli_line_open(history);
    aa_status st = talk(&l, first, err);
    cli_line_close();
    aa_conversation_free(l.conversation);
    aa_heap_free(history);
    return st;
}
