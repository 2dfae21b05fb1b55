#define _GNU_SOURCE /* pthread_attr_setaffinity_np */
#include "realtime.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define PRIORITY    80          /* above the kernel's threaded interrupts (50), below its own helpers (99) */
#define STACK_BYTES (64 * 1024) /* more than a cycle takes */

bool physai_lock_memory(const void *what, size_t size)
{
    struct rlimit limit;
    /* Locking what is still to come would starve the rest of the process where the limit is small. */
    bool unlimited =
        geteuid() == 0 || (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY);
    if (unlimited && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0)
        return true;
    return mlock(what, size) == 0;
}

/* A number that is none of the machine's cores makes pthread_create fail. */
static int pin(pthread_attr_t *attributes)
{
    const char *text = getenv(PHYSAI_LOOP_CPU);
    if (!text || !*text)
        return 0;
    char *end;
    long core = strtol(text, &end, 10);
    if (*end || core < 0 || core >= CPU_SETSIZE)
        return EINVAL;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET((size_t)core, &cores);
    return pthread_attr_setaffinity_np(attributes, sizeof cores, &cores);
}

static int spawn(pthread_t *thread, bool fifo, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    struct sched_param parameter = {.sched_priority = PRIORITY};
    pthread_attr_init(&attributes);
    if (fifo) {
        pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
        pthread_attr_setschedparam(&attributes, &parameter);
    }
    int error = pin(&attributes);
    if (!error)
        error = pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return error;
}

int physai_realtime_thread(pthread_t *thread, bool want_fifo, bool *fifo, void *(*run)(void *),
                           void *argument)
{
    int error = spawn(thread, want_fifo, run, argument);
    *fifo = want_fifo && error == 0;
    if (want_fifo && (error == EPERM || error == EINVAL))
        error = spawn(thread, false, run, argument);
    return error;
}

void physai_realtime_prepare(const char *name)
{
    volatile char stack[STACK_BYTES];
    prctl(PR_SET_NAME, name);
    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 0;
}

int64_t physai_first_deadline(int64_t now_ns, int64_t period_ns, double phase)
{
    return (now_ns / period_ns + 1) * period_ns + (int64_t)(phase * (double)period_ns);
}

int64_t physai_next_deadline(int64_t deadline_ns, int64_t now_ns, int64_t period_ns)
{
    int64_t late_ns = now_ns - deadline_ns;
    return deadline_ns + (late_ns > 0 ? late_ns / period_ns + 1 : 1) * period_ns;
}
