/* data/documents: cutting sources into documents. Files are mapped, so that a source may be larger
 * than memory; only the list of file names and one JSON line are held. */
#include "data/documents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/memory.h"

enum {
    DOCUMENT_BYTES = 4096,
    SMALL_TEXT_BYTES = 8 * DOCUMENT_BYTES,
    LEAST_BYTES = 16,
    LONGEST = 4,
    MAX_DEPTH = 64
};

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool is_blank(const char *s, size_t n) {
    while (n && is_space(s[n - 1])) n--;
    return n == 0;
}

/* Where to cut a stretch without blank lines: after the first line end past `from`, else the first
 * space, else at a code point's start. */
static size_t forced_cut(const char *s, size_t from, size_t limit) {
    const char *nl = memchr(s + from, '\n', limit - from);
    if (nl) return (size_t)(nl - s) + 1;
    for (size_t i = from; i < limit; i++)
        if (is_space(s[i])) return i + 1;
    size_t i = limit;
    while (i > limit - 3 && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    return ((unsigned char)s[i] & 0xC0) == 0x80 ? limit : i;
}

/* End of the document that begins at start. */
static size_t document_end(const char *s, size_t n, size_t start, size_t target) {
    size_t limit = n - start > LONGEST * target ? start + LONGEST * target : n;
    for (size_t line = start; line < limit;) {
        const char *nl = memchr(s + line, '\n', limit - line);
        if (!nl) break;
        size_t next = (size_t)(nl - s) + 1;
        if (line - start >= target && is_blank(s + line, next - line)) return line;
        line = next;
    }
    return limit == n ? n : forced_cut(s, start + target, limit);
}

static aa_status text_document(aa__walk *w, const char *text, size_t n, aa_err *err) {
    const aa__document d = {.text = text, .n = n, .ends = true};
    w->n_documents++;
    return w->fn(w->ctx, &d, err);
}

aa_status aa__documents_text(aa__walk *w, const char *s, size_t n, aa_err *err) {
    size_t target = n >= SMALL_TEXT_BYTES ? DOCUMENT_BYTES
                    : n / 8 > LEAST_BYTES ? n / 8
                                          : LEAST_BYTES;
    uint64_t base = w->done_bytes;
    for (size_t at = 0; at < n;) {
        size_t start = at;
        for (; at < n && is_space(s[at]); at++)
            if (s[at] == '\n') start = at + 1; /* blank lines go, indentation stays */
        if (at == n) break;
        at = document_end(s, n, start, target);
        size_t end = at;
        while (end > start && is_space(s[end - 1])) end--;
        w->done_bytes = base + at;
        AA_TRY(text_document(w, s + start, end - start, err));
    }
    w->done_bytes = base + n;
    return AA_OK;
}

/* ---- JSONL ----------------------------------------------------------------------------------- */

static aa_status json_line(aa__walk *w, const char *line, size_t n, const char *where,
                           aa_err *err) {
    json_t *o = NULL;
    AA_TRY(aa_json_parse(&o, line, n, where, err));
    const json_t *text = json_object_get(o, "text");
    aa_status st = AA_OK;
    if (!json_is_object(o))
        st = aa_fail(err, AA_EFORMAT,
                     "%s: a line of JSONL must be an object with a field \"text\", \"messages\", "
                     "or \"prompt\" and \"completion\"",
                     where);
    else if (json_object_get(o, "messages") || json_object_get(o, "completion") ||
             (!text && json_object_get(o, "prompt")))
        st = aa__example(w, o, where, err);
    else if (!json_is_string(text))
        st = aa_fail(err, AA_EFORMAT,
                     "%s: %s; each line must be an object like {\"text\": \"...\"}, {\"messages\": "
                     "[...]} or {\"prompt\": \"...\", \"completion\": \"...\"}",
                     where, text ? "\"text\" is not a string" : "there is no field \"text\"");
    else if (json_string_length(text))
        st = text_document(w, json_string_value(text), json_string_length(text), err);
    json_decref(o);
    return st;
}

static aa_status jsonl_documents(aa__walk *w, const char *path, const char *s, size_t n,
                                 aa_err *err) {
    uint64_t base = w->done_bytes, number = 1;
    for (size_t at = 0; at < n; number++) {
        const char *nl = memchr(s + at, '\n', n - at);
        size_t next = nl ? (size_t)(nl - s) + 1 : n;
        w->done_bytes = base + next;
        if (!is_blank(s + at, next - at)) {
            char *where = aa_heap_printf("%s:%llu", path, (unsigned long long)number);
            if (!where) return aa_fail_memory(err, "a file name", strlen(path) + 24);
            aa_status st = json_line(w, s + at, next - at, where, err);
            aa_heap_free(where);
            if (st) return st;
        }
        at = next;
    }
    return AA_OK;
}

/* ---- files and directories ------------------------------------------------------------------- */

typedef struct file_list {
    char **path;
    uint64_t *size;
    size_t n, capacity;
    const char *dir;
    int depth; /* while walking */
    aa_status status;
    aa_err *err;
} file_list;

static void list_release(file_list *l) {
    for (size_t i = 0; i < l->n; i++) aa_heap_free(l->path[i]);
    aa_heap_free(l->path);
    aa_heap_free(l->size);
}

static bool ends_in(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && memcmp(s + n - m, end, m) == 0;
}

/* Takes path over. */
static aa_status list_add(file_list *l, char *path, uint64_t size) {
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? 2 * l->capacity : 64;
        char **paths = aa_heap_realloc(l->path, capacity, sizeof *paths);
        if (paths) l->path = paths;
        uint64_t *sizes = paths ? aa_heap_realloc(l->size, capacity, sizeof *sizes) : NULL;
        if (!sizes) {
            aa_heap_free(path);
            return aa_fail_memory(l->err, "a list of files", capacity * sizeof *paths);
        }
        l->size = sizes;
        l->capacity = capacity;
    }
    l->path[l->n] = path;
    l->size[l->n++] = size;
    return AA_OK;
}

static int visit(void *ctx, const char *name);

static aa_status list_dir(file_list *l, const char *dir) {
    if (l->depth == MAX_DEPTH)
        return aa_fail(l->err, AA_EUNSUPPORTED,
                       "'%s': directories nested more than %d deep (a loop of links?)", dir,
                       MAX_DEPTH);
    const char *outer = l->dir;
    l->dir = dir;
    l->depth++;
    int no = aa_sys_list_dir(dir, visit, l);
    l->depth--;
    l->dir = outer;
    if (l->status) return l->status;
    return no ? aa_fail_errno(l->err, no, "cannot read the directory", dir) : AA_OK;
}

static int visit(void *ctx, const char *name) {
    file_list *l = ctx;
    if (name[0] == '.') return 0;
    char *path = aa_path_join(l->dir, name);
    if (!path) {
        l->status = aa_fail_memory(l->err, "a file name", strlen(name));
        return ENOMEM;
    }
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (no) {
        l->status = aa_fail_errno(l->err, no, "cannot read", path);
    } else if (info.kind == AA_SYS_DIR) {
        l->status = list_dir(l, path);
    } else if (info.kind == AA_SYS_FILE &&
               (ends_in(name, ".txt") || ends_in(name, ".md") || ends_in(name, ".jsonl"))) {
        l->status = list_add(l, path, info.size_bytes);
        path = NULL;
    }
    aa_heap_free(path);
    return l->status ? EIO : 0;
}

static int by_path(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of a source; *is_dir tells a directory.
 * Sizes are summed before sorting and not used after. */
static aa_status list_source(file_list *l, const char *path, bool *is_dir, uint64_t *total,
                             aa_err *err) {
    l->err = err;
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (!no && info.kind == AA_SYS_ABSENT) no = ENOENT;
    if (no) return aa_fail_errno(err, no, "cannot read", path);
    *is_dir = info.kind == AA_SYS_DIR;
    if (*is_dir) {
        AA_TRY(list_dir(l, path));
        if (!l->n)
            return aa_fail(
                err, AA_ENOTFOUND,
                "'%s' holds no text: a directory is searched for *.txt, *.md and *.jsonl", path);
    } else {
        char *copy = aa_heap_strdup(path);
        if (!copy) return aa_fail_memory(err, "a file name", strlen(path));
        AA_TRY(list_add(l, copy, info.size_bytes));
    }
    *total = 0;
    for (size_t i = 0; i < l->n; i++) *total += l->size[i];
    qsort(l->path, l->n, sizeof *l->path, by_path);
    return AA_OK;
}

static aa_status file_documents(aa__walk *w, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    const char *text = (const char *)map.data;
    aa_status st = ends_in(path, ".jsonl") ? jsonl_documents(w, path, text, map.size_bytes, err)
                                           : aa__documents_text(w, text, map.size_bytes, err);
    aa_sys_map_close(&map);
    return st;
}

aa_status aa__documents_walk(aa__walk *w, const char *path, aa_err *err) {
    file_list l = {0};
    bool is_dir;
    aa_status st = list_source(&l, path, &is_dir, &w->total_bytes, err);
    for (size_t i = 0; !st && i < l.n; i++) st = file_documents(w, l.path[i], err);
    if (!st && !w->n_documents)
        st = aa_fail(err, AA_EFORMAT,
                     "'%s' holds no text (%llu bytes, all white space or empty); give a text file, "
                     "a .jsonl file with \"text\" or \"messages\", or a directory of them",
                     path, (unsigned long long)w->total_bytes);
    list_release(&l);
    return st;
}

typedef struct listener { aa_document_fn *fn; void *ctx; } listener;

static aa_status tell(void *ctx, const aa__document *d, aa_err *err) {
    const listener *l = ctx;
    return l->fn(l->ctx, d->text, d->n, err);
}

aa_status aa_documents(const char *path, aa_document_fn *fn, void *ctx, aa_err *err) {
    listener l = {fn, ctx};
    aa__walk w = {.fn = tell, .ctx = &l};
    return aa__documents_walk(&w, path, err);
}

aa_status aa_source_size(uint64_t *out, const char *path, aa_err *err) {
    file_list l = {0};
    bool is_dir;
    uint64_t total;
    aa_status st = list_source(&l, path, &is_dir, &total, err);
    list_release(&l);
    if (!st) *out = total;
    return st;
}

static aa_status add_file(aa_digester *d, const char *path, const char *name, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    uint64_t size = map.size_bytes;
    aa_digester_add(d, name, strlen(name) + 1);
    aa_digester_add(d, &size, sizeof size);
    if (size) aa_digester_add(d, map.data, map.size_bytes);
    aa_sys_map_close(&map);
    return AA_OK;
}

/* A file counts by its rule (text or JSONL), not its name;
 * files of a directory by their relative paths. */
aa_status aa_source_digest(aa_digest *out, const char *path, aa_err *err) {
    file_list l = {0};
    bool is_dir;
    uint64_t total;
    aa_digester *d = NULL;
    aa_status st = list_source(&l, path, &is_dir, &total, err);
    if (!st) st = aa_digester_new(&d, err);
    for (size_t i = 0; !st && i < l.n; i++) {
        const char *name = is_dir                    ? l.path[i] + strlen(path)
                           : ends_in(path, ".jsonl") ? ".jsonl"
                                                     : "";
        while (is_dir && *name == '/') name++;
        st = add_file(d, l.path[i], name, err);
    }
    if (!st) *out = aa_digester_get(d);
    aa_digester_free(d);
    list_release(&l);
    return st;
}

/* ---- samples --------------------------------------------------------------------------------- */

/* Documents are taken while what is taken stays below its share of the bytes seen so far: spread
 * evenly, never past the limit. If that takes none (one long document), the beginning of the source
 * is taken. */
typedef struct sampler {
    aa_text *out;
    size_t limit;
    bool all;                              /* not only training documents */
    uint64_t train_bytes, all_bytes, seen; /* the first two from the first pass */
} sampler;

static aa_status measure(void *ctx, const char *text, size_t n, aa_err *err) {
    sampler *s = ctx;
    (void)err;
    s->all_bytes += n + 2;
    if (aa_part_of(aa_digest_bytes(text, n)) == AA_PART_TRAIN) s->train_bytes += n + 2;
    return AA_OK;
}

static aa_status take(void *ctx, const char *text, size_t n, aa_err *err) {
    sampler *s = ctx;
    uint64_t total = s->all ? s->all_bytes : s->train_bytes;
    if (!s->all && aa_part_of(aa_digest_bytes(text, n)) != AA_PART_TRAIN) return AA_OK;
    s->seen += n + 2;
    double due =
        total <= s->limit ? (double)total : (double)s->seen / (double)total * (double)s->limit;
    if ((double)(s->out->len + n + 2) > due) return AA_OK;
    aa_text_add_bytes(s->out, text, n);
    aa_text_add(s->out, "\n\n");
    return aa_text_status(s->out, err);
}

static aa_status take_head(void *ctx, const char *text, size_t n, aa_err *err) {
    sampler *s = ctx;
    size_t room = s->limit - s->out->len;
    aa_text_add_bytes(s->out, text, n < room ? n : room);
    return aa_text_status(s->out, err);
}

static aa_status sample(const char *source, size_t limit, bool all, aa_text *out, aa_err *err) {
    aa_text text = {0};
    sampler s = {.out = &text, .limit = limit, .all = all};
    aa_status st = aa_documents(source, measure, &s, err);
    if (!s.train_bytes) s.all = true; /* a corpus of one or two documents */
    if (!st) st = aa_documents(source, take, &s, err);
    if (!st && !text.len) st = aa_documents(source, take_head, &s, err);
    if (!st) {
        aa_text_add_bytes(out, text.data, text.len);
        st = aa_text_status(out, err);
    }
    aa_text_release(&text);
    return st;
}

aa_status aa_source_sample(const char *source, size_t limit, aa_text *out, aa_err *err) {
    return sample(source, limit, false, out, err);
}

aa_status aa_source_text(const char *source, size_t limit, aa_text *out, aa_err *err) {
    aa_sys_info info;
    if (aa_sys_stat(&info, source) || info.kind != AA_SYS_FILE || !info.size_bytes ||
        info.size_bytes > limit || ends_in(source, ".jsonl"))
        return sample(source, limit, true, out, err);
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, source, err));
    aa_text_add_bytes(out, map.data, map.size_bytes);
    aa_sys_map_close(&map);
    return aa_text_status(out, err);
}
