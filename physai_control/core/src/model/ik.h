/* Inverse kinematics, for chunks of tool poses that a joint law or a position-commanded robot shall follow.
 */
#ifndef PHYSAI_IK_H
#define PHYSAI_IK_H

#include "model/dynamics.h"

/*
 * Joint positions at which a tool has a pose (position and quaternion, base frame), near `q`, in place and
 * within the position limits. Returns the position error that is left in m; above PHYSAI_IK_TOLERANCE or not
 * finite the pose was not reached. Not for the cycle: it takes some ten microseconds.
 */
#define PHYSAI_IK_TOLERANCE 1e-4
double physai_inverse_kinematics(struct physai_dynamics *dynamics, uint32_t tool,
                                 const struct physai_joint_limits *joints, const double pose[7], double *q);

#endif
