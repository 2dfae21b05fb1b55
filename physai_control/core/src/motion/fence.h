/* Fences: where the tools and the elbows may be, and how near two arms may come to each other. */
#ifndef PHYSAI_FENCE_H
#define PHYSAI_FENCE_H

#include "physai_control.h"

/* How far a point is on the wrong side of a fence, m; 0 on the right side, infinite if the point is not
 * finite.
 */
double physai_fence_violation(const struct physai_fence *fence, const double point[3]);

/* The distance between the lines from a to b and from c to d, m; each may be a point. */
double physai_segment_distance(const double a[3], const double b[3], const double c[3], const double d[3]);

/* Where the arms are, base frame. */
struct physai_places {
    const double *tools[PHYSAI_MAX_TOOLS];
    const double *elbows[PHYSAI_MAX_TOOLS]; /* NULL: not known, or none */
};

/*
 * A length for each point, m: a row for each fence, and the row PHYSAI_ARMS for the pairs of tools in the
 * order (0, 1), (0, 2), (1, 2), (0, 3), ...
 */
#define PHYSAI_ARMS PHYSAI_MAX_FENCES
typedef double physai_fence_table[PHYSAI_MAX_FENCES + 1][PHYSAI_MAX_POINTS];

/* Whether a row of the table is in use; of one that is, so many lengths count. */
static inline uint32_t physai_fence_columns(const struct physai_control_config *config, uint32_t row)
{
    if (row < PHYSAI_ARMS)
        return row < config->n_fences ? 2 * config->n_tools : 0;
    return config->arms_distance > 0 ? config->n_tools * (config->n_tools - 1) / 2 : 0;
}

/* The two tools of a pair. */
void physai_fence_pair(uint32_t pair, uint32_t tools[2]);

/* How far each point is on the wrong side of each fence, 0 where a fence is not for it; and by how much each
 * pair of arms is nearer than allowed. */
void physai_fences_measure(const struct physai_control_config *config, const struct physai_places *places,
                           physai_fence_table distance);

/* The point that is the furthest beyond what it is allowed. */
struct physai_violation {
    double distance; /* m outside the fence */
    double allowed;  /* m */
    int fence;       /* or PHYSAI_ARMS; -1: all are within what they are allowed */
    uint32_t point;  /* or the pair */
};
struct physai_violation physai_fences_worst(const struct physai_control_config *config,
                                            const physai_fence_table distance,
                                            const physai_fence_table allowed);

/* "tool", "elbow of left": what a point is called. */
void physai_fence_name(const struct physai_control_config *config, uint32_t point, char *text,
                       size_t text_size);

#endif
