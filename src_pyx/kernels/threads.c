/* The thread pool of threads.h.
 *
 * One call at a time owns the pool; who finds it owned runs serially instead of waiting.  Workers
 * are made when a call first wants them, are detached and never end: nothing is joined or
 * destroyed at exit.
 *
 * All of a call's comings and goings are one 32-bit word, the gate: the call's number, the seats
 * that are still free, and the workers inside.  The owner opens the gate with max_workers - 1
 * seats; a worker that takes a seat counts itself inside by the same compare-and-swap; when the
 * owner finds no more tasks it closes the gate (no seats) and waits until nobody is inside.  So a
 * worker that wakes too late is never waited for, and it never sees a call that is over.
 *
 * A forked child has none of its parent's threads.  It forgets the pool, in whatever state it was,
 * and makes its own on its first call.  Nothing is locked around a fork, so nothing can deadlock.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE  /* pthread_setname_np */
#endif

#include "threads.h"

#if (defined(__unix__) || defined(__APPLE__) || defined(_WIN32)) &&                                \
    !defined(__STDC_NO_ATOMICS__) &&                                                               \
    (!defined(__EMSCRIPTEN__) || defined(__EMSCRIPTEN_PTHREADS__))
#define HAS_THREADS 1
#else
#define HAS_THREADS 0
#endif

static int serial(ptrdiff_t n_tasks, pycnn_task task, void *context)
{
    for (ptrdiff_t i = 0; i < n_tasks; i++)
        task(context, i, 0);
    return 1;
}

#if HAS_THREADS

#include <stdatomic.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "system.h"

/* How long to look for a change before sleeping.  Waking a sleeper costs its waker a system call
 * and comes 5 to 50 us later; the steps between two layers of a network take 1 to 10 us. */
#ifndef PYCNN_IDLE_SPIN_NS
#define PYCNN_IDLE_SPIN_NS 20000    /* a worker, for the next call */
#endif
#ifndef PYCNN_FINISH_SPIN_NS
#define PYCNN_FINISH_SPIN_NS 50000  /* the owner, for the last tasks of others */
#endif

#define CACHE_LINE 128

typedef struct {
    /* The call: written by its owner while the gate is closed, read by workers inside. */
    pycnn_task task;
    void *context;
    ptrdiff_t n_tasks;
    unsigned control;               /* the owner's floating-point control word */
    int spin;                       /* every thread of this call has a CPU to itself */

    /* The owner's alone. */
    int process;                    /* that has these workers */
    int n_workers;
    int refused;                    /* the system would not start another */

    /* Sleeping; the mutex is held for a few instructions at a time and never during a task. */
    mutex_type mutex;
    condition_type opened;          /* workers wait here for an open gate */
    condition_type left;            /* the owner waits here for the last worker to leave */
    atomic_int sleepers;            /* workers that wait */
    atomic_int owner_sleeps;

    /* Spinning; the gate and the task counter are written by all, hence lines of their own. */
    _Alignas(CACHE_LINE) _Atomic uint32_t gate;
    _Alignas(CACHE_LINE) _Atomic ptrdiff_t next;
} pool_t;

/* The gate: number << 16 | seats << 8 | inside. */
#define ONE_SEAT 0x100u
#define ALL_SEATS 0xff00u

_Static_assert(PYCNN_MAX_THREADS <= 256, "the gate counts at most 255 workers");

static unsigned inside(uint32_t gate)
{
    return gate & 0xff;
}

static unsigned seats(uint32_t gate)
{
    return gate >> 8 & 0xff;
}

static uint32_t number(uint32_t gate)
{
    return gate >> 16;
}

/* Whoever holds the pool writes its process here: a child can tell a holder that it has not got. */
static atomic_int holder;
static _Atomic(pool_t *) pool;      /* the holder's, but a forked child's fork handler clears it */

static atomic_int process_threads = 1;
static atomic_int cpu_count = 1;
static _Thread_local int thread_limit;

const int pycnn_has_threads = 1;

int pycnn_thread_limit(void)
{
    return thread_limit;
}

void pycnn_set_thread_limit(int n)
{
    thread_limit = n;
}

static int process_num_threads(void)
{
    return atomic_load_explicit(&process_threads, memory_order_relaxed);
}

void pycnn_set_num_threads(int n)
{
    atomic_store_explicit(&process_threads, n, memory_order_relaxed);
}

void pycnn_set_cpu_count(int n)
{
    atomic_store_explicit(&cpu_count, n, memory_order_relaxed);
}

int pycnn_affinity_cpus(void)
{
    return affinity_cpus();
}

/* Rounding mode and flush-to-zero, which must not differ between the threads of a call.  A thread
 * starts with those of its creator, which need not be those of the thread that calls. */
static unsigned get_control(void)
{
#if defined(__SSE__)
    return _mm_getcsr();
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return (unsigned) control;
#else
    return 0;
#endif
}

static void set_control(unsigned control)
{
#if defined(__SSE__)
    _mm_setcsr(control);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t) control));
#else
    (void) control;
#endif
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" : : : "memory");  /* waits some cycles; yield is a no-op */
#endif
}

/* Can a worker that last served call number `served` join? */
static int is_open(uint32_t gate, uint32_t served)
{
    return seats(gate) != 0 && number(gate) != served;
}

static void run_tasks(pool_t *p, int worker)
{
    const pycnn_task task = p->task;
    void *const context = p->context;
    const ptrdiff_t n_tasks = p->n_tasks;
    ptrdiff_t i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < n_tasks)
        task(context, i, worker);
}

/* In this and in finish: each side first announces itself and then looks at what the other
 * announces, all sequentially consistent, so at least one of the two notices the other. */
static uint32_t wait_for_call(pool_t *p, uint32_t served, int spin)
{
    uint32_t gate = atomic_load(&p->gate);
    if (is_open(gate, served))
        return gate;
    if (spin) {
        const int64_t end = nanoseconds() + PYCNN_IDLE_SPIN_NS;
        do {
            for (int i = 0; i < 8; i++) {
                relax();
                gate = atomic_load(&p->gate);
                if (is_open(gate, served))
                    return gate;
            }
        } while (nanoseconds() < end);
    }
    mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    while (!is_open(gate = atomic_load(&p->gate), served))
        condition_wait(&p->opened, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    mutex_unlock(&p->mutex);
    return gate;
}

THREAD_FUNCTION(work)
{
    pool_t *const p = argument;
    uint32_t served = UINT32_MAX;   /* no call has this number */
    int spin = 0;
    name_thread();
    for (;;) {
        uint32_t gate = wait_for_call(p, served, spin);
        if (!atomic_compare_exchange_strong(&p->gate, &gate, gate - ONE_SEAT + 1))
            continue;
        served = number(gate);
        spin = p->spin;
        set_control(p->control);
        run_tasks(p, (int) seats(gate));
        gate = atomic_fetch_sub(&p->gate, 1) - 1;
        if (inside(gate) == 0 && atomic_load(&p->owner_sleeps)) {
            /* Once through the mutex: the owner is not between its look and its sleep. */
            mutex_lock(&p->mutex);
            mutex_unlock(&p->mutex);
            condition_wake_one(&p->left);
        }
    }
    return 0;
}

/* In a forked child.  The parent's pool stays where it is, a few hundred bytes: a mutex or a
 * condition variable that a vanished thread was using may be neither destroyed nor used. */
static void forget(void)
{
    atomic_store(&pool, NULL);
    atomic_store(&holder, 0);
}

static int acquire(int self)
{
    int other = 0;
    if (atomic_compare_exchange_strong(&holder, &other, self))
        return 1;
    /* Held by a thread of the parent, after a fork that ran no handlers: nobody here will let go. */
    return other != self && atomic_compare_exchange_strong(&holder, &other, self);
}

static void release(void)
{
    atomic_store(&holder, 0);
}

/* The process's pool with as many of n_workers as the system grants, or NULL; for the holder. */
static pool_t *get_pool(int self, int n_workers)
{
    static atomic_int registered;
    pool_t *p;
    if (!atomic_load(&registered)) {
        if (!after_fork_in_child(forget))
            return NULL;
        atomic_store(&registered, 1);
    }
    p = atomic_load(&pool);
    if (p == NULL || p->process != self) {
        p = aligned_block(CACHE_LINE, sizeof *p);
        if (p == NULL)
            return NULL;
        memset(p, 0, sizeof *p);
        p->process = self;
        if (!mutex_init(&p->mutex) || !condition_init(&p->opened) || !condition_init(&p->left)) {
            free_aligned_block(p);
            return NULL;
        }
        atomic_store(&pool, p);
    }
    while (p->n_workers < n_workers && !p->refused) {
        if (start_thread(work, p))
            p->n_workers++;
        else
            p->refused = 1;
    }
    return p;
}

/* Lets n_seats workers in; wakes sleepers only where those awake do not fill the seats. */
static void open_gate(pool_t *p, int n_seats)
{
    const uint32_t gate = atomic_load(&p->gate);
    int sleepers, needed;
    atomic_store(&p->gate, (number(gate) + 1) << 16 | (uint32_t) n_seats * ONE_SEAT);
    sleepers = atomic_load(&p->sleepers);
    needed = n_seats - (p->n_workers - sleepers);
    if (needed <= 0)
        return;
    mutex_lock(&p->mutex);
    mutex_unlock(&p->mutex);
    if (needed >= sleepers) {
        condition_wake_all(&p->opened);
    } else {
        while (needed-- > 0)
            condition_wake_one(&p->opened);
    }
}

static void finish(pool_t *p)
{
    uint32_t gate = atomic_fetch_and(&p->gate, ~ALL_SEATS);
    if (inside(gate) == 0)
        return;
    if (p->spin) {
        const int64_t end = nanoseconds() + PYCNN_FINISH_SPIN_NS;
        do {
            for (int i = 0; i < 8; i++) {
                relax();
                if (inside(atomic_load(&p->gate)) == 0)
                    return;
            }
        } while (nanoseconds() < end);
    }
    mutex_lock(&p->mutex);
    atomic_store(&p->owner_sleeps, 1);
    while (inside(atomic_load(&p->gate)) != 0)
        condition_wait(&p->left, &p->mutex);
    atomic_store(&p->owner_sleeps, 0);
    mutex_unlock(&p->mutex);
}

int pycnn_parallel(ptrdiff_t n_tasks, pycnn_task task, void *context, int max_workers)
{
    pool_t *p;
    int self, n_seats;
    if (max_workers > n_tasks)
        max_workers = (int) n_tasks;
    if (max_workers > PYCNN_MAX_THREADS)
        max_workers = PYCNN_MAX_THREADS;
    if (max_workers <= 1 || !acquire(self = process_number()))
        return serial(n_tasks, task, context);
    p = get_pool(self, max_workers - 1);
    if (p == NULL || p->n_workers == 0) {
        release();
        return serial(n_tasks, task, context);
    }
    n_seats = p->n_workers < max_workers - 1 ? p->n_workers : max_workers - 1;
    p->task = task;
    p->context = context;
    p->n_tasks = n_tasks;
    p->control = get_control();
    p->spin = n_seats < atomic_load_explicit(&cpu_count, memory_order_relaxed);
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    open_gate(p, n_seats);
    run_tasks(p, 0);
    finish(p);
    release();
    return n_seats + 1;
}

#else  /* No threads: every call is serial; the numbers are kept but change nothing. */

static volatile int process_threads = 1;
static _Thread_local int thread_limit;

const int pycnn_has_threads = 0;

int pycnn_thread_limit(void)
{
    return thread_limit;
}

void pycnn_set_thread_limit(int n)
{
    thread_limit = n;
}

static int process_num_threads(void)
{
    return process_threads;
}

void pycnn_set_num_threads(int n)
{
    process_threads = n;
}

void pycnn_set_cpu_count(int n)
{
    (void) n;
}

int pycnn_affinity_cpus(void)
{
    return 0;
}

int pycnn_parallel(ptrdiff_t n_tasks, pycnn_task task, void *context, int max_workers)
{
    (void) max_workers;
    return serial(n_tasks, task, context);
}

#endif

int pycnn_get_num_threads(void)
{
    return pycnn_thread_limit() ? pycnn_thread_limit() : process_num_threads();
}

void pycnn_limit_num_threads(int n)
{
    if (n < 1)
        n = 1;
    if (n > PYCNN_MAX_THREADS)
        n = PYCNN_MAX_THREADS;
    /* No limit of its own where it would not matter: a limiter that puts back what it found does
     * not cut this thread off from later changes of the process's number. */
    pycnn_set_thread_limit(n == process_num_threads() ? 0 : n);
}
