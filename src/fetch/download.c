/* One file: what is there already, the rest of it, the check, the name.
 *
 * Nothing a server says is believed. A body is cut where it would pass the size announced, a part
 * is continued only where the server names the very place and the same content, and what comes out
 * is compared with the checksum before it gets its name. Whatever does not fit is dropped and
 * fetched anew; twice wrong in the end is an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#include "fetch/fetch_int.h"
#include "sys/sys.h"

enum { BLOCK_BYTES = 1 << 18 };
#define PROGRESS_BYTES ((uint64_t)1 << 20)   /* a try that brought this much was not in vain */

typedef struct download {
    const aa__wanted *wanted;
    const aa_fetch_options *options;
    char *path, *part, *of;              /* NAME, NAME.part, NAME.part.of */
    int fd;
    uint64_t have, size;                 /* in the part; of the whole, where it is known */
    char sha[AA_SHA_HEX];
    aa_sha_kind kind;
    char validator[sizeof((aa__reply *)0)->validator];
    aa__reply *reply;                    /* of the request under way */
    double start_s, drawn_s;
    uint64_t start_have;
    int wrong;                           /* how often the whole was not what it should be */
} download;

static aa_status again(download *d, aa_status failure) {
    d->reply->again = true;
    return failure;
}

static bool stopped(const aa_fetch_options *o) { return o->stop && o->stop(o->ctx); }

/* ---- the part and its note ------------------------------------------------------------------- */

/* The note is two lines: the checksum of the whole ("" where none is known), the validator. It goes
 * before the bytes it is about, so that no bytes are ever taken for those of another content. */
static aa_status write_note(download *d, aa_err *err) {
    char *text = aa_heap_printf("%s\n%s\n", d->wanted->sha, d->validator);
    if (!text) return aa_fail_memory(err, "a note", 0);
    aa_status st = aa_file_write(d->of, text, strlen(text), err);
    aa_heap_free(text);
    return st;
}

static aa_status drop_part(download *d, aa_err *err) {
    d->have = 0;
    *d->validator = 0;
    if (ftruncate(d->fd, 0)) return aa_fail_errno(err, errno, "cannot write", d->part);
    return AA_OK;
}

/* Of the content that is wanted now, or to be dropped. */
static bool note_fits(download *d) {
    aa_sys_map map;
    if (aa_sys_map_open(&map, d->of)) return false;
    const char *text = (const char *)map.data;
    size_t n = strlen(d->wanted->sha), size = map.size_bytes;
    bool fits = size > n + 1 && size < n + 2 + sizeof d->validator &&
                !memcmp(text, d->wanted->sha, n) && text[n] == '\n' && text[size - 1] == '\n';
    for (size_t i = n + 1; fits && i < size - 1; i++) fits = text[i] >= ' ';
    if (fits)
        snprintf(d->validator, sizeof d->validator, "%.*s", (int)(size - n - 2), text + n + 1);
    aa_sys_map_close(&map);
    return fits && (n || *d->validator);
}

static aa_status open_part(download *d, aa_err *err) {
    struct stat own;
    aa_sys_info named = {0};
    int no = aa_sys_lock(d->part, &d->fd);
    if (!no && (fstat(d->fd, &own) || aa_sys_stat(&named, d->part))) no = errno;
    /* Locked by another, or just made the whole by one who had it locked. */
    if (no == EWOULDBLOCK || (!no && named.inode != (uint64_t)own.st_ino))
        return aa_fail(err, AA_EBUSY, "'%s' is being fetched by another process", d->part);
    if (no) return aa_fail_errno(err, no, "cannot write", d->part);
    d->have = (uint64_t)own.st_size;
    bool usable = d->have && note_fits(d) && d->have <= d->size;
    return usable ? AA_OK : drop_part(d, err);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void show_progress(download *d) {
    const aa_fetch_options *o = d->options;
    double now = aa_sys_clock_s(), took = now - d->start_s;
    if (!o->progress || now - d->drawn_s < 0.1) return;
    d->drawn_s = now;
    aa_fetch_progress p = {.name = d->wanted->name, .have = d->have,
                           .total = d->size == AA__UNKNOWN ? 0 : d->size,
                           .bytes_per_s = NAN, .left_s = NAN};
    if (took > 0.2) p.bytes_per_s = (double)(d->have - d->start_have) / took;
    if (p.total && p.bytes_per_s > 0) p.left_s = (double)(p.total - p.have) / p.bytes_per_s;
    o->progress(o->ctx, &p);
}

/* The server goes on from the very byte, and of the content that the part is of. */
static aa_status goes_on(download *d, const aa__reply *r, aa_err *err) {
    bool same = !*r->validator || !*d->validator || !strcmp(r->validator, d->validator);
    if (d->have && r->first == d->have && same) return AA_OK;
    aa_status st = aa_fail(err, AA_EIO,
                           same ? "%s: the server sends another piece than it was asked for"
                                : "%s: its content changed on the server",
                           d->wanted->url);
    AA_TRY(drop_part(d, NULL));
    return again(d, st);
}

static aa_status begin_body(void *ctx, aa__reply *r, aa_err *err) {
    download *d = ctx;
    uint64_t total = r->status == 206 ? r->total : r->length, size = d->wanted->size_bytes;
    if (r->status == 206) AA_TRY(goes_on(d, r, err));
    if (size != AA__UNKNOWN && total != AA__UNKNOWN && total != size)
        return again(d, aa_fail(err, AA_EIO,
                                "%s: the server announces %llu bytes, the hub's list %llu",
                                d->wanted->url, (unsigned long long)total,
                                (unsigned long long)size));
    if (size == AA__UNKNOWN) d->size = total;
    if (!*d->wanted->sha && *r->linked) {
        size_t digits = strlen(r->linked);
        if (digits == 64 || digits == 40) {
            memcpy(d->sha, r->linked, sizeof d->sha);
            d->kind = digits == 64 ? AA_SHA256 : AA_SHA1;
        }
    }
    if (r->status == 206) return AA_OK;
    AA_TRY(drop_part(d, err));
    memcpy(d->validator, r->validator, sizeof d->validator);
    d->start_have = 0;
    return write_note(d, err);
}

static aa_status take_body(void *ctx, const void *data, size_t n, aa_err *err) {
    download *d = ctx;
    const char *p = data;
    if (n > d->size - d->have) {
        (void)drop_part(d, NULL);
        return again(d, aa_fail(err, AA_EIO, "%s: the server sends more than the %llu bytes of it",
                                d->wanted->url, (unsigned long long)d->size));
    }
    while (n) {
        ssize_t done = pwrite(d->fd, p, n, (off_t)d->have);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return aa_fail_errno(err, errno, "cannot write", d->part);
        p += done;
        n -= (size_t)done;
        d->have += (uint64_t)done;
    }
    show_progress(d);
    return AA_OK;
}

/* 416: the part is the whole, or no part of it. */
static aa_status nothing_left(download *d, aa_err *err) {
    if (d->reply->total == d->have && (d->size == AA__UNKNOWN || d->size == d->have)) {
        d->size = d->have;
        return AA_OK;
    }
    AA_TRY(drop_part(d, err));
    return again(d, aa_fail(err, AA_EIO, "%s: the server has no such place in it",
                            d->wanted->url));
}

static aa_status receive(download *d, aa__http *h, aa_err *err) {
    /* Nothing would tell whether the rest is of the same content. */
    if (!*d->sha && !*d->validator) AA_TRY(drop_part(d, err));
    aa__get g = {.url = d->wanted->url, .from = d->have, .if_range = d->validator,
                 .begin = begin_body, .body = take_body, .ctx = d};
    AA_TRY(aa__http_get(h, &g, d->reply, err));
    if (d->reply->status == 416 && g.from) return nothing_left(d, err);
    if (d->reply->status != 200 && d->reply->status != 206)
        return aa__http_refused(d->wanted->url, d->reply, err);
    if (d->size == AA__UNKNOWN || d->have == d->size) return AA_OK;
    return again(d, aa_fail(err, AA_EIO, "%s: ended after %llu of %llu bytes", d->wanted->url,
                            (unsigned long long)d->have, (unsigned long long)d->size));
}

/* ---- checking -------------------------------------------------------------------------------- */

static aa_status sha_of(const download *d, int fd, const char *path, uint64_t size, char *out,
                        aa_err *err) {
    unsigned char *block = aa_heap_alloc(BLOCK_BYTES, 1);
    char head[32];
    aa_sha s;
    aa_status st = block ? AA_OK : aa_fail_memory(err, "reading a file", BLOCK_BYTES);
    aa_sha_init(&s, d->kind);
    if (d->kind == AA_SHA1) {              /* git's name of the content */
        int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)size);
        aa_sha_add(&s, head, (size_t)n + 1);
    }
    for (uint64_t at = 0; !st;) {
        ssize_t n = pread(fd, block, BLOCK_BYTES, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = aa_fail_errno(err, errno, "cannot read", path);
        else if (stopped(d->options)) st = aa_fail(err, AA_EINTERRUPTED, "interrupted");
        if (st || !n) break;
        aa_sha_add(&s, block, (size_t)n);
        at += (uint64_t)n;
    }
    aa_sha_hex(&s, out);
    aa_heap_free(block);
    return st;
}

/* The whole against its checksum; what is wrong is dropped, and fetched anew once. */
static aa_status check_part(download *d, aa_err *err) {
    char found[AA_SHA_HEX];
    if (!*d->sha) return AA_OK;
    AA_TRY(sha_of(d, d->fd, d->part, d->have, found, err));
    if (!strcmp(found, d->sha)) return AA_OK;
    aa_status st =
        aa_fail(err, AA_ECORRUPT, "%s: %s %s came, %s was announced", d->wanted->url,
                d->kind == AA_SHA256 ? "SHA-256" : "git's SHA-1", found, d->sha);
    d->reply->again = ++d->wrong < 2;
    aa_status dropped = drop_part(d, NULL);
    return dropped ? dropped : st;
}

static aa_status receive_and_check(download *d, aa__http *h, aa_err *err) {
    aa__tries tries = {0};
    for (;;) {
        aa__reply reply = {.status = 0};
        d->reply = &reply;
        uint64_t before = d->have;
        aa_status st = d->have && d->have == d->wanted->size_bytes ? AA_OK : receive(d, h, err);
        if (!st) st = check_part(d, err);
        if (!st) return AA_OK;
        if (d->have >= before + PROGRESS_BYTES) tries.failed = 0;
        AA_TRY(aa__http_wait(&tries, d->options, &reply, err));
    }
}

static aa_status name_whole(download *d, aa_err *err) {
    int no = aa_sys_fsync_file(d->fd);
    if (!no) no = aa_sys_rename(d->part, d->path);
    if (no) return aa_fail_errno(err, no, "cannot write", d->path);
    unlink(d->of);
    char *slash = strrchr(d->path, '/');
    *slash = 0;
    no = aa_sys_fsync_dir(*d->path ? d->path : "/");
    *slash = '/';
    return no ? aa_fail_errno(err, no, "cannot write", d->path) : AA_OK;
}

static aa_status fetch_part(download *d, aa__http *h, aa_err *err) {
    AA_TRY(open_part(d, err));
    d->start_s = d->drawn_s = aa_sys_clock_s();
    d->start_have = d->have;
    aa_status st = receive_and_check(d, h, err);
    if (!st) st = name_whole(d, err);
    else if (!d->have) { /* nothing worth keeping */
        unlink(d->of);
        unlink(d->part);
    } else aa_err_context(err, "'%s' keeps %llu bytes, and the same command goes on from there",
                          d->part, (unsigned long long)d->have);
    aa_sys_unlock(d->fd);
    return st;
}

/* ---- what is there --------------------------------------------------------------------------- */

static aa_status look(download *d, bool *there, aa_err *err) {
    aa_sys_info info;
    char found[AA_SHA_HEX] = "";
    int no = aa_sys_stat(&info, d->path);
    if (no) return aa_fail_errno(err, no, "cannot look at", d->path);
    *there = info.kind != AA_SYS_ABSENT;
    if (!*there) return AA_OK;
    bool same = info.kind == AA_SYS_FILE && *d->sha && info.size_bytes == d->wanted->size_bytes;
    if (same) {
        int fd = open(d->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return aa_fail_errno(err, errno, "cannot read", d->path);
        aa_status st = sha_of(d, fd, d->path, info.size_bytes, found, err);
        close(fd);
        if (st) return st;
    }
    if (same && !strcmp(found, d->sha)) return AA_OK;
    return aa_fail(err, AA_EUSAGE,
                   "'%s' is there and %s; remove it, or fetch into another directory with --to",
                   d->path, *d->sha ? "is not the one of the hub" : "its checksum is not known");
}

static aa_status make_names(download *d, const char *to, aa_err *err) {
    d->path = aa_path_join(to, d->wanted->name);
    d->part = d->path ? aa_heap_printf("%s.part", d->path) : NULL;
    d->of = d->part ? aa_heap_printf("%s.of", d->part) : NULL;
    if (!d->of) return aa_fail_memory(err, "a file's name", 0);
    char *slash = strrchr(d->path, '/');
    *slash = 0;
    aa_status st = *d->path ? aa_make_dirs(d->path, err) : AA_OK;
    *slash = '/';
    return st;
}

aa_status aa__download(aa__http *h, const aa__wanted *w, const char *to, const aa_fetch_options *o,
                       aa_fetched_file *out, aa_err *err) {
    download d = {.wanted = w, .options = o, .size = w->size_bytes, .kind = w->kind};
    bool there = false;
    snprintf(d.sha, sizeof d.sha, "%s", w->sha);
    aa_status st = make_names(&d, to, err);
    if (!st) st = look(&d, &there, err);
    if (!st && there) d.have = d.size;
    else if (!st) st = fetch_part(&d, h, err);
    if (!st) {
        out->size_bytes = d.have;
        out->kind = d.kind;
        out->was_there = there;
        memcpy(out->sha, d.sha, sizeof out->sha);
    }
    aa_heap_free(d.path);
    aa_heap_free(d.part);
    aa_heap_free(d.of);
    return st;
}
