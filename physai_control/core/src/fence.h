/* Fences: where the tool and the elbow may be. */
#ifndef PHYSAI_FENCE_H
#define PHYSAI_FENCE_H

#include "physai_control.h"

/* How far a point is on the wrong side of a fence, m; 0 on the right side, infinite if the point is not
 * finite.
 */
double physai_fence_violation(const struct physai_fence *fence, const double point[3]);

/* The worst over all fences, m, and the fence and point it is of. `elbow` may be NULL. */
struct physai_violation {
    double distance;
    int fence; /* -1: none */
    uint32_t point;
};
struct physai_violation physai_fences_check(const struct physai_control_config *config, const double tool[3],
                                            const double elbow[3]);

#endif
