/* base/text: growable byte buffer for output (journal lines, JSON, HTML, help, file contents).
 * Out of memory is sticky: keep appending, ask aa_text_status once. Always NUL-terminated. */
#ifndef AA_BASE_TEXT_H
#define AA_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct aa_text {                              /* {0} is empty */
    char *data;
    size_t len, capacity;
    bool failed;
} aa_text;

void aa_text_add(aa_text *t, const char *s);
void aa_text_add_bytes(aa_text *t, const void *p, size_t n);
void aa_text_printf(aa_text *t, const char *fmt, ...) AA_PRINTF(2, 3);
void aa_text_clear(aa_text *t);                       /* keeps the memory */
void aa_text_release(aa_text *t);
aa_status aa_text_status(const aa_text *t, aa_err *err) AA_MUST_USE;

/* JSON pieces. Numbers print shortest-exact (%.17g trimmed to the fewest digits that read back
 * equal); non-finite reals print as null. Strings are escaped; invalid UTF-8 becomes U+FFFD.
 * Keys: aa_text_json_key(t, "loss") writes  ,"loss":  without the comma after { [ or at start. */
void aa_text_json_key(aa_text *t, const char *key);
void aa_text_json_string(aa_text *t, const char *s, size_t n);
void aa_text_json_real(aa_text *t, double v);
void aa_text_json_int(aa_text *t, int64_t v);
void aa_text_json_bool(aa_text *t, bool v);
void aa_text_add_html(aa_text *t, const char *s);     /* escapes & < > " ' */

#endif
