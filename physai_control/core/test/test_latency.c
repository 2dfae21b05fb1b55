/* A duration is counted in the bucket whose edges enclose it, and buckets are 3 % wide. */
#include "check.h"
#include "latency.h"

static int bucket_with(uint64_t duration_ns)
{
    struct physai_histogram histogram = {0};
    struct physai_latency latency;
    physai_histogram_add(&histogram, (int64_t)duration_ns);
    physai_histogram_read(&histogram, &latency);
    CHECK(latency.total == 1 && latency.sum_ns == duration_ns && latency.max_ns == duration_ns);
    int bucket = 0;
    while (!latency.count[bucket])
        bucket++;
    return bucket;
}

static void test_edges(void)
{
    const int last = PHYSAI_LATENCY_BUCKETS - 1;
    for (int bucket = 0; bucket <= last; bucket++) {
        uint64_t low = bucket ? physai_control_bucket_ns(bucket - 1) : 0;
        uint64_t high = physai_control_bucket_ns(bucket);
        CHECK(low < high && (high - low <= 32 || 32 * (high - low) <= low));
        CHECK(bucket_with(low) == bucket && bucket_with(high - 1) == bucket);
    }
    CHECK(bucket_with(physai_control_bucket_ns(last)) == last && bucket_with(1000000000000) == last);
}

static void test_many(void)
{
    struct physai_histogram histogram = {0};
    struct physai_latency latency;
    for (int i = 0; i < 1000; i++)
        physai_histogram_add(&histogram, i < 990 ? 20000 : 3000000);
    physai_histogram_add(&histogram, -5); /* the clock's own grain: counted as none */
    physai_histogram_read(&histogram, &latency);
    CHECK(latency.total == 1001 && latency.count[0] == 1 && latency.max_ns == 3000000);
    CHECK(latency.sum_ns == 990 * 20000 + 10 * 3000000ull);
    histogram.clear = 1;
    physai_histogram_add(&histogram, 50000);
    physai_histogram_read(&histogram, &latency);
    CHECK(latency.total == 1 && latency.max_ns == 50000 && histogram.clear == 0);
}

int main(void)
{
    test_edges();
    test_many();
    return 0;
}
