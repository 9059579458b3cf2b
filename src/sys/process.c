/* Signals, terminals, dynamic libraries. */
#include <dlfcn.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "sys/sys.h"

static volatile sig_atomic_t pending;

static void on_signal(int sig) {
    if (pending && sig == SIGINT) _exit(130);
    pending = 1;
}

void aa_sys_interrupt_install(void) {
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool aa_sys_interrupt_pending(void) { return pending; }

void aa_sys_interrupt_release(void) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    pending = 0;
}

bool aa_sys_is_terminal(int fd) { return isatty(fd); }

int aa_sys_terminal_width(int fd) {
    struct winsize w;
    return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

void *aa_sys_dl_open(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void *aa_sys_dl_symbol(void *lib, const char *name) { return dlsym(lib, name); }
