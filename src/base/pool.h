/* base/pool: one team of threads for everything.
 *
 * run() splits n_tasks into contiguous ranges of (nearly) equal length, range i to thread i, the
 * caller being thread 0 (and alone with a single task): the split depends on n_tasks and the number
 * of threads only. Results must not depend on it (each task writes its own output in its own fixed
 * order), so a run gives the same bits on any number of threads. Idle threads spin about 50 us,
 * then park.
 */
#ifndef AA_BASE_POOL_H
#define AA_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

typedef struct aa_pool aa_pool;
/* begin <= i < end are this call's tasks; thread is 0 .. n_threads-1 (for per-thread scratch). */
typedef void aa_pool_fn(void *ctx, size_t begin, size_t end, int thread);

/* n_threads in 1..AA_POOL_MAX_THREADS, 0 = cores allowed to this process; pinned one per core when
 * that is the number of cores. */
enum { AA_POOL_MAX_THREADS = 512 };
aa_status aa_pool_new(aa_pool **out, int n_threads, aa_err *err) AA_MUST_USE;
void aa_pool_free(aa_pool *pool);
/* Off and on again, while foreign code starts threads that would inherit the caller's core. */
void aa_pool_pin_caller(const aa_pool *pool, bool on);
int  aa_pool_threads(const aa_pool *pool);              /* a NULL pool is one thread: the caller */
void aa_pool_run(aa_pool *pool, size_t n_tasks, aa_pool_fn *fn, void *ctx);   /* not reentrant */

#endif
