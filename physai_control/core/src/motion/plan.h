/* A chunk made followable: a C2 cubic spline through its setpoints. */
#ifndef PHYSAI_PLAN_H
#define PHYSAI_PLAN_H

#include "physai_control.h"

struct physai_plan {
    uint64_t sequence;
    uint64_t lease;
    int64_t observation_ns;
    int64_t start_ns;
    int64_t dt_ns;
    int64_t end_ns; /* of the last step; a single setpoint is held until expiry */
    int64_t expiry_ns;
    uint32_t mode;     /* enum physai_chunk_mode */
    uint32_t n_joints; /* channels: joints, or 6 of each tool's pose */
    uint32_t n_steps;
    double anchor[PHYSAI_MAX_TOOLS][4]; /* pose: channels 3 to 5 are log(anchor^-1 orientation) */
    double opening[PHYSAI_MAX_STEPS][PHYSAI_MAX_TOOLS];
    double q[PHYSAI_MAX_STEPS][PHYSAI_MAX_JOINTS];
    double ddq[PHYSAI_MAX_STEPS][PHYSAI_MAX_JOINTS]; /* second derivatives at the setpoints */
};

/* Position, velocity and acceleration of n joints, or of the 6 channels of each pose. */
struct physai_motion {
    double q[PHYSAI_MAX_JOINTS];
    double dq[PHYSAI_MAX_JOINTS];
    double ddq[PHYSAI_MAX_JOINTS];
};

/*
 * Fit the natural cubic spline. The chunk's numbers must be finite and its shape valid.
 *
 * A pose becomes six channels: the position and the rotation vector from `anchor`, an orientation that the
 * tool is not more than PHYSAI_CHART rad away from. So all that holds for joints holds for poses.
 */
void physai_plan_fit(struct physai_plan *plan, const struct physai_chunk *chunk);
void physai_plan_fit_poses(struct physai_plan *plan, const struct physai_chunk *chunk,
                           const double anchor[][4]);
#define PHYSAI_CHART 2.5

void physai_plan_copy(struct physai_plan *to, const struct physai_plan *from);

/* Motion at a time; beyond its ends the plan continues at constant velocity. */
void physai_plan_evaluate(const struct physai_plan *plan, int64_t time_ns, struct physai_motion *motion);

void physai_plan_evaluate_joint(const struct physai_plan *plan, uint32_t i, int64_t time_ns, double *q,
                                double *dq, double *ddq);

/* The grippers' openings of the step that is current at a time. */
const double *physai_plan_opening(const struct physai_plan *plan, int64_t time_ns);

#endif
