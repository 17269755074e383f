"""The only module that links the C kernels: chooses the instruction set, owns the threads."""

import os

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc
from numpy cimport (
    NPY_BOOL, NPY_BYTE, NPY_DOUBLE, NPY_FLOAT, NPY_INT, NPY_LONG, NPY_LONGLONG, NPY_SHORT,
    NPY_UBYTE, NPY_UINT, NPY_ULONG, NPY_ULONGLONG, NPY_USHORT,
)

from pycnn._engine cimport *

cdef extern from *:
    """
    #if defined(__clang__)
    #define PYCNN_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define PYCNN_COMPILER "gcc " __VERSION__
    #else
    #define PYCNN_COMPILER "unknown"
    #endif
    """
    const char *PYCNN_COMPILER

# What one thread reads in several times the time that it takes to wake.
cdef double BYTES_PER_THREAD = 512 * 1024

cdef const pycnn_level *chosen


cdef int check(int outcome) except -1:
    """Raises what an outcome stands for."""
    if outcome == NO_MEMORY:
        raise MemoryError("out of memory for packed filters or scratch")
    if outcome == TOO_MANY_SPANS:
        raise MemoryError("the windows are cut off by the image's edges in too many ways")
    return 0


cdef const pycnn_kernels *kernels_of(int type_index) noexcept nogil:
    return &chosen.kernels[type_index]


cdef const pycnn_amx_kernels *amx_kernels() noexcept nogil:
    """The matrix unit's kernels, NULL where the chosen level has none."""
    return chosen.amx


cdef int type_index(int type_num) noexcept nogil:
    """Place of a NumPy type in the kernel tables, -1 for types that have no kernels."""
    if type_num == NPY_FLOAT:
        return PYCNN_f32
    if type_num == NPY_DOUBLE:
        return PYCNN_f64
    if type_num == NPY_BYTE:
        return PYCNN_i8
    if type_num == NPY_UBYTE or type_num == NPY_BOOL:
        return PYCNN_u8
    if type_num == NPY_SHORT:
        return PYCNN_i16
    if type_num == NPY_USHORT:
        return PYCNN_u16
    if type_num == NPY_INT or (type_num == NPY_LONG and sizeof(long) == sizeof(int)):
        return PYCNN_i32
    if type_num == NPY_UINT or (type_num == NPY_ULONG and sizeof(long) == sizeof(int)):
        return PYCNN_u32
    if type_num == NPY_LONG or type_num == NPY_LONGLONG:
        return PYCNN_i64
    if type_num == NPY_ULONG or type_num == NPY_ULONGLONG:
        return PYCNN_u64
    return -1


cdef void *aligned_alloc(Py_ssize_t n_bytes) noexcept nogil:
    """malloc on a cache line; NULL when out of memory."""
    if n_bytes < 0 or n_bytes > PY_SSIZE_T_MAX - LINE_ROOM:
        return NULL
    return begin_line(<char *> malloc(<size_t> n_bytes + LINE_ROOM))


cdef void aligned_free(void *start) noexcept nogil:
    if start is not NULL:
        free(block_of(start))


cdef int num_threads() noexcept nogil:
    return pycnn_get_num_threads()


cdef int workers_to_read(double n_bytes, int threads) noexcept nogil:
    """Threads for work that is bound by reading so much; `threads` at most, 0 for num_threads()."""
    if n_bytes < 2 * BYTES_PER_THREAD:
        return 1
    return <int> min(<double> (threads or num_threads()), n_bytes / BYTES_PER_THREAD)


cdef int parallel(Py_ssize_t n_tasks, pycnn_task task, void *context,
                  int max_workers) noexcept nogil:
    return pycnn_parallel(n_tasks, task, context, max_workers)


def get_num_threads():
    """The most threads that a call from this thread uses."""
    return pycnn_get_num_threads()


def set_num_threads(int n):
    """Sets the process's number, 1 <= n <= max_threads."""
    pycnn_set_num_threads(n)


def get_thread_limit():
    """What `set_thread_limit` has set for this thread, 0 when nothing."""
    return pycnn_thread_limit()


def set_thread_limit(int n):
    """Sets this thread's own number, 1 <= n <= max_threads, or 0 for the process's."""
    pycnn_set_thread_limit(n)


def set_cpu_count(int n):
    """Tells the pool on how many CPUs its threads can run at once."""
    pycnn_set_cpu_count(n)


def affinity_cpus():
    """CPUs that this process may use, where Windows says so; else 0."""
    return pycnn_affinity_cpus()


cdef struct Claims:
    int *workers
    int *counts
    Py_ssize_t work


cdef void claim(void *context, Py_ssize_t task, int worker) noexcept nogil:
    cdef Claims *claims = <Claims *> context
    cdef volatile Py_ssize_t i = 0
    while i < claims.work:
        i = i + 1
    claims.workers[task] = worker
    claims.counts[task] += 1


def claims(int n_tasks, int max_workers, Py_ssize_t work=0):
    """What a parallel call does, for tests: each task counts to `work`.

    Returns the number of workers, the worker of each task and how often each task ran.
    """
    cdef Claims claims
    cdef int workers
    cdef int *block = <int *> calloc(max(n_tasks, 1), 2 * sizeof(int))
    if block is NULL:
        raise MemoryError("claims: out of memory")
    claims.workers = block
    claims.counts = block + n_tasks
    claims.work = work
    with nogil:
        workers = pycnn_parallel(n_tasks, claim, &claims, max_workers)
    result = (workers, [claims.workers[i] for i in range(n_tasks)],
              [claims.counts[i] for i in range(n_tasks)])
    free(block)
    return result


def level_names():
    """Instruction sets of this build mapped to whether this machine can run them, worst first."""
    return {pycnn_levels[i].name.decode(): bool(pycnn_levels[i].available())
            for i in range(pycnn_level_count)}


def _choose():
    """The level PYCNN_CPU names, else the best this machine has and the system grants."""
    global chosen
    levels = level_names()
    usable = [name for name, available in levels.items() if available]
    wanted = os.environ.get("PYCNN_CPU", "").strip().lower()
    for name in [wanted] if wanted else reversed(usable):
        if name not in usable:
            reason = "this machine cannot run it" if name in levels else "there is no such level"
        else:
            chosen = &pycnn_levels[list(levels).index(name)]
            if chosen.enable():
                return name
            reason = "the system refuses it"
    raise ImportError(f"PYCNN_CPU={wanted}: {reason}; usable here: {', '.join(usable)}")


level = _choose()
compiler = PYCNN_COMPILER.decode()
max_threads = PYCNN_MAX_THREADS
has_threads = bool(pycnn_has_threads)
