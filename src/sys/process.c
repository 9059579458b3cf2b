/* Signals, terminals, dynamic libraries. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "sys/sys.h"

/* ---- files that do not outlive the process --------------------------------------------------- */

enum { DOOMED = 16 };
static _Atomic(const char *) doomed[DOOMED];

static void exchange(const char *from, const char *to) {
    for (int i = 0; i < DOOMED; i++) {
        const char *expected = from;
        if (atomic_compare_exchange_strong(&doomed[i], &expected, to)) return;
    }
}

void aa_sys_doom(const char *path) { exchange(NULL, path); }
void aa_sys_spare(const char *path) { exchange(path, NULL); }

static void remove_doomed(void) {
    for (int i = 0; i < DOOMED; i++) {
        const char *path = atomic_load(&doomed[i]);
        if (path) (void)unlink(path);
    }
}

/* ---- signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t pending;
static void (*at_rest)(int) = SIG_DFL;   /* what SIGINT and SIGTERM do when they are not caught */

static void on_end(int sig) {
    remove_doomed();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_interrupt(int sig) {
    if (!pending || sig != SIGINT) {
        pending = 1;
        return;
    }
    remove_doomed();
    _exit(130);
}

static void handle(int sig, void (*with)(int)) {
    struct sigaction sa = {.sa_handler = with};
    sigemptyset(&sa.sa_mask);
    sigaction(sig, &sa, NULL);
}

void aa_sys_end_tidily(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        if (!sigaction(signals[i], NULL, &before) && before.sa_handler == SIG_DFL)
            handle(signals[i], on_end);
    }
    at_rest = on_end;
}

void aa_sys_interrupt_install(void) {
    handle(SIGINT, on_interrupt);
    handle(SIGTERM, on_interrupt);
}

bool aa_sys_interrupt_pending(void) { return pending; }

void aa_sys_interrupt_release(void) {
    handle(SIGINT, at_rest);
    handle(SIGTERM, at_rest);
    pending = 0;
}

bool aa_sys_is_terminal(int fd) { return isatty(fd); }

int aa_sys_terminal_width(int fd) {
    struct winsize w;
    return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

void *aa_sys_dl_open(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void *aa_sys_dl_symbol(void *lib, const char *name) { return dlsym(lib, name); }
