/* See physai_trial.h. */
#define _GNU_SOURCE
#include "physai_trial.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL

static _Thread_local bool inside;
static _Thread_local int64_t monotonic_ns;
static _Thread_local long count;
static _Atomic int64_t wall_offset_ns;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_mutex_lock)(pthread_mutex_t *);

__attribute__((constructor)) static void find_real(void)
{
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_mutex_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
}

void physai_trial_enter(int64_t now_ns)
{
    inside = true;
    monotonic_ns = now_ns;
    count = 0;
}

long physai_trial_leave(void)
{
    inside = false;
    return count;
}

void physai_trial_set_wall_offset(int64_t offset_ns)
{
    wall_offset_ns = offset_ns;
}

void physai_trial_confine(int (*work)(void *, int), void *object, int n, int file)
{
    /* Not the kernel's strict mode, which also takes the time stamp counter away, by which clocks are read.
     */
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    int result = -1;
    if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        result = work(object, n);
    if (write(file, &result, sizeof result) < 0)
        result = -1;
    syscall(SYS_exit, result);
}

/* ---- clocks ---- */

static void to_timespec(int64_t ns, struct timespec *time)
{
    time->tv_sec = ns / NS;
    time->tv_nsec = ns % NS;
}

PHYSAI_API int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (inside && clock == CLOCK_MONOTONIC) {
        to_timespec(monotonic_ns, now);
        return 0;
    }
    if (!real_clock_gettime) /* before the constructor ran */
        return (int)syscall(SYS_clock_gettime, clock, now);
    int result = real_clock_gettime(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && wall_offset_ns)
        to_timespec((int64_t)now->tv_sec * NS + now->tv_nsec + wall_offset_ns, now);
    return result;
}

PHYSAI_API int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec time;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return result;
}

PHYSAI_API time_t time(time_t *now)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now)
        *now = time.tv_sec;
    return time.tv_sec;
}

/* ---- locks ---- */

PHYSAI_API int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    count += inside;
    if (!real_mutex_lock) /* before the constructor ran */
        find_real();
    return real_mutex_lock(mutex);
}

/* ---- allocations: glibc's own names for what is replaced ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

PHYSAI_API void *malloc(size_t size)
{
    count += inside;
    return __libc_malloc(size);
}

PHYSAI_API void *calloc(size_t n, size_t size)
{
    count += inside;
    return __libc_calloc(n, size);
}

PHYSAI_API void *realloc(void *memory, size_t size)
{
    count += inside;
    return __libc_realloc(memory, size);
}

PHYSAI_API void *aligned_alloc(size_t alignment, size_t size)
{
    count += inside;
    return __libc_memalign(alignment, size);
}

PHYSAI_API int posix_memalign(void **memory, size_t alignment, size_t size)
{
    count += inside;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

PHYSAI_API void free(void *memory)
{
    count += inside;
    __libc_free(memory);
}
