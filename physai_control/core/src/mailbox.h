/*
 * A mailbox for one writer and one reader that always holds the newest value: a triple buffer.
 *
 * Three slots: the writer owns one, the reader owns one, the third is in the middle. Publishing and taking
 * each swap the own slot with the middle one in a single atomic exchange, so neither side ever waits and
 * neither touches a slot that the other owns. An untaken value is overwritten by the next.
 */
#ifndef PHYSAI_MAILBOX_H
#define PHYSAI_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>

#define PHYSAI_MAILBOX_FRESH 4u /* set in `middle` while its value has not been taken */

struct physai_mailbox {
    _Alignas(64) _Atomic unsigned middle;
    _Alignas(64) unsigned back;  /* slot of the writer */
    _Alignas(64) unsigned front; /* slot of the reader */
};

static inline void physai_mailbox_init(struct physai_mailbox *box)
{
    box->front = 0;
    atomic_init(&box->middle, 1u);
    box->back = 2;
}

/* Writer: hand over slot `back`, which must have been written completely. */
static inline void physai_mailbox_publish(struct physai_mailbox *box)
{
    unsigned taken =
        atomic_exchange_explicit(&box->middle, box->back | PHYSAI_MAILBOX_FRESH, memory_order_acq_rel);
    box->back = taken & 3u;
}

/* Reader: true if slot `front` now holds a value that was not seen before. */
static inline bool physai_mailbox_take(struct physai_mailbox *box)
{
    if (!(atomic_load_explicit(&box->middle, memory_order_relaxed) & PHYSAI_MAILBOX_FRESH))
        return false;
    unsigned taken = atomic_exchange_explicit(&box->middle, box->front, memory_order_acq_rel);
    box->front = taken & 3u;
    return true;
}

#endif
