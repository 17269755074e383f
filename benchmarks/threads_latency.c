/* What a parallel call costs beside its tasks.
 *
 *     cc -std=gnu11 -O3 -pthread -Isrc_pyx/kernels benchmarks/threads_latency.c -o threads_latency
 *     ./threads_latency [threads]
 *
 * For pauses of several lengths between two calls: the time of a call of empty tasks (what the
 * caller pays), and of a call of one task of 20 us a thread beyond those 20 us (what it pays until
 * the others have come and gone).  Minimum and median of many, in microseconds.
 */
#include "threads.c"

#include <stdio.h>

enum { REPEATS = 300, TASK_NS = 20000 };

static void empty_task(void *context, ptrdiff_t task, int worker)
{
    (void) context, (void) task, (void) worker;
}

static void burn(int64_t ns)
{
    for (const int64_t end = nanoseconds() + ns; nanoseconds() < end;)
        ;
}

static void busy_task(void *context, ptrdiff_t task, int worker)
{
    (void) task, (void) worker;
    burn(*(const int64_t *) context);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const int pauses_us[] = {0, 1, 2, 5, 10, 15, 30, 100, 300};
    const int threads = argc > 1 ? atoi(argv[1]) : 2;
    int64_t task_ns = TASK_NS;
    pycnn_set_cpu_count((int) sysconf(_SC_NPROCESSORS_ONLN));
    printf("%d threads, idle spin %d us, finish spin %d us\n", threads, PYCNN_IDLE_SPIN_NS / 1000,
           PYCNN_FINISH_SPIN_NS / 1000);
    printf("%8s %18s %18s\n", "pause", "empty min median", "busy min median");
    for (size_t i = 0; i < sizeof pauses_us / sizeof *pauses_us; i++) {
        double empty[REPEATS], busy[REPEATS];
        for (int r = 0; r < REPEATS; r++) {
            int64_t start;
            burn(pauses_us[i] * 1000);
            start = nanoseconds();
            pycnn_parallel(threads, empty_task, NULL, threads);
            empty[r] = (double) (nanoseconds() - start) / 1000;
        }
        for (int r = 0; r < REPEATS; r++) {
            int64_t start;
            burn(pauses_us[i] * 1000);
            start = nanoseconds();
            pycnn_parallel(threads, busy_task, &task_ns, threads);
            busy[r] = (double) (nanoseconds() - start - TASK_NS) / 1000;
        }
        qsort(empty, REPEATS, sizeof *empty, ascending);
        qsort(busy, REPEATS, sizeof *busy, ascending);
        printf("%5d us %9.2f %8.2f %9.2f %8.2f\n", pauses_us[i], empty[0], empty[REPEATS / 2],
               busy[0], busy[REPEATS / 2]);
    }
    return 0;
}
