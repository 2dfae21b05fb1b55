/*
 * physai_trial.h: libphysai_trial, preloaded (LD_PRELOAD) into a process that runs trials of the controller.
 *
 * Between enter and leave, on that thread, CLOCK_MONOTONIC is the given time and allocations and locks are
 * counted. The wall clock of the process can be set off from the machine's. Everything else is as without it.
 */
#ifndef PHYSAI_TRIAL_H
#define PHYSAI_TRIAL_H

#include "physai_hardware.h"

/* Weak: they are null where the library is not preloaded. */
PHYSAI_API __attribute__((weak)) void physai_trial_enter(int64_t monotonic_ns);
PHYSAI_API __attribute__((weak)) long physai_trial_leave(void); /* allocations, frees and locks since enter */
PHYSAI_API __attribute__((weak)) void physai_trial_set_wall_offset(int64_t offset_ns);

/*
 * Run `work(object, n)` on this thread with every system call but write and exit forbidden by the
 * kernel, which kills the process at the first other one; then write the int that it returned to `file` and
 * end the thread.
 */
PHYSAI_API __attribute__((weak)) void physai_trial_confine(int (*work)(void *, int), void *object, int n,
                                                           int file);

#endif
