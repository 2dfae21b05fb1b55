/* The reference at time t: which chunk is followed, in which space, how fast, and where the tools are wanted.
 */
#include "internal.h"
#include "minmax.h"
#include "model/rotation.h"

#include <math.h>
#include <string.h>

#define NS              1e-9
#define JUMP_SLACK      1.2  /* the reference moves between the check of a chunk and its start */
#define GRIPPER_LEAD    0.25 /* of its range: a target runs ahead of the measured opening by no more */
#define GOVERNOR_RATE   10.0 /* 1/s: how fast a slowed reference catches up */
#define GOVERNOR_TIME_S 0.02 /* over which it takes up a velocity */
#define DIFFERENCE_S    1e-3 /* step of numerical derivatives of rotations */
#define SETTLE_S        0.03 /* within which the posture of a stopping arm becomes the one it is in */

/* The reference runs ahead by the delay from a command to its torque. */
static int64_t reference_time(const struct physai_control *c)
{
    return c->state.time_ns + (int64_t)(c->config.command_delay_s / NS);
}

static struct physai_reference *active(struct physai_control *c)
{
    return c->space == PHYSAI_CHUNK_POSE ? &c->pose : &c->reference;
}

static const struct physai_joint_limits *limits(const struct physai_control *c)
{
    return c->space == PHYSAI_CHUNK_POSE ? c->pose_limits : c->config.joints;
}

/* ---- from channels to a tool's motion and back ---- */

/* Angular acceleration in the turning frame, of a rotation vector r with the derivatives dr and ddr. */
static void rotation_acceleration(const double r[3], const double dr[3], const double ddr[3], double a[3])
{
    double ahead[3], behind[3], dr_ahead[3], dr_behind[3], w_ahead[3], w_behind[3];
    for (int i = 0; i < 3; i++) {
        ahead[i] = r[i] + dr[i] * DIFFERENCE_S;
        behind[i] = r[i] - dr[i] * DIFFERENCE_S;
        dr_ahead[i] = dr[i] + ddr[i] * DIFFERENCE_S;
        dr_behind[i] = dr[i] - ddr[i] * DIFFERENCE_S;
    }
    physai_rotation_rate(ahead, dr_ahead, w_ahead);
    physai_rotation_rate(behind, dr_behind, w_behind);
    for (int i = 0; i < 3; i++)
        a[i] = (w_ahead[i] - w_behind[i]) / (2 * DIFFERENCE_S);
}

/* Each tool has six channels, from `first` on. */
static void tool_from_channels(const double anchor[4], const struct physai_motion *motion, uint32_t first,
                               struct physai_pose_motion *tool)
{
    const double *q = motion->q + first, *dq = motion->dq + first, *ddq = motion->ddq + first;
    double turn[4], w[3], a[3];
    memcpy(tool->position, q, sizeof tool->position);
    memcpy(tool->velocity, dq, 3 * sizeof(double));
    memcpy(tool->acceleration, ddq, 3 * sizeof(double));
    physai_quat_exp(q + 3, turn);
    physai_quat_multiply(anchor, turn, tool->orientation);
    physai_rotation_rate(q + 3, dq + 3, w);
    rotation_acceleration(q + 3, dq + 3, ddq + 3, a);
    physai_quat_rotate(tool->orientation, w, tool->velocity + 3);
    physai_quat_rotate(tool->orientation, a, tool->acceleration + 3);
}

static void channels_from_tool(const double anchor[4], const struct physai_pose_motion *tool, uint32_t first,
                               struct physai_motion *motion)
{
    const double *q = tool->orientation;
    const double back[4] = {q[0], -q[1], -q[2], -q[3]};
    double w[3], a[3], r[3][3];
    physai_quat_rotate(back, tool->velocity + 3, w);
    physai_quat_rotate(back, tool->acceleration + 3, a);
    for (int k = 0; k < 3; k++) { /* a step behind, now, a step ahead */
        double h = (k - 1) * DIFFERENCE_S, step[3], turn[4], there[4];
        for (int i = 0; i < 3; i++)
            step[i] = w[i] * h + a[i] * h * h / 2;
        physai_quat_exp(step, turn);
        physai_quat_multiply(q, turn, there);
        physai_quat_difference(anchor, there, r[k]);
    }
    memcpy(motion->q + first, tool->position, sizeof tool->position);
    memcpy(motion->dq + first, tool->velocity, 3 * sizeof(double));
    memcpy(motion->ddq + first, tool->acceleration, 3 * sizeof(double));
    for (uint32_t i = 0; i < 3; i++) {
        motion->q[first + 3 + i] = r[1][i];
        motion->dq[first + 3 + i] = (r[2][i] - r[0][i]) / (2 * DIFFERENCE_S);
        motion->ddq[first + 3 + i] = (r[2][i] - 2 * r[1][i] + r[0][i]) / (DIFFERENCE_S * DIFFERENCE_S);
    }
}

static void tool_from_joints(const struct physai_control *c, uint32_t t, struct physai_pose_motion *tool)
{
    const struct physai_tool_motion *d = &c->reference_dynamics.tools[t];
    const struct physai_motion *r = &c->reference.now;
    memcpy(tool->position, d->position, sizeof tool->position);
    physai_quat_from_matrix(d->rotation, tool->orientation);
    for (int a = 0; a < 6; a++) {
        tool->velocity[a] = 0;
        tool->acceleration[a] = c->dynamics.tools[t].drift[a]; /* the law takes it off again: J ddr is left */
        for (uint32_t i = 0; i < c->n; i++) {
            tool->velocity[a] += d->jacobian[a][i] * r->dq[i];
            tool->acceleration[a] += d->jacobian[a][i] * r->ddq[i];
        }
    }
}

/* Where the tools are wanted, for the Cartesian law; the joints' reference in pose space is the posture. */
static void derive(struct physai_control *c)
{
    if (c->space == PHYSAI_CHUNK_POSE) {
        for (uint32_t t = 0; t < c->n_tools; t++)
            tool_from_channels(c->anchor[t], &c->pose.now, 6 * t, &c->tools[t]);
        if (c->status.state == PHYSAI_STOPPING) /* else elbows would swing back while the tools rest */
            for (uint32_t i = 0; i < c->n; i++)
                c->posture[i] += physai_min(1, c->step_s / SETTLE_S) * (c->state.q[i] - c->posture[i]);
        memset(&c->reference.now, 0, sizeof c->reference.now);
        memcpy(c->reference.now.q, c->posture, sizeof c->posture);
    } else if (c->settings.law == PHYSAI_LAW_CARTESIAN) {
        physai_dynamics_kinematics(&c->reference_dynamics, c->reference.now.q);
        for (uint32_t t = 0; t < c->n_tools; t++)
            tool_from_joints(c, t, &c->tools[t]);
    }
}

/* ---- start and stop ---- */

void physai_track_seed(struct physai_control *c, const double *velocity)
{
    physai_reference_seed(&c->reference, c->n, reference_time(c), c->state.q);
    if (velocity)
        memcpy(c->reference.now.dq, velocity, c->n * sizeof *velocity);
    c->space = PHYSAI_CHUNK_JOINTS;
    c->governor.on = false;
}

void physai_track_stop(struct physai_control *c)
{
    physai_reference_stop(active(c), reference_time(c), c->config.stop_acceleration, limits(c));
}

/*
 * Bring the arm to rest from where it is. Measured and intended velocity may both be wrong here (a glitch of
 * the sensor, a blocked arm), so the reference starts with no more than they agree on.
 */
void physai_track_stop_from_measured(struct physai_control *c)
{
    double velocity[PHYSAI_MAX_JOINTS] = {0};
    for (uint32_t i = 0; i < c->n; i++) {
        double intended = c->reference.now.dq[i], measured = c->state.dq[i];
        if (intended * measured > 0)
            velocity[i] = copysign(physai_min(fabs(intended), fabs(measured)), intended);
    }
    physai_track_seed(c, velocity);
    physai_track_stop(c);
}

/* ---- chunks ---- */

static bool near_joints(const struct physai_control *c, const struct physai_plan *plan)
{
    struct physai_motion base;
    const double *from = c->space == PHYSAI_CHUNK_POSE ? c->state.q : c->reference.now.q;
    physai_plan_evaluate(plan, reference_time(c), &base);
    for (uint32_t i = 0; i < c->n; i++)
        if (!(fabs(base.q[i] - from[i]) <= JUMP_SLACK * c->config.chunk_jump_rad))
            return false;
    return true;
}

static bool near_poses(const struct physai_control *c, const struct physai_plan *plan)
{
    struct physai_motion base, now;
    bool near = true;
    physai_plan_evaluate(plan, reference_time(c), &base);
    for (uint32_t t = 0; t < c->n_tools; t++) {
        double far[2] = {0, 0};
        channels_from_tool(plan->anchor[t], &c->tools[t], 6 * t, &now);
        for (uint32_t i = 0; i < 6; i++) {
            double apart = base.q[6 * t + i] - now.q[6 * t + i];
            far[i / 3] += apart * apart;
        }
        near = near && sqrt(far[0]) <= JUMP_SLACK * c->config.chunk_jump_m &&
               sqrt(far[1]) <= JUMP_SLACK * c->config.chunk_jump_rad;
    }
    return near;
}

/* Follow a plan from the present motion on, which is first expressed in the plan's space. */
static void begin(struct physai_control *c, const struct physai_plan *plan)
{
    if (plan->mode == PHYSAI_CHUNK_POSE) {
        if (c->space == PHYSAI_CHUNK_JOINTS)
            memcpy(c->posture, c->reference.now.q, sizeof c->posture);
        c->pose.n_joints = plan->n_joints;
        memcpy(c->anchor, plan->anchor, sizeof c->anchor);
        memset(&c->pose.now, 0, sizeof c->pose.now);
        for (uint32_t t = 0; t < c->n_tools; t++)
            channels_from_tool(c->anchor[t], &c->tools[t], 6 * t, &c->pose.now);
    } else if (c->space == PHYSAI_CHUNK_POSE) {
        physai_track_seed(c, c->state.dq);
    }
    if (c->space != plan->mode)
        c->law_changed = true;
    c->space = plan->mode;
    physai_reference_follow(active(c), reference_time(c), plan, c->config.blend_s, limits(c));
    if (c->governor.on) /* goes on from where it had got to, in the new plan's channels */
        c->governor.motion = active(c)->now;
    c->status.state = PHYSAI_TRACK;
    c->status.active_sequence = plan->sequence;
    c->status.active_lease = plan->lease;
    c->status.observation_ns = plan->observation_ns;
}

static void switch_plan(struct physai_control *c)
{
    int64_t t = reference_time(c);
    const struct physai_plan *plan = c->pending;
    bool open = !c->status.paused && physai_moving_state(c) &&
                !(c->status.state == PHYSAI_STOPPING && c->after != PHYSAI_HOLD);
    if (!plan)
        return;
    bool owned = c->status.state == PHYSAI_TRACK && plan->lease != c->status.active_lease;
    bool possible = open && !owned && t < plan->end_ns && t < plan->expiry_ns &&
                    !(plan->mode == PHYSAI_CHUNK_POSE && c->settings.law != PHYSAI_LAW_CARTESIAN);
    if (possible && t < plan->start_ns)
        return;
    if (possible)
        derive(c); /* where the tools are wanted now: a seam between spaces starts there */
    if (possible && (plan->mode == PHYSAI_CHUNK_POSE ? near_poses(c, plan) : near_joints(c, plan)))
        begin(c, plan);
    else
        c->status.chunks_dropped++;
    c->pending = NULL;
}

/* Brake at the last step, or early enough to rest by the expiry. */
static bool plan_ends(struct physai_control *c)
{
    const struct physai_reference *reference = active(c);
    int64_t t = reference_time(c);
    int64_t braking_ns = (int64_t)(physai_reference_stop_time(reference, c->config.stop_acceleration) / NS);
    return t >= reference->plan.end_ns || t + braking_ns >= reference->plan.expiry_ns;
}

/* ---- reduced speed ---- */

/* The largest share of the channels' velocities v that keeps every limit. */
static double allowed_share(const struct physai_control *c, const double *v)
{
    bool joints = c->space == PHYSAI_CHUNK_JOINTS;
    double share = 1;
    for (uint32_t i = 0; joints && i < c->n; i++)
        share = physai_min(share, c->config.reduced_speed * c->config.joints[i].velocity /
                                      physai_max(fabs(v[i]), 1e-9));
    for (uint32_t t = 0; t < c->n_tools; t++) {
        const double *channels = v + 6 * t;
        double tool = 0;
        for (int a = 0; a < 3; a++) {
            double speed = joints ? 0 : channels[a];
            for (uint32_t i = 0; joints && i < c->n; i++)
                speed += c->dynamics.tools[t].jacobian[a][i] * v[i];
            tool += speed * speed;
        }
        for (int i = 3; !joints && i < 6; i++)
            share = physai_min(share, c->config.reduced_speed * c->pose_limits[i].velocity /
                                          physai_max(fabs(channels[i]), 1e-9));
        share = physai_min(share, c->config.reduced_tool_speed / physai_max(sqrt(tool), 1e-9));
    }
    return share;
}

/*
 * In reduced mode the reference that counts follows the wanted one on the same way, only not as fast. When
 * the mode ends, what is left of the lag is blended away as at a seam.
 */
static void govern(struct physai_control *c, bool slow)
{
    struct physai_reference *reference = active(c);
    struct physai_motion *m = &c->governor.motion, *wanted = &reference->now;
    if (!slow) {
        if (c->governor.on) {
            physai_reference_rejoin(reference, reference_time(c), m, c->config.blend_s, limits(c));
            *wanted = *m;
        }
        c->governor.on = false;
        return;
    }
    if (!c->governor.on) { /* it starts from this cycle's reference, which is not to be advanced again */
        *m = *wanted;
        c->governor.on = true;
        return;
    }
    double v[PHYSAI_MAX_JOINTS];
    for (uint32_t i = 0; i < reference->n_joints; i++)
        v[i] = wanted->dq[i] + GOVERNOR_RATE * (wanted->q[i] - m->q[i]);
    double share = allowed_share(c, v);
    double taken_s = physai_max(GOVERNOR_TIME_S, c->step_s);
    for (uint32_t i = 0; i < reference->n_joints; i++) {
        double most = limits(c)[i].acceleration, a = (share * v[i] - m->dq[i]) / taken_s;
        m->ddq[i] = physai_max(-most, physai_min(most, a));
        m->dq[i] += m->ddq[i] * c->step_s;
        m->q[i] += m->dq[i] * c->step_s;
    }
    *wanted = *m;
}

static bool governor_rests(struct physai_control *c)
{
    for (uint32_t i = 0; c->governor.on && i < active(c)->n_joints; i++)
        if (fabs(c->governor.motion.dq[i]) > 1e-3)
            return false;
    return true;
}

/* ---- grippers ---- */

/* Suction has no way between released and gripping: it gets what is wanted. */
static double gripper_reference(const struct physai_control *c, uint32_t t)
{
    const struct physai_gripper *gripper = &c->config.tools[t].gripper;
    double step = gripper->speed * c->step_s,
           lead = GRIPPER_LEAD * (gripper->opening_max - gripper->opening_min);
    double target = c->gripper_target[t], last = c->gripper_reference[t], opening = c->state.opening[t];
    if (gripper->kind == PHYSAI_GRIPPER_SUCTION)
        return target;
    double reference = physai_max(last - step, physai_min(last + step, target));
    return physai_max(opening - lead, physai_min(opening + lead, reference));
}

static void follow_grippers(struct physai_control *c)
{
    if (c->status.state == PHYSAI_TRACK)
        memcpy(c->gripper_target, physai_plan_opening(&active(c)->plan, c->state.time_ns),
               sizeof c->gripper_target);
    for (uint32_t t = 0; t < c->n_tools; t++) {
        const struct physai_gripper *gripper = &c->config.tools[t].gripper;
        c->gripper_reference[t] =
            physai_max(gripper->opening_min, physai_min(gripper->opening_max, gripper_reference(c, t)));
    }
}

/* ---- the whole ---- */

bool physai_track_begin(struct physai_control *c)
{
    physai_reference_evaluate(active(c), reference_time(c));
    if (c->governor.on) /* seams and stops start from the slowed reference */
        active(c)->now = c->governor.motion;
    switch_plan(c);
    return c->status.state == PHYSAI_TRACK && plan_ends(c);
}

void physai_track_go_on(struct physai_control *c)
{
    if (c->governor.on)
        physai_reference_evaluate(active(c), reference_time(c));
    govern(c, c->settings.reduced || c->status.degraded);
    derive(c);
    follow_grippers(c);
}

bool physai_track_rests(struct physai_control *c)
{
    return physai_reference_rests(active(c), reference_time(c)) && governor_rests(c);
}
