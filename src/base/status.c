#include "base/status.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/number.h"

static const struct {
    const char *text;
    int exit_status;
} rows[] = {
#define S(code, exit_status, text) [AA_##code] = {text, exit_status},
#include "base/status.def"
#undef S
};

const char *aa_status_text(aa_status st) {
    return st < AA_STATUS_COUNT ? rows[st].text : "unknown status";
}
int aa_status_exit(aa_status st) { return st < AA_STATUS_COUNT ? rows[st].exit_status : 1; }

void aa_disarm(char *text) {
    for (char *p = text; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f) *p = '?';
}

aa_status aa_fail_at(aa_err *err, aa_status code, const char *file, int line, const char *fmt,
                     ...) {
    if (!err || err->code) return code;
    *err = (aa_err){.code = code, .file = file, .line = line};
    va_list args;
    va_start(args, fmt);
    aa_number_vprint(err->message, sizeof err->message, fmt, args);
    va_end(args);
    aa_disarm(err->message);
    return code;
}

aa_status aa_fail_errno_at(aa_err *err, int no, const char *what, const char *path,
                           const char *file, int line) {
    aa_status code = no == ENOMEM ? AA_ENOMEM : no == ENOENT ? AA_ENOTFOUND : AA_EIO;
    const char *reason = no == ENOSPC ? "disk full" : strerror(no);
    return aa_fail_at(err, code, file, line, "%s '%s': %s", what, path, reason);
}

void aa_err_context(aa_err *err, const char *fmt, ...) {
    if (!err || !err->code) return;
    char context[sizeof err->message], old[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    aa_number_vprint(context, sizeof context, fmt, args);
    va_end(args);
    memcpy(old, err->message, sizeof old);
    size_t n = strlen(context);
    if (n > sizeof old - 3) n = sizeof old - 3;
    snprintf(err->message, sizeof err->message, "%.*s: %.*s", (int)n, context,
             (int)(sizeof old - 3 - n), old);
}

void aa_assert_failed(const char *expr, const char *file, int line) {
    fprintf(stderr,
            "%s:%d: broken invariant: %s\nThis is a defect of the program; please report it with "
            "the command line.\n",
            file, line, expr);
    abort();
}
