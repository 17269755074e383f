/* Preloaded: notes what pycnn's modules allocate, and lets one of their allocations fail.
 *
 * A test sets `failing` to a number, from 0 on, and `made` to 0. `outstanding` are those of pycnn's
 * blocks that nobody has freed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };

void *__libc_malloc(size_t n_bytes);
void *__libc_calloc(size_t n, size_t size);
void *__libc_memalign(size_t alignment, size_t n_bytes);
void __libc_free(void *block);

long failing = -1, made, outstanding;
static void *blocks[MOST];

/* Whether the code at an address lies in a module of a folder that is called pycnn. */
static int is_pycnn(void *code)
{
    static const char folder[] = "/pycnn";
    const size_t length = sizeof folder - 1;
    const char *name;
    Dl_info info;
    if (dladdr(code, &info) == 0 || (name = strrchr(info.dli_fname, '/')) == NULL)
        return 0;
    return (size_t) (name - info.dli_fname) >= length && memcmp(name - length, folder, length) == 0;
}

static int fails(void)
{
    return __atomic_fetch_add(&made, 1, __ATOMIC_SEQ_CST) == failing;
}

static void *noted(void *block)
{
    void *empty;
    int i;
    for (i = 0; i < MOST; i++) {
        empty = NULL;
        if (__atomic_compare_exchange_n(&blocks[i], &empty, block, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            __atomic_fetch_add(&outstanding, 1, __ATOMIC_SEQ_CST);
            return block;
        }
    }
    abort();
}

void *malloc(size_t n_bytes)
{
    if (!is_pycnn(__builtin_return_address(0)))
        return __libc_malloc(n_bytes);
    return fails() ? NULL : noted(__libc_malloc(n_bytes));
}

void *calloc(size_t n, size_t size)
{
    if (!is_pycnn(__builtin_return_address(0)))
        return __libc_calloc(n, size);
    return fails() ? NULL : noted(__libc_calloc(n, size));
}

int posix_memalign(void **block, size_t alignment, size_t n_bytes)
{
    const int pycnn = is_pycnn(__builtin_return_address(0));
    if (pycnn && fails())
        return ENOMEM;
    *block = __libc_memalign(alignment, n_bytes);
    if (*block != NULL && pycnn)
        noted(*block);
    return *block == NULL ? ENOMEM : 0;
}

void free(void *block)
{
    void *same;
    int i;
    for (i = 0; i < MOST && block != NULL; i++) {
        same = block;
        if (__atomic_compare_exchange_n(&blocks[i], &same, NULL, 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            __atomic_fetch_sub(&outstanding, 1, __ATOMIC_SEQ_CST);
            break;
        }
    }
    __libc_free(block);
}
