/* Counts what this process's threads allocate and free, by replacing libc's functions. */
#ifndef PHYSAI_MALLOC_TRAP_H
#define PHYSAI_MALLOC_TRAP_H

#include "physai_hardware.h"

/* Calls of malloc, calloc, realloc, aligned_alloc, posix_memalign and free by this thread so far. */
PHYSAI_API long physai_malloc_count(void);

#endif
