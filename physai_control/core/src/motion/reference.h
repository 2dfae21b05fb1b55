/*
 * The reference that the arm shall follow: a base plus an offset that dies out.
 *
 * The base is a plan or a constant pose. Whenever the base is switched, the offset starts from the mismatch
 * in position, velocity and acceleration between the old reference and the new base, and runs to zero with
 * zero derivatives along a quintic. So the reference stays C2 through every switch, whatever is switched to.
 */
#ifndef PHYSAI_REFERENCE_H
#define PHYSAI_REFERENCE_H

#include "motion/plan.h"

#include <stdbool.h>

#define PHYSAI_BLEND_SHARE 0.5 /* of a velocity, acceleration and jerk limit that an offset may take */

struct physai_reference {
    uint32_t n_joints;
    bool follows_plan;
    struct physai_plan plan;
    double hold[PHYSAI_MAX_JOINTS]; /* the constant base */
    double offset[PHYSAI_MAX_JOINTS][6];
    int64_t offset_start_ns;
    int64_t offset_end_ns;
    struct physai_motion now; /* at the last evaluated time */
};

/* Start over from a motion: the base is that pose, the velocity and acceleration are forgotten. */
void physai_reference_seed(struct physai_reference *reference, uint32_t n_joints, int64_t time_ns,
                           const double *q);

/* Write the reference at a time to `now`. */
void physai_reference_evaluate(struct physai_reference *reference, int64_t time_ns);

/* Follow a plan from `now` on. The offset takes blend_s, or longer where a joint's share would be exceeded.
 */
void physai_reference_follow(struct physai_reference *reference, int64_t time_ns,
                             const struct physai_plan *plan, double blend_s,
                             const struct physai_joint_limits *joints);

/* Return to the base from a motion that is not `now`'s, in the same way. */
void physai_reference_rejoin(struct physai_reference *reference, int64_t time_ns,
                             const struct physai_motion *from, double blend_s,
                             const struct physai_joint_limits *joints);

/* Come to rest from `now` on with about `acceleration`, within the position limits. */
void physai_reference_stop(struct physai_reference *reference, int64_t time_ns, double acceleration,
                           const struct physai_joint_limits *joints);

/* How long that would take. */
double physai_reference_stop_time(const struct physai_reference *reference, double acceleration);

/* The base is constant and the offset is gone. */
bool physai_reference_rests(const struct physai_reference *reference, int64_t time_ns);

#endif
