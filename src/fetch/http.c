/* One GET through libcurl, which is opened by name at run time: the program is not linked with it,
 * because it could only be linked dynamically, and needs it for this alone. Its ABI has been the
 * same since 2006 (libcurl.so.4), numbers of options included; those used are repeated below.
 *
 * Redirections are followed here, not by the library, for three reasons: a token goes to the hub's
 * own origin and nowhere else, whatever the library's version thinks of ports; a secure address
 * never leads to an open one; and the first answer holds what the hub knows about the file.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "base/memory.h"
#include "base/number.h"
#include "fetch/fetch_int.h"
#include "sys/sys.h"

/* ---- the library ----------------------------------------------------------------------------- */

enum { /* curl.h: a long, 10000 + a pointer, 20000 + a function */
    OPT_LOW_SPEED_LIMIT = 19,
    OPT_LOW_SPEED_TIME = 20,
    OPT_NOPROGRESS = 43,
    OPT_CONNECTTIMEOUT = 78,
    OPT_NOSIGNAL = 99,
    OPT_PROTOCOLS = 181,
    OPT_WRITEDATA = 10001,
    OPT_URL = 10002,
    OPT_ERRORBUFFER = 10010,
    OPT_USERAGENT = 10018,
    OPT_HTTPHEADER = 10023,
    OPT_HEADERDATA = 10029,
    OPT_XFERINFODATA = 10057,
    OPT_WRITEFUNCTION = 20011,
    OPT_HEADERFUNCTION = 20079,
    OPT_XFERINFOFUNCTION = 20219,
    INFO_REDIRECT_URL = 0x100000 + 31,
    INFO_RESPONSE_CODE = 0x200000 + 2,
    PROTOCOL_HTTP = 1,
    PROTOCOL_HTTPS = 2,
    GLOBAL_DEFAULT = 3,
    ERROR_SIZE = 256,
    E_UNSUPPORTED_PROTOCOL = 1,
    E_URL_MALFORMAT = 3,
    E_OUT_OF_MEMORY = 27,
    E_ABORTED_BY_CALLBACK = 42,
    E_PEER_FAILED_VERIFICATION = 60,
    E_CACERT_BADFILE = 77
};

enum { MAX_REDIRECTIONS = 10, MAX_IGNORED = 64 << 10 };

static const char *const usual_names[] = {
#ifdef __APPLE__
    "/usr/lib/libcurl.4.dylib", "libcurl.4.dylib",
#else
    "libcurl.so.4", "libcurl-gnutls.so.4",
#endif
};

typedef struct curl_api {
    int (*global_init_mem)(long flags, void *(*)(size_t), void (*)(void *),
                           void *(*)(void *, size_t), char *(*)(const char *),
                           void *(*)(size_t, size_t));
    void *(*easy_init)(void);
    int (*easy_setopt)(void *easy, int option, ...);
    int (*easy_getinfo)(void *easy, int info, ...);
    int (*easy_perform)(void *easy);
    void (*easy_cleanup)(void *easy);
    const char *(*easy_strerror)(int code);
    void *(*slist_append)(void *list, const char *text);
    void (*slist_free_all)(void *list);
} curl_api;

static const struct { const char *name; size_t at; } symbols[] = {
#define S(name) {"curl_" #name, offsetof(curl_api, name)}
    S(global_init_mem), S(easy_init),     S(easy_setopt),  S(easy_getinfo),   S(easy_perform),
    S(easy_cleanup),    S(easy_strerror), S(slist_append), S(slist_free_all),
#undef S
};

struct aa__http {
    curl_api curl;
    void *easy;
    const aa_fetch_options *options;
    char error[ERROR_SIZE];
};

static void *curl_malloc(size_t n) { return aa_heap_alloc(n, 1); }
static void *curl_realloc(void *p, size_t n) { return aa_heap_realloc(p, n, 1); }

static aa_status load(curl_api *api, aa_err *err) {
    const char *named = getenv("AA_CURL");
    void *lib = named && *named ? aa_sys_dl_open(named) : NULL;
    for (size_t i = 0; !(named && *named) && !lib && i < sizeof usual_names / sizeof *usual_names;
         i++)
        lib = aa_sys_dl_open(usual_names[i]);
    if (!lib)
        return aa_fail(err, AA_EUNSUPPORTED,
                       "downloads need libcurl, and '%s' cannot be opened; install it (`apt "
                       "install libcurl4`) or name the file with AA_CURL=FILE",
                       named && *named ? named : usual_names[0]);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *p = aa_sys_dl_symbol(lib, symbols[i].name);
        if (!p)
            return aa_fail(err, AA_EUNSUPPORTED,
                           "'%s' has no %s: it is not libcurl, or one from before 2006",
                           named && *named ? named : usual_names[0], symbols[i].name);
        memcpy((char *)api + symbols[i].at, &p, sizeof p);
    }
    return AA_OK;
}

/* ---- one answer ------------------------------------------------------------------------------ */

typedef struct hop { /* one request of a chain of redirections */
    const aa__get *get;
    aa__reply *reply;
    aa_err *err;
    aa_status failed;                    /* of begin or body */
    bool begun;
    size_t ignored;                      /* bytes of a body that nobody wants */
} hop;

static bool wanted(const hop *h) { return h->reply->status == 200 || h->reply->status == 206; }

static aa_status begin(hop *h) {
    if (h->begun || !wanted(h)) return AA_OK;
    h->begun = true;
    return h->get->begin(h->get->ctx, h->reply, h->err);
}

static size_t on_body(char *p, size_t size, size_t count, void *ctx) {
    hop *h = ctx;
    size_t n = size * count;
    if (!wanted(h)) return (h->ignored += n) <= MAX_IGNORED ? n : 0;
    if (!h->failed) h->failed = begin(h);
    if (!h->failed) h->failed = h->get->body(h->get->ctx, p, n, h->err);
    return h->failed ? 0 : n;
}

static uint64_t number(const char *s) {
    char *end;
    errno = 0;
    unsigned long long v = *s >= '0' && *s <= '9' ? strtoull(s, &end, 10) : AA__UNKNOWN;
    return errno ? AA__UNKNOWN : v;
}

/* "bytes 5-9/10", "bytes 5-9/" and a star, "bytes " star "/10" */
static void read_range(aa__reply *r, const char *v) {
    const char *slash = strchr(v, '/');
    if (strncasecmp(v, "bytes ", 6) || !slash) return;
    r->first = number(v + 6);
    r->total = number(slash + 1);
}

static void keep(char *to, size_t size, const char *from, size_t n) {
    if (n < size) snprintf(to, size, "%.*s", (int)n, from);
}

/* <https://...>; rel="next", <...>; rel="last" */
static void read_link(aa__reply *r, const char *v) {
    for (const char *open = strchr(v, '<'); open; open = strchr(open + 1, '<')) {
        const char *close = strchr(open, '>');
        if (!close) return;
        const char *after = strchr(close, '<'), *rel = strstr(close, "rel=\"next\"");
        if (rel && (!after || rel < after))
            keep(r->next, sizeof r->next, open + 1, (size_t)(close - open - 1));
    }
}

static void read_field(aa__reply *r, const char *name, const char *v) {
    if (!strcasecmp(name, "content-length")) r->length = number(v);
    else if (!strcasecmp(name, "content-range")) read_range(r, v);
    else if (!strcasecmp(name, "link")) read_link(r, v);
    else if (!strcasecmp(name, "retry-after") && number(v) < 3600)
        r->retry_after_s = (int64_t)number(v);
    else if (!strcasecmp(name, "etag") && v[0] == '"') {   /* a weak one names no bytes */
        r->validator[0] = 0;
        keep(r->validator, sizeof r->validator, v, strlen(v));
    } else if (!strcasecmp(name, "last-modified") && !r->validator[0])
        keep(r->validator, sizeof r->validator, v, strlen(v));
    else if (!strcasecmp(name, "x-linked-etag") && !r->linked[0] && v[0] == '"')
        keep(r->linked, sizeof r->linked, v + 1, strspn(v + 1, "0123456789abcdef"));
}

static size_t on_header(char *p, size_t size, size_t count, void *ctx) {
    hop *h = ctx;
    aa__reply *r = h->reply;
    size_t n = size * count, end = n;
    char line[2048];
    while (end && strchr("\r\n \t", p[end - 1])) end--;
    if (end >= sizeof line || memchr(p, 0, end)) return n;
    memcpy(line, p, end);
    line[end] = 0;
    char *colon = strchr(line, ':'), *space = strchr(line, ' ');
    if (!strncmp(line, "HTTP/", 5)) {
        aa__reply clean = {.length = AA__UNKNOWN, .first = AA__UNKNOWN, .total = AA__UNKNOWN};
        memcpy(clean.linked, r->linked, sizeof clean.linked);
        *r = clean;
        uint64_t status = space ? number(space + 1) : 0;
        r->status = status < 1000 ? (int)status : 0;
    } else if (colon) {
        *colon++ = 0;
        read_field(r, line, colon + strspn(colon, " \t"));
    }
    return n;
}

static int on_tick(void *ctx, int64_t total, int64_t now, int64_t up_total, int64_t up_now) {
    const aa_fetch_options *o = ctx;
    (void)total, (void)now, (void)up_total, (void)up_now;
    return o->stop && o->stop(o->ctx);
}

/* ---- requests -------------------------------------------------------------------------------- */

size_t aa__origin(const char *url) {
    size_t scheme = !strncmp(url, "https://", 8) ? 8 : !strncmp(url, "http://", 7) ? 7 : 0;
    size_t host = scheme ? strcspn(url + scheme, "/?#") : 0;
    /* A user's name before the host would make two hosts of one for whoever compares origins. */
    return host && !memchr(url + scheme, '@', host) ? scheme + host : 0;
}

static bool same_origin(const char *a, const char *b) {
    size_t n = aa__origin(a);
    return n && n == aa__origin(b) && !strncasecmp(a, b, n);
}

aa_status aa__http_open(aa__http **out, const aa_fetch_options *o, aa_err *err) {
    for (const char *c = o->token; c && *c; c++)
        if (*c <= ' ' || *c > '~')
            return aa_fail(err, AA_EUSAGE,
                           "the token holds a blank or another character that no token has");
    aa__http *h = aa_heap_alloc(1, sizeof *h);
    if (!h) return aa_fail_memory(err, "a connection", sizeof *h);
    h->options = o;
    aa_status st = load(&h->curl, err);
    if (!st && h->curl.global_init_mem(GLOBAL_DEFAULT, curl_malloc, aa_heap_free, curl_realloc,
                                       aa_heap_strdup, aa_heap_alloc))
        st = aa_fail(err, AA_EUNSUPPORTED, "libcurl does not start");
    if (!st && !(h->easy = h->curl.easy_init())) st = aa_fail_memory(err, "a connection", 0);
    if (st) {
        aa__http_close(h);
        return st;
    }
    int (*set)(void *, int, ...) = h->curl.easy_setopt;
    long seconds = (long)o->timeout_s;
    set(h->easy, OPT_NOSIGNAL, 1L);
    set(h->easy, OPT_PROTOCOLS, (long)(PROTOCOL_HTTP | PROTOCOL_HTTPS));
    set(h->easy, OPT_CONNECTTIMEOUT, seconds);
    set(h->easy, OPT_LOW_SPEED_LIMIT, 1L);
    set(h->easy, OPT_LOW_SPEED_TIME, seconds);
    set(h->easy, OPT_USERAGENT, "autoane/" AA_VERSION);
    set(h->easy, OPT_ERRORBUFFER, h->error);
    set(h->easy, OPT_WRITEFUNCTION, on_body);
    set(h->easy, OPT_HEADERFUNCTION, on_header);
    set(h->easy, OPT_NOPROGRESS, 0L);
    set(h->easy, OPT_XFERINFOFUNCTION, on_tick);
    set(h->easy, OPT_XFERINFODATA, o);
    *out = h;
    return AA_OK;
}

void aa__http_close(aa__http *h) {
    if (h && h->easy) h->curl.easy_cleanup(h->easy);
    aa_heap_free(h);
}

/* The request's own header lines; false: out of memory. */
static bool make_headers(aa__http *h, const aa__get *g, const char *url, void **list) {
    const aa_fetch_options *o = h->options;
    aa_text lines[3] = {0};
    bool right = true;
    if (o->token && same_origin(url, o->base_url))
        aa_text_printf(&lines[0], "Authorization: Bearer %s", o->token);
    if (g->from) aa_text_printf(&lines[1], "Range: bytes=%llu-", (unsigned long long)g->from);
    if (g->from && g->if_range && *g->if_range)
        aa_text_printf(&lines[2], "If-Range: %s", g->if_range);
    for (int i = 0; i < 3; i++) {
        void *longer = lines[i].len && right ? h->curl.slist_append(*list, lines[i].data) : *list;
        right = right && !lines[i].failed && (longer || !lines[i].len);
        if (longer) *list = longer;
        aa_text_release(&lines[i]);
    }
    return right;
}

static aa_status transport_failed(aa__http *h, int code, const char *url, aa__reply *r,
                                  aa_err *err) {
    if (code == E_OUT_OF_MEMORY) return aa_fail_memory(err, "a connection", 0);
    if (code == E_ABORTED_BY_CALLBACK) return aa_fail(err, AA_EINTERRUPTED, "interrupted");
    r->again = code != E_UNSUPPORTED_PROTOCOL && code != E_URL_MALFORMAT &&
               code != E_PEER_FAILED_VERIFICATION && code != E_CACERT_BADFILE;
    return aa_fail(err, AA_EIO, "%s: %s", url, *h->error ? h->error : h->curl.easy_strerror(code));
}

static aa_status request(aa__http *h, const aa__get *g, const char *url, aa__reply *r,
                         aa_err *err) {
    hop one = {.get = g, .reply = r, .err = err};
    void *headers = NULL;
    long status = 0;
    if (!make_headers(h, g, url, &headers)) {
        h->curl.slist_free_all(headers);
        return aa_fail_memory(err, "a request", 0);
    }
    *h->error = 0;
    h->curl.easy_setopt(h->easy, OPT_URL, url);
    h->curl.easy_setopt(h->easy, OPT_HTTPHEADER, headers);
    h->curl.easy_setopt(h->easy, OPT_WRITEDATA, &one);
    h->curl.easy_setopt(h->easy, OPT_HEADERDATA, &one);
    int code = h->curl.easy_perform(h->easy);
    h->curl.easy_setopt(h->easy, OPT_HTTPHEADER, NULL);
    h->curl.slist_free_all(headers);
    h->curl.easy_getinfo(h->easy, INFO_RESPONSE_CODE, &status);
    if (!one.failed && !code) one.failed = begin(&one);    /* an empty body */
    if (one.failed) return one.failed;
    bool cut = one.ignored > MAX_IGNORED;
    return code && !cut ? transport_failed(h, code, g->url, r, err) : AA_OK;
}

static bool is_redirection(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Where the answer leads, for the caller to free. */
static aa_status follow(aa__http *h, const aa__get *g, const char *url, char **next, aa_err *err) {
    const char *to = NULL;
    h->curl.easy_getinfo(h->easy, INFO_REDIRECT_URL, &to);
    if (!to || !aa__origin(to))
        return aa_fail(err, AA_EIO, "%s: redirected, but not to an address of the web", g->url);
    if (!strncmp(url, "https:", 6) && strncmp(to, "https:", 6))
        return aa_fail(err, AA_EIO, "%s: redirected from https to http, which is refused", g->url);
    *next = aa_heap_strdup(to);
    return *next ? AA_OK : aa_fail_memory(err, "an address", strlen(to));
}

aa_status aa__http_get(aa__http *h, const aa__get *g, aa__reply *out, aa_err *err) {
    char *url = NULL;
    aa_status st = AA_OK;
    *out = (aa__reply){.length = AA__UNKNOWN, .first = AA__UNKNOWN, .total = AA__UNKNOWN};
    for (int i = 0; !st; i++) {
        char *next = NULL;
        st = request(h, g, url ? url : g->url, out, err);
        if (st || !is_redirection(out->status)) break;
        if (i == MAX_REDIRECTIONS)
            st = aa_fail(err, AA_EIO, "%s: redirected more than %d times", g->url,
                         MAX_REDIRECTIONS);
        else st = follow(h, g, url ? url : g->url, &next, err);
        aa_heap_free(url);
        url = next;
    }
    aa_heap_free(url);
    return st;
}

/* ---- failures and patience ------------------------------------------------------------------- */

aa_status aa__http_refused(const char *url, aa__reply *r, aa_err *err) {
    r->again = r->status >= 500 || r->status == 408 || r->status == 429;
    if (r->status == 404)
        return aa_fail(err, AA_ENOTFOUND, "%s: not found (404); check name, --revision and --file",
                       url);
    if (r->status == 401 || r->status == 403)
        return aa_fail(err, AA_EIO,
                       "%s: refused (%d): it does not exist, is private, or wants its terms "
                       "accepted on its page; HF_TOKEN holds your token",
                       url, r->status);
    return aa_fail(err, AA_EIO, "%s: the server answers %d", url, r->status);
}

static aa_status sleep_for(double seconds, const aa_fetch_options *o, aa_err *err) {
    for (double end = aa_sys_clock_s() + seconds, left = seconds; left > 0;
         left = end - aa_sys_clock_s()) {
        if (o->stop && o->stop(o->ctx)) return aa_fail(err, AA_EINTERRUPTED, "interrupted");
        struct timespec t = {0, left < 0.2 ? (long)(left * 1e9) : 200000000L};
        nanosleep(&t, NULL);
    }
    return AA_OK;
}

aa_status aa__http_wait(aa__tries *t, const aa_fetch_options *o, const aa__reply *r, aa_err *err) {
    aa_status failure = err->code;
    if (!r->again) return failure;
    if (++t->failed > o->retries) {
        if (o->retries) aa_err_context(err, "gave up after %lld tries", (long long)t->failed);
        return failure;
    }
    double seconds = 0.25;
    for (int64_t i = 1; i < t->failed && seconds < 30; i++) seconds *= 2;
    if (seconds < (double)r->retry_after_s)
        seconds = r->retry_after_s < 120 ? (double)r->retry_after_s : 120;
    if (o->message) {
        char line[sizeof err->message + 32];
        aa_number_print(line, sizeof line, "%s; again in %.3g s", err->message, seconds);
        o->message(o->ctx, line);
    }
    *err = (aa_err){0};
    return sleep_for(seconds, o, err);
}
