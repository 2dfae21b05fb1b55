/*
 * physai_bare_loop.h: a thread that wakes on a timer, notes how late it is, and does nothing else.
 *
 * It is what the control loop's own lateness is compared with: the same thread attributes, the same wait, the
 * same clock and the same histogram, without a controller. See `physai rt-check`.
 */
#ifndef PHYSAI_BARE_LOOP_H
#define PHYSAI_BARE_LOOP_H

#include "physai_control.h"

#ifdef __cplusplus
extern "C" {
#endif

struct physai_bare_loop; /* opaque */

/*
 * Starts a thread `physai-bare`, under SCHED_FIFO if permitted. It wakes at (k + phase) periods of
 * CLOCK_MONOTONIC; the control loop has phase 1/2. Returns 0 or a negative enum physai_control_error.
 */
PHYSAI_API int physai_bare_loop_start(double rate_hz, double phase, struct physai_bare_loop **loop);

PHYSAI_API void physai_bare_loop_read(const struct physai_bare_loop *loop, struct physai_latency *wake);

/* Ends the thread and frees the loop. */
PHYSAI_API void physai_bare_loop_stop(struct physai_bare_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
