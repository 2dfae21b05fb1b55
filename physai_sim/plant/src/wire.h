/*
 * One direction of a wire that loses, doubles, delays and reorders messages, for tests.
 *
 * Its time is simulated time, so that what it does to a run does not depend on how busy the machine is. One
 * thread uses it.
 */
#ifndef PHYSAI_WIRE_H
#define PHYSAI_WIRE_H

#include "physai_bridge.h"

#include <stdbool.h>

#define PHYSAI_WIRE_SIZE 128

/* A message on its way: a state, or a command. */
struct physai_parcel {
    int64_t due_ns;
    int64_t stamp_ns; /* of a command, 0 if its format has none */
    union {
        struct physai_state state;
        double values[PHYSAI_MAX_JOINTS];
    };
};

struct physai_wire {
    uint64_t random; /* not 0 */
    struct physai_parcel parcels[PHYSAI_WIRE_SIZE];
    size_t count;
};

/* Send at now_ns. A parcel beyond the wire's size is lost. */
void physai_wire_put(struct physai_wire *wire, const struct physai_bridge_faults *faults,
                     const struct physai_parcel *parcel, int64_t now_ns);

/* Receive what is due by now_ns, one at a time, in the order in which it is due. */
bool physai_wire_take(struct physai_wire *wire, struct physai_parcel *parcel, int64_t now_ns);

#endif
