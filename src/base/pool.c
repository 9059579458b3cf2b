/* The pool. A run is announced by raising `epoch`; each worker does its range and lowers `busy`.
 * Workers spin on epoch for a while, then park on a condition variable; the announcer takes the
 * lock only if someone parked.
 *
 * The wake-up cannot be lost: a worker about to park raises `parked` and re-reads epoch, both
 * sequentially consistent and under the lock; the announcer raises epoch and then reads `parked`.
 * Whichever comes second in the total order sees the other. */
#include "base/pool.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/memory.h"
#include "sys/sys.h"

/* A pause takes from 10 to 50 ns by the make of processor, so the spin is timed; the clock is read
 * once per batch of pauses, which is a microsecond or two. */
#define SPIN_S 50e-6
#define SPIN_BATCH 64

typedef struct worker {
    struct aa_pool *pool;
    pthread_t thread;
    int index;
} worker;

struct aa_pool {
    int n_threads;
    bool pin;
    worker *workers; /* [n_threads - 1] */
    aa_pool_fn *fn;
    void *ctx;
    size_t n_tasks;
    double spin_s; /* 0: one batch; with more threads than cores a spinner holds up the others */
    char gap0[128];
    atomic_uint epoch; /* each on a cache line of its own */
    char gap1[128];
    atomic_int busy;
    char gap2[128];
    atomic_int parked;
    atomic_bool ending;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static void pause_a_little(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void do_share(const aa_pool *p, int thread) {
    size_t n = p->n_tasks, t = (size_t)p->n_threads, i = (size_t)thread;
    /* n*i/t without overflow: whole parts and the remainder's share. */
    size_t begin = n / t * i + n % t * i / t, end = n / t * (i + 1) + n % t * (i + 1) / t;
    if (begin < end) p->fn(p->ctx, begin, end, thread);
}

/* The n-th pause of a wait, n from 1; false when the wait has lasted long enough. */
static bool spin(const aa_pool *p, unsigned n, double *until) {
    pause_a_little();
    if (n % SPIN_BATCH) return true;
    double now = aa_sys_clock_s();
    if (n == SPIN_BATCH) *until = now + p->spin_s;
    return now < *until;
}

static unsigned wait_for_change(aa_pool *p, unsigned seen) {
    double until = 0;
    unsigned n = 0;
    do {
        unsigned e = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (e != seen) return e;
    } while (spin(p, ++n, &until));
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->parked, 1);
    unsigned e;
    while ((e = atomic_load(&p->epoch)) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->parked, 1);
    pthread_mutex_unlock(&p->lock);
    return e;
}

static void announce(aa_pool *p) {
    atomic_fetch_add(&p->epoch, 1);
    if (!atomic_load(&p->parked)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg) {
    worker *w = arg;
    aa_pool *p = w->pool;
    aa_sys_pin_thread(p->pin ? w->index : -1);
    unsigned seen = 0;
    for (;;) {
        seen = wait_for_change(p, seen);
        if (atomic_load(&p->ending)) return NULL;
        do_share(p, w->index);
        atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
    }
}

static void stop_workers(aa_pool *p, int started) {
    atomic_store(&p->ending, true);
    announce(p);
    for (int i = 0; i < started; i++) pthread_join(p->workers[i].thread, NULL);
}

static void free_parts(aa_pool *p) {
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    aa_heap_free(p->workers);
    aa_heap_free(p);
}

aa_status aa_pool_new(aa_pool **out, int n_threads, aa_err *err) {
    aa_sys_cpu cpu;
    aa_sys_cpu_info(&cpu);
    if (n_threads == 0)
        n_threads = cpu.n_cores < AA_POOL_MAX_THREADS ? cpu.n_cores : AA_POOL_MAX_THREADS;
    if (n_threads < 1 || n_threads > AA_POOL_MAX_THREADS)
        return aa_fail(err, AA_EUSAGE, "%d threads: want 1 to %d, or 0 for one per core", n_threads,
                       AA_POOL_MAX_THREADS);
    aa_pool *p = aa_heap_alloc(1, sizeof *p);
    if (!p) return aa_fail_memory(err, "the thread pool", sizeof *p);
    p->n_threads = n_threads;
    p->spin_s = n_threads > cpu.n_cores ? 0 : SPIN_S;
    p->pin = n_threads > 1 && n_threads == cpu.n_cores;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->workers = aa_heap_alloc((size_t)n_threads, sizeof *p->workers);
    if (!p->workers) {
        free_parts(p);
        return aa_fail_memory(err, "the thread pool", 0);
    }
    for (int i = 0; i < n_threads - 1; i++) {
        p->workers[i] = (worker){.pool = p, .index = i + 1};
        int no = pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i]);
        if (no) {
            stop_workers(p, i);
            free_parts(p);
            return aa_fail(
                err, AA_ENOMEM,
                "the system refused thread %d of %d; use --threads with a smaller number", i + 2,
                n_threads);
        }
    }
    if (p->pin) aa_sys_pin_thread(0);
    *out = p;
    return AA_OK;
}

void aa_pool_free(aa_pool *p) {
    if (!p) return;
    stop_workers(p, p->n_threads - 1);
    if (p->pin) aa_sys_pin_thread(-1);
    free_parts(p);
}

void aa_pool_pin_caller(const aa_pool *p, bool on) {
    if (p && p->pin) aa_sys_pin_thread(on ? 0 : -1);
}

int aa_pool_threads(const aa_pool *p) { return p ? p->n_threads : 1; }

void aa_pool_run(aa_pool *p, size_t n_tasks, aa_pool_fn *fn, void *ctx) {
    if (!n_tasks) return;
    if (!p || p->n_threads == 1 || n_tasks == 1) {
        fn(ctx, 0, n_tasks, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n_tasks = n_tasks;
    atomic_store_explicit(&p->busy, p->n_threads - 1, memory_order_relaxed);
    announce(p);
    do_share(p, 0);
    double until = 0;
    bool spinning = true;
    for (unsigned n = 1; atomic_load_explicit(&p->busy, memory_order_acquire); n++)
        if (spinning) spinning = spin(p, n, &until);
        else sched_yield();
}
