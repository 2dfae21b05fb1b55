/* One cycle of the real-time side. Nothing here allocates, locks, logs or makes a system call. */
#include "internal.h"
#include "minmax.h"
#include "model/rotation.h"

#include <math.h>
#include <string.h>

#define NS               1e-9
#define LONGEST_STEP_S   0.01 /* a longer gap between states does not count for more, ... */
#define LONGEST_PERIODS  2.0  /* ... nor, where that is longer, one of so many periods */
#define TRANSITION_S     0.3  /* over which the torque passes from one law to another */
#define DEGRADED_GAIN    0.5
#define POSE_SPEED_SHARE 0.9 /* of the joints' speed limits, from which on they are braked in pose space */
#define GAIN_TIME_S      0.2 /* from full to no gain, while it changes */

/* ---- read: finite and freshness checks ---- */

static void miss(struct physai_control *c)
{
    if (!c->have_state || c->standing_still)
        return;
    c->status.missed_states++;
    if (c->status.state == PHYSAI_INACTIVE)
        return;
    double waited_s = (double)(physai_clock_ns() - c->state_arrival_ns) * NS;
    if (c->hardware_gone)
        physai_fault(c, false, PHYSAI_CAUSE_HARDWARE_GONE, -1, 0, 0);
    else if (!(waited_s <= c->config.state_timeout_s))
        physai_fault(c, false, PHYSAI_CAUSE_STATE_TIMEOUT, -1, waited_s, c->config.state_timeout_s);
}

static bool accept(struct physai_control *c, const struct physai_state *raw)
{
    uint32_t n = c->n;
    bool fresh = raw && raw->n_joints == n &&
                 (!c->have_state || (raw->seq > c->state.seq && raw->time_ns > c->state.time_ns));
    c->not_finite = false;
    if (!fresh) {
        miss(c);
        return false;
    }
    if (!(physai_all_finite(raw->q, n) && physai_all_finite(raw->dq, n) && physai_all_finite(raw->tau, n) &&
          physai_all_finite(raw->opening, c->n_tools))) {
        c->state.seq = raw->seq;
        c->not_finite = true;
        c->status.missed_states++;
        if (physai_moving_state(c))
            physai_fault(c, false, PHYSAI_CAUSE_STATE_NOT_FINITE, -1, 0, 0);
        c->seeded = c->enabled = false;
        return false;
    }
    struct physai_state state = *raw;
    for (uint32_t i = 0; i < n; i++)
        state.q[i] -= c->config.encoder_offset[i];
    double gap_s = c->have_state ? (double)(state.time_ns - c->state.time_ns) * NS : c->period_s;
    if (!physai_plausible(c, &state, gap_s)) { /* a glitch: the last torque goes on for this one cycle */
        miss(c);
        return false;
    }
    c->gap_s = gap_s;
    c->step_s = physai_min(gap_s, physai_max(LONGEST_STEP_S, LONGEST_PERIODS * c->period_s));
    c->state = state;
    c->have_state = true;
    c->state_arrival_ns = c->started_ns;
    return true;
}

/* ---- estimate ---- */

/*
 * With p = M dq, dp/dt = tau + Mdot dq - load - friction + tau_external, tau as measured at the joints.
 * The observer integrates what is known and feeds the difference back: a first-order low-pass of tau_external
 * with bandwidth observer_gain.
 */
static void observe(struct physai_control *c)
{
    struct physai_observer *o = &c->observer;
    const struct physai_dynamics *d = &c->dynamics;
    bool restart = !o->started || (c->state.flags & PHYSAI_STATE_REPOSITIONED);
    double friction[PHYSAI_MAX_JOINTS];
    physai_friction(&c->friction, c->state.dq, friction);
    for (uint32_t i = 0; i < c->n; i++) {
        double momentum = 0, before = 0; /* with this state's inertia, and with the last one's */
        for (uint32_t j = 0; j < c->n; j++) {
            momentum += d->inertia[i][j] * c->state.dq[j];
            before += o->inertia[i][j] * c->state.dq[j];
            o->inertia[i][j] = d->inertia[i][j];
        }
        if (restart) {
            o->integral[i] = momentum;
            o->torque[i] = 0;
        } else {
            double known = c->state.tau[i] - d->load[i] - friction[i] + o->torque[i];
            o->integral[i] += known * c->step_s + (momentum - before);
            o->torque[i] = c->config.observer_gain * (momentum - o->integral[i]);
        }
    }
    o->started = true;
}

static bool estimate(struct physai_control *c)
{
    if (!physai_dynamics_update(&c->dynamics, c->state.q, c->state.dq, c->state.opening)) {
        physai_fault(c, false, PHYSAI_CAUSE_DYNAMICS, -1, 0, 0);
        return false;
    }
    if (c->state.flags & PHYSAI_STATE_NO_TORQUE) {
        memset(&c->observer, 0, sizeof c->observer);
        return true;
    }
    observe(c);
    for (uint32_t t = 0; t < c->n_tools; t++)
        physai_dynamics_wrench(&c->dynamics, t, c->observer.torque, c->status.tools[t].wrench);
    return true;
}

/* ---- reference at time t ---- */

static void follow(struct physai_control *c)
{
    if (physai_track_begin(c))
        physai_stop_towards(c, PHYSAI_HOLD, PHYSAI_CAUSE_CHUNK_EXPIRED);
    physai_track_go_on(c);
    physai_come_to_rest(c);
}

/* ---- law ---- */

static double smoothstep(double x)
{
    return x >= 1 ? 1 : x * x * (3 - 2 * x);
}

static double seconds_since(const struct physai_control *c, int64_t time_ns)
{
    return (double)(c->state.time_ns - time_ns) * NS;
}

static void degrade(struct physai_control *c)
{
    bool degraded = c->state.time_ns < c->monitor.degraded_until_ns;
    double step = c->step_s / GAIN_TIME_S, goal = degraded ? DEGRADED_GAIN : 1;
    c->status.degraded = degraded;
    c->gain = physai_max(c->gain - step, physai_min(c->gain + step, goal));
}

/*
 * The torque goes on from the last cycle's when law, gains or space have changed: the difference is added,
 * and fades. A stop does not wait for that.
 */
static void smooth_change(struct physai_control *c, double *tau)
{
    struct physai_law_memory *law = &c->law;
    bool change = c->law_changed && c->tau_valid && !physai_latched(c);
    if (change) {
        for (uint32_t i = 0; i < c->n; i++)
            law->bump[i] = c->law_tau[i] - tau[i];
        law->bump_start_ns = c->state.time_ns;
    }
    if (physai_latched(c))
        memset(law->bump, 0, sizeof law->bump);
    double left = 1 - smoothstep(seconds_since(c, law->bump_start_ns) / TRANSITION_S);
    for (uint32_t i = 0; i < c->n; i++)
        tau[i] += left * law->bump[i];
    c->law_changed = false;
}

/*
 * This cycle's torque acts command_delay_s later. The reference is evaluated for that time, so the arm is
 * compared with it where it will be by then; the measured pose would make it run ahead of the reference.
 */
static void predict(const struct physai_control *c, double *q, double *dq)
{
    double delay = c->config.command_delay_s;
    for (uint32_t i = 0; i < c->n; i++) {
        double speed = c->state.dq[i] + delay / 2 * c->reference.now.ddq[i];
        q[i] = c->state.q[i] + delay * speed;
        dq[i] = c->state.dq[i] + delay * c->reference.now.ddq[i];
    }
}

static void predicted_pose_errors(struct physai_control *c, const double *dq)
{
    for (uint32_t t = 0; t < c->n_tools; t++) {
        const struct physai_tool_motion *tool = &c->dynamics.tools[t];
        double *error = c->status.tools[t].pose_error;
        physai_pose_error(&c->tools[t], tool, error);
        for (int a = 0; a < 6; a++)
            for (uint32_t i = 0; i < c->n; i++)
                error[a] -= c->config.command_delay_s * tool->jacobian[a][i] * dq[i];
    }
}

/* It was trained on joint references; in pose space there is none. */
static void add_residual(struct physai_control *c, const double *q, double *tau)
{
    const struct physai_motion *r = &c->reference.now;
    double error[PHYSAI_MAX_JOINTS], limit[PHYSAI_MAX_JOINTS];
    c->status.residual_active = 0;
    if (!c->settings.use_residual || !c->residual.loaded || physai_latched(c) ||
        c->space == PHYSAI_CHUNK_POSE)
        return;
    for (uint32_t i = 0; i < c->n; i++) {
        error[i] = r->q[i] - q[i];
        limit[i] = c->config.joints[i].torque;
    }
    c->status.residual_active = physai_residual_add(&c->residual, c->state.q, c->state.dq, r->dq, r->ddq,
                                                    error, limit, c->step_s, tau);
}

static bool compute_law(struct physai_control *c, double *tau)
{
    double q[PHYSAI_MAX_JOINTS], dq[PHYSAI_MAX_JOINTS];
    predict(c, q, dq);
    double ramp = smoothstep(seconds_since(c, c->ramp_start_ns) / physai_max(c->config.gain_ramp_s, 1e-9));
    struct physai_law_input input = {
        .settings = &c->settings,
        .config = &c->config,
        .dynamics = &c->dynamics,
        .friction = &c->friction,
        .n = c->n,
        .gain = ramp * c->gain,
        .force = c->settings.reduced ? c->config.reduced_force : 1,
        .q = q,
        .dq = dq,
        .reference = &c->reference.now,
        .tools = c->tools,
        .status = c->status.tools,
    };
    if (c->settings.law == PHYSAI_LAW_JOINT) {
        physai_joint_law(&input, tau);
        c->law.warm = false;
        for (uint32_t t = 0; t < c->n_tools; t++)
            memset(c->status.tools[t].pose_error, 0, sizeof c->status.tools[t].pose_error);
    } else {
        predicted_pose_errors(c, dq);
        if (!physai_dynamics_factor(&c->dynamics) || !physai_cartesian_law(&input, &c->law, tau))
            return false;
    }
    add_residual(c, q, tau);
    return true;
}

/* What keeps each joint from its stop comes after the energy tank, which must not take it away. */
static void keep_from_stops(struct physai_control *c, double *tau)
{
    c->too_fast = false;
    for (uint32_t i = 0; i < c->n; i++) {
        struct physai_joint_limits joint = c->config.joints[i];
        if (c->space == PHYSAI_CHUNK_POSE) /* what a tool's path asks of the joints was not checked before */
            joint.velocity *= POSE_SPEED_SHARE;
        double barrier =
            physai_barrier_torque(&joint, c->state.q[i], c->state.dq[i], c->dynamics.inertia[i][i]);
        c->too_fast = c->too_fast || barrier != 0;
        tau[i] =
            physai_yielding(&joint, c->state.q[i], c->state.dq[i], tau[i], c->dynamics.bias[i]) + barrier;
    }
}

static void command_torque(struct physai_control *c)
{
    double tau[PHYSAI_MAX_JOINTS] = {0};
    degrade(c);
    bool computed = compute_law(c, tau);
    smooth_change(c, tau);
    for (uint32_t i = 0; i < c->n; i++) {
        if (!computed || !physai_all_finite(&tau[i], 1)) {
            physai_fault(c, false, PHYSAI_CAUSE_TORQUE_NOT_FINITE, (int)i, 0, 0);
            c->seeded = c->enabled = false;
            return;
        }
    }
    memcpy(c->law_tau, tau, c->n * sizeof *tau);
    physai_guard_torque(c, tau);
    c->tau_valid = true;
    physai_energy_tank(&c->settings, &c->law, c->n, c->step_s, c->dynamics.bias, c->state.dq, c->tau, tau);
    keep_from_stops(c, tau);
    /* By one period, also after a gap: the robot has held the last torque until now. */
    bool stopping = physai_latched(c) || c->status.state == PHYSAI_STOPPING || c->too_fast;
    physai_clamp_torque(c->config.joints, c->n, c->period_s, stopping, c->tau, tau);
    memcpy(c->tau, tau, c->n * sizeof *tau);
}

/* ---- write and status ---- */

static void answer(const struct physai_control *c, struct physai_command *command)
{
    memset(command, 0, sizeof *command);
    command->seq = c->state.seq;
    command->time_ns = c->state.time_ns;
    command->n_joints = c->n;
    for (uint32_t t = 0; t < c->n_tools; t++) {
        command->opening[t] = c->gripper_seeded ? c->gripper_reference[t] : c->state.opening[t];
        command->grip_force[t] = c->gripper_seeded ? c->config.tools[t].gripper.force : 0;
    }
    memcpy(command->q, c->seeded ? c->reference.now.q : c->state.q, sizeof command->q);
    for (uint32_t i = 0; i < c->n; i++)
        command->q[i] += c->config.encoder_offset[i];
    if (!c->enabled)
        return;
    command->flags = PHYSAI_COMMAND_ENABLE;
    memcpy(command->dq, c->reference.now.dq, sizeof command->dq);
    memcpy(command->tau, c->tau, sizeof command->tau);
}

static void write_tools(struct physai_control *c)
{
    bool wanted = c->seeded && c->settings.law == PHYSAI_LAW_CARTESIAN;
    for (uint32_t t = 0; t < c->n_tools; t++) {
        struct physai_tool_status *s = &c->status.tools[t];
        memcpy(s->pose, c->dynamics.tools[t].position, 3 * sizeof(double));
        physai_quat_from_matrix(c->dynamics.tools[t].rotation, s->pose + 3);
        memcpy(s->reference, wanted ? c->tools[t].position : s->pose, 3 * sizeof(double));
        memcpy(s->reference + 3, wanted ? c->tools[t].orientation : s->pose + 3, 4 * sizeof(double));
        s->opening = c->state.opening[t];
        s->opening_target = c->gripper_target[t];
    }
}

/* Of the arrays what is used. */
static void copy_status(const struct physai_control *c, const struct physai_status *from,
                        struct physai_status *to)
{
    const size_t size = c->n * sizeof(double);
    memcpy(to, from, offsetof(struct physai_status, q));
    memcpy(to->q, from->q, size);
    memcpy(to->dq, from->dq, size);
    memcpy(to->reference, from->reference, size);
    memcpy(to->reference_velocity, from->reference_velocity, size);
    memcpy(to->reference_acceleration, from->reference_acceleration, size);
    memcpy(to->tau, from->tau, size);
    memcpy(to->tau_external, from->tau_external, size);
    to->tank = from->tank;
    memcpy(to->tools, from->tools, c->n_tools * sizeof to->tools[0]);
}

static void publish(struct physai_control *c)
{
    struct physai_status *s = &c->status;
    s->time_ns = c->state.time_ns;
    s->seq = c->state.seq;
    if (s->state != PHYSAI_TRACK)
        s->active_sequence = 0;
    if (!c->seeded) { /* nothing is asked of the arm: its reference is where it is */
        memset(&c->reference.now, 0, sizeof c->reference.now);
        memcpy(c->reference.now.q, c->state.q, sizeof c->state.q);
    }
    const size_t size = c->n * sizeof(double);
    memcpy(s->q, c->state.q, size);
    memcpy(s->dq, c->state.dq, size);
    memcpy(s->reference, c->space == PHYSAI_CHUNK_POSE ? c->state.q : c->reference.now.q, size);
    memcpy(s->reference_velocity, c->reference.now.dq, size);
    memcpy(s->reference_acceleration, c->reference.now.ddq, size);
    memcpy(s->tau_external, c->observer.torque, size);
    write_tools(c);
    s->law = c->settings.law;
    s->space = c->space;
    s->reduced = c->settings.reduced;
    s->tank = c->law.tank;
    if (c->config.position_commanded) /* the law's torque moves nobody */
        memcpy(s->tau, c->state.tau, size);
    else if (c->enabled)
        memcpy(s->tau, c->tau, size);
    else
        memset(s->tau, 0, size);

    int64_t compute_ns = physai_clock_ns() - c->started_ns;
    int64_t wake_ns = c->wake_ns > 0 ? c->wake_ns : 0;
    physai_histogram_add(&c->compute, compute_ns);
    if (c->wake_ns >= 0)
        physai_histogram_add(&c->wake, wake_ns);
    if ((double)(compute_ns + wake_ns) * NS > c->period_s)
        s->overruns++;
    c->wake_ns = -1;
    struct physai_status *slot = &c->status_slots[c->status_box.back];
    copy_status(c, s, slot);
    if (s->degraded && (s->state == PHYSAI_HOLD || s->state == PHYSAI_TRACK))
        slot->state = PHYSAI_DEGRADED;
    physai_mailbox_publish(&c->status_box);
}

int physai_control_cycle(struct physai_control *c, const struct physai_state *state,
                         struct physai_command *command)
{
    c->started_ns = physai_clock_ns();
    bool was_enabled = c->enabled;
    c->status.cycles++;
    bool fresh = accept(c, state) && estimate(c);
    if (fresh && (c->state.flags & PHYSAI_STATE_REPOSITIONED))
        physai_take_new_place(c);
    physai_take_chunk(c);
    physai_take_requests(c, fresh);
    physai_take_settings(c);
    if (fresh)
        physai_guard(c);
    if (fresh && c->seeded)
        follow(c);
    if (fresh && c->enabled)
        command_torque(c);
    if (!c->enabled)
        c->tau_valid = false;
    answer(c, command);
    /* Without a fresh state there is nothing to answer, except that the brakes shall close now. */
    bool answered = fresh || (was_enabled && !c->enabled);
    physai_blackbox_record(&c->blackbox, c->status.cycles, c->status.state, answered, &c->state, command);
    publish(c);
    return answered;
}
