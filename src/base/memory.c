#include "base/memory.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/number.h"
#include "sys/sys.h"

#if defined(__SANITIZE_ADDRESS__)
#define POISONING 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONING 1
#endif
#endif
#ifdef POISONING
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

/* ---- heap ------------------------------------------------------------------------------------ */

static atomic_uint_fast64_t n_calls;
static _Atomic(const char *) guard_phase;
static atomic_size_t limit;
static atomic_llong fail_at = -1; /* -1: the environment was not read yet; 0: never */

static void check_guard(void) {
    const char *phase = atomic_load_explicit(&guard_phase, memory_order_relaxed);
    if (!phase) return;
    fprintf(stderr, "heap call during '%s'\n", phase);
    aa_assert(!phase);
}

static bool must_fail(size_t size_bytes) {
    size_t most = atomic_load_explicit(&limit, memory_order_relaxed);
    check_guard();
    if (most && size_bytes > most) {
        fprintf(stderr, "%zu bytes at once, the limit is %zu\n", size_bytes, most);
        aa_assert(size_bytes <= most);
    }
    uint64_t n = atomic_fetch_add(&n_calls, 1) + 1;
    long long at = atomic_load(&fail_at);
    if (at < 0) {
        const char *s = getenv("AA_FAIL_ALLOC_AT");
        at = s ? strtoll(s, NULL, 10) : 0;
        atomic_store(&fail_at, at < 0 ? 0 : at);
    }
    return at > 0 && n == (uint64_t)at;
}

void *aa_heap_alloc(size_t count, size_t size) {
    size_t n;
    bool overflows = __builtin_mul_overflow(count, size, &n);
    if (must_fail(overflows ? SIZE_MAX : n) || overflows) return NULL;
    return calloc(n ? n : 1, 1);
}

void *aa_heap_realloc(void *p, size_t count, size_t size) {
    size_t n;
    bool overflows = __builtin_mul_overflow(count, size, &n);
    if (must_fail(overflows ? SIZE_MAX : n) || overflows) return NULL;
    return realloc(p, n ? n : 1);
}

void aa_heap_free(void *p) {
    if (p) check_guard();
    free(p);
}

char *aa_heap_strdup(const char *s) {
    size_t n = strlen(s) + 1;
    char *copy = aa_heap_alloc(n, 1);
    if (copy) memcpy(copy, s, n);
    return copy;
}

char *aa_heap_printf(const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = aa_number_vprint(NULL, 0, fmt, args);
    va_end(args);
    char *s = n < 0 ? NULL : aa_heap_alloc((size_t)n + 1, 1);
    if (s) aa_number_vprint(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

void aa_heap_guard(const char *phase) { atomic_store(&guard_phase, phase); }
void aa_heap_limit(size_t most_bytes) { atomic_store(&limit, most_bytes); }
uint64_t aa_heap_calls(void) { return atomic_load(&n_calls); }

aa_status aa_fail_memory(aa_err *err, const char *what, uint64_t size_bytes) {
    if (!size_bytes) return aa_fail(err, AA_ENOMEM, "out of memory for %s", what);
    if (size_bytes < (1 << 20))
        return aa_fail(err, AA_ENOMEM, "out of memory: %llu bytes for %s",
                       (unsigned long long)size_bytes, what);
    return aa_fail(err, AA_ENOMEM, "out of memory: %.1f MiB for %s", (double)size_bytes / 0x1p20,
                   what);
}

aa_status aa_memory_check(const char *what, uint64_t size_bytes, const char *advice, aa_err *err) {
    uint64_t available = aa_sys_memory_available();
    if ((double)size_bytes <= AA_MEMORY_SHARE * (double)available) return AA_OK;
    return aa_fail(err, AA_ETOOBIG, "%s needs %.2f GiB and %.2f GiB are available; %s", what,
                   (double)size_bytes / 0x1p30, (double)available / 0x1p30, advice);
}

/* ---- arenas ---------------------------------------------------------------------------------- */

#define PAGES_FROM ((size_t)1 << 20) /* blocks this large are mappings of their own */
#define BLOCK_LEAST ((size_t)64 << 10)

typedef struct aa_arena_block {
    struct aa_arena_block *older;
    unsigned char *data;
    size_t size, used;
    bool pages;
} block;

void aa_arena_init(aa_arena *a, const char *name) { *a = (aa_arena){.name = name}; }
void aa_arena_init_measure(aa_arena *a, const char *name) {
    *a = (aa_arena){.name = name, .measuring = true};
}

static void free_block(block *b) {
    UNPOISON(b->data, b->size);
    if (b->pages) aa_sys_pages_free(b->data, b->size);
    else free(b->data);
    aa_heap_free(b);
}

static block *new_block(aa_arena *a, size_t size) {
    block *b = aa_heap_alloc(1, sizeof *b);
    if (!b || must_fail(size)) {
        aa_heap_free(b);
        return NULL;
    }
    void *p = NULL;
    b->pages = size >= PAGES_FROM;
    if (b->pages) {
        if (aa_sys_pages_alloc(&p, size)) p = NULL;
        else if (a->sparse) aa_sys_pages_small(p, size);
    } else if (posix_memalign(&p, AA_ALIGN, size)) p = NULL;
    if (!p) {
        aa_heap_free(b);
        return NULL;
    }
    b->data = p;
    b->size = size;
    if (!b->pages) memset(p, 0, size);
    POISON(b->data, size);
    b->older = a->blocks;
    a->blocks = b;
    return b;
}

aa_status aa_arena_reserve(aa_arena *a, size_t size_bytes, aa_err *err) {
    if (a->measuring || !size_bytes) return AA_OK;
    if (size_bytes > SIZE_MAX / 2 ||
        !new_block(a, (size_bytes + AA_ALIGN - 1) & ~(size_t)(AA_ALIGN - 1)))
        return aa_fail_memory(err, a->name, size_bytes);
    return AA_OK;
}

void *aa_arena_alloc(aa_arena *a, size_t count, size_t size) {
    size_t n, used;
    bool fits = !__builtin_mul_overflow(count, size, &n) && n <= AA_ARENA_MOST;
    if (fits) n = (n + AA_ALIGN - 1) & ~(size_t)(AA_ALIGN - 1);
    fits = fits && !__builtin_add_overflow(a->used_bytes, n, &used) && used <= AA_ARENA_MOST;
    if (!fits) {
        if (a->measuring) a->used_bytes = AA_ARENA_MOST;
        else a->failed = true;
        return NULL;
    }
    unsigned char *p = NULL;
    if (!a->measuring) {
        block *b = a->blocks;
        if (!b || b->size - b->used < n) b = new_block(a, n > BLOCK_LEAST ? n : BLOCK_LEAST);
        if (!b) {
            a->failed = true;
            return NULL;
        }
        p = b->data + b->used;
        UNPOISON(p, n);
        b->used += n;
    }
    a->used_bytes = used;
    return p;
}

char *aa_arena_strdup(aa_arena *a, const char *s, size_t n) {
    char *copy = aa_arena_alloc(a, n < SIZE_MAX ? n + 1 : n, 1);
    if (copy && n) memcpy(copy, s, n);
    return copy;
}

aa_status aa_arena_status(const aa_arena *a, aa_err *err) {
    if (!a->failed) return AA_OK;
    return aa_fail(err, AA_ENOMEM, "out of memory: the %s arena could not grow beyond %.1f MiB",
                   a->name, (double)a->used_bytes / 0x1p20);
}

void aa_arena_release(aa_arena *a) {
    while (a->blocks) {
        block *b = a->blocks;
        a->blocks = b->older;
        free_block(b);
    }
    *a = (aa_arena){.name = a->name, .sparse = a->sparse, .measuring = a->measuring};
}
