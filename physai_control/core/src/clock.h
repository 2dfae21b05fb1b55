/* The clock of loops and backends, CLOCK_MONOTONIC, which Linux answers without a system call. */
#ifndef PHYSAI_CLOCK_H
#define PHYSAI_CLOCK_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

static inline int64_t physai_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void physai_sleep_until(int64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR)
        ;
}

#endif
