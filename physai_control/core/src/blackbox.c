#include "blackbox.h"

#include <stddef.h>
#include <string.h>

void physai_blackbox_stop(struct physai_blackbox *box)
{
    if (box->stopped)
        return; /* of two stops in a row the first one tells */
    box->stopped = true;
    box->remaining = PHYSAI_RECORDS_AFTER;
}

/* Of the arrays what is used: the ring is larger than the caches. */
static void copy_state(struct physai_state *to, const struct physai_state *from)
{
    size_t size = from->n_joints * sizeof from->q[0];
    memcpy(to, from, offsetof(struct physai_state, q));
    memcpy(to->q, from->q, size);
    memcpy(to->dq, from->dq, size);
    memcpy(to->tau, from->tau, size);
    memcpy(to->opening, from->opening, sizeof to->opening);
}

static void copy_command(struct physai_command *to, const struct physai_command *from)
{
    size_t size = from->n_joints * sizeof from->q[0];
    memcpy(to, from, offsetof(struct physai_command, tau));
    memcpy(to->tau, from->tau, size);
    memcpy(to->q, from->q, size);
    memcpy(to->dq, from->dq, size);
    memcpy(to->opening, from->opening, sizeof to->opening);
    memcpy(to->grip_force, from->grip_force, sizeof to->grip_force);
}

void physai_blackbox_record(struct physai_blackbox *box, uint64_t cycle, uint32_t control_state,
                            bool answered, const struct physai_state *state,
                            const struct physai_command *command)
{
    if (atomic_load_explicit(&box->closed, memory_order_acquire))
        return;
    if (box->stopped && box->remaining == 0) { /* it was read: start over */
        box->stopped = false;
        box->kept = 0;
    }
    struct physai_record *record = &box->ring[box->next];
    record->cycle = cycle;
    record->control_state = control_state;
    record->answered = answered;
    copy_state(&record->state, state);
    copy_command(&record->command, command);
    box->next = (box->next + 1) % PHYSAI_RECORDS;
    box->kept += box->kept < PHYSAI_RECORDS;
    if (box->stopped && --box->remaining == 0)
        physai_blackbox_close(box);
}

void physai_blackbox_close(struct physai_blackbox *box)
{
    box->remaining = 0;
    if (box->stopped)
        atomic_store_explicit(&box->closed, true, memory_order_release);
}

int physai_blackbox_read(struct physai_blackbox *box, struct physai_record *records, int size)
{
    if (!atomic_load_explicit(&box->closed, memory_order_acquire))
        return 0;
    uint32_t count = box->kept < (uint32_t)size ? box->kept : (uint32_t)size;
    uint32_t first = (box->next + 2 * PHYSAI_RECORDS - count) % PHYSAI_RECORDS;
    for (uint32_t i = 0; i < count; i++)
        records[i] = box->ring[(first + i) % PHYSAI_RECORDS];
    atomic_store_explicit(&box->closed, false, memory_order_release);
    return (int)count;
}
