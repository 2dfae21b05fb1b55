/* A histogram of durations in logarithmic buckets: one writer, readers at any time. */
#ifndef PHYSAI_LATENCY_H
#define PHYSAI_LATENCY_H

#include "clock.h"
#include "physai_control.h"

#include <stdatomic.h>
#include <stdint.h>

struct physai_histogram {
    _Atomic uint64_t count[PHYSAI_LATENCY_BUCKETS];
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t max_ns;
    _Atomic unsigned clear; /* set by a reader, honoured by the writer */
};

void physai_histogram_add(struct physai_histogram *histogram, int64_t duration_ns);
void physai_histogram_read(struct physai_histogram *histogram, struct physai_latency *latency);

#endif
