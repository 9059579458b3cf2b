/* fetch: files of a model hub, or of any URL, into a directory.
 *
 * Owns the names of repositories, the hub's URL layout, which files of a repository a model needs,
 * resuming, and checking. Knows nothing of what is in the files.
 *
 * A file arrives as NAME.part, beside NAME.part.of, which says what the part is of: the checksum of
 * the whole, and what the server called that content (ETag). It gets its name once it is complete,
 * checked and flushed. Whatever interrupts a fetch, the same call goes on from the part.
 */
#ifndef AA_FETCH_FETCH_H
#define AA_FETCH_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/sha.h"
#include "base/status.h"

typedef struct aa_fetch_progress {
    const char *name;
    uint64_t have, total;                /* bytes; total 0: unknown */
    double bytes_per_s, left_s;          /* NAN: not known */
} aa_fetch_progress;

typedef struct aa_fetch_options {
    const char *from;                    /* OWNER/NAME, datasets/OWNER/NAME, tinystories, a URL */
    const char *to;                      /* NULL: a directory named as the repository; a URL: "." */
    const char *base_url;                /* of the hub */
    const char *revision;                /* branch, tag or commit */
    const char *file;                    /* this one alone, with the other parts of a split GGUF */
    const char *token;                   /* sent to the hub's own origin only; NULL: none */
    int64_t retries, timeout_s;          /* tries without progress; seconds without a byte */
    bool (*stop)(void *ctx);             /* asked every second at least; true: AA_EINTERRUPTED */
    void (*message)(void *ctx, const char *line);
    void (*progress)(void *ctx, const aa_fetch_progress *p);
    void *ctx;
} aa_fetch_options;

typedef struct aa_fetched_file {
    char *name;                          /* below the directory */
    uint64_t size_bytes;
    char sha[AA_SHA_HEX];                /* "": the server gave none, only its length */
    aa_sha_kind kind;                    /* AA_SHA1: git's, of "blob SIZE\0" and the content */
    bool was_there;                      /* complete and right before */
} aa_fetched_file;

typedef struct aa_fetched { char *to; aa_fetched_file *file; size_t n; } aa_fetched;

/* AA_EUNSUPPORTED where there is no libcurl. A file that exists and differs is never replaced:
 * AA_EUSAGE. */
aa_status aa_fetch(const aa_fetch_options *o, aa_fetched *out, aa_err *err) AA_MUST_USE;
void aa_fetched_release(aa_fetched *f);

#endif
