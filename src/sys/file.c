#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sys/sys.h"

/* Under the address sanitizer, what lies behind a file in its last page is out of bounds too. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FENCE 1
#endif
#endif
#if defined(FENCE) || defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
static size_t rest_of_page(size_t size) { return -size & ((size_t)sysconf(_SC_PAGESIZE) - 1); }
static void fence(const unsigned char *p, size_t n) {
    ASAN_POISON_MEMORY_REGION(p + n, rest_of_page(n));
}
static void unfence(const unsigned char *p, size_t n) {
    ASAN_UNPOISON_MEMORY_REGION(p + n, rest_of_page(n));
}
#else
static void fence(const unsigned char *p, size_t n) { (void)p, (void)n; }
static void unfence(const unsigned char *p, size_t n) { (void)p, (void)n; }
#endif

int aa_sys_map_open(aa_sys_map *out, const char *path) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), no = 0; /* never waits on a pipe */
    if (fd < 0) return errno;
    if (fstat(fd, &st)) no = errno;
    else if (S_ISDIR(st.st_mode)) no = EISDIR;
    else if (!S_ISREG(st.st_mode)) no = EINVAL;
    void *p = NULL;
    if (!no && st.st_size) {
        p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) no = errno;
        else fence(p, (size_t)st.st_size);
    }
    close(fd);
    if (!no) *out = (aa_sys_map){.data = p, .size_bytes = (size_t)st.st_size};
    return no;
}

void aa_sys_map_close(aa_sys_map *map) {
    if (map->data) unfence(map->data, map->size_bytes);
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size_bytes);
    *map = (aa_sys_map){0};
}

void aa_sys_map_drop(const void *p, size_t size_bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)p / page * page;
    (void)madvise((void *)begin, (uintptr_t)p + size_bytes - begin, MADV_DONTNEED);
}

int aa_sys_real_path(char out[AA_SYS_PATH], const char *path) {
    static_assert(AA_SYS_PATH >= PATH_MAX, "realpath writes that much");
    return realpath(path, out) ? 0 : errno;
}

int aa_sys_stat(aa_sys_info *out, const char *path) {
    struct stat st;
    if (stat(path, &st)) {
        if (errno != ENOENT && errno != ENOTDIR) return errno;
        *out = (aa_sys_info){.kind = AA_SYS_ABSENT};
        return 0;
    }
    *out = (aa_sys_info){.kind = S_ISREG(st.st_mode)   ? AA_SYS_FILE
                                 : S_ISDIR(st.st_mode) ? AA_SYS_DIR
                                                       : AA_SYS_OTHER,
                         .size_bytes = (uint64_t)st.st_size,
                         .inode = st.st_ino};
    return 0;
}

static bool is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int aa_sys_make_dirs(const char *path) {
    char *copy = strdup(path);
    if (!copy) return ENOMEM;
    int no = 0;
    for (char *p = copy + 1; !no && *copy; p++) {
        char c = *p;
        if (c && c != '/') continue;
        *p = 0;
        if (mkdir(copy, 0777)) {
            int why = errno; /* systems differ in it for what is there already */
            if (!is_dir(copy)) no = why == EEXIST ? ENOTDIR : why;
        }
        *p = c;
        if (!c) break;
    }
    free(copy);
    return *path ? no : ENOENT;
}

int aa_sys_fsync_file(int fd) {
#ifdef __APPLE__
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
#endif
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed ? errno : 0;
}

int aa_sys_fsync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? 0 : errno; /* a directory to write but not to read */
    int no = aa_sys_fsync_file(fd);
    close(fd);
    return no == EINVAL || no == ENOTSUP ? 0 : no; /* file systems without it */
}

int aa_sys_rename(const char *from, const char *to) { return rename(from, to) ? errno : 0; }

int aa_sys_link_replace(const char *target, const char *link) {
    size_t n = strlen(link) + 32;
    char *aside = malloc(n);
    if (!aside) return ENOMEM;
    snprintf(aside, n, "%s.%ld.tmp", link, (long)getpid());
    unlink(aside);
    int no = symlink(target, aside) || rename(aside, link) ? errno : 0;
    if (no) unlink(aside);
    free(aside);
    return no;
}

static int remove_at(int parent, const char *name) {
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno;
    DIR *dir = fdopendir(fd);
    int no = dir ? 0 : errno;
    if (!dir) close(fd);
    /* Some file systems skip entries of a directory that shrinks: read until nothing is left. */
    for (bool found = dir; found && !no; rewinddir(dir)) {
        found = false;
        for (struct dirent *e; !no && (e = readdir(dir));)
            if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
                found = true, no = remove_at(fd, e->d_name);
    }
    if (dir) closedir(dir);
    if (!no && unlinkat(parent, name, AT_REMOVEDIR) && errno != ENOENT) no = errno;
    return no;
}

int aa_sys_remove_tree(const char *path) { return remove_at(AT_FDCWD, path); }

int aa_sys_truncate(const char *path, uint64_t size_bytes) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int no = ftruncate(fd, (off_t)size_bytes) ? errno : aa_sys_fsync_file(fd);
    close(fd);
    return no;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names are read first, so that the visitor may change the directory. */
int aa_sys_list_dir(const char *path, int (*visit)(void *ctx, const char *name), void *ctx) {
    DIR *dir = opendir(path);
    if (!dir) return errno;
    char **names = NULL;
    size_t n = 0, capacity = 0;
    int no = 0;
    for (struct dirent *e; !no && (errno = 0, e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (n == capacity) {
            char **more = realloc(names, (capacity = capacity ? 2 * capacity : 32) * sizeof *names);
            if (!more) {
                no = ENOMEM;
                break;
            }
            names = more;
        }
        if (!(names[n++] = strdup(e->d_name))) {
            n--;
            no = ENOMEM;
        }
    }
    if (!no) no = errno;
    closedir(dir);
    if (n) qsort(names, n, sizeof *names, by_bytes);
    for (size_t i = 0; i < n; i++) {
        if (!no) no = visit(ctx, names[i]);
        free(names[i]);
    }
    free(names);
    return no;
}

int aa_sys_lock(const char *path, int *out_fd) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return errno;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int no = errno;
        close(fd);
        return no;
    }
    *out_fd = fd;
    return 0;
}

void aa_sys_unlock(int fd) { close(fd); }

int aa_sys_claim(int fd) {
    struct stat st;
    if (flock(fd, LOCK_EX | LOCK_NB)) return errno == EWOULDBLOCK ? ESTALE : 0;
    return fstat(fd, &st) == 0 && st.st_nlink == 0 ? ESTALE : 0;
}

/* Who holds the lock of a file is the only one to unlink it, so the name still means this file. */
int aa_sys_remove_abandoned(const char *path) {
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), no = 0;
    if (fd < 0) return errno;
    if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &st)) no = errno;
    else if (st.st_nlink && unlink(path)) no = errno;
    close(fd);
    return no;
}
