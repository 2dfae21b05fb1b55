#include "motion/joint_limits.h"
#include "minmax.h"

#include <float.h>
#include <math.h>

/* A speed excess decays with this time constant: fast against the arm, slow against the 1 ms cycle. */
#define BARRIER_TIME_S 0.007
/* So much beyond the speed limit, nothing drives a joint on: a tool's spring would win against the barrier.
 */
#define YIELDING_RAD_S 0.05

bool physai_all_finite(const double *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!(fabs(values[i]) <= DBL_MAX))
            return false;
    return true;
}

static double speed_limit(const struct physai_joint_limits *joint, double distance)
{
    double speed = -joint->braking_offset + sqrt(physai_max(0, joint->braking_decel_2a * distance));
    return physai_min(joint->velocity, physai_max(0, speed));
}

double physai_speed_limit_up(const struct physai_joint_limits *joint, double q)
{
    return speed_limit(joint, joint->position_max - q);
}

double physai_speed_limit_down(const struct physai_joint_limits *joint, double q)
{
    return speed_limit(joint, q - joint->position_min);
}

/* Where the speed limit is zero. */
static double last_room(const struct physai_joint_limits *joint)
{
    return joint->braking_offset * joint->braking_offset / physai_max(joint->braking_decel_2a, DBL_MIN);
}

/* Within the last millimetres, where the limit is zero, the brake turns into a spring that is at its offset's
 * speed at the stop: damping alone would let a constant load creep through. */
static double barrier_speed(const struct physai_joint_limits *joint, double distance)
{
    double room = last_room(joint);
    return distance < room ? joint->braking_offset * (distance / room - 1) : speed_limit(joint, distance);
}

double physai_barrier_torque(const struct physai_joint_limits *joint, double q, double dq, double inertia)
{
    double up = barrier_speed(joint, joint->position_max - q);
    double down = barrier_speed(joint, q - joint->position_min);
    return -inertia / BARRIER_TIME_S * (physai_max(0, dq - up) + physai_min(0, dq + down));
}

double physai_yielding(const struct physai_joint_limits *joint, double q, double dq, double tau, double bias)
{
    double limit = dq > 0 ? physai_speed_limit_up(joint, q) : physai_speed_limit_down(joint, q);
    double drive = tau - bias, distance = drive > 0 ? joint->position_max - q : q - joint->position_min;
    double left = physai_max(0, distance) / physai_max(last_room(joint), DBL_MIN);
    if (left < 1) /* nor into a stop: of a light joint that spring would win against the barrier's */
        tau = bias + (drive *= left);
    if (!(limit < joint->velocity && drive * dq > 0))
        return tau;
    return bias + drive * physai_max(0, 1 - physai_max(0, fabs(dq) - limit) / YIELDING_RAD_S);
}

static double bound(double value, double low, double high)
{
    if (value >= low && value <= high)
        return value;
    return value > high  ? high
           : value < low ? low
                         : physai_max(low, physai_min(high, 0)); /* NaN: nearest to zero */
}

void physai_clamp_torque(const struct physai_joint_limits *joints, uint32_t n, double dt, bool stopping,
                         const double *previous, double *tau)
{
    for (uint32_t i = 0; i < n; i++) {
        double step = (stopping ? joints[i].stop_torque_rate : joints[i].torque_rate) * dt;
        tau[i] = bound(tau[i], -joints[i].torque, joints[i].torque);
        tau[i] = bound(tau[i], previous[i] - step, previous[i] + step);
        tau[i] = bound(tau[i], -joints[i].torque, joints[i].torque);
    }
}
