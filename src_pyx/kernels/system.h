/* What the thread pool asks of the system, as POSIX and as Windows have it. */
#ifndef PYCNN_SYSTEM_H
#define PYCNN_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#define STACK_BYTES ((size_t) 1 << 20)

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <windows.h>

typedef SRWLOCK mutex_type;
typedef CONDITION_VARIABLE condition_type;

static inline int mutex_init(mutex_type *mutex)
{
    InitializeSRWLock(mutex);
    return 1;
}

static inline void mutex_lock(mutex_type *mutex)
{
    AcquireSRWLockExclusive(mutex);
}

static inline void mutex_unlock(mutex_type *mutex)
{
    ReleaseSRWLockExclusive(mutex);
}

static inline int condition_init(condition_type *condition)
{
    InitializeConditionVariable(condition);
    return 1;
}

static inline void condition_wait(condition_type *condition, mutex_type *mutex)
{
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}

static inline void condition_wake_one(condition_type *condition)
{
    WakeConditionVariable(condition);
}

static inline void condition_wake_all(condition_type *condition)
{
    WakeAllConditionVariable(condition);
}

#define THREAD_FUNCTION(name) static DWORD WINAPI name(void *argument)

static inline int start_thread(LPTHREAD_START_ROUTINE function, void *argument)
{
    const HANDLE thread = CreateThread(NULL, STACK_BYTES, function, argument,
                                       STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    return thread != NULL && CloseHandle(thread);
}

static inline void name_thread(void)
{
}

/* There are no forks, so one number does for the process. */
static inline int process_number(void)
{
    return 1;
}

static inline int after_fork_in_child(void (*function)(void))
{
    (void) function;
    return 1;
}

static inline void *aligned_block(size_t alignment, size_t n_bytes)
{
    return _aligned_malloc(n_bytes, alignment);
}

static inline void free_aligned_block(void *block)
{
    _aligned_free(block);
}

static inline int64_t nanoseconds(void)
{
    LARGE_INTEGER now, second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&second);
    return (int64_t) ((double) now.QuadPart * (1e9 / (double) second.QuadPart));
}

/* The CPUs of the process's affinity; 0 where its threads are spread over several groups of 64. */
static inline int affinity_cpus(void)
{
    DWORD_PTR own, all;
    return GetProcessAffinityMask(GetCurrentProcess(), &own, &all) ? __builtin_popcountll(own) : 0;
}

#else

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef pthread_mutex_t mutex_type;
typedef pthread_cond_t condition_type;

static inline int mutex_init(mutex_type *mutex)
{
    return pthread_mutex_init(mutex, NULL) == 0;
}

static inline void mutex_lock(mutex_type *mutex)
{
    pthread_mutex_lock(mutex);
}

static inline void mutex_unlock(mutex_type *mutex)
{
    pthread_mutex_unlock(mutex);
}

static inline int condition_init(condition_type *condition)
{
    return pthread_cond_init(condition, NULL) == 0;
}

static inline void condition_wait(condition_type *condition, mutex_type *mutex)
{
    pthread_cond_wait(condition, mutex);
}

static inline void condition_wake_one(condition_type *condition)
{
    pthread_cond_signal(condition);
}

static inline void condition_wake_all(condition_type *condition)
{
    pthread_cond_broadcast(condition);
}

#define THREAD_FUNCTION(name) static void *name(void *argument)

static inline int start_thread(void *(*function)(void *), void *argument)
{
    sigset_t most, before;
    pthread_attr_t attributes;
    pthread_t thread;
    int error;
    if (pthread_attr_init(&attributes) != 0)
        return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    /* Signals are for Python's threads, except the faults, which belong to the thread that has
     * them: blocked, they would kill the process without a word from its handlers. */
    sigfillset(&most);
    sigdelset(&most, SIGSEGV);
    sigdelset(&most, SIGBUS);
    sigdelset(&most, SIGFPE);
    sigdelset(&most, SIGILL);
    sigdelset(&most, SIGTRAP);
    sigdelset(&most, SIGABRT);
    sigdelset(&most, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    error = pthread_create(&thread, &attributes, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

static inline void name_thread(void)
{
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "pycnn");
#endif
}

static inline int process_number(void)
{
    return (int) getpid();
}

static inline int after_fork_in_child(void (*function)(void))
{
    return pthread_atfork(NULL, NULL, function) == 0;
}

static inline void *aligned_block(size_t alignment, size_t n_bytes)
{
    void *block;
    return posix_memalign(&block, alignment, n_bytes) == 0 ? block : NULL;
}

static inline void free_aligned_block(void *block)
{
    free(block);
}

static inline int64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Python's os.sched_getaffinity knows, where there is such a thing. */
static inline int affinity_cpus(void)
{
    return 0;
}

#endif

#endif
