/* Inverse kinematics: of one pose, near a given one. Not for the cycle: it takes some ten microseconds. */
#ifndef PHYSAI_IK_H
#define PHYSAI_IK_H

#include "model/dynamics.h"

struct physai_ik {
    int rounds;               /* at most */
    const double *low, *high; /* rad: where joints may be */
    const double *posture;    /* rad: the null space goes a tenth of the way to it, once; NULL: nowhere */
    double weights[6];        /* along the base's x y z, about the target's; 0: left free */
    double tolerance[2];      /* m, rad */
};

/*
 * Joint positions at which a tool is at `position` (m) and stands as `rotation` (row by row) says, base
 * frame, from `q` on and in place; joints that do not move the tool stay. False if that was not reached;
 * `remaining` is then what is left, m along the base's axes and rad about the target's.
 */
bool physai_inverse_kinematics(struct physai_dynamics *dynamics, uint32_t tool, const struct physai_ik *ik,
                               const double position[3], const double rotation[9], double *q,
                               double remaining[6]);

#endif
