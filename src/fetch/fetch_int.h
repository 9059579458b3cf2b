/* fetch, inside: one request (http.c), one file (download.c), one repository (hub.c). */
#ifndef AA_FETCH_FETCH_INT_H
#define AA_FETCH_FETCH_INT_H

#include "base/text.h"
#include "fetch/fetch.h"

#define AA__UNKNOWN UINT64_MAX

typedef struct aa__http aa__http;

typedef struct aa__reply {
    int status;
    uint64_t length;                     /* of this body */
    uint64_t first, total;               /* Content-Range; unknown where it says "*" */
    char validator[160];                 /* strong ETag, else Last-Modified: what If-Range takes */
    char linked[AA_SHA_HEX];             /* X-Linked-Etag of the first answer: the hub's checksum */
    char next[1024];                     /* Link: rel="next" */
    int64_t retry_after_s;
    bool again;                          /* the failure may pass */
} aa__reply;

typedef struct aa__get {
    const char *url;
    uint64_t from; const char *if_range; /* from > 0: asks for the rest */
    /* Called when the headers of a 200 or 206 are there, then for every piece of its body. */
    aa_status (*begin)(void *ctx, aa__reply *r, aa_err *err);
    aa_status (*body)(void *ctx, const void *p, size_t n, aa_err *err);
    void *ctx;
} aa__get;

aa_status aa__http_open(aa__http **out, const aa_fetch_options *o, aa_err *err) AA_MUST_USE;
void aa__http_close(aa__http *h);
/* AA_OK: an answer of any status, after redirections. Failures of the transport are AA_EIO. */
aa_status aa__http_get(aa__http *h, const aa__get *g, aa__reply *out, aa_err *err) AA_MUST_USE;
/* The failure an answer other than 200 and 206 is; sets again. */
aa_status aa__http_refused(const char *url, aa__reply *r, aa_err *err);
/* Tells what failed and waits before another try, or ends: the failure, AA_EINTERRUPTED. */
typedef struct aa__tries { int64_t failed; } aa__tries;
aa_status aa__http_wait(aa__tries *t, const aa_fetch_options *o, const aa__reply *r,
                        aa_err *err) AA_MUST_USE;
/* Length of "scheme://host:port" of an http(s) URL, or 0. */
size_t aa__origin(const char *url);

typedef struct aa__wanted {
    const char *name, *url;
    uint64_t size_bytes;                 /* AA__UNKNOWN */
    const char *sha; aa_sha_kind kind;   /* "": not known */
} aa__wanted;

/* Fetches into the directory, or finds it there. out->name is not set. */
aa_status aa__download(aa__http *h, const aa__wanted *w, const char *to, const aa_fetch_options *o,
                       aa_fetched_file *out, aa_err *err) AA_MUST_USE;

#endif
