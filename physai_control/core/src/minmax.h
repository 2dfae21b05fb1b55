/* fmin and fmax without a call: of a number and not-a-number, the number. */
#ifndef PHYSAI_MINMAX_H
#define PHYSAI_MINMAX_H

static inline double physai_min(double a, double b)
{
    return a < b || b != b ? a : b;
}

static inline double physai_max(double a, double b)
{
    return a > b || b != b ? a : b;
}

#endif
