/* One cycle of the real-time side. Nothing here allocates, locks, logs or makes a system call. */
#include "internal.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define NS                 1e-9
#define REST_SPEED         0.05 /* rad/s: below, the brakes may close after an emergency stop */
#define RUNAWAY_SPEED      1.0  /* rad/s: above, in a fault that should hold the arm, the brakes close */
#define GRIPPER_LEAD_M     0.02 /* the target runs ahead of the measured width by no more than this */
#define FRICTION_SPEED     0.02 /* rad/s over which modelled dry friction changes sign */
#define LONGEST_STEP_S     0.01 /* a longer gap between states does not loosen the torque rate further */
#define JUMP_SLACK         1.2  /* the reference moves between the check of a chunk and its start */
#define FENCE_SLACK_M      0.005
#define REQUEST_PATIENCE_S 1.0

int64_t physai_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool latched(const struct physai_control *c)
{
    return c->status.state == PHYSAI_FAULT || c->status.state == PHYSAI_ESTOP;
}

static bool moving_state(const struct physai_control *c)
{
    return c->status.state == PHYSAI_HOLD || c->status.state == PHYSAI_TRACK ||
           c->status.state == PHYSAI_STOPPING;
}

/* ---- transitions ---- */

static void enter(struct physai_control *c, enum physai_control_state state, enum physai_cause cause,
                  int joint, double value, double limit)
{
    c->status.state = state;
    c->status.cause = cause;
    c->status.cause_joint = joint;
    c->status.cause_value = value;
    c->status.cause_limit = limit;
    c->status.cause_sequence = c->status.active_sequence;
    c->status.cause_cycle = c->status.cycles;
    c->status.cause_time_ns = c->state.time_ns;
}

static void drop_chunks(struct physai_control *c)
{
    if (c->pending)
        c->status.chunks_dropped++;
    c->pending = NULL;
    c->status.active_sequence = 0;
}

/* Start over at the measured pose, with gains that rise from zero. */
static void seed(struct physai_control *c)
{
    physai_reference_seed(&c->reference, c->n, c->state.time_ns, c->state.q);
    c->ramp_start_ns = c->state.time_ns;
    if (!c->enabled) /* the brakes held the weight until now */
        memcpy(c->tau, c->dynamics.gravity, sizeof c->tau);
    if (!c->gripper_seeded)
        c->gripper_target = c->gripper_reference = c->state.gripper_width;
    c->gripper_seeded = true;
    c->seeded = true;
    c->enabled = true;
}

static void begin_stop(struct physai_control *c)
{
    physai_reference_stop(&c->reference, c->state.time_ns, c->config.stop_acceleration, c->config.joints);
}

/*
 * Bring the arm to rest from where it is. Measured and intended velocity may both be wrong here (a glitch of
 * the sensor, a blocked arm), so the reference starts with no more than they agree on.
 */
static void stop_from_measured(struct physai_control *c)
{
    double intended[PHYSAI_MAX_JOINTS];
    memcpy(intended, c->reference.now.dq, sizeof intended);
    physai_reference_seed(&c->reference, c->n, c->state.time_ns, c->state.q);
    for (uint32_t i = 0; i < c->n; i++)
        if (intended[i] * c->state.dq[i] > 0)
            c->reference.now.dq[i] = copysign(fmin(fabs(intended[i]), fabs(c->state.dq[i])), intended[i]);
    begin_stop(c);
}

/* Latch a fault. With a valid state the arm is brought to rest, else the brakes close. */
static void fault(struct physai_control *c, bool state_is_valid, enum physai_cause cause, int joint,
                  double value, double limit)
{
    if (latched(c)) {
        if (!state_is_valid) /* the first cause stays, but nobody holds an arm blindly */
            c->seeded = c->enabled = false;
        return;
    }
    enter(c, PHYSAI_FAULT, cause, joint, value, limit);
    drop_chunks(c);
    if (state_is_valid && c->enabled) {
        stop_from_measured(c);
    } else {
        c->seeded = c->enabled = false;
    }
}

static void estop(struct physai_control *c, enum physai_cause cause)
{
    if (c->status.state == PHYSAI_ESTOP)
        return;
    bool was_fault = c->status.state == PHYSAI_FAULT;
    enter(c, PHYSAI_ESTOP, cause, -1, 0, 0);
    drop_chunks(c);
    if (c->seeded && !was_fault)
        begin_stop(c);
}

static void stop_towards(struct physai_control *c, enum physai_control_state after, enum physai_cause cause)
{
    if (!(c->status.state == PHYSAI_STOPPING || c->status.state == PHYSAI_HOLD))
        begin_stop(c);
    enter(c, PHYSAI_STOPPING, cause, -1, 0, 0);
    c->after = after;
    drop_chunks(c);
}

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
        fault(c, false, PHYSAI_CAUSE_HARDWARE_GONE, -1, 0, 0);
    else if (!(waited_s <= c->config.state_timeout_s))
        fault(c, false, PHYSAI_CAUSE_STATE_TIMEOUT, -1, waited_s, c->config.state_timeout_s);
}

static bool accept(struct physai_control *c, const struct physai_state *state)
{
    uint32_t n = c->n;
    bool fresh = state && state->n_joints == n &&
                 (!c->have_state || (state->seq > c->state.seq && state->time_ns > c->state.time_ns));
    if (!fresh) {
        miss(c);
        return false;
    }
    if (!(physai_all_finite(state->q, n) && physai_all_finite(state->dq, n) &&
          physai_all_finite(state->tau, n) && physai_all_finite(&state->gripper_width, 1))) {
        c->state.seq = state->seq;
        c->status.missed_states++;
        if (moving_state(c))
            fault(c, false, PHYSAI_CAUSE_STATE_NOT_FINITE, -1, 0, 0);
        c->seeded = c->enabled = false;
        return false;
    }
    double step_s = c->have_state ? (double)(state->time_ns - c->state.time_ns) * NS : c->period_s;
    c->step_s = fmin(step_s, LONGEST_STEP_S);
    c->state = *state;
    c->have_state = true;
    c->state_arrival_ns = physai_clock_ns();
    return true;
}

/* ---- estimate ---- */

/*
 * With p = M dq, dp/dt = tau + Mdot dq - bias - friction + tau_external. The observer integrates what is
 * known and feeds the difference back: a first-order low-pass of tau_external with bandwidth observer_gain.
 */
static void observe(struct physai_control *c)
{
    struct physai_observer *o = &c->observer;
    const struct physai_dynamics *d = &c->dynamics;
    bool restart = !o->started || (c->state.flags & PHYSAI_STATE_REPOSITIONED);
    for (uint32_t i = 0; i < c->n; i++) {
        double momentum = 0, transport = 0;
        for (uint32_t j = 0; j < c->n; j++) {
            momentum += d->inertia[i][j] * c->state.dq[j];
            transport += (d->inertia[i][j] - o->inertia[i][j]) / c->step_s * c->state.dq[j];
        }
        int dof = c->model.v_address[i];
        double friction = c->model.mj->dof_damping[dof] * c->state.dq[i] +
                          c->model.mj->dof_frictionloss[dof] * tanh(c->state.dq[i] / FRICTION_SPEED);
        if (restart) {
            o->integral[i] = momentum;
            o->torque[i] = 0;
        } else {
            double known = c->state.tau[i] + transport - d->bias[i] - friction;
            o->integral[i] += (known + o->torque[i]) * c->step_s;
            o->torque[i] = c->config.observer_gain * (momentum - o->integral[i]);
        }
    }
    memcpy(o->inertia, d->inertia, sizeof o->inertia);
    o->started = true;
}

static bool estimate(struct physai_control *c)
{
    if (!physai_dynamics_update(&c->dynamics, c->state.q, c->state.dq, c->state.gripper_width)) {
        fault(c, false, PHYSAI_CAUSE_DYNAMICS, -1, 0, 0);
        return false;
    }
    observe(c);
    physai_dynamics_wrench(&c->dynamics, c->observer.torque, c->status.wrench);
    return true;
}

/* The robot was moved on purpose: whatever was going on, it goes on from here. */
static void take_new_place(struct physai_control *c)
{
    drop_chunks(c);
    c->gripper_seeded = false;
    bool leaving = c->status.state == PHYSAI_STOPPING && c->after == PHYSAI_INACTIVE;
    if (leaving) {
        c->seeded = c->enabled = false;
        enter(c, PHYSAI_INACTIVE, PHYSAI_CAUSE_DEACTIVATED, -1, 0, 0);
    } else if (c->enabled) {
        c->enabled = false; /* the torque starts from gravity again */
        seed(c);
    }
    if (moving_state(c))
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_REPOSITIONED, -1, 0, 0);
}

/* ---- mailbox ---- */

static void take_chunk(struct physai_control *c)
{
    if (!physai_mailbox_take(&c->chunk_box))
        return;
    c->pending = &c->chunk_slots[c->chunk_box.front];
    if (!moving_state(c))
        drop_chunks(c);
}

static bool can_leave_latch(const struct physai_control *c)
{
    return latched(c) && !(c->state.flags & (PHYSAI_STATE_GATE_LATCHED | PHYSAI_STATE_ESTOP));
}

/*
 * Requests that could not be granted for want of a fresh state are forgotten after a while: an arm must not
 * come alive because a cable was plugged in long after someone had asked for a reset.
 */
static uint32_t still_wanted(struct physai_control *c, uint32_t asked)
{
    int64_t now_ns = physai_clock_ns();
    if (!c->waiting_requests || c->standing_still)
        c->waiting_since_ns = now_ns;
    if ((double)(now_ns - c->waiting_since_ns) * NS > REQUEST_PATIENCE_S)
        asked &= ~(uint32_t)(PHYSAI_REQUEST_RESET | PHYSAI_REQUEST_ACTIVATE | PHYSAI_REQUEST_RESUME);
    return asked;
}

/* The most severe request wins; those that need to know where the arm is wait for a fresh state. */
static void take_requests(struct physai_control *c, bool fresh)
{
    uint32_t asked = atomic_exchange_explicit(&c->requests, 0, memory_order_acq_rel) | c->waiting_requests;
    if (!fresh && asked)
        asked = still_wanted(c, asked);
    c->waiting_requests = fresh ? 0 : asked & ~(uint32_t)PHYSAI_REQUEST_ESTOP;
    if (asked & PHYSAI_REQUEST_ESTOP) {
        estop(c, PHYSAI_CAUSE_ESTOP_REQUESTED);
        c->waiting_requests = 0;
        return;
    }
    if (!fresh || !asked)
        return;
    if ((asked & PHYSAI_REQUEST_RESET) && can_leave_latch(c)) {
        c->status.paused = 0;
        seed(c);
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_RESET, -1, 0, 0);
    }
    if ((asked & PHYSAI_REQUEST_ACTIVATE) && c->status.state == PHYSAI_INACTIVE) {
        c->status.paused = 0;
        seed(c);
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_ACTIVATED, -1, 0, 0);
    }
    if ((asked & PHYSAI_REQUEST_RESUME) && !(asked & PHYSAI_REQUEST_STOP) && c->status.paused) {
        c->status.paused = 0;
        if (moving_state(c)) /* no longer stopped on request; whoever reads the cause must see that */
            enter(c, c->status.state, PHYSAI_CAUSE_RESUMED, -1, 0, 0);
    }
    if ((asked & PHYSAI_REQUEST_STOP) && moving_state(c)) {
        c->status.paused = 1;
        if (c->status.state != PHYSAI_STOPPING || c->after != PHYSAI_INACTIVE)
            stop_towards(c, PHYSAI_HOLD, PHYSAI_CAUSE_STOP_REQUESTED);
    }
    if ((asked & PHYSAI_REQUEST_DEACTIVATE) && moving_state(c))
        stop_towards(c, PHYSAI_INACTIVE, PHYSAI_CAUSE_DEACTIVATED);
}

/* ---- guards on the measured state ---- */

static void guard_joints(struct physai_control *c)
{
    const struct physai_control_config *config = &c->config;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct physai_joint_limits *joint = &config->joints[i];
        double q = c->state.q[i], speed = fabs(c->state.dq[i]), error = fabs(c->reference.now.q[i] - q);
        double fastest = config->velocity_trip * joint->velocity;
        double low = joint->position_min - config->position_margin_rad;
        double high = joint->position_max + config->position_margin_rad;
        if (!(speed <= fastest))
            fault(c, true, PHYSAI_CAUSE_VELOCITY, (int)i, speed, fastest);
        if (!(q >= low && q <= high))
            fault(c, true, PHYSAI_CAUSE_POSITION, (int)i, q, q > high ? high : low);
        if (!(error <= config->tracking_trip_rad))
            fault(c, true, PHYSAI_CAUSE_TRACKING, (int)i, error, config->tracking_trip_rad);
    }
}

static void guard_fence(struct physai_control *c)
{
    double out = physai_outside(c->dynamics.tool_position, c->config.geofence_min, c->config.geofence_max);
    if (c->status.state == PHYSAI_HOLD) /* may stand outside; a chunk may lead back but not further out */
        c->fence_allowance = out;
    else if (!(out <= fmax(c->config.geofence_margin_m, c->fence_allowance + FENCE_SLACK_M)))
        fault(c, true, PHYSAI_CAUSE_GEOFENCE, -1, out, c->config.geofence_margin_m);
}

static void guard(struct physai_control *c)
{
    if (!moving_state(c))
        return;
    if (c->state.flags & PHYSAI_STATE_ESTOP)
        estop(c, PHYSAI_CAUSE_ESTOP_HARDWARE);
    if (c->state.flags & PHYSAI_STATE_GATE_LATCHED)
        fault(c, false, PHYSAI_CAUSE_GATE, -1, 0, 0);
    if (moving_state(c))
        guard_joints(c);
    if (moving_state(c))
        guard_fence(c);
}

/* ---- reference at time t ---- */

static bool near_reference(const struct physai_control *c, const struct physai_plan *plan)
{
    struct physai_motion base;
    physai_plan_evaluate(plan, c->state.time_ns, &base);
    for (uint32_t i = 0; i < c->n; i++)
        if (!(fabs(base.q[i] - c->reference.now.q[i]) <= JUMP_SLACK * c->config.chunk_jump_rad))
            return false;
    return true;
}

static void switch_plan(struct physai_control *c)
{
    int64_t t = c->state.time_ns;
    bool open = !c->status.paused && moving_state(c) &&
                !(c->status.state == PHYSAI_STOPPING && c->after != PHYSAI_HOLD);
    if (!c->pending)
        return;
    if (!open || t >= c->pending->end_ns || t >= c->pending->expiry_ns) {
        c->status.chunks_dropped++;
        c->pending = NULL;
        return;
    }
    if (t < c->pending->start_ns)
        return;
    if (near_reference(c, c->pending)) {
        physai_reference_follow(&c->reference, t, c->pending, c->config.blend_s, c->config.joints);
        c->status.state = PHYSAI_TRACK;
        c->status.active_sequence = c->pending->sequence;
        c->status.observation_ns = c->pending->observation_ns;
    } else {
        c->status.chunks_dropped++;
    }
    c->pending = NULL;
}

/* Brake at the last step, or early enough to rest by the expiry. */
static bool plan_ends(const struct physai_control *c)
{
    int64_t braking_ns =
        (int64_t)(physai_reference_stop_time(&c->reference, c->config.stop_acceleration) / NS);
    return c->state.time_ns >= c->reference.plan.end_ns ||
           c->state.time_ns + braking_ns >= c->reference.plan.expiry_ns;
}

static void follow_gripper(struct physai_control *c)
{
    const struct physai_control_config *config = &c->config;
    if (c->status.state == PHYSAI_TRACK)
        c->gripper_target = physai_plan_gripper(&c->reference.plan, c->state.time_ns);
    double step = config->gripper_speed * c->step_s, width = c->state.gripper_width;
    double reference =
        fmax(c->gripper_reference - step, fmin(c->gripper_reference + step, c->gripper_target));
    reference = fmax(width - GRIPPER_LEAD_M, fmin(width + GRIPPER_LEAD_M, reference));
    c->gripper_reference = fmax(config->gripper_width_min, fmin(config->gripper_width_max, reference));
}

static void follow(struct physai_control *c)
{
    int64_t t = c->state.time_ns;
    physai_reference_evaluate(&c->reference, t);
    switch_plan(c);
    if (c->status.state == PHYSAI_TRACK && plan_ends(c))
        stop_towards(c, PHYSAI_HOLD, PHYSAI_CAUSE_CHUNK_EXPIRED);
    follow_gripper(c);
    if (!physai_reference_rests(&c->reference, t))
        return;
    if (c->status.state == PHYSAI_STOPPING) {
        c->status.state = c->after;
        if (c->after == PHYSAI_INACTIVE)
            c->seeded = c->enabled = false;
    }
    double fastest = 0;
    for (uint32_t i = 0; i < c->n; i++)
        fastest = fmax(fastest, fabs(c->state.dq[i]));
    bool at_rest = fastest < REST_SPEED, runs_away = !(fastest <= RUNAWAY_SPEED);
    if ((c->status.state == PHYSAI_ESTOP && at_rest) || (c->status.state == PHYSAI_FAULT && runs_away))
        c->seeded = c->enabled = false; /* the brakes */
}

/* ---- law ---- */

static double gain_ramp(const struct physai_control *c)
{
    double x = (double)(c->state.time_ns - c->ramp_start_ns) * NS / fmax(c->config.gain_ramp_s, 1e-9);
    return x >= 1 ? 1 : x * x * (3 - 2 * x);
}

/* tau = K (r - q) + D (dr - dq) + M ddr + h, with D for the wanted damping ratio of each joint alone. */
static void joint_impedance(const struct physai_control *c, double *tau)
{
    const struct physai_dynamics *d = &c->dynamics;
    const struct physai_motion *r = &c->reference.now;
    const double *bias = c->config.adds_coriolis ? d->bias : d->gravity;
    double ramp = gain_ramp(c);
    for (uint32_t i = 0; i < c->n; i++) {
        const struct physai_joint_limits *joint = &c->config.joints[i];
        double q = c->state.q[i], dq = c->state.dq[i], inertia = d->inertia[i][i];
        double target = fmax(joint->position_min, fmin(joint->position_max, r->q[i]));
        double damping = 2 * joint->damping_ratio * sqrt(joint->stiffness * inertia);
        tau[i] = ramp * joint->stiffness * (target - q) + damping * (r->dq[i] - dq) + bias[i];
        for (uint32_t j = 0; j < c->n; j++)
            tau[i] += d->inertia[i][j] * r->ddq[j];
        tau[i] += physai_barrier_torque(joint, q, dq, inertia);
    }
}

static void command_torque(struct physai_control *c)
{
    double tau[PHYSAI_MAX_JOINTS] = {0};
    joint_impedance(c, tau);
    for (uint32_t i = 0; i < c->n; i++) {
        if (!physai_all_finite(&tau[i], 1)) {
            fault(c, false, PHYSAI_CAUSE_TORQUE_NOT_FINITE, (int)i, 0, 0);
            c->seeded = c->enabled = false;
            return;
        }
    }
    physai_clamp_torque(c->config.joints, c->n, c->step_s, c->tau, tau);
    memcpy(c->tau, tau, sizeof c->tau);
}

/* ---- write and status ---- */

static void answer(const struct physai_control *c, struct physai_command *command)
{
    memset(command, 0, sizeof *command);
    command->seq = c->state.seq;
    command->time_ns = c->state.time_ns;
    command->n_joints = c->n;
    command->gripper_width = c->gripper_seeded ? c->gripper_reference : c->state.gripper_width;
    command->gripper_force = c->gripper_seeded ? c->config.gripper_force : 0;
    memcpy(command->q, c->seeded ? c->reference.now.q : c->state.q, sizeof command->q);
    if (!c->enabled)
        return;
    command->flags = PHYSAI_COMMAND_ENABLE;
    memcpy(command->dq, c->reference.now.dq, sizeof command->dq);
    memcpy(command->tau, c->tau, sizeof command->tau);
}

static void publish(struct physai_control *c, int64_t started_ns)
{
    struct physai_status *s = &c->status;
    s->time_ns = c->state.time_ns;
    s->seq = c->state.seq;
    s->gripper_width = c->state.gripper_width;
    s->gripper_target = c->gripper_target;
    if (s->state != PHYSAI_TRACK)
        s->active_sequence = 0;
    if (!c->seeded) { /* nothing is asked of the arm: its reference is where it is */
        memset(&c->reference.now, 0, sizeof c->reference.now);
        memcpy(c->reference.now.q, c->state.q, sizeof c->state.q);
    }
    memcpy(s->q, c->state.q, sizeof s->q);
    memcpy(s->dq, c->state.dq, sizeof s->dq);
    memcpy(s->reference, c->reference.now.q, sizeof s->reference);
    memcpy(s->reference_velocity, c->reference.now.dq, sizeof s->reference_velocity);
    memcpy(s->reference_acceleration, c->reference.now.ddq, sizeof s->reference_acceleration);
    memcpy(s->tau_external, c->observer.torque, sizeof s->tau_external);
    memcpy(s->tool_position, c->dynamics.tool_position, sizeof s->tool_position);
    if (c->enabled)
        memcpy(s->tau, c->tau, sizeof s->tau);
    else
        memset(s->tau, 0, sizeof s->tau);

    int64_t compute_ns = physai_clock_ns() - started_ns;
    int64_t wake_ns = c->wake_ns > 0 ? c->wake_ns : 0;
    physai_histogram_add(&c->compute, compute_ns);
    if (c->wake_ns >= 0)
        physai_histogram_add(&c->wake, wake_ns);
    if ((double)(compute_ns + wake_ns) * NS > c->period_s)
        s->overruns++;
    c->wake_ns = -1;
    memcpy(&c->status_slots[c->status_box.back], s, offsetof(struct physai_status, compute));
    physai_mailbox_publish(&c->status_box);
}

int physai_control_cycle(struct physai_control *c, const struct physai_state *state,
                         struct physai_command *command)
{
    int64_t started_ns = physai_clock_ns();
    bool was_enabled = c->enabled;
    c->status.cycles++;
    bool fresh = accept(c, state) && estimate(c);
    if (fresh && (c->state.flags & PHYSAI_STATE_REPOSITIONED))
        take_new_place(c);
    take_chunk(c);
    take_requests(c, fresh);
    if (fresh)
        guard(c);
    if (fresh && c->seeded)
        follow(c);
    if (fresh && c->enabled)
        command_torque(c);
    answer(c, command);
    publish(c, started_ns);
    /* Without a fresh state there is nothing to answer, except that the brakes shall close now. */
    return fresh || (was_enabled && !c->enabled);
}
