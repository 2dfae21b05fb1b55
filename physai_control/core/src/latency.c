#include "latency.h"

/*
 * Buckets of 32 ns below 1 us, then 32 per factor of two, 2 to 3 % wide, up to 134 ms; the last one also
 * takes everything above.
 */
static int bucket_of(uint64_t duration_ns)
{
    if (duration_ns < 1024)
        return (int)(duration_ns >> 5);
    int shift = 58 - __builtin_clzll(duration_ns); /* leaves six bits, of which the first is always set */
    int bucket = 32 * (shift - 4) + (int)(duration_ns >> shift) - 32;
    return bucket < PHYSAI_LATENCY_BUCKETS ? bucket : PHYSAI_LATENCY_BUCKETS - 1;
}

uint64_t physai_control_bucket_ns(int bucket)
{
    if (bucket < 32)
        return (uint64_t)(bucket + 1) << 5;
    return (uint64_t)(33 + bucket % 32) << (bucket / 32 + 4);
}

/* One writer: a relaxed load and store is enough and cheaper than an atomic addition. */
static void bump(_Atomic uint64_t *value, uint64_t amount)
{
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

void physai_histogram_add(struct physai_histogram *histogram, int64_t duration_ns)
{
    if (atomic_load_explicit(&histogram->clear, memory_order_relaxed)) {
        for (int i = 0; i < PHYSAI_LATENCY_BUCKETS; i++)
            atomic_store_explicit(&histogram->count[i], 0, memory_order_relaxed);
        atomic_store_explicit(&histogram->sum_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&histogram->max_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&histogram->clear, 0, memory_order_relaxed);
    }
    uint64_t duration = duration_ns > 0 ? (uint64_t)duration_ns : 0;
    bump(&histogram->count[bucket_of(duration)], 1);
    bump(&histogram->sum_ns, duration);
    if (duration > atomic_load_explicit(&histogram->max_ns, memory_order_relaxed))
        atomic_store_explicit(&histogram->max_ns, duration, memory_order_relaxed);
}

void physai_histogram_read(struct physai_histogram *histogram, struct physai_latency *latency)
{
    latency->total = 0;
    for (int i = 0; i < PHYSAI_LATENCY_BUCKETS; i++) {
        latency->count[i] = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        latency->total += latency->count[i];
    }
    latency->sum_ns = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    latency->max_ns = atomic_load_explicit(&histogram->max_ns, memory_order_relaxed);
}
