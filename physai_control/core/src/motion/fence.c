#include "motion/fence.h"
#include "minmax.h"

#include <math.h>

static double finite_or_infinite(double distance)
{
    return distance == distance ? physai_max(0, distance) : INFINITY;
}

double physai_fence_violation(const struct physai_fence *fence, const double point[3])
{
    double worst = -INFINITY; /* over the box's faces: how far outside of the furthest */
    if (fence->kind == PHYSAI_FENCE_PLANE) {
        double height = 0;
        for (int i = 0; i < 3; i++)
            height += fence->normal[i] * point[i];
        return finite_or_infinite(fence->offset - height);
    }
    for (int i = 0; i < 3; i++) {
        double out = physai_max(fence->low[i] - point[i], point[i] - fence->high[i]);
        if (!(point[i] == point[i]))
            return INFINITY;
        worst = physai_max(worst, out);
    }
    return finite_or_infinite(fence->kind == PHYSAI_FENCE_INSIDE ? worst : -worst);
}

void physai_fences_measure(const struct physai_control_config *config, const double tool[3],
                           const double elbow[3], physai_fence_table distance)
{
    for (uint32_t i = 0; i < config->n_fences; i++) {
        const struct physai_fence *fence = &config->fences[i];
        distance[i][0] = fence->points & PHYSAI_FENCE_TOOL ? physai_fence_violation(fence, tool) : 0;
        distance[i][1] =
            fence->points & PHYSAI_FENCE_ELBOW && elbow ? physai_fence_violation(fence, elbow) : 0;
    }
}

struct physai_violation physai_fences_worst(const struct physai_control_config *config,
                                            const physai_fence_table distance,
                                            const physai_fence_table allowed)
{
    struct physai_violation worst = {0, 0, -1, 0};
    for (uint32_t i = 0; i < config->n_fences; i++)
        for (int k = 0; k < 2; k++)
            if (!(distance[i][k] - allowed[i][k] <= worst.distance - worst.allowed))
                worst = (struct physai_violation){distance[i][k], allowed[i][k], (int)i,
                                                  k ? PHYSAI_FENCE_ELBOW : PHYSAI_FENCE_TOOL};
    return worst;
}
