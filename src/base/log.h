/* base/log: what the library says while it works. Everything goes through one sink, which the
 * program sets (terminal, plain, silent); without one, warnings go to standard error. Results never
 * travel here. */
#ifndef AA_BASE_LOG_H
#define AA_BASE_LOG_H

#include "base/status.h"

typedef enum { AA_LOG_DEBUG, AA_LOG_INFO, AA_LOG_WARN } aa_log_level;
/* The line comes without a newline. */
typedef void aa_log_sink(void *ctx, aa_log_level level, const char *line);

/* NULL sink: silent. Not thread-safe; call first. */
void aa_log_set(aa_log_sink *sink, void *ctx);
void aa_log(aa_log_level level, const char *fmt, ...) AA_PRINTF(2, 3);

#endif
