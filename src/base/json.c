#include "base/json.h"
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#include "base/number.h"

#define MAX_BYTES ((size_t)1 << 30)
#define MAX_DEPTH 256

/* jansson does not survive every failed allocation: some are taken for syntax errors, one overruns
 * its string buffer. So a failure leaves the parser by a jump past all of its frames, and what the
 * parse took is freed here. For that, the blocks of one parse form a ring, each with its links in
 * front; blocks taken outside a parse are rings of their own. */
typedef struct link { struct link *prev, *next; } link;

static _Thread_local struct {
    link ring;                           /* of the running parse; the head is no block */
    bool active;
    jmp_buf out;
} parse;

static void join(link *ring, link *b) {
    *b = (link){.prev = ring, .next = ring->next};
    ring->next->prev = b;
    ring->next = b;
}

static void leave(link *b) {
    b->prev->next = b->next;
    b->next->prev = b->prev;
}

static void *json_alloc(size_t n) {
    link *b = n > SIZE_MAX - sizeof *b ? NULL : aa_heap_alloc(sizeof *b + n, 1);
    if (!b && parse.active) longjmp(parse.out, 1);
    if (!b) return NULL;
    *b = (link){b, b};
    if (parse.active) join(&parse.ring, b);
    return b + 1;
}

static void json_release(void *p) {
    if (!p) return;
    leave((link *)p - 1);
    aa_heap_free((link *)p - 1);
}

static void free_ring(link *ring) {
    while (ring->next != ring) json_release(ring->next + 1);
}

static void set_allocator(void) { json_set_alloc_funcs(json_alloc, json_release); }

/* jansson bounds its recursion at 2048; our files never need that, and callers may recurse with
 * larger frames. */
static bool too_deep(const char *s, size_t n) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (s[i] == '\\') i++;
            else if (s[i] == '"') in_string = false;
        } else if (s[i] == '"') in_string = true;
        else if (s[i] == '{' || s[i] == '[') {
            if (++depth > MAX_DEPTH) return true;
        } else if (s[i] == '}' || s[i] == ']') depth--;
    }
    return false;
}

static aa_status parse_as(json_t **out, size_t flags, const char *data, size_t n, const char *name,
                          aa_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_allocator);
    if (n > MAX_BYTES)
        return aa_fail(err, AA_EFORMAT, "%s: %zu bytes of JSON; the limit is %zu", name, n,
                       MAX_BYTES);
    if (too_deep(data, n))
        return aa_fail(err, AA_EFORMAT, "%s: nested deeper than %d levels", name, MAX_DEPTH);
    json_error_t e;
    parse.ring = (link){&parse.ring, &parse.ring};
    parse.active = true;
    if (setjmp(parse.out)) {
        parse.active = false;
        free_ring(&parse.ring);
        return aa_fail_memory(err, "parsing JSON", n);
    }
    json_t *o = json_loadb(data ? data : "", n, flags, &e);
    parse.active = false;
    leave(&parse.ring);
    if (!o)
        return aa_fail(err, AA_EFORMAT, "%s: line %d, column %d: %s", name, e.line, e.column,
                       e.text);
    *out = o;
    return AA_OK;
}

aa_status aa_json_parse(json_t **out, const char *data, size_t n, const char *name, aa_err *err) {
    return parse_as(out, JSON_REJECT_DUPLICATES, data, n, name, err);
}

aa_status aa_json_parse_nul(json_t **out, const char *data, size_t n, const char *name,
                            aa_err *err) {
    return parse_as(out, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, data, n, name, err);
}

aa_status aa_json_load(json_t **out, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    aa_status st = aa_json_parse(out, (const char *)map.data, map.size_bytes, path, err);
    aa_sys_map_close(&map);
    return st;
}

static void write_array(const json_t *v, aa_text *out) {
    json_t *element;
    size_t i;

    aa_text_add(out, "[");
    json_array_foreach(v, i, element) {
        if (i) aa_text_add(out, ",");
        aa_json_write(element, out);
    }
    aa_text_add(out, "]");
}

static void write_object(const json_t *v, aa_text *out) {
    const char *key;
    json_t *value;

    aa_text_add(out, "{");
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        aa_text_json_key(out, key);
        aa_json_write(value, out);
    }
    aa_text_add(out, "}");
}

void aa_json_write(const json_t *v, aa_text *out) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: write_object(v, out); break;
    case JSON_ARRAY: write_array(v, out); break;
    case JSON_STRING: aa_text_json_string(out, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: aa_text_json_int(out, json_integer_value(v)); break;
    case JSON_REAL: aa_text_json_real(out, json_real_value(v)); break;
    case JSON_NULL: aa_text_add(out, "null"); break;
    default: aa_text_json_bool(out, json_is_true(v)); break;
    }
}

static aa_status wrong(const char *key, const char *name, const json_t *v, const char *want,
                       aa_err *err) {
    aa_text found = {0};
    if (json_is_object(v)) aa_text_add(&found, "an object");
    else if (json_is_array(v)) aa_text_add(&found, "an array");
    else if (v) aa_json_write(v, &found);
    else aa_text_add(&found, "nothing");
    aa_status st = aa_fail(err, AA_EFORMAT, "%s: \"%s\" must be %s; found %.60s", name, key, want,
                           found.failed ? "another value" : found.data);
    aa_text_release(&found);
    return st;
}

static const json_t *get(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

aa_status aa_json_int_need(const json_t *o, const char *key, const char *name, int64_t lo,
                           int64_t hi, int64_t *out, aa_err *err) {
    const json_t *v = get(o, key);
    char want[96];
    snprintf(want, sizeof want, "an integer from %lld to %lld", (long long)lo, (long long)hi);
    if (!json_is_integer(v) || json_integer_value(v) < lo || json_integer_value(v) > hi)
        return wrong(key, name, v, want, err);
    *out = json_integer_value(v);
    return AA_OK;
}

aa_status aa_json_int(const json_t *o, const char *key, const char *name, int64_t lo, int64_t hi,
                      int64_t def, int64_t *out, aa_err *err) {
    if (get(o, key)) return aa_json_int_need(o, key, name, lo, hi, out, err);
    *out = def;
    return AA_OK;
}

aa_status aa_json_real(const json_t *o, const char *key, const char *name, double lo, double hi,
                       double def, double *out, aa_err *err) {
    const json_t *v = get(o, key);
    if (!v) {
        *out = def;
        return AA_OK;
    }
    char want[96];
    aa_number_print(want, sizeof want, "a number from %g to %g", lo, hi);
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= lo && x <= hi)) return wrong(key, name, v, want, err);
    *out = x;
    return AA_OK;
}

aa_status aa_json_flag(const json_t *o, const char *key, const char *name, bool def, bool *out,
                       aa_err *err) {
    const json_t *v = get(o, key);
    if (v && !json_is_boolean(v)) return wrong(key, name, v, "true or false", err);
    *out = v ? json_is_true(v) : def;
    return AA_OK;
}

aa_status aa_json_str(const json_t *o, const char *key, const char *name, const char *def,
                      const char **out, aa_err *err) {
    const json_t *v = get(o, key);
    if (v && !json_is_string(v)) return wrong(key, name, v, "a string", err);
    *out = v ? json_string_value(v) : def;
    return AA_OK;
}
