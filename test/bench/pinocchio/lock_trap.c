/* Counts this thread's calls of what may make it wait for another one. Preloaded by bench_cycle.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>

static _Thread_local long count;

__attribute__((visibility("default"))) long physai_lock_count(void);

long physai_lock_count(void)
{
    return count;
}

/* The next function of this name, found at its first call. */
#define COUNTED(name, type)                                                                                  \
    __attribute__((visibility("default"))) int name(type *object)                                            \
    {                                                                                                        \
        static int (*next)(type *);                                                                          \
        count++;                                                                                             \
        if (!next)                                                                                           \
            next = (int (*)(type *))dlsym(RTLD_NEXT, #name);                                                 \
        return next(object);                                                                                 \
    }

COUNTED(pthread_mutex_lock, pthread_mutex_t)
COUNTED(pthread_mutex_trylock, pthread_mutex_t)
COUNTED(pthread_rwlock_rdlock, pthread_rwlock_t)
COUNTED(pthread_rwlock_wrlock, pthread_rwlock_t)
COUNTED(pthread_spin_lock, volatile int)
COUNTED(sem_wait, sem_t)
