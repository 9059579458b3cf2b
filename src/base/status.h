/* base/status: how the world's failures travel.
 *
 * Functions that can fail return aa_status, put results through pointers (untouched on failure)
 * and describe the failure in an optional aa_err. The first failure wins: a later aa_fail on the
 * same aa_err keeps the older text. Our own bugs are aa_assert: it prints and aborts.
 *
 *     aa_status aa_thing_open(aa_thing *out, const char *path, aa_err *err) {
 *         if (!ok) return aa_fail(err, AA_EFORMAT, "'%s': the header ends early", path);
 *         AA_TRY(aa_other(path, err));
 *         return AA_OK;
 *     }
 */
#ifndef AA_BASE_STATUS_H
#define AA_BASE_STATUS_H

typedef enum aa_status {
#define S(code, exit_status, text) AA_##code,
#include "base/status.def"
#undef S
    AA_STATUS_COUNT
} aa_status;

typedef struct aa_err {
    aa_status code;               /* AA_OK while clean: start from aa_err e = {0} */
    const char *file; int line;   /* where it was raised */
    char message[768];            /* one or more sentences: object, found, expected, remedy */
} aa_err;

#define AA_MUST_USE __attribute__((warn_unused_result))
#define AA_PRINTF(f, a) __attribute__((format(printf, f, a)))

const char *aa_status_text(aa_status st);
int aa_status_exit(aa_status st);          /* exit status of the program for this failure */

/* Stores code and message in err if err is given and clean; returns code. */
#define aa_fail(err, code, ...) aa_fail_at(err, code, __FILE__, __LINE__, __VA_ARGS__)
aa_status aa_fail_at(aa_err *err, aa_status code, const char *file, int line, const char *fmt, ...)
    AA_PRINTF(5, 6);
/* errno-style failure of sys: "<what> '<path>': <strerror>". ENOMEM maps to AA_ENOMEM, ENOENT to
 * AA_ENOTFOUND, the rest to AA_EIO. */
#define aa_fail_errno(err, no, what, path) aa_fail_errno_at(err, no, what, path, __FILE__, __LINE__)
aa_status aa_fail_errno_at(aa_err *err, int no, const char *what, const char *path,
                           const char *file, int line);
/* Control characters but line feeds and tabs become '?': names from files, which messages quote,
 * could make a terminal do things. */
void aa_disarm(char *text);
/* Puts "context: " before the message of a failed err; for callers who know more (which file). */
void aa_err_context(aa_err *err, const char *fmt, ...) AA_PRINTF(2, 3);

#define AA_TRY(expr) do { aa_status aa_try_ = (expr); if (aa_try_) return aa_try_; } while (0)

#define aa_assert(cond) ((cond) ? (void)0 : aa_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void aa_assert_failed(const char *expr, const char *file, int line);

#endif
