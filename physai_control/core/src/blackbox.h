/*
 * The black box: the cycles before and shortly after a latched stop.
 *
 * The real-time side writes a ring. Some cycles after a stop it closes the box and leaves it alone until the
 * other side has read it, so neither ever waits for the other.
 */
#ifndef PHYSAI_BLACKBOX_H
#define PHYSAI_BLACKBOX_H

#include "physai_control.h"

#include <stdatomic.h>
#include <stdbool.h>

struct physai_blackbox {
    struct physai_record ring[PHYSAI_RECORDS];
    uint32_t next;
    uint32_t kept;
    uint32_t remaining; /* cycles to record after a stop */
    bool stopped;       /* a stop is in the ring */
    _Atomic bool closed;
};

/* Real-time side. `stop` once, in the cycle that latched; `record` in every cycle. */
void physai_blackbox_stop(struct physai_blackbox *box);
void physai_blackbox_record(struct physai_blackbox *box, uint64_t cycle, uint32_t control_state,
                            bool answered, const struct physai_state *state,
                            const struct physai_command *command);

/* While no cycle runs: close a box that a stop is in, complete or not. */
void physai_blackbox_close(struct physai_blackbox *box);

/* Other side: the records of a closed box, oldest first; opens it again. */
int physai_blackbox_read(struct physai_blackbox *box, struct physai_record *records, int size);

#endif
