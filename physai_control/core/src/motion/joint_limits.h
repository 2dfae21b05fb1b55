/* Limits of joints and torques. Every check is written so that NaN fails it. */
#ifndef PHYSAI_JOINT_LIMITS_H
#define PHYSAI_JOINT_LIMITS_H

#include "physai_control.h"

#include <stdbool.h>

bool physai_all_finite(const double *values, uint32_t n);

/* Highest speed from which the joint can still brake before its upper / lower stop (both >= 0). */
double physai_speed_limit_up(const struct physai_joint_limits *joint, double q);
double physai_speed_limit_down(const struct physai_joint_limits *joint, double q);

/* Torque that damps a speed beyond what the position allows; zero within. `inertia` is the joint's own. */
double physai_barrier_torque(const struct physai_joint_limits *joint, double q, double dq, double inertia);

/* `tau` without its share beyond `bias` that drives the joint towards its stop, as far as it is too fast to
 * brake. */
double physai_yielding(const struct physai_joint_limits *joint, double q, double dq, double tau, double bias);

/* Bound every torque and its change since `previous` over dt; a stop has its own, faster rate. NaN becomes 0,
 * never passes. */
void physai_clamp_torque(const struct physai_joint_limits *joints, uint32_t n, double dt, bool stopping,
                         const double *previous, double *tau);

#endif
