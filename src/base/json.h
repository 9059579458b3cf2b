/* base/json: the JSON door. jansson parses (its allocations go through aa_heap_*); this header adds
 * limits and typed getters whose errors name file, key, found and wanted. Writing is base/text. */
#ifndef AA_BASE_JSON_H
#define AA_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "base/text.h"

/* Rejects duplicate keys, NUL in strings,
 * depth > 256 and sizes over 1 GiB. `name` is for messages. */
aa_status aa_json_parse(json_t **out, const char *data, size_t n, const char *name,
                        aa_err *err) AA_MUST_USE;
/* The same, but strings may hold NUL: what json_string_length is for. */
aa_status aa_json_parse_nul(json_t **out, const char *data, size_t n, const char *name,
                            aa_err *err) AA_MUST_USE;
aa_status aa_json_load(json_t **out, const char *path, aa_err *err) AA_MUST_USE;
/* v as compact JSON. (jansson's own writer loses text where memory runs out, and says nothing.) */
void aa_json_write(const json_t *v, aa_text *out);

/* Getters: `name` is the file for messages. Absent or null keys take the default `def` where one is
 * given; the *_need forms fail with AA_EFORMAT. Range violations fail. */
aa_status aa_json_int(const json_t *o, const char *key, const char *name, int64_t lo, int64_t hi,
                      int64_t def, int64_t *out, aa_err *err) AA_MUST_USE;
aa_status aa_json_int_need(const json_t *o, const char *key, const char *name, int64_t lo,
                           int64_t hi, int64_t *out, aa_err *err) AA_MUST_USE;
aa_status aa_json_real(const json_t *o, const char *key, const char *name, double lo, double hi,
                       double def, double *out, aa_err *err) AA_MUST_USE;
aa_status aa_json_flag(const json_t *o, const char *key, const char *name, bool def, bool *out,
                       aa_err *err) AA_MUST_USE;
/* The string lives as long as o. def may be NULL. */
aa_status aa_json_str(const json_t *o, const char *key, const char *name, const char *def,
                      const char **out, aa_err *err) AA_MUST_USE;

#endif
