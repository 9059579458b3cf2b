#include "base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/memory.h"

#define BUFFER_BYTES ((size_t)1 << 18)
#define WRITE_BYTES ((size_t)1 << 30) /* macOS refuses to write more than INT_MAX at once */

struct aa_outfile {
    char *path, *temporary, *dir;
    unsigned char *buffer;
    size_t fill;
    aa_digester *digester;
    uint64_t size;
    int fd, failure; /* errno of the first failed write */
};

aa_status aa_map_open(aa_sys_map *out, const char *path, aa_err *err) {
    int no = aa_sys_map_open(out, path);
    if (no == EINVAL) return aa_fail(err, AA_EIO, "cannot read '%s': not a regular file", path);
    return no ? aa_fail_errno(err, no, "cannot read", path) : AA_OK;
}

char *aa_path_join(const char *dir, const char *name) {
    size_t n = strlen(dir);
    return n && dir[n - 1] == '/' ? aa_heap_printf("%s%s", dir, name)
                                  : aa_heap_printf("%s/%s", dir, name);
}

aa_status aa_make_dirs(const char *path, aa_err *err) {
    int no = aa_sys_make_dirs(path);
    return no ? aa_fail_errno(err, no, "cannot make the directory", path) : AA_OK;
}

static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return aa_heap_strdup(".");
    return slash == path ? aa_heap_strdup("/") : aa_heap_printf("%.*s", (int)(slash - path), path);
}

static void free_outfile(aa_outfile *f) {
    if (f->temporary) aa_sys_spare(f->temporary);
    if (f->fd >= 0) close(f->fd);
    aa_digester_free(f->digester);
    aa_heap_free(f->buffer);
    aa_heap_free(f->path);
    aa_heap_free(f->temporary);
    aa_heap_free(f->dir);
    aa_heap_free(f);
}

/* A name that exists is the remains of a process of the same id that was killed, or belongs to one
 * in another container: take the next. */
static int open_temporary(aa_outfile *f) {
    static atomic_uint counter;
    int no = EEXIST;
    for (int i = 0; i < 1000 && no == EEXIST; i++) {
        aa_heap_free(f->temporary);
        f->temporary =
            aa_heap_printf("%s.%ld-%u.tmp", f->path, (long)getpid(), atomic_fetch_add(&counter, 1));
        if (!f->temporary) return ENOMEM;
        f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        no = f->fd < 0 ? errno : 0;
        if (!no && aa_sys_claim(f->fd)) { /* swept before it was ours */
            close(f->fd);
            f->fd = -1;
            no = EEXIST;
        }
    }
    return no;
}

aa_status aa_outfile_open(aa_outfile **out, const char *path, aa_err *err) {
    aa_sys_info info;
    /* The rename would put a file in the place of a device. */
    if (!aa_sys_stat(&info, path) && info.kind != AA_SYS_ABSENT && info.kind != AA_SYS_FILE)
        return aa_fail(err, AA_EIO, "cannot write '%s': it is %s", path,
                       info.kind == AA_SYS_DIR ? "a directory" : "not a regular file");
    aa_outfile *f = aa_heap_alloc(1, sizeof *f);
    if (!f) return aa_fail_memory(err, "writing a file", sizeof *f);
    f->fd = -1;
    f->path = aa_heap_strdup(path);
    f->dir = directory_of(path);
    f->buffer = aa_heap_alloc(BUFFER_BYTES, 1);
    aa_status st = AA_OK;
    if (!f->path || !f->dir || !f->buffer) st = aa_fail_memory(err, "writing a file", BUFFER_BYTES);
    if (!st) st = aa_digester_new(&f->digester, err);
    int no = st ? 0 : open_temporary(f);
    if (no == ENOENT)
        st = aa_fail(err, AA_ENOTFOUND, "cannot write '%s': there is no directory '%s'", path,
                     f->dir);
    else if (no) st = aa_fail_errno(err, no, "cannot write", path);
    if (st) free_outfile(f);
    else {
        aa_sys_doom(f->temporary);
        *out = f;
    }
    return st;
}

static void write_all(aa_outfile *f, const unsigned char *p, size_t n) {
    while (n && !f->failure) {
        ssize_t done = write(f->fd, p, n < WRITE_BYTES ? n : WRITE_BYTES);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) {
            f->failure = errno;
            return;
        }
        p += done;
        n -= (size_t)done;
    }
}

static void drain(aa_outfile *f) {
    write_all(f, f->buffer, f->fill);
    f->fill = 0;
}

void aa_outfile_write(aa_outfile *f, const void *p, size_t n) {
    if (!n) return;
    aa_digester_add(f->digester, p, n);
    f->size += n;
    if (n > BUFFER_BYTES - f->fill) drain(f);
    if (n >= BUFFER_BYTES) {
        write_all(f, p, n);
        return;
    }
    memcpy(f->buffer + f->fill, p, n);
    f->fill += n;
}

uint64_t aa_outfile_size(const aa_outfile *f) { return f->size; }

aa_status aa_outfile_commit(aa_outfile *f, aa_digest *out_digest, aa_err *err) {
    drain(f);
    int no = f->failure ? f->failure : aa_sys_fsync_file(f->fd);
    /* Closing gives up the claim, so the descriptor stays open until the name is another. */
    if (!no) no = aa_sys_rename(f->temporary, f->path);
    if (no) unlink(f->temporary);
    else no = aa_sys_fsync_dir(f->dir);
    if (!no && out_digest) *out_digest = aa_digester_get(f->digester);
    aa_status st = no ? aa_fail_errno(err, no, "cannot write", f->path) : AA_OK;
    free_outfile(f);
    return st;
}

void aa_outfile_abort(aa_outfile *f) {
    unlink(f->temporary);
    free_outfile(f);
}

/* "<anything>.<pid>-<counter>.tmp" */
static bool is_temporary(const char *name) {
    static const char digits[] = "0123456789", end[] = ".tmp";
    size_t n = strlen(name), at = sizeof end - 1;
    if (n < at || strcmp(name + n - at, end)) return false;
    n -= at;
    for (size_t part = 0; part < 2; part++) {
        size_t before = n;
        while (n && strchr(digits, name[n - 1])) n--;
        if (n == before || !n || name[--n] != (part ? '.' : '-')) return false;
    }
    return true;
}

static int sweep_entry(void *ctx, const char *name) {
    const char *const *dir = ctx;
    char *path = is_temporary(name) ? aa_path_join(*dir, name) : NULL;
    if (path) (void)aa_sys_remove_abandoned(path);
    aa_heap_free(path);
    return 0;
}

void aa_outfile_sweep(const char *dir) {
    (void)aa_sys_list_dir(dir, sweep_entry, &dir);
}

aa_status aa_file_text(char **out, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    char *text = aa_heap_alloc(map.size_bytes + 1, 1);
    if (text && map.size_bytes) memcpy(text, map.data, map.size_bytes);
    aa_sys_map_close(&map);
    if (!text) return aa_fail_memory(err, path, 0);
    *out = text;
    return AA_OK;
}

aa_status aa_file_write(const char *path, const void *p, size_t n, aa_err *err) {
    aa_outfile *f;
    AA_TRY(aa_outfile_open(&f, path, err));
    aa_outfile_write(f, p, n);
    return aa_outfile_commit(f, NULL, err);
}

aa_status aa_file_write_text(const char *dir, const char *name, const aa_text *t, aa_err *err) {
    AA_TRY(aa_text_status(t, err));
    char *path = aa_path_join(dir, name);
    aa_status st = path ? aa_file_write(path, t->data, t->len, err)
                        : aa_fail_memory(err, "a path", 0);
    aa_heap_free(path);
    return st;
}
