/* Stress test of the thread pool, for the sanitizers.
 *
 *     cc -std=gnu11 -g -O1 -fsanitize=thread -pthread -Isrc_pyx/kernels \
 *         tests/native/threads_stress.c -o threads_stress -lm
 *     TSAN_OPTIONS="die_after_fork=0 halt_on_error=1" ./threads_stress [seconds]
 *
 * and the same with -fsanitize=address,undefined or none, and on Windows, which has neither forks nor
 * signals.  Prints what it did; exits with 1 when a task ran not exactly once, a result was not
 * visible, or a worker number was used twice.
 */
#define _GNU_SOURCE
#include "system.h"

/* The pool's own source, with threads that are refused on demand and a number of the process that
 * can be made blind to forks, as it is where parent and child are number 1 of their namespaces. */
static int refuse, blind;
#define start_thread(function, argument) (!refuse && start_thread(function, argument))
#define process_number() (blind ? 1 : process_number())
#include "threads.c"

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(_WIN32)
#define HAS_FORK 0
#define _exit ExitProcess
#else
#define HAS_FORK 1
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#endif

static void nap(unsigned microseconds)
{
#if defined(_WIN32)
    Sleep((microseconds + 999) / 1000);
#else
    usleep(microseconds);
#endif
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

enum { MAX_TASKS = 300, MAX_WORKERS = 9 };

typedef struct {
    int runs[MAX_TASKS];            /* plain: a race here is one in the pool */
    long result[MAX_TASKS];
    atomic_int in_use[MAX_WORKERS];
    long scratch[MAX_WORKERS];      /* plain: two threads with one number are a race */
    int max_workers;
    int work;
    int nested;
} job;

static void nested_task(void *context, ptrdiff_t task, int worker)
{
    CHECK(worker == 0);             /* serial: the pool is busy with the call around it */
    ((int *) context)[task]++;
}

static void job_task(void *context, ptrdiff_t task, int worker)
{
    job *j = context;
    CHECK(worker >= 0 && worker < j->max_workers);
    CHECK(atomic_fetch_add(&j->in_use[worker], 1) == 0);
    j->runs[task]++;
    j->scratch[worker] = task;
    for (volatile int i = 0; i < j->work; i++)
        ;
    CHECK(j->scratch[worker] == task);
    j->result[task] = task * task + 1;
    CHECK(atomic_fetch_sub(&j->in_use[worker], 1) == 1);
    if (j->nested && task % 16 == 0) {
        int runs[5] = {0};
        CHECK(pycnn_parallel(5, nested_task, runs, 3) == 1);
        for (int i = 0; i < 5; i++)
            CHECK(runs[i] == 1);
    }
}

static int run_job(ptrdiff_t n_tasks, int max_workers, int work, int nested)
{
    job j;
    int workers;
    memset(&j, 0, sizeof j);
    j.max_workers = max_workers;
    j.work = work;
    j.nested = nested;
    workers = pycnn_parallel(n_tasks, job_task, &j, max_workers);
    CHECK(workers >= 1 && workers <= max_workers);
    for (ptrdiff_t i = 0; i < MAX_TASKS; i++) {
        CHECK(j.runs[i] == (i < n_tasks));
        CHECK(j.result[i] == (i < n_tasks ? i * i + 1 : 0));
    }
    return workers;
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static atomic_int stop, callers;
static atomic_long calls, shared_calls;

THREAD_FUNCTION(caller)
{
    unsigned state = (unsigned) (uintptr_t) argument;
    do {
        const ptrdiff_t n_tasks = next_random(&state) % MAX_TASKS;
        const int max_workers = 1 + (int) (next_random(&state) % MAX_WORKERS);
        const int work = (int) (next_random(&state) % 8 == 0 ? next_random(&state) % 3000 : 10);
        /* Not nested: a task of a serial call may find the pool free. */
        if (run_job(n_tasks, max_workers, work, 0) > 1)
            atomic_fetch_add(&shared_calls, 1);
        atomic_fetch_add(&calls, 1);
        if (next_random(&state) % 64 == 0)
            nap(next_random(&state) % 200);
    } while (!atomic_load(&stop));
    atomic_fetch_sub(&callers, 1);
    return 0;
}

static void sleepy_task(void *context, ptrdiff_t task, int worker)
{
    ((int *) context)[task] = worker;
    nap(1000);
}

/* Calls until each of the workers has had a part in a call; the system may keep one waiting. */
static void share(int workers)
{
    int by_worker[20], had_part;
    do {
        nap(1000);               /* they sleep */
        CHECK(pycnn_parallel(20, sleepy_task, by_worker, workers) == workers);
        had_part = 0;
        for (int w = 0; w < workers; w++) {
            int i = 0;
            while (i < 20 && by_worker[i] != w)
                i++;
            had_part += i < 20;
        }
    } while (had_part < workers);
}

static void control_task(void *context, ptrdiff_t task, int worker)
{
    (void) worker;
    ((unsigned *) context)[task] = get_control();
    nap(1000);                   /* leaves tasks for the others */
}

static void test_control(void)
{
    unsigned seen[8];
    CHECK(fesetround(FE_UPWARD) == 0);
    CHECK(pycnn_parallel(8, control_task, seen, 3) == 3);
    for (int i = 0; i < 8; i++)
        CHECK(seen[i] == get_control());
    CHECK(fesetround(FE_TONEAREST) == 0);
    CHECK(pycnn_parallel(8, control_task, seen, 3) == 3);
    for (int i = 0; i < 8; i++)
        CHECK(seen[i] == get_control());
}

/* A pool that has no workers yet gets none, and does not ask again. */
static void test_refusal(void)
{
    pool_t *const before = atomic_exchange(&pool, NULL);
    refuse = 1;
    CHECK(run_job(100, 4, 50, 0) == 1);
    refuse = 0;
    CHECK(run_job(100, 4, 50, 0) == 1);
    free_aligned_block(atomic_exchange(&pool, before));
}

#if HAS_FORK

static void signal_task(void *context, ptrdiff_t task, int worker)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (worker != 0) {
        CHECK(sigismember(&blocked, SIGINT) == 1);
        CHECK(sigismember(&blocked, SIGSEGV) == 0);
    }
    ((int *) context)[task] = worker;
    nap(1000);
}

static void wait_for(pid_t child)
{
    int status;
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A chain of forks; the children use the pool before and after they fork. */
static void fork_chain(int depth, int raw)
{
    /* Without the C library's fork no handler runs and only the process number tells. */
    const pid_t child = raw ? (pid_t) syscall(SYS_fork) : fork();
    if (child == 0) {
        CHECK(run_job(100, 3, 50, 0) == 3);
        share(3);
        if (depth > 1)
            fork_chain(depth - 1, raw);
        CHECK(run_job(100, 3, 50, 0) == 3);
        _exit(0);
    }
    wait_for(child);
}

/* Forks as if another thread held the pool at that moment. */
static void fork_while_held(int raw)
{
    atomic_store(&holder, process_number());
    fork_chain(1, raw);
    CHECK(run_job(100, 3, 50, 0) == 1);
    atomic_store(&holder, 0);
    CHECK(run_job(100, 3, 50, 0) == 3);
}

static void test_forks(void)
{
    fork_chain(3, 0);
    fork_while_held(0);
#if !defined(__SANITIZE_THREAD__)   /* which must see every fork */
    fork_chain(3, 1);
    fork_while_held(1);
#endif
    blind = 1;
    atomic_store(&pool, NULL);      /* one that knows this process by its blind number */
    fork_chain(3, 0);
    fork_while_held(0);
    blind = 0;
    atomic_store(&pool, NULL);
}

#endif

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 5;
    enum { CALLERS = 6 };
    int forks = 0;

    pycnn_set_cpu_count(2);
    CHECK(run_job(0, 4, 10, 0) == 1);
    CHECK(run_job(1, 4, 10, 0) == 1);
    CHECK(run_job(300, 1, 10, 0) == 1);
    CHECK(run_job(2, 9, 10, 0) == 2);
    for (int i = 0; i < 2000; i++)
        CHECK(run_job(300, 2 + i % 8, i % 50, 1) == 2 + i % 8);
    for (int i = 0; i < 70000; i++)  /* past the 65536 numbers of the gate */
        CHECK(run_job(2, 2, 0, 0) == 2);
    test_control();
    test_refusal();
#if HAS_FORK
    int by_worker[8];
    CHECK(pycnn_parallel(8, signal_task, by_worker, 3) == 3);
    test_forks();
#endif
    for (int workers = 2; workers < 6; workers++)
        share(workers);

    atomic_store(&callers, CALLERS);
    for (int i = 0; i < CALLERS; i++)
        CHECK(start_thread(caller, (void *) (uintptr_t) (i + 1)));
    for (const int64_t end = nanoseconds() + (int64_t) (seconds * 1e9); nanoseconds() < end;) {
#if HAS_FORK
        fork_chain(2, 0);           /* while the others are in the middle of anything */
        forks += 2;
#endif
        nap(2000);
    }
    atomic_store(&stop, 1);
    while (atomic_load(&callers) != 0)
        nap(1000);
    CHECK(run_job(300, 9, 10, 1) == 9);
    printf("%ld calls from %d threads, %ld of them shared; %d forks\n", atomic_load(&calls),
           CALLERS, atomic_load(&shared_calls), forks);
    return 0;
}
