#include "motion/fence.h"
#include "minmax.h"

#include <math.h>
#include <stdio.h>

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

static double clipped(double value)
{
    return value > 0 ? (value < 1 ? value : 1) : 0;
}

/* C. Ericson, Real-Time Collision Detection (2005), section 5.1.9. */
double physai_segment_distance(const double a[3], const double b[3], const double c[3], const double d[3])
{
    double u[3], v[3], r[3], uu = 0, vv = 0, uv = 0, ur = 0, vr = 0, square = 0;
    for (int i = 0; i < 3; i++) {
        u[i] = b[i] - a[i];
        v[i] = d[i] - c[i];
        r[i] = a[i] - c[i];
        uu += u[i] * u[i];
        vv += v[i] * v[i];
        uv += u[i] * v[i];
        ur += u[i] * r[i];
        vr += v[i] * r[i];
    }
    double crossing = uu * vv - uv * uv; /* 0: parallel, or a point */
    double s = crossing > 1e-12 * uu * vv ? clipped((uv * vr - ur * vv) / crossing) : 0;
    double t = vv > 0 ? (uv * s + vr) / vv : 0;
    if (!(t >= 0 && t <= 1) || !(crossing > 1e-12 * uu * vv)) {
        t = clipped(t);
        s = uu > 0 ? clipped((uv * t - ur) / uu) : 0;
    }
    for (int i = 0; i < 3; i++) {
        double apart = r[i] + s * u[i] - t * v[i];
        square += apart * apart;
    }
    return sqrt(square);
}

void physai_fence_pair(uint32_t pair, uint32_t tools[2])
{
    tools[0] = pair;
    for (tools[1] = 1; tools[0] >= tools[1]; tools[1]++)
        tools[0] -= tools[1];
}

static double nearer(const struct physai_control_config *config, const struct physai_places *places,
                     uint32_t pair)
{
    const double *ends[2][2];
    uint32_t tools[2];
    physai_fence_pair(pair, tools);
    for (int k = 0; k < 2; k++) {
        ends[k][0] = places->tools[tools[k]];
        ends[k][1] = places->elbows[tools[k]] ? places->elbows[tools[k]] : ends[k][0];
    }
    return finite_or_infinite(config->arms_distance -
                              physai_segment_distance(ends[0][0], ends[0][1], ends[1][0], ends[1][1]));
}

void physai_fences_measure(const struct physai_control_config *config, const struct physai_places *places,
                           physai_fence_table distance)
{
    for (uint32_t i = 0; i < config->n_fences; i++) {
        const struct physai_fence *fence = &config->fences[i];
        for (uint32_t k = 0; k < 2 * config->n_tools; k++) {
            const double *point = k % 2 ? places->elbows[k / 2] : places->tools[k / 2];
            distance[i][k] = fence->points & 1u << k && point ? physai_fence_violation(fence, point) : 0;
        }
    }
    for (uint32_t pair = 0; pair < physai_fence_columns(config, PHYSAI_ARMS); pair++)
        distance[PHYSAI_ARMS][pair] = nearer(config, places, pair);
}

struct physai_violation physai_fences_worst(const struct physai_control_config *config,
                                            const physai_fence_table distance,
                                            const physai_fence_table allowed)
{
    struct physai_violation worst = {0, 0, -1, 0};
    for (uint32_t i = 0; i <= PHYSAI_ARMS; i++)
        for (uint32_t k = 0; k < physai_fence_columns(config, i); k++)
            if (!(distance[i][k] - allowed[i][k] <= worst.distance - worst.allowed))
                worst = (struct physai_violation){distance[i][k], allowed[i][k], (int)i, k};
    return worst;
}

void physai_fence_name(const struct physai_control_config *config, uint32_t point, char *text,
                       size_t text_size)
{
    const char *what = point % 2 ? "elbow" : "tool";
    if (config->n_tools > 1 && point / 2 < config->n_tools)
        snprintf(text, text_size, "%s of %s", what, config->tools[point / 2].name);
    else
        snprintf(text, text_size, "%s", what);
}
