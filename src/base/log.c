#include "base/log.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static aa_log_sink *sink;
static void *sink_ctx;
static bool sink_chosen;

void aa_log_set(aa_log_sink *s, void *ctx) {
    sink = s;
    sink_ctx = ctx;
    sink_chosen = true;
}

void aa_log(aa_log_level level, const char *fmt, ...) {
    if (sink_chosen ? !sink : level < AA_LOG_WARN) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (sink_chosen) sink(sink_ctx, level, line);
    else fprintf(stderr, "autoane: %s\n", line);
}
