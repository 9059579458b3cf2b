#include "base/digest.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/memory.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

struct aa_digester { XXH3_state_t state; };

static aa_digest from_xxh(XXH128_hash_t h) { return (aa_digest){.lo = h.low64, .hi = h.high64}; }

aa_digest aa_digest_bytes(const void *p, size_t n) { return from_xxh(XXH3_128bits(p, n)); }

aa_status aa_digester_new(aa_digester **out, aa_err *err) {
    /* The state wants 64-byte alignment, which the heap does not promise. */
    void *room = aa_heap_alloc(1, sizeof(aa_digester) + AA_ALIGN);
    if (!room) return aa_fail_memory(err, "a digest", sizeof(aa_digester));
    unsigned char *p = room;
    size_t shift = AA_ALIGN - (uintptr_t)p % AA_ALIGN;
    p[shift - 1] = (unsigned char)shift;          /* found again by free */
    *out = (aa_digester *)(void *)(p + shift);
    XXH3_128bits_reset(&(*out)->state);
    return AA_OK;
}

void aa_digester_add(aa_digester *d, const void *p, size_t n) { XXH3_128bits_update(&d->state, p, n); }
aa_digest aa_digester_get(const aa_digester *d) { return from_xxh(XXH3_128bits_digest(&d->state)); }

void aa_digester_free(aa_digester *d) {
    if (!d) return;
    unsigned char *p = (unsigned char *)d;
    aa_heap_free(p - p[-1]);
}

void aa_digest_hex(aa_digest d, char out[AA_DIGEST_HEX]) {
    snprintf(out, AA_DIGEST_HEX, "%016llx%016llx", (unsigned long long)d.hi, (unsigned long long)d.lo);
}

int aa_digest_equal(aa_digest a, aa_digest b) { return a.lo == b.lo && a.hi == b.hi; }

aa_status aa_digest_file(aa_digest *out, const char *path, aa_err *err) {
    aa_sys_map map;
    AA_TRY(aa_map_open(&map, path, err));
    *out = aa_digest_bytes(map.data, map.size_bytes);
    aa_sys_map_close(&map);
    return AA_OK;
}
