/* Stress test of the region of results, for the sanitizers.
 *
 *     cc -std=gnu11 -g -O1 -fsanitize=thread -pthread -Isrc_pyx/kernels \
 *         tests/native/region_stress.c -o region_stress
 *
 * and the same with -fsanitize=address,undefined.  Under Python's global lock no two threads take and
 * give back at once, as they do here.  Prints what it did; exits with 1 when two results had memory in
 * common, or something is left when all have been given back.
 */
#define _GNU_SOURCE
#include "region.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 6, HELD = 16, STEPS = 100000 };

static pycnn_region region;
static long found, refused, dropped;

/* Whether what its thread wrote is still there. */
static int is_whole(const char *result, size_t size, char mark)
{
    return result[0] == mark && result[size / 2] == mark && result[size - 1] == mark;
}

static void *work(void *argument)
{
    const char mark = (char)(intptr_t)argument;
    unsigned random = (unsigned)mark * 7919;
    char *held[HELD] = {NULL};
    size_t size[HELD];
    for (int step = 0; step < STEPS; step++) {
        const int k = rand_r(&random) % HELD;
        if (held[k] != NULL) {
            if (!is_whole(held[k], size[k], mark) || pycnn_room(&region, held[k]) < size[k]) {
                printf("a result of thread %d was overwritten\n", mark);
                exit(1);
            }
            pycnn_give_back(&region, held[k]);
            held[k] = NULL;
            continue;
        }
        if (step % 100 == 0) {
            pycnn_drop_free_units(&region);
            __atomic_add_fetch(&dropped, 1, __ATOMIC_RELAXED);
        }
        size[k] = PYCNN_UNIT + (size_t)rand_r(&random) % (step % 50 == 0 ? PYCNN_LARGEST / 16 : 100000);
        held[k] = pycnn_take(&region, size[k]);
        if (held[k] == NULL) {
            __atomic_add_fetch(&refused, 1, __ATOMIC_RELAXED);
            sched_yield();
            continue;
        }
        __atomic_add_fetch(&found, 1, __ATOMIC_RELAXED);
        held[k][0] = held[k][size[k] / 2] = held[k][size[k] - 1] = mark;
    }
    for (int k = 0; k < HELD; k++)
        if (held[k] != NULL)
            pycnn_give_back(&region, held[k]);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(i + 1)) != 0)
            return 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < PYCNN_UNITS; i++)
        if (region.taken[i] != 0) {
            printf("unit %d is left\n", i);
            return 1;
        }
    char *all[2] = {pycnn_take(&region, PYCNN_LARGEST), pycnn_take(&region, PYCNN_LARGEST)};
    if (all[0] == NULL || all[1] == NULL || pycnn_take(&region, PYCNN_UNIT) != NULL) {
        printf("not all of the region can be taken\n");
        return 1;
    }
    memset(all[0], 1, PYCNN_LARGEST);
    memset(all[1], 2, PYCNN_LARGEST);
    pycnn_give_back(&region, all[0]);
    pycnn_drop_free_units(&region);
    if (!is_whole(all[1], PYCNN_LARGEST, 2)) {
        printf("a result was dropped\n");
        return 1;
    }
    printf("region: %ld results, %ld refused, dropped %ld times\n", found, refused, dropped);
    return 0;
}
