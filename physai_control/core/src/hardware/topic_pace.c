#include "hardware/topic_pace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEWEST 20 /* intervals, from which on their median says something */

static int ascending(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

double physai_pace_measure(struct physai_pace *pace, int64_t stamp_ns)
{
    double sorted[PHYSAI_PACE_INTERVALS];
    if (pace->stamp_ns)
        pace->intervals_s[pace->count++ % PHYSAI_PACE_INTERVALS] = (double)(stamp_ns - pace->stamp_ns) * 1e-9;
    pace->stamp_ns = stamp_ns;
    if (pace->count < FEWEST)
        return INFINITY;
    uint32_t n = pace->count < PHYSAI_PACE_INTERVALS ? pace->count : PHYSAI_PACE_INTERVALS;
    memcpy(sorted, pace->intervals_s, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    return sorted[n / 2];
}
