/* The guards of the measured state and of the torque. Every check is written so that NaN fails it. */
#include "internal.h"
#include "minmax.h"

#include <math.h>
#include <string.h>

#define FENCE_SLACK_M  0.002
#define SPIKE_RAD      0.02   /* a position further than this from where the velocity leads is a glitch */
#define SPIKES         5      /* so many in a row are a broken sensor */
#define DRIFT_RAD      0.008  /* positions and velocities contradict each other by this much ... */
#define DRIFT_S        0.05   /* ... within about this time */
#define FROZEN         5      /* states in a row that are the same to the last bit are frozen ... */
#define FROZEN_RAD     2.5e-4 /* ... when by their own velocity a joint has gone further */
#define FROZEN_SHARE   0.1    /* ... or when a torque has changed by this share of its limit */
#define RESTLESS_SPEED 0.2    /* rad/s that are not rest ... */
#define RESTLESS_S     0.2   /* ... and for how long an arm may have them after it should have come to rest */
#define RISING_SHARE   0.3   /* of the tracking limits, while the gains of an arm in hold rise */
#define FENCE_DECEL    9.0   /* m/s^2 and ... */
#define FENCE_STOP_M   0.002 /* ... m that a stop at a fence may take, before the brakes do it */
#define LEAD           3.0   /* cycles that a stop takes to have an effect, by which a rising speed is led */
#define LEAD_SHARE     0.07  /* of the limit at most: a velocity that jumps by more is no motion */
#define RUNAWAY_SPEED  0.5   /* rad/s that an arm may gain while a latched stop should hold it */
#define LATE           2.5   /* periods between two states, beyond which one was skipped */
#define LATE_IN_ROW    3     /* of them in a row: degraded */
#define LATE_AT_ONCE   5.0   /* periods: degraded at once */
#define DEGRADED_S     1.0   /* after the last of them */
#define SMOOTH_S       0.016 /* what changes faster is unrest (10 Hz) */
#define SWING_SHARE                                                                                          \
    0.15            /* of the torque limit: a fast torque beyond it, to either side in turn, is a swing */
#define SWING_S 0.3 /* swings are forgotten with this time constant ... */
#define SWINGS  5.0 /* ... and so many make the loop unstable: shaking at 10 Hz or more */

/* ---- before a state is used ---- */

static bool repeats(const struct physai_state *a, const struct physai_state *b, uint32_t n)
{
    size_t size = n * sizeof(double);
    return memcmp(a->q, b->q, size) == 0 && memcmp(a->dq, b->dq, size) == 0 &&
           memcmp(a->tau, b->tau, size) == 0;
}

bool physai_plausible(struct physai_control *c, const struct physai_state *state, double step_s)
{
    struct physai_monitor *m = &c->monitor;
    if (!c->enabled || (state->flags & PHYSAI_STATE_REPOSITIONED)) { /* nobody is driven by it */
        *m = (struct physai_monitor){0};
        return true;
    }
    bool measured = !(state->flags & PHYSAI_STATE_NO_VELOCITY);
    double unexplained_s = measured ? physai_max(0, step_s - c->period_s) : step_s;
    for (uint32_t i = 0; i < c->n; i++) {
        double explained = measured ? (state->dq[i] + c->state.dq[i]) / 2 * step_s : 0;
        double surprise = state->q[i] - c->state.q[i] - explained;
        double room = SPIKE_RAD + c->config.joints[i].velocity * unexplained_s;
        if (!(fabs(surprise) <= room)) {
            if (++m->implausible >= SPIKES)
                physai_fault(c, false, measured ? PHYSAI_CAUSE_STATE_INCONSISTENT : PHYSAI_CAUSE_STATE_JUMPED,
                             (int)i, surprise, room);
            return false;
        }
    }
    m->implausible = 0;
    for (uint32_t i = 0; measured && i < c->n; i++) {
        double surprise = state->q[i] - c->state.q[i] - (state->dq[i] + c->state.dq[i]) / 2 * step_s;
        m->drift[i] = m->drift[i] * (1 - physai_min(1, step_s / DRIFT_S)) + surprise;
    }
    m->same = repeats(state, &c->state, c->n) ? m->same + 1 : 0;
    if (m->same <= 1)
        memcpy(m->torque_then, c->tau, sizeof m->torque_then);
    return true;
}

static void guard_gaps(struct physai_control *c)
{
    struct physai_monitor *m = &c->monitor;
    double gap_s = c->gap_s;
    bool late = gap_s > LATE * c->period_s;
    m->late = late ? m->late + 1 : 0;
    c->status.gaps += late;
    if (m->late >= LATE_IN_ROW || gap_s > LATE_AT_ONCE * c->period_s)
        m->degraded_until_ns = c->state.time_ns + (int64_t)(DEGRADED_S * 1e9);
    if (!(gap_s <= c->config.state_timeout_s))
        physai_fault(c, true, PHYSAI_CAUSE_STATE_GAP, -1, gap_s, c->config.state_timeout_s);
}

static void guard_consistency(struct physai_control *c)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (!(fabs(c->monitor.drift[i]) <= DRIFT_RAD))
            physai_fault(c, false, PHYSAI_CAUSE_STATE_INCONSISTENT, (int)i, c->monitor.drift[i], DRIFT_RAD);
}

/*
 * What is measured has some noise, at least in the torque. It may repeat itself to the last bit when nothing
 * happens, but not while it says that a joint moves or while the torque changes. Where positions are
 * commanded, the law's torque moves nobody, and a servo's encoder may well repeat itself.
 */
static void guard_frozen(struct physai_control *c)
{
    const struct physai_monitor *m = &c->monitor;
    for (uint32_t i = 0; m->same >= FROZEN && i < c->n; i++) {
        double speed = fabs(c->state.dq[i]), fastest = FROZEN_RAD / (FROZEN * c->period_s);
        double change = fabs(c->tau[i] - m->torque_then[i]);
        double most = FROZEN_SHARE * c->config.joints[i].torque;
        if (!(speed <= fastest))
            physai_fault(c, false, PHYSAI_CAUSE_STATE_FROZEN, (int)i, speed, fastest);
        if (!c->config.position_commanded && !(change <= most))
            physai_fault(c, false, PHYSAI_CAUSE_STATE_FROZEN, (int)i, change, most);
    }
}

static double length(const double v[3])
{
    return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

static void measure_fences(const struct physai_control *c, physai_fence_table distance)
{
    struct physai_places places = {{NULL}, {NULL}};
    for (uint32_t t = 0; t < c->n_tools; t++) {
        places.tools[t] = c->dynamics.tools[t].position;
        places.elbows[t] = c->model.elbows[t].link >= 0 ? c->dynamics.tools[t].elbow_position : NULL;
    }
    physai_fences_measure(&c->config, &places, distance);
}

static void fence_fault(struct physai_control *c, bool state_is_valid, const struct physai_violation *out)
{
    enum physai_cause cause = out->fence == PHYSAI_ARMS ? PHYSAI_CAUSE_ARMS_DISTANCE : PHYSAI_CAUSE_GEOFENCE;
    physai_fault(c, state_is_valid, cause, (int)out->point, out->distance, out->allowed);
}

/* How fast a joint will be once a stop has an effect, if its speed rises on as in the last cycle. */
static double coming_speed(const struct physai_control *c, uint32_t i)
{
    double speed = fabs(c->state.dq[i]), rise = c->tau_valid ? speed - c->monitor.speed[i] : 0;
    return speed + physai_min(LEAD_SHARE * c->config.joints[i].velocity, LEAD * physai_max(0, rise));
}

/*
 * A latched stop holds the arm by its torque as long as that brings it to rest within the fences and the
 * state can be believed.
 */
static void guard_latched(struct physai_control *c)
{
    struct physai_monitor *m = &c->monitor;
    double fastest = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        double speed = fabs(c->state.dq[i]), limit = c->config.joints[i].velocity;
        fastest = physai_max(fastest, speed);
        if (!(coming_speed(c, i) <= limit || speed <= m->speed[i])) /* too fast, and not slowed down */
            physai_fault(c, false, PHYSAI_CAUSE_VELOCITY, (int)i, speed, limit);
    }
    m->slowest = physai_min(m->slowest, fastest);
    m->restless_s = physai_track_rests(c) && !(fastest <= RESTLESS_SPEED) ? m->restless_s + c->step_s : 0;
    if (!(fastest <= m->slowest + RUNAWAY_SPEED && m->restless_s <= RESTLESS_S))
        physai_fault(c, false, PHYSAI_CAUSE_VELOCITY, -1, fastest, RESTLESS_SPEED);
    physai_fence_table distance, most;
    measure_fences(c, distance);
    for (uint32_t i = 0; i <= PHYSAI_ARMS; i++)
        for (uint32_t k = 0; k < physai_fence_columns(&c->config, i); k++)
            most[i][k] = c->fence_most[i][k] + (i == PHYSAI_ARMS ? m->arms_stop : m->fence_stop);
    struct physai_violation out = physai_fences_worst(&c->config, distance, most);
    if (!(out.distance <= out.allowed))
        fence_fault(c, false, &out);
    guard_consistency(c);
    guard_frozen(c);
}

/* ---- the measured state ---- */

static void guard_joints(struct physai_control *c)
{
    const struct physai_control_config *config = &c->config;
    bool by_joint = c->settings.law == PHYSAI_LAW_JOINT || config->position_commanded;
    double farthest = (physai_rising(c) ? RISING_SHARE : 1) * config->tracking_trip_rad;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct physai_joint_limits *joint = &config->joints[i];
        double q = c->state.q[i], error = fabs(c->reference.now.q[i] - q);
        double speed = coming_speed(c, i), fastest = config->velocity_trip * joint->velocity;
        double low = joint->position_min - config->position_margin_rad;
        double high = joint->position_max + config->position_margin_rad;
        if (!(speed <= fastest))
            physai_fault(c, true, PHYSAI_CAUSE_VELOCITY, (int)i, speed, fastest);
        if (!(q >= low && q <= high))
            physai_fault(c, true, PHYSAI_CAUSE_POSITION, (int)i, q, q > high ? high : low);
        if (by_joint && !(error <= farthest))
            physai_fault(c, true, PHYSAI_CAUSE_TRACKING, (int)i, error, farthest);
    }
}

/* Of the last cycle's error: this cycle's reference comes after the guards. */
static void guard_pose(struct physai_control *c)
{
    if (c->settings.law != PHYSAI_LAW_CARTESIAN || !c->tau_valid)
        return;
    for (int k = 0; k < 2 * (int)c->n_tools; k++) {
        double error = length(c->status.tools[k / 2].pose_error + 3 * (k % 2));
        double farthest = (physai_rising(c) ? RISING_SHARE : 1) * c->config.pose_trip[k % 2];
        if (!(error <= farthest))
            physai_fault(c, true, PHYSAI_CAUSE_POSE_TRACKING, k, error, farthest);
    }
}

/* The way on which a tool stops, m. */
static double stopping_way(const struct physai_control *c, uint32_t tool)
{
    double square = 0;
    for (int a = 0; a < 3; a++) {
        double v = 0;
        for (uint32_t i = 0; i < c->n; i++)
            v += c->dynamics.tools[tool].jacobian[a][i] * c->state.dq[i];
        square += v * v;
    }
    return square / (2 * FENCE_DECEL);
}

static void guard_fences(struct physai_control *c)
{
    physai_fence_table distance;
    double longest = 0, sum = 0;
    measure_fences(c, distance);
    for (uint32_t t = 0; t < c->n_tools; t++) {
        double way = stopping_way(c, t);
        longest = physai_max(longest, way);
        sum += way;
    }
    for (uint32_t i = 0; i <= PHYSAI_ARMS; i++) {
        for (uint32_t k = 0; k < physai_fence_columns(&c->config, i); k++) {
            /* It may stand outside where it was switched on, and not go further out, until it has come back
             * in. */
            if (!(distance[i][k] > 0 && c->fence_start[i][k] < INFINITY))
                c->fence_start[i][k] = distance[i][k];
            c->fence_most[i][k] =
                physai_max(c->config.geofence_margin_m, c->fence_start[i][k] + FENCE_SLACK_M);
        }
    }
    c->monitor.fence_stop = longest + FENCE_STOP_M;
    c->monitor.arms_stop = sum + FENCE_STOP_M;
    struct physai_violation out = physai_fences_worst(&c->config, distance, c->fence_most);
    if (!(out.distance <= out.allowed))
        fence_fault(c, true, &out);
}

/* Nobody knows what touches an arm that measures no torque. */
static void guard_contact(struct physai_control *c)
{
    const struct physai_control_config *config = &c->config;
    if (c->state.flags & PHYSAI_STATE_NO_TORQUE)
        return;
    double share = c->settings.reduced ? config->reduced_force : 1;
    for (uint32_t i = 0; i < c->n; i++) {
        double torque = fabs(c->observer.torque[i]), limit = share * config->joints[i].contact_torque;
        if (limit > 0 && !(torque <= limit))
            physai_fault(c, true, PHYSAI_CAUSE_CONTACT, (int)i, torque, limit);
    }
    const double limits[2] = {share * config->contact_force, share * config->contact_moment};
    for (int k = 0; k < 2 * (int)c->n_tools; k++) {
        double size = length(c->status.tools[k / 2].wrench + 3 * (k % 2)), limit = limits[k % 2];
        if (limit > 0 && !(size <= limit))
            physai_fault(c, true, PHYSAI_CAUSE_CONTACT_WRENCH, k, size, limit);
    }
}

static void guard_state(struct physai_control *c)
{
    if (physai_latched(c) && c->enabled)
        guard_latched(c);
    else
        c->monitor.slowest = INFINITY;
    if ((c->state.flags & PHYSAI_STATE_ESTOP) && c->status.state != PHYSAI_INACTIVE)
        physai_estop(c, PHYSAI_CAUSE_ESTOP_HARDWARE);
    if ((c->state.flags & PHYSAI_STATE_GATE_LATCHED) && c->enabled) /* also one that a stop holds */
        physai_gate_fault(c);
    if ((c->state.flags & PHYSAI_STATE_UNHEARD) && c->enabled)
        physai_fault(c, false, PHYSAI_CAUSE_UNHEARD, -1, 0, 0);
    if ((c->state.flags & PHYSAI_STATE_SLOW) && c->enabled)
        physai_fault(c, false, PHYSAI_CAUSE_STATE_SLOW, -1, 0, 0);
    if ((c->state.flags & PHYSAI_STATE_CONTRADICTED) && c->enabled)
        physai_fault(c, false, PHYSAI_CAUSE_STATE_CONTRADICTED, -1, 0, 0);
    if (!physai_moving_state(c))
        return;
    void (*const guards[])(struct physai_control *) = {
        guard_gaps, guard_consistency, guard_frozen, guard_joints, guard_pose, guard_fences, guard_contact};
    for (size_t i = 0; i < sizeof guards / sizeof *guards; i++)
        if (physai_moving_state(c))
            guards[i](c);
}

void physai_guard(struct physai_control *c)
{
    guard_state(c);
    for (uint32_t i = 0; i < c->n; i++)
        c->monitor.speed[i] = fabs(c->state.dq[i]);
}

/* ---- the torque ---- */

/*
 * A loop that has become unstable shakes: its torque swings fast and far. States of a lower rate cannot show
 * whether it does.
 */
void physai_guard_torque(struct physai_control *c, const double *tau)
{
    struct physai_monitor *m = &c->monitor;
    if (2 * c->period_s > SMOOTH_S)
        return;
    for (uint32_t i = 0; i < c->n; i++) {
        double far = SWING_SHARE * c->config.joints[i].torque;
        double fast = c->tau_valid ? tau[i] - m->smooth[i] : 0;
        m->smooth[i] += c->tau_valid ? fast * physai_min(1, c->step_s / SMOOTH_S) : tau[i] - m->smooth[i];
        m->swings[i] *= 1 - physai_min(1, c->step_s / SWING_S);
        if (fabs(fast) > far && m->side[i] != copysign(1, fast)) {
            m->side[i] = copysign(1, fast);
            m->swings[i] += 1;
        }
        if (!(m->swings[i] <= SWINGS)) { /* still so in the fault: brakes */
            physai_fault(c, !physai_latched(c), PHYSAI_CAUSE_INSTABILITY, (int)i, m->swings[i], SWINGS);
            m->swings[i] = 0;
        }
    }
}
