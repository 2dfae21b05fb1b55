#include "fence.h"
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

struct physai_violation physai_fences_check(const struct physai_control_config *config, const double tool[3],
                                            const double elbow[3])
{
    struct physai_violation worst = {0, -1, 0};
    for (uint32_t i = 0; i < config->n_fences; i++) {
        for (uint32_t point = PHYSAI_FENCE_TOOL; point <= PHYSAI_FENCE_ELBOW; point <<= 1) {
            const double *place = point == PHYSAI_FENCE_TOOL ? tool : elbow;
            if (!(config->fences[i].points & point) || !place)
                continue;
            double distance = physai_fence_violation(&config->fences[i], place);
            if (distance > worst.distance)
                worst = (struct physai_violation){distance, (int)i, point};
        }
    }
    return worst;
}
