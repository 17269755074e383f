/* Memory of results that is used again: a region of pages, of which each result gets some units.
 *
 * The C library gives the memory of large arrays back to the system when they are freed, and asks for
 * it anew: to find and clear the pages takes longer than a pool or a small convolution.  Here the lowest
 * free units are taken that suffice, so that little more of the region is touched than results are
 * alive together.  What finds no room is the caller's to allocate.
 *
 * One thread at a time takes units; to give them back is one store, at any time.  Nobody waits: a
 * thread that meets another is told that there is no room.  So is, for good, a child that was forked
 * meanwhile, and every thread where the system refuses the region.
 */
#ifndef PYCNN_REGION_H
#define PYCNN_REGION_H

#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#define PYCNN_HAS_FEATURE(name) __has_feature(name)
#else
#define PYCNN_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PYCNN_HAS_FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
#endif

#define PYCNN_UNIT ((size_t)64 * 1024)
#define PYCNN_UNITS 512
#define PYCNN_LARGEST (PYCNN_UNITS * PYCNN_UNIT / 2)    /* of the results; the smallest is a unit */

typedef struct {
    char *start;                    /* NULL before the first result */
    int busy;                       /* a thread is taking units */
    uint16_t taken[PYCNN_UNITS];    /* units of the result that begins here; 0: none does */
} pycnn_region;

#if defined(_WIN32)

/* Nobody has measured what it saves here, so results are NumPy's to allocate. */
static inline char *pycnn_reserve(size_t size)
{
    (void)size;
    return NULL;
}

static inline void pycnn_drop(char *start, size_t size)
{
    (void)start;
    (void)size;
}

#else

#include <sys/mman.h>
#define PYCNN_HUGE_PAGE ((uintptr_t)2 * 1024 * 1024)

static inline char *pycnn_reserve(size_t size)
{
    char *start = mmap(NULL, size + PYCNN_HUGE_PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    start += -(uintptr_t)start & (PYCNN_HUGE_PAGE - 1);
#if defined(MADV_HUGEPAGE)
    madvise(start, size, MADV_HUGEPAGE);    /* found and cleared 10 times as fast; may be refused */
#endif
    ASAN_POISON_MEMORY_REGION(start, size);
    return start;
}

static inline void pycnn_drop(char *start, size_t size)
{
    madvise(start, size, MADV_DONTNEED);    /* no more than advice: what is lost is time */
}

#endif

/* How many free units lie together, at most so many: the next ones from *first on, which is moved to
 * them.  0: none are left. */
static inline size_t pycnn_free_units(const pycnn_region *region, size_t *first, size_t most)
{
    size_t taken, n = 0;
    while (*first < PYCNN_UNITS
           && (taken = __atomic_load_n(&region->taken[*first], __ATOMIC_ACQUIRE)) > 0)
        *first += taken;
    while (n < most && *first + n < PYCNN_UNITS
           && __atomic_load_n(&region->taken[*first + n], __ATOMIC_ACQUIRE) == 0)
        n++;
    return n;
}

/* A result that begins a unit; NULL where there is no room. */
static inline void *pycnn_take(pycnn_region *region, size_t size)
{
    const size_t units = (size + PYCNN_UNIT - 1) / PYCNN_UNIT;
    size_t first = 0, n;
    char *result = NULL;
    if (size < PYCNN_UNIT || size > PYCNN_LARGEST
        || __atomic_exchange_n(&region->busy, 1, __ATOMIC_ACQUIRE))
        return NULL;
    if (region->start == NULL) {
        char *start = pycnn_reserve(PYCNN_UNITS * PYCNN_UNIT);
        if (start == NULL)
            return NULL;            /* and stays busy */
        __atomic_store_n(&region->start, start, __ATOMIC_RELAXED);
    }
    while ((n = pycnn_free_units(region, &first, units)) > 0 && n < units)
        first += n;
    if (n > 0) {
        result = region->start + first * PYCNN_UNIT;
        ASAN_UNPOISON_MEMORY_REGION(result, size);
        __atomic_store_n(&region->taken[first], (uint16_t)units, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&region->busy, 0, __ATOMIC_RELEASE);
    return result;
}

static inline int pycnn_is_within(const pycnn_region *region, const void *memory)
{
    const char *start = __atomic_load_n(&region->start, __ATOMIC_RELAXED);
    return start != NULL && (uintptr_t)memory - (uintptr_t)start < PYCNN_UNITS * PYCNN_UNIT;
}

static inline uint16_t *pycnn_units_of(pycnn_region *region, const void *result)
{
    return &region->taken[((uintptr_t)result - (uintptr_t)region->start) / PYCNN_UNIT];
}

/* Bytes of a result's units, all of which may be used from now on. */
static inline size_t pycnn_room(pycnn_region *region, void *result)
{
    const size_t room = *pycnn_units_of(region, result) * PYCNN_UNIT;
    ASAN_UNPOISON_MEMORY_REGION(result, room);
    return room;
}

static inline void pycnn_give_back(pycnn_region *region, void *result)
{
    ASAN_POISON_MEMORY_REGION(result, pycnn_room(region, result));
    __atomic_store_n(pycnn_units_of(region, result), 0, __ATOMIC_RELEASE);
}

/* Gives the pages of free units back to the system, which clears new ones when they are taken. */
static inline void pycnn_drop_free_units(pycnn_region *region)
{
    if (__atomic_exchange_n(&region->busy, 1, __ATOMIC_ACQUIRE))
        return;
    if (region->start != NULL)
        for (size_t first = 0, n; (n = pycnn_free_units(region, &first, PYCNN_UNITS)) > 0; first += n)
            pycnn_drop(region->start + first * PYCNN_UNIT, n * PYCNN_UNIT);
    __atomic_store_n(&region->busy, 0, __ATOMIC_RELEASE);
}

#endif
