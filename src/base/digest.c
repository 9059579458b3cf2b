#include "base/digest.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/memory.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

#define READ_BYTES ((size_t)1 << 18)

struct aa_digester {
    XXH3_state_t state;
};

static aa_digest from_xxh(XXH128_hash_t h) { return (aa_digest){.lo = h.low64, .hi = h.high64}; }

aa_digest aa_digest_bytes(const void *p, size_t n) { return from_xxh(XXH3_128bits(p, n)); }

aa_status aa_digester_new(aa_digester **out, aa_err *err) {
    /* The state wants 64-byte alignment, which the heap does not promise. */
    void *room = aa_heap_alloc(1, sizeof(aa_digester) + AA_ALIGN);
    if (!room) return aa_fail_memory(err, "a digest", sizeof(aa_digester));
    unsigned char *p = room;
    size_t shift = AA_ALIGN - (uintptr_t)p % AA_ALIGN;
    p[shift - 1] = (unsigned char)shift; /* found again by free */
    *out = (aa_digester *)(void *)(p + shift);
    XXH3_128bits_reset(&(*out)->state);
    return AA_OK;
}

void aa_digester_add(aa_digester *d, const void *p, size_t n) {
    XXH3_128bits_update(&d->state, p, n);
}
aa_digest aa_digester_get(const aa_digester *d) { return from_xxh(XXH3_128bits_digest(&d->state)); }

void aa_digester_free(aa_digester *d) {
    if (!d) return;
    unsigned char *p = (unsigned char *)d;
    aa_heap_free(p - p[-1]);
}

void aa_digest_hex(aa_digest d, char out[AA_DIGEST_HEX]) {
    snprintf(out, AA_DIGEST_HEX, "%016llx%016llx", (unsigned long long)d.hi,
             (unsigned long long)d.lo);
}

bool aa_digest_parse(const char *hex, aa_digest *out) {
    char hi[17];
    if (strlen(hex) != AA_DIGEST_HEX - 1 || strspn(hex, "0123456789abcdef") != AA_DIGEST_HEX - 1)
        return false;
    memcpy(hi, hex, 16);
    hi[16] = 0;
    *out = (aa_digest){.hi = strtoull(hi, NULL, 16), .lo = strtoull(hex + 16, NULL, 16)};
    return true;
}

int aa_digest_equal(aa_digest a, aa_digest b) { return a.lo == b.lo && a.hi == b.hi; }

/* Read, not mapped: a mapping of a large file would count as memory of this process. */
aa_status aa_digest_file(aa_digest *out, const char *path, aa_err *err) {
    aa_digester *d = NULL;
    unsigned char *buffer = NULL;
    aa_sys_info info;
    int no = aa_sys_stat(&info, path);
    if (!no && info.kind == AA_SYS_DIR) no = EISDIR;
    if (!no && info.kind == AA_SYS_OTHER) /* a pipe or device may have no end */
        return aa_fail(err, AA_EIO, "cannot read '%s': not a regular file", path);
    int fd = no ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (!no && fd < 0) no = errno;
    aa_status st = no ? aa_fail_errno(err, no, "cannot read", path) : aa_digester_new(&d, err);
    if (!st && !(buffer = aa_heap_alloc(READ_BYTES, 1)))
        st = aa_fail_memory(err, "reading a file", READ_BYTES);
    for (ssize_t n = 1; !st && n;) {
        n = read(fd, buffer, READ_BYTES);
        if (n > 0) aa_digester_add(d, buffer, (size_t)n);
        else if (n < 0 && errno == EINTR) n = 1;
        else if (n < 0) st = aa_fail_errno(err, errno, "cannot read", path);
    }
    if (!st) *out = aa_digester_get(d);
    aa_heap_free(buffer);
    aa_digester_free(d);
    if (fd >= 0) close(fd);
    return st;
}
