/* base/memory: heap wrappers and arenas.
 *
 * Every heap block of the program (and of libraries that let us choose) comes through aa_heap_*,
 * so that two tests are possible: AA_FAIL_ALLOC_AT=n makes the n-th allocation of the process fail,
 * and a guard makes any heap call inside the step loop an assertion that names the phase.
 *
 * Big things live in arenas with one of four lifetimes: process, run, step, scratch. An arena hands
 * out 64-byte aligned, zeroed memory and gives all of it back at once. A *measuring* arena has no
 * memory and only counts, so the plan computes sizes with the very code that later lays them out:
 *
 *     aa_arena a; aa_arena_init_measure(&a, "run"); layout(&a, ...);  size = a.used_bytes;
 *     aa_arena_init(&a, "run"); aa_arena_reserve(&a, size, err);      layout(&a, ...);
 */
#ifndef AA_BASE_MEMORY_H
#define AA_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* NULL when out of memory or count*size overflows; aa_heap_free(NULL) is fine. alloc zeroes. */
void *aa_heap_alloc(size_t count, size_t size);
void *aa_heap_realloc(void *p, size_t count, size_t size);    /* new part is not zeroed */
void  aa_heap_free(void *p);
char *aa_heap_strdup(const char *s);
char *aa_heap_printf(const char *fmt, ...) AA_PRINTF(1, 2);   /* NULL when out of memory */
/* While a phase is set, heap calls of any thread assert, freeing too. NULL lifts the guard. */
void  aa_heap_guard(const char *phase);
/* While most > 0, asking for more bytes at once asserts, of heap or arena: what a file says about
 * itself must not decide what is taken. */
void  aa_heap_limit(size_t most_bytes);
uint64_t aa_heap_calls(void);                                 /* allocations so far (for tests) */
/* The usual answer to a NULL: message naming what was wanted. */
aa_status aa_fail_memory(aa_err *err, const char *what, uint64_t size_bytes);
/* AA_MEMORY_SHARE of what is available may be planned; more is refused before anything is taken,
 * with AA_ETOOBIG: "<what> needs ...; <advice>". */
#define AA_MEMORY_SHARE 0.9
aa_status aa_memory_check(const char *what, uint64_t size_bytes, const char *advice,
                          aa_err *err) AA_MUST_USE;

#define AA_ALIGN 64

typedef struct aa_arena {
    const char *name;
    struct aa_arena_block *blocks;       /* newest first */
    size_t used_bytes;                   /* handed out so far (aligned sizes) */
    bool sparse;                         /* set: used little by little, so not by huge pages */
    bool measuring, failed;              /* failed is sticky: ask aa_arena_status once at the end */
} aa_arena;

void aa_arena_init(aa_arena *a, const char *name);
void aa_arena_init_measure(aa_arena *a, const char *name);
/* Makes one block of size_bytes (huge pages when large): later allocs up to it cannot fail. */
aa_status aa_arena_reserve(aa_arena *a, size_t size_bytes, aa_err *err) AA_MUST_USE;
/* count*size zeroed bytes, or NULL (measuring, overflow or no memory; the last two set failed).
 * Beyond the reserved block a new block is made. Measuring never fails: what is too large to be
 * counted is AA_ARENA_MOST, more than any machine has, and sums of a few of it do not overflow. */
#define AA_ARENA_MOST ((size_t)1 << (sizeof(size_t) * 8 - 4))
void *aa_arena_alloc(aa_arena *a, size_t count, size_t size);
char *aa_arena_strdup(aa_arena *a, const char *s, size_t n);  /* n bytes and a NUL */
#define aa_arena_new(a, type, count) ((type *)aa_arena_alloc(a, count, sizeof(type)))
aa_status aa_arena_status(const aa_arena *a, aa_err *err) AA_MUST_USE;
void aa_arena_release(aa_arena *a);                           /* gives everything back */

#endif
