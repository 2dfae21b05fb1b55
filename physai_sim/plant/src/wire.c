#include "wire.h"

#define REORDER_NS 3000000 /* a parcel is held back for so long that others overtake it */

/* Uniform in [0, 1): xorshift64*. */
static double uniform(struct physai_wire *wire)
{
    wire->random ^= wire->random >> 12;
    wire->random ^= wire->random << 25;
    wire->random ^= wire->random >> 27;
    return (double)((wire->random * 2685821657736338717ULL) >> 11) * 0x1p-53;
}

static void put_one(struct physai_wire *wire, const struct physai_bridge_faults *faults,
                    const struct physai_parcel *parcel, int64_t now_ns)
{
    if (wire->count == PHYSAI_WIRE_SIZE || uniform(wire) < faults->drop)
        return;
    struct physai_parcel *queued = &wire->parcels[wire->count++];
    *queued = *parcel;
    queued->due_ns = now_ns + (int64_t)((faults->delay_s + uniform(wire) * faults->jitter_s) * 1e9);
    if (uniform(wire) < faults->reorder)
        queued->due_ns += REORDER_NS;
}

void physai_wire_put(struct physai_wire *wire, const struct physai_bridge_faults *faults,
                     const struct physai_parcel *parcel, int64_t now_ns)
{
    put_one(wire, faults, parcel, now_ns);
    if (uniform(wire) < faults->duplicate)
        put_one(wire, faults, parcel, now_ns);
}

bool physai_wire_take(struct physai_wire *wire, struct physai_parcel *parcel, int64_t now_ns)
{
    size_t first = wire->count;
    int64_t due_ns = now_ns;
    for (size_t i = wire->count; i-- > 0;) {
        if (wire->parcels[i].due_ns <=
            due_ns) { /* of those that are due together the one that was sent first */
            due_ns = wire->parcels[i].due_ns;
            first = i;
        }
    }
    if (first == wire->count)
        return false;
    *parcel = wire->parcels[first];
    wire->count--;
    for (size_t i = first; i < wire->count; i++)
        wire->parcels[i] = wire->parcels[i + 1];
    return true;
}
