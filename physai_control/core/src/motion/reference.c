#include "motion/reference.h"
#include "minmax.h"

#include <math.h>
#include <string.h>

#define NS             1e-9
#define LONGEST_BLEND  2.0 /* s */
#define SHORTEST_STOP  0.05
#define SHARE          PHYSAI_BLEND_SHARE
#define OFFSET_SAMPLES 8

/* Quintic from (d, v, a) to (0, 0, 0) in T seconds. */
static void quintic(double c[6], double d, double v, double a, double T)
{
    double T2 = T * T, T3 = T2 * T;
    c[0] = d;
    c[1] = v;
    c[2] = a / 2;
    c[3] = (-20 * d - 12 * v * T - 3 * a * T2) / (2 * T3);
    c[4] = (30 * d + 16 * v * T + 3 * a * T2) / (2 * T3 * T);
    c[5] = (-12 * d - 6 * v * T - a * T2) / (2 * T3 * T2);
}

static double quintic_velocity(const double c[6], double s)
{
    return c[1] + s * (2 * c[2] + s * (3 * c[3] + s * (4 * c[4] + s * 5 * c[5])));
}

static double quintic_acceleration(const double c[6], double s)
{
    return 2 * c[2] + s * (6 * c[3] + s * (12 * c[4] + s * 20 * c[5]));
}

static double quintic_jerk(const double c[6], double s)
{
    return 6 * c[3] + s * (24 * c[4] + s * 60 * c[5]);
}

static bool within_share(const double c[6], double T, const struct physai_joint_limits *joint)
{
    /* What the offset starts with cannot be avoided; it must only not get worse. */
    double velocity = physai_max(SHARE * joint->velocity, 1.05 * fabs(c[1]));
    double acceleration = physai_max(SHARE * joint->acceleration, 1.05 * fabs(2 * c[2]));
    for (int k = 0; k <= OFFSET_SAMPLES; k++) {
        double s = T * k / OFFSET_SAMPLES;
        if (!(fabs(quintic_velocity(c, s)) <= velocity && fabs(quintic_acceleration(c, s)) <= acceleration &&
              fabs(quintic_jerk(c, s)) <= SHARE * joint->jerk))
            return false;
    }
    return true;
}

static void set_duration(struct physai_reference *reference, int64_t time_ns, double T)
{
    reference->offset_start_ns = time_ns;
    reference->offset_end_ns = time_ns + (int64_t)(T / NS);
}

void physai_reference_seed(struct physai_reference *reference, uint32_t n_joints, int64_t time_ns,
                           const double *q)
{
    reference->n_joints = n_joints;
    reference->follows_plan = false;
    memset(&reference->now, 0, sizeof reference->now);
    memcpy(reference->hold, q, n_joints * sizeof *q);
    memcpy(reference->now.q, q, n_joints * sizeof *q);
    memset(reference->offset, 0, sizeof reference->offset);
    set_duration(reference, time_ns, 0);
}

static void evaluate_base(const struct physai_reference *reference, int64_t time_ns,
                          struct physai_motion *base)
{
    if (reference->follows_plan) {
        physai_plan_evaluate(&reference->plan, time_ns, base);
    } else {
        size_t size = reference->n_joints * sizeof base->q[0];
        memcpy(base->q, reference->hold, size);
        memset(base->dq, 0, size);
        memset(base->ddq, 0, size);
    }
}

void physai_reference_evaluate(struct physai_reference *reference, int64_t time_ns)
{
    struct physai_motion *now = &reference->now;
    evaluate_base(reference, time_ns, now);
    if (time_ns >= reference->offset_end_ns)
        return;
    double s = (double)(time_ns - reference->offset_start_ns) * NS;
    for (uint32_t i = 0; i < reference->n_joints; i++) {
        const double *c = reference->offset[i];
        now->q[i] += c[0] + s * (c[1] + s * (c[2] + s * (c[3] + s * (c[4] + s * c[5]))));
        now->dq[i] += quintic_velocity(c, s);
        now->ddq[i] += quintic_acceleration(c, s);
    }
}

void physai_reference_rejoin(struct physai_reference *reference, int64_t time_ns,
                             const struct physai_motion *from, double blend_s,
                             const struct physai_joint_limits *joints)
{
    struct physai_motion base;
    evaluate_base(reference, time_ns, &base);
    double T = blend_s;
    for (bool fits = false; !fits; T = fits ? T : 1.25 * T) {
        fits = true;
        for (uint32_t i = 0; i < reference->n_joints; i++) {
            double *c = reference->offset[i];
            quintic(c, from->q[i] - base.q[i], from->dq[i] - base.dq[i], from->ddq[i] - base.ddq[i], T);
            if (T < LONGEST_BLEND && !within_share(c, T, &joints[i]))
                fits = false;
        }
    }
    set_duration(reference, time_ns, T);
}

void physai_reference_follow(struct physai_reference *reference, int64_t time_ns,
                             const struct physai_plan *plan, double blend_s,
                             const struct physai_joint_limits *joints)
{
    physai_plan_copy(&reference->plan, plan);
    reference->follows_plan = true;
    physai_reference_rejoin(reference, time_ns, &reference->now, blend_s, joints);
}

/*
 * A stop from (v, a) in T seconds is the quintic whose fifth coefficient is zero: it ends v T/2 + a T^2/12
 * further on, and with x = s/T its acceleration is a (1-x)(1-3x) - 6 v/T x (1-x), never above
 * max(|a|, 1.5 |v|/T + |a|/3). All joints take the same time.
 */
double physai_reference_stop_time(const struct physai_reference *reference, double acceleration)
{
    double T = SHORTEST_STOP;
    for (uint32_t i = 0; i < reference->n_joints; i++) {
        double available = acceleration - physai_min(fabs(reference->now.ddq[i]) / 3, acceleration / 2);
        T = physai_max(T, 1.5 * fabs(reference->now.dq[i]) / available);
    }
    return T;
}

void physai_reference_stop(struct physai_reference *reference, int64_t time_ns, double acceleration,
                           const struct physai_joint_limits *joints)
{
    const struct physai_motion *now = &reference->now;
    double T = physai_reference_stop_time(reference, acceleration);
    for (uint32_t i = 0; i < reference->n_joints; i++) {
        double end = now->q[i] + now->dq[i] * T / 2 + now->ddq[i] * T * T / 12;
        reference->hold[i] = physai_max(joints[i].position_min, physai_min(joints[i].position_max, end));
        quintic(reference->offset[i], now->q[i] - reference->hold[i], now->dq[i], now->ddq[i], T);
    }
    reference->follows_plan = false;
    set_duration(reference, time_ns, T);
}

bool physai_reference_rests(const struct physai_reference *reference, int64_t time_ns)
{
    return !reference->follows_plan && time_ns >= reference->offset_end_ns;
}
