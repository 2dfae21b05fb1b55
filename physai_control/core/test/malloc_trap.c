#define _GNU_SOURCE
#include "malloc_trap.h"

#include <errno.h>
#include <stdlib.h>

/* glibc's own names for what is replaced here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static _Thread_local long count;

long physai_malloc_count(void)
{
    return count;
}

PHYSAI_API void *malloc(size_t size)
{
    count++;
    return __libc_malloc(size);
}

PHYSAI_API void *calloc(size_t n, size_t size)
{
    count++;
    return __libc_calloc(n, size);
}

PHYSAI_API void *realloc(void *memory, size_t size)
{
    count++;
    return __libc_realloc(memory, size);
}

PHYSAI_API void *aligned_alloc(size_t alignment, size_t size)
{
    count++;
    return __libc_memalign(alignment, size);
}

PHYSAI_API int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count++;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

PHYSAI_API void free(void *memory)
{
    count += memory != NULL;
    __libc_free(memory);
}
