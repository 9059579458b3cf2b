/* Signals, terminals, other programs, dynamic libraries. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
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

/* ---- other programs -------------------------------------------------------------------------- */

typedef struct filter {
    pid_t pid;
    int to, from;                         /* pipes; -1: closed */
    const char *in; size_t in_left;
    char *out; size_t size, capacity;
    double deadline_s;
} filter;

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* A group of its own: what it starts ends with it, and a terminal's Ctrl-C is ours alone. */
static void become(const char *command, int in, int out) {
    setpgid(0, 0);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0) _exit(127);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static int open_pipe(int fds[2]) {
    if (pipe(fds)) return errno;
    for (int i = 0; i < 2; i++) fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    return 0;
}

static int start_filter(filter *f, const char *command) {
    int in[2], out[2], failed = open_pipe(in);
    if (failed) return failed;
    if ((failed = open_pipe(out))) {
        close(in[0]), close(in[1]);
        return failed;
    }
    f->pid = fork();
    if (f->pid == 0) become(command, in[0], out[1]);
    if (f->pid > 0) setpgid(f->pid, f->pid);      /* whoever of the two comes first */
    close(in[0]), close(out[1]);
    f->to = in[1], f->from = out[0];
    if (f->pid < 0) {
        int no = errno;
        close_fd(&f->to), close_fd(&f->from);
        return no;
    }
    fcntl(f->to, F_SETFL, O_NONBLOCK);
    return 0;
}

static void give(filter *f) {
    ssize_t n = write(f->to, f->in, f->in_left);
    if (n < 0 && errno != EAGAIN && errno != EINTR) f->in_left = 0;  /* it has closed its end */
    if (n > 0) f->in += n, f->in_left -= (size_t)n;
    if (!f->in_left) close_fd(&f->to);
}

static int take(filter *f) {
    char more;
    const bool full = f->size == f->capacity;
    ssize_t n = read(f->from, full ? &more : f->out + f->size, full ? 1 : f->capacity - f->size);
    if (n < 0) return errno == EINTR || errno == EAGAIN ? 0 : errno;
    if (n > 0 && full) return EOVERFLOW;
    f->size += (size_t)n;
    if (!n) close_fd(&f->from);
    return 0;
}

static int talk(filter *f) {
    while (f->from >= 0) {
        struct pollfd p[2] = {{.fd = f->from, .events = POLLIN}, {.fd = f->to, .events = POLLOUT}};
        double left_s = f->deadline_s - aa_sys_clock_s();
        if (aa_sys_interrupt_pending()) return EINTR;
        if (left_s <= 0) return ETIMEDOUT;
        int n = poll(p, f->to >= 0 ? 2 : 1, left_s < 0.2 ? (int)(left_s * 1000) + 1 : 200);
        if (n < 0 && errno != EINTR) return errno;
        if (n <= 0) continue;
        if (f->to >= 0 && p[1].revents) give(f);
        int no = p[0].revents ? take(f) : 0;
        if (no) return no;
    }
    return 0;
}

/* It may have closed its output and go on: until the deadline. */
static int reap(filter *f, int no, int *out_status) {
    int status = 0;
    close_fd(&f->to), close_fd(&f->from);
    while (!no && waitpid(f->pid, &status, WNOHANG) == 0) {
        if (aa_sys_clock_s() > f->deadline_s) no = ETIMEDOUT;
        else if (aa_sys_interrupt_pending()) no = EINTR;
        else poll(NULL, 0, 5);
    }
    if (no) {
        kill(-f->pid, SIGKILL);
        waitpid(f->pid, &status, 0);
    }
    *out_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return no;
}

int aa_sys_filter(const char *command, const void *in, size_t n, void *out, size_t capacity,
                  double timeout_s, size_t *out_size, int *out_status) {
    filter f = {.in = in, .in_left = n, .out = out, .capacity = capacity,
                .deadline_s = aa_sys_clock_s() + timeout_s};
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    sigemptyset(&ignore.sa_mask);
    int no = start_filter(&f, command);
    if (no) return no;
    sigaction(SIGPIPE, &ignore, &before);
    no = reap(&f, talk(&f), out_status);
    sigaction(SIGPIPE, &before, NULL);
    *out_size = f.size;
    return no;
}

void *aa_sys_dl_open(const char *path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
void *aa_sys_dl_symbol(void *lib, const char *name) { return dlsym(lib, name); }
