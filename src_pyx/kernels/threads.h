/* The thread pool: the tasks of one call, each exactly once, on several threads.
 *
 * Which thread runs a task is left to chance, so a task's result must not depend on it.
 */
#ifndef PYCNN_THREADS_H
#define PYCNN_THREADS_H

#include <stddef.h>

#define PYCNN_MAX_THREADS 256

/* `worker` is 0 <= worker < max_workers and belongs to one thread during a call: it picks the
 * scratch that the caller has set aside for that thread. */
typedef void (*pycnn_task)(void *context, ptrdiff_t task, int worker);

/* Runs tasks 0 .. n_tasks - 1 on at most max_workers threads, the caller among them, and returns
 * when all are done.  Runs all of them in the caller, as worker 0, when there is nothing to share
 * (one task, one worker), when the pool is busy with another call, so also inside a task, and when
 * no thread can be started.  Returns the number of workers that the call had to its disposal.
 * A task must not fork. */
int pycnn_parallel(ptrdiff_t n_tasks, pycnn_task task, void *context, int max_workers);

/* How many threads a call from this thread should use: the thread's own limit where it has one,
 * else the process's number, which is 1 until it is set.  Both from 1 to PYCNN_MAX_THREADS; a
 * limit of 0 is none.  The two that threadpoolctl looks for are visible outside the library. */
#if defined(_WIN32)
#define PYCNN_VISIBLE __declspec(dllexport)
#else
#define PYCNN_VISIBLE __attribute__((visibility("default")))
#endif

PYCNN_VISIBLE int pycnn_get_num_threads(void);
PYCNN_VISIBLE void pycnn_limit_num_threads(int n);  /* as the limit of the calling thread */
int pycnn_thread_limit(void);
void pycnn_set_thread_limit(int n);
void pycnn_set_num_threads(int n);

/* Puts `value` where NULL is, unless another thread was first; returns what lies there then. */
static inline void *pycnn_publish(void **place, void *value)
{
    void *found = NULL;
    __atomic_compare_exchange_n(place, &found, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return found == NULL ? value : found;
}

/* How many CPUs there are: idle threads spin for the next call only while each has its own. */
void pycnn_set_cpu_count(int n);

/* How many of them this process may use, as Windows has it; 0 where it does not say, or elsewhere. */
int pycnn_affinity_cpus(void);

/* 0 in a build without threads, where every call is serial. */
extern const int pycnn_has_threads;

#endif
