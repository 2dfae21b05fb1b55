#include "model/friction.h"

#include <math.h>
#include <string.h>

#define SATURATED 20.0 /* tanh of it is 1 to the last digit */

/*
 * tanh x = (1 - e) / (1 + e) with e = exp(-2 |x|), without branches, so that the loop below becomes vector
 * instructions; libm's costs more than all else that friction takes. exp(y) = 2^k exp(r): k is the integer
 * nearest to y / ln 2, r the rest in two parts, whose exponential is a Taylor polynomial. Within 3e-16; NaN
 * stays NaN.
 */
static inline double tanh_of(double x)
{
    const double round = 0x1.8p52; /* to the nearest integer, whose last bits are then those of the sum */
    double size = fabs(x), y = -2 * (size > SATURATED ? SATURATED : size);
    double sum = y * M_LOG2E + round, k = sum - round;
    double r = (y - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
    double e = 1.0 / 479001600;
    e = e * r + 1.0 / 39916800;
    e = e * r + 1.0 / 3628800;
    e = e * r + 1.0 / 362880;
    e = e * r + 1.0 / 40320;
    e = e * r + 1.0 / 5040;
    e = e * r + 1.0 / 720;
    e = e * r + 1.0 / 120;
    e = e * r + 1.0 / 24;
    e = e * r + 1.0 / 6;
    e = e * r + 0.5;
    e = e * r + 1;
    e = e * r + 1;
    uint64_t bits;
    double power; /* 2^k */
    memcpy(&bits, &sum, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    e *= power;
    return copysign((1 - e) / (1 + e), x);
}

void physai_friction_init(struct physai_friction_curves *curves, const struct physai_friction *joints,
                          uint32_t n)
{
    memset(curves, 0, sizeof *curves);
    curves->n = n;
    for (uint32_t i = 0; i < n; i++) {
        curves->coulomb[i] = joints[i].coulomb;
        curves->steepness[i] = joints[i].slope / 2;
        curves->shift[i] = joints[i].slope / 2 * joints[i].shift;
        curves->at_rest[i] = tanh_of(curves->shift[i]);
        curves->viscous[i] = joints[i].viscous;
    }
}

void physai_friction(const struct physai_friction_curves *f, const double *dq, double *torque)
{
    for (uint32_t i = 0; i < f->n; i++)
        torque[i] = f->coulomb[i] * (tanh_of(f->steepness[i] * dq[i] + f->shift[i]) - f->at_rest[i]) +
                    f->viscous[i] * dq[i];
}
