/* Fences: where the tool and the elbow may be. */
#ifndef PHYSAI_FENCE_H
#define PHYSAI_FENCE_H

#include "physai_control.h"

/* How far a point is on the wrong side of a fence, m; 0 on the right side, infinite if the point is not
 * finite.
 */
double physai_fence_violation(const struct physai_fence *fence, const double point[3]);

/* A length for the tool, then the elbow, at each fence, m. */
typedef double physai_fence_table[PHYSAI_MAX_FENCES][2];

/* How far each point is on the wrong side of each fence; 0 where a fence is not for it. `elbow` may be NULL.
 */
void physai_fences_measure(const struct physai_control_config *config, const double tool[3],
                           const double elbow[3], physai_fence_table distance);

/* The point that is the furthest beyond what it is allowed. */
struct physai_violation {
    double distance; /* m outside the fence */
    double allowed;  /* m */
    int fence;       /* -1: all are within what they are allowed */
    uint32_t point;
};
struct physai_violation physai_fences_worst(const struct physai_control_config *config,
                                            const physai_fence_table distance,
                                            const physai_fence_table allowed);

#endif
