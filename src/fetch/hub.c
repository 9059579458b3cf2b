/* A repository of the hub: its name, the list of its files, and those that a model needs.
 *
 * The hub's layout: {base}/api/models/{owner}/{name}/tree/{revision} lists files as JSON, sizes and
 * checksums included; {base}/{owner}/{name}/resolve/{revision}/{file} is one of them. Data sets
 * have /datasets/ in front of the owner and in the place of /models/.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "fetch/fetch_int.h"
#include "sys/sys.h"

#define MAX_LIST_BYTES ((size_t)64 << 20)
#define INDEX "model.safetensors.index.json"
enum { MAX_NAME = 1000, MAX_PART = 250, MAX_PAGES = 1000, MAX_FILES = 8 };

/* Names that stand for files of a repository. */
static const struct { const char *name, *repo, *files[MAX_FILES]; } aliases[] = {
    {"tinystories", "datasets/roneneldan/TinyStories",
     {"TinyStories-valid.txt", "TinyStories-train.txt"}},
};
enum { N_ALIASES = sizeof aliases / sizeof *aliases };

/* What goes with the weights, where it is there. */
static const char *const beside[] = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "chat_template.jinja", "active_vocabulary.json",
    "adapter_config.json", "adapter_model.safetensors",
};

typedef struct entry { /* a file of the list */
    char *name;
    uint64_t size_bytes;
    char sha[AA_SHA_HEX];
    aa_sha_kind kind;
} entry;

typedef struct hub {
    const aa_fetch_options *options;
    aa__http *http;
    aa_fetched *out;
    bool dataset;
    char *repo, *revision, *file;        /* file NULL: what a model needs, or the alias's */
    const char *const *files;            /* of an alias, or NULL */
    const char *to;
    entry *list;
    size_t n_list;
} hub;

/* ---- names ----------------------------------------------------------------------------------- */

/* Below a directory, and nowhere else, on any file system. */
static bool stays_below(const char *name) {
    for (const char *p = name; strlen(name) <= MAX_NAME;) {
        size_t n = strcspn(p, "/");
        if (!n || n > MAX_PART || !strncmp(p, ".", n) || !strncmp(p, "..", n)) return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < ' ' || p[i] == 0x7f || strchr("\\:", p[i])) return false;
        if (!p[n]) return true;
        p += n + 1;
    }
    return false;
}

static aa_status refuse_name(const char *name, aa_err *err) {
    char shown[80];
    size_t n = 0;
    for (; name[n] && n < sizeof shown - 1; n++)
        shown[n] = (unsigned char)name[n] < ' ' || name[n] == 0x7f ? '?' : name[n];
    shown[n] = 0;
    return aa_fail(err, AA_EFORMAT, "'%s' is no name for a file below a directory", shown);
}

static void add_encoded(aa_text *t, const char *s, bool keep_slash) {
    for (; *s; s++)
        if (isalnum((unsigned char)*s) || strchr("-._~", *s) || (keep_slash && *s == '/'))
            aa_text_add_bytes(t, s, 1);
        else aa_text_printf(t, "%%%02X", (unsigned)(unsigned char)*s);
}

static void add_base(aa_text *t, const hub *h) {
    const char *base = h->options->base_url;
    size_t n = strlen(base);
    while (n && base[n - 1] == '/') n--;
    aa_text_add_bytes(t, base, n);
}

/* Length of a word that may name an owner or a repository, or 0. */
static size_t plain_word(const char *s) {
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || (s[n] && strchr("-._", s[n]))) n++;
    return n && n <= MAX_PART && s[0] != '.' ? n : 0;
}

/* [datasets/]OWNER/NAME, and what pages of the hub add: /resolve|blob|raw|tree/REVISION[/FILE].
 * False: it is something else. */
static bool read_path(hub *h, const char *s, bool *enough_memory) {
    static const char *const words[] = {"/resolve/", "/blob/", "/raw/", "/tree/"};
    h->dataset = !strncmp(s, "datasets/", 9);
    if (h->dataset) s += 9;
    size_t owner = plain_word(s), n = owner && s[owner] == '/' ? plain_word(s + owner + 1) : 0;
    if (!n) return false;
    n += owner + 1;
    const char *end = s + strcspn(s, "?#"), *p = s + n;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t skip = strlen(words[i]), length;
        if (strncmp(p, words[i], skip) || !(length = plain_word(p + skip))) continue;
        h->revision = aa_heap_printf("%.*s", (int)length, p + skip);
        p += skip + length;
        if (*p == '/' && p + 1 < end) {
            h->file = aa_heap_printf("%.*s", (int)(end - p - 1), p + 1);
            *enough_memory = *enough_memory && h->file;
            p = end;
        }
        *enough_memory = *enough_memory && h->revision;
        break;
    }
    if (*p == '/') p++;
    if (p != end) return false;
    h->repo = aa_heap_printf("%.*s", (int)n, s);
    *enough_memory = *enough_memory && h->repo;
    return true;
}

/* Sets repo, unless `from` is the address of something that is not the hub's. */
static aa_status read_reference(hub *h, aa_err *err) {
    const aa_fetch_options *o = h->options;
    const char *from = o->from;
    aa_text base = {0};
    bool enough = true, known = false;
    for (size_t i = 0; i < N_ALIASES; i++)
        if (!strcmp(from, aliases[i].name)) {
            from = aliases[i].repo;
            h->files = aliases[i].files;
        }
    if (strstr(from, "://")) {
        add_base(&base, h);
        if (base.data && !strncmp(from, base.data, base.len) && from[base.len] == '/')
            known = read_path(h, from + base.len + 1, &enough);
        enough = enough && !base.failed;
        aa_text_release(&base);
        if (!known && !aa__origin(from))
            return aa_fail(err, AA_EUSAGE, "'%s' is no address of http or https%s", from,
                           strchr(from, '@') ? " without a user's name in it" : "");
    } else if (!read_path(h, from, &enough))
        return aa_fail(err, AA_EUSAGE,
                       "'%s' is no OWNER/NAME of a model, no datasets/OWNER/NAME, no address, and "
                       "not 'tinystories'",
                       from);
    if (h->repo && !h->revision) enough = (h->revision = aa_heap_strdup(o->revision)) && enough;
    if (o->file) {
        aa_heap_free(h->file);
        enough = (h->file = aa_heap_strdup(o->file)) && enough;
    }
    return enough ? AA_OK : aa_fail_memory(err, "a name", 0);
}

/* ---- the list -------------------------------------------------------------------------------- */

static aa_status begin_list(void *ctx, aa__reply *r, aa_err *err) {
    (void)r, (void)err;
    aa_text_clear(ctx);
    return AA_OK;
}

static aa_status take_list(void *ctx, const void *p, size_t n, aa_err *err) {
    aa_text *t = ctx;
    if (n > MAX_LIST_BYTES - t->len)
        return aa_fail(err, AA_EFORMAT, "the hub's list is longer than %zu bytes", MAX_LIST_BYTES);
    aa_text_add_bytes(t, p, n);
    return aa_text_status(t, err);
}

static aa_status get_text(hub *h, const char *url, aa_text *out, aa__reply *r, aa_err *err) {
    aa__tries tries = {0};
    aa__get g = {.url = url, .begin = begin_list, .body = take_list, .ctx = out};
    for (;;) {
        aa_status st = aa__http_get(h->http, &g, r, err);
        if (!st && r->status == 200) return AA_OK;
        if (!st) st = aa__http_refused(url, r, err);
        AA_TRY(aa__http_wait(&tries, h->options, r, err));
    }
}

static void keep_sha(entry *e, const json_t *o, aa_sha_kind kind) {
    const char *oid = json_string_value(json_object_get(o, "oid"));
    if (!oid) return;
    if (!strncmp(oid, "sha256:", 7)) oid += 7;
    size_t n = strspn(oid, "0123456789abcdef");
    if (oid[n] || n != (kind == AA_SHA1 ? 40 : 64)) return;
    memcpy(e->sha, oid, n + 1);
    e->kind = kind;
}

static aa_status add_entry(hub *h, const json_t *o, const char *url, aa_err *err) {
    const char *type, *path;
    int64_t size;
    const json_t *lfs = json_object_get(o, "lfs");
    AA_TRY(aa_json_str(o, "type", url, "", &type, err));
    if (strcmp(type, "file")) return AA_OK;
    AA_TRY(aa_json_str(o, "path", url, "", &path, err));
    AA_TRY(aa_json_int(o, "size", url, -1, (int64_t)1 << 60, -1, &size, err));
    entry *list = aa_heap_realloc(h->list, h->n_list + 1, sizeof *list);
    if (!list) return aa_fail_memory(err, "the hub's list", 0);
    h->list = list;
    entry *e = &list[h->n_list];
    *e = (entry){.name = aa_heap_strdup(path),
                 .size_bytes = size < 0 ? AA__UNKNOWN : (uint64_t)size};
    if (!e->name) return aa_fail_memory(err, "the hub's list", 0);
    h->n_list++;
    keep_sha(e, json_is_object(lfs) ? lfs : o, json_is_object(lfs) ? AA_SHA256 : AA_SHA1);
    return AA_OK;
}

static aa_status add_page(hub *h, const aa_text *text, const char *url, aa_err *err) {
    json_t *page;
    AA_TRY(aa_json_parse(&page, text->data, text->len, url, err));
    aa_status st = json_is_array(page) ? AA_OK
                                       : aa_fail(err, AA_EFORMAT, "%s: not a list of files", url);
    for (size_t i = 0; !st && i < json_array_size(page); i++)
        st = add_entry(h, json_array_get(page, i), url, err);
    json_decref(page);
    return st;
}

/* The files of the root, or of the folder that holds --file. */
static aa_status read_list(hub *h, aa_err *err) {
    aa_text url = {0}, text = {0};
    const char *slash = h->file ? strrchr(h->file, '/') : NULL;
    add_base(&url, h);
    aa_text_printf(&url, "/api/%s/%s/tree/", h->dataset ? "datasets" : "models", h->repo);
    add_encoded(&url, h->revision, false);
    if (slash) {
        char folder[MAX_NAME + 1];
        snprintf(folder, sizeof folder, "/%.*s", (int)(slash - h->file), h->file);
        add_encoded(&url, folder, true);
    }
    aa_status st = aa_text_status(&url, err);
    for (int page = 0; !st && url.len; page++) {
        aa__reply reply;
        st = get_text(h, url.data, &text, &reply, err);
        if (!st) st = add_page(h, &text, url.data, err);
        if (!st && *reply.next && page == MAX_PAGES)
            st = aa_fail(err, AA_EFORMAT, "%s: more than %d pages", url.data, MAX_PAGES);
        if (st) break;
        aa_text_clear(&url);
        aa_text_add(&url, reply.next);
        st = aa_text_status(&url, err);
    }
    aa_text_release(&url);
    aa_text_release(&text);
    return st;
}

static const entry *find(const hub *h, const char *name) {
    for (size_t i = 0; i < h->n_list; i++)
        if (!strcmp(h->list[i].name, name)) return &h->list[i];
    return NULL;
}

/* The names in the list that end so, for a message. */
static void add_names(const hub *h, const char *end, aa_text *t) {
    for (size_t i = 0; i < h->n_list && t->len < 400; i++) {
        const char *name = h->list[i].name;
        size_t n = strlen(name), m = strlen(end);
        if (n >= m && !strcmp(name + n - m, end) && stays_below(name))
            aa_text_printf(t, "%s%s", t->len ? ", " : "", name);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static aa_status download(hub *h, const aa__wanted *w, aa_err *err) {
    aa_fetched *out = h->out;
    if (!stays_below(w->name)) return refuse_name(w->name, err);
    aa_fetched_file *file = aa_heap_realloc(out->file, out->n + 1, sizeof *file);
    if (!file) return aa_fail_memory(err, "the list of files", 0);
    out->file = file;
    aa_fetched_file *f = &file[out->n];
    *f = (aa_fetched_file){.name = aa_heap_strdup(w->name)};
    if (!f->name) return aa_fail_memory(err, "the list of files", 0);
    out->n++;
    return aa__download(h->http, w, h->to, h->options, f, err);
}

static aa_status fetch_entry(hub *h, const entry *e, aa_err *err) {
    aa_text url = {0};
    add_base(&url, h);
    aa_text_printf(&url, "%s/%s/resolve/", h->dataset ? "/datasets" : "", h->repo);
    add_encoded(&url, h->revision, false);
    aa_text_add(&url, "/");
    add_encoded(&url, e->name, true);
    aa_status st = aa_text_status(&url, err);
    if (!st) {
        const aa__wanted w = {e->name, url.data, e->size_bytes, e->sha, e->kind};
        st = download(h, &w, err);
    }
    aa_text_release(&url);
    return st;
}

static aa_status need(hub *h, const char *name, aa_err *err) {
    const entry *e = find(h, name);
    if (e) return fetch_entry(h, e, err);
    if (!stays_below(name)) return refuse_name(name, err);
    aa_text names = {0};
    add_names(h, "", &names);
    aa_status st = aa_fail(err, AA_ENOTFOUND, "%s has no '%s'; it has %s", h->repo, name,
                           names.len ? names.data : "nothing there");
    aa_text_release(&names);
    return st;
}

/* Length of NAME before "-00001-of-00003.gguf", or 0. */
static size_t split_stem(const char *name) {
    static const char form[] = "-ddddd-of-ddddd.gguf";
    size_t n = strlen(name), m = sizeof form - 1;
    if (n <= m) return 0;
    for (size_t i = 0; i < m; i++) {
        char c = name[n - m + i];
        if (form[i] == 'd' ? !isdigit((unsigned char)c) : c != form[i]) return 0;
    }
    return n - m;
}

/* A file, and with one of a split GGUF the others. */
static aa_status fetch_file(hub *h, const char *name, aa_err *err) {
    size_t stem = split_stem(name);
    AA_TRY(need(h, name, err));
    for (size_t i = 0; stem && i < h->n_list; i++) {
        const entry *e = &h->list[i];
        bool sibling = split_stem(e->name) == stem && !strncmp(e->name, name, stem) &&
                       !strcmp(e->name + stem + 6, name + stem + 6) && strcmp(e->name, name);
        if (sibling) AA_TRY(fetch_entry(h, e, err));
    }
    return AA_OK;
}

/* Every file that the index names, once. */
static aa_status fetch_shards(hub *h, aa_err *err) {
    json_t *index;
    const char *key;
    json_t *value;
    char *path = aa_path_join(h->to, INDEX);
    if (!path) return aa_fail_memory(err, "a file's name", 0);
    aa_status st = aa_json_load(&index, path, err);
    if (!st) {
        json_t *map = json_object_get(index, "weight_map");
        size_t first = h->out->n;
        if (!json_is_object(map))
            st = aa_fail(err, AA_EFORMAT, "%s: \"weight_map\" is not an object", path);
        json_object_foreach(map, key, value) {
            const char *name = json_string_value(value);
            bool had = false;
            if (!name) st = aa_fail(err, AA_EFORMAT, "%s: a tensor without a file's name", path);
            for (size_t i = first; name && i < h->out->n; i++)
                had = had || !strcmp(h->out->file[i].name, name);
            if (!st && !had) st = need(h, name, err);
            if (st) break;
        }
        json_decref(index);
    }
    aa_heap_free(path);
    return st;
}

/* The one GGUF of a repository that has no safetensors; several need a choice. */
static const char *only_gguf(const hub *h) {
    const char *found = NULL;
    for (size_t i = 0; i < h->n_list; i++) {
        const char *name = h->list[i].name;
        size_t n = strlen(name), stem = split_stem(name);
        if (n < 5 || strcmp(name + n - 5, ".gguf")) continue;
        if (found && !(stem && !strncmp(found, name, stem))) return NULL;
        found = found ? found : name;
    }
    return found;
}

static aa_status nothing_to_fetch(const hub *h, aa_err *err) {
    aa_text names = {0};
    add_names(h, h->dataset ? "" : ".gguf", &names);
    bool choice = names.len;
    if (!choice) add_names(h, "", &names);
    aa_status st = aa_fail(err, AA_EUSAGE, "%s has %s; choose with --file: %s", h->repo,
                           h->dataset ? "files of data"
                           : choice   ? "several GGUF files"
                                      : "no weights in safetensors or GGUF",
                           names.len ? names.data : "it is empty");
    aa_text_release(&names);
    return st;
}

static aa_status fetch_model(hub *h, aa_err *err) {
    bool one = find(h, "model.safetensors"), index = !one && find(h, INDEX);
    bool adapter = find(h, "adapter_model.safetensors");
    const char *gguf = one || index || adapter ? NULL : only_gguf(h);
    if (h->dataset || !(one || index || adapter || gguf)) return nothing_to_fetch(h, err);
    if (gguf) return fetch_file(h, gguf, err);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if (find(h, beside[i])) AA_TRY(need(h, beside[i], err));
    if (one) return need(h, "model.safetensors", err);
    if (!index) return AA_OK;
    AA_TRY(need(h, INDEX, err));
    return fetch_shards(h, err);
}

static aa_status fetch_repository(hub *h, aa_err *err) {
    if (h->file && !stays_below(h->file)) return refuse_name(h->file, err);
    AA_TRY(read_list(h, err));
    if (h->file) return fetch_file(h, h->file, err);
    if (!h->files) return fetch_model(h, err);
    for (size_t i = 0; i < MAX_FILES && h->files[i]; i++) AA_TRY(need(h, h->files[i], err));
    return AA_OK;
}

/* A file from anywhere: its last part is its name. */
static aa_status fetch_url(hub *h, aa_err *err) {
    const char *url = h->options->from, *path = url + aa__origin(url);
    size_t n = strcspn(path, "?#"), from = n;
    while (from && path[from - 1] != '/') from--;
    char *name = h->file ? aa_heap_strdup(h->file)
                         : aa_heap_printf("%.*s", (int)(n - from), path + from);
    if (!name) return aa_fail_memory(err, "a name", 0);
    const aa__wanted w = {name, url, AA__UNKNOWN, "", AA_SHA256};
    aa_status st = *name ? download(h, &w, err)
                         : aa_fail(err, AA_EUSAGE, "'%s' names no file; name it with --file", url);
    aa_heap_free(name);
    return st;
}

aa_status aa_fetch(const aa_fetch_options *o, aa_fetched *out, aa_err *err) {
    aa_fetched made = {0};
    aa_err own = {0};
    hub h = {.options = o, .out = &made};
    if (!err) err = &own;
    aa_status st = aa__origin(o->base_url) ? read_reference(&h, err)
                                           : aa_fail(err, AA_EUSAGE,
                                                     "'%s' is no address of a hub: it must begin "
                                                     "with http:// or https://",
                                                     o->base_url);
    if (!st) {
        const char *to = o->to && *o->to ? o->to : h.repo ? strchr(h.repo, '/') + 1 : ".";
        h.to = made.to = aa_heap_strdup(to);
        st = made.to ? aa__http_open(&h.http, o, err) : aa_fail_memory(err, "a name", 0);
    }
    if (!st) st = h.repo ? fetch_repository(&h, err) : fetch_url(&h, err);
    for (size_t i = 0; i < h.n_list; i++) aa_heap_free(h.list[i].name);
    aa_heap_free(h.list);
    aa_heap_free(h.repo);
    aa_heap_free(h.revision);
    aa_heap_free(h.file);
    aa__http_close(h.http);
    if (st) aa_fetched_release(&made);
    else *out = made;
    return st;
}

void aa_fetched_release(aa_fetched *f) {
    for (size_t i = 0; i < f->n; i++) aa_heap_free(f->file[i].name);
    aa_heap_free(f->file);
    aa_heap_free(f->to);
    *f = (aa_fetched){0};
}
