/* What a loop asks of the operating system: memory that stays, a thread that others wait for, a timer. */
#ifndef PHYSAI_REALTIME_H
#define PHYSAI_REALTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Locks the whole process where that is allowed without limit, else `what` alone. False if neither is. */
bool physai_lock_memory(const void *what, size_t size);

/*
 * Starts a thread, under SCHED_FIFO if that is wanted and permitted (`fifo` says which it became), on the
 * core that the environment variable PHYSAI_LOOP_CPU names, if any. Returns 0 or an errno.
 */
#define PHYSAI_LOOP_CPU "PHYSAI_LOOP_CPU"
int physai_realtime_thread(pthread_t *thread, bool want_fifo, bool *fifo, void *(*run)(void *),
                           void *argument);

/* The thread that calls takes this name (15 characters at most) and touches its stack while nobody waits. */
void physai_realtime_prepare(const char *name);

/*
 * The timer's grid: deadlines lie at (k + phase) periods of CLOCK_MONOTONIC. The control loop has phase 1/2:
 * the kernel's own tick comes at whole milliseconds of that clock, and who wakes with it waits for it.
 */
#define PHYSAI_LOOP_PHASE 0.5
int64_t physai_first_deadline(int64_t now_ns, int64_t period_ns, double phase);

/* The next one that has not passed. Whole periods that were missed are skipped, never caught up. */
int64_t physai_next_deadline(int64_t deadline_ns, int64_t now_ns, int64_t period_ns);

#endif
