/* Checks that stay in optimized builds. */
#ifndef PHYSAI_CHECK_H
#define PHYSAI_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                          \
    do {                                                                                                     \
        double left_ = (a), right_ = (b);                                                                    \
        if (!(fabs(left_ - right_) <= (tolerance))) {                                                        \
            fprintf(stderr, "%s:%d: failed: %s = %.12g is not near %s = %.12g\n", __FILE__, __LINE__, #a,    \
                    left_, #b, right_);                                                                      \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* Reproducible number in [low, high). */
static inline double check_random(double low, double high)
{
    static unsigned long long seed = 88172645463325252ull;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return low + (high - low) * ((double)(seed >> 11) * 0x1p-53);
}

#endif
