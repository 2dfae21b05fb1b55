/* The states of the core: what leads from one to another, and what each transition takes along. */
#include "internal.h"
#include "minmax.h"

#include <math.h>
#include <string.h>

#define NS                 1e-9
#define REST_SPEED         0.05 /* rad/s: below, the brakes may close after an emergency stop */
#define REQUEST_PATIENCE_S 1.0

bool physai_rising(const struct physai_control *c)
{
    return c->status.state == PHYSAI_HOLD &&
           (double)(c->state.time_ns - c->ramp_start_ns) * NS < c->config.gain_ramp_s;
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
    physai_track_seed(c, NULL);
    c->ramp_start_ns = c->state.time_ns;
    if (!c->enabled) /* the brakes held the weight until now */
        memcpy(c->tau, c->dynamics.gravity, sizeof c->tau);
    if (!c->gripper_seeded)
        for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
            c->gripper_target[t] = c->gripper_reference[t] = c->state.opening[t];
    memset(&c->law, 0, sizeof c->law);
    c->law.tank = c->settings.tank_energy;
    physai_residual_reset(&c->residual);
    memset(&c->observer, 0, sizeof c->observer); /* what was measured before may have been nonsense */
    for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
        memset(c->status.tools[t].wrench, 0, sizeof c->status.tools[t].wrench);
    for (int i = 0; i <= PHYSAI_ARMS; i++)
        for (int k = 0; k < PHYSAI_MAX_POINTS; k++)
            c->fence_start[i][k] = INFINITY;
    c->gripper_seeded = true;
    c->law_changed = c->tau_valid = false;
    c->seeded = true;
    c->enabled = true;
}

/* Latch a fault. With a valid state the arm is brought to rest, else the brakes close. */
void physai_fault(struct physai_control *c, bool state_is_valid, enum physai_cause cause, int joint,
                  double value, double limit)
{
    if (physai_latched(c)) {
        if (!state_is_valid) /* the first cause stays, but nobody holds an arm blindly */
            c->seeded = c->enabled = false;
        return;
    }
    bool held = state_is_valid && c->enabled && !physai_rising(c);
    enter(c, PHYSAI_FAULT, cause, joint, value, limit);
    drop_chunks(c);
    physai_blackbox_stop(&c->blackbox);
    if (held && c->config.position_commanded && cause != PHYSAI_CAUSE_TRACKING) {
        physai_track_stop(c); /* its servo lags behind: from the measured pose it would be thrown back */
    } else if (held) {
        physai_track_stop_from_measured(c);
    } else {
        c->seeded = c->enabled = false;
    }
}

/* The robot's own gate has stopped it, or the backend, since nobody answered in time. */
void physai_gate_fault(struct physai_control *c)
{
    bool let_go = c->state.flags & PHYSAI_STATE_LET_GO;
    physai_fault(c, false, let_go ? PHYSAI_CAUSE_LET_GO : PHYSAI_CAUSE_GATE, -1, let_go ? c->gap_s : 0, 0);
}

void physai_estop(struct physai_control *c, enum physai_cause cause)
{
    if (c->status.state == PHYSAI_ESTOP)
        return;
    bool was_fault = c->status.state == PHYSAI_FAULT;
    enter(c, PHYSAI_ESTOP, cause, -1, 0, 0);
    drop_chunks(c);
    physai_blackbox_stop(&c->blackbox);
    if (c->seeded && !was_fault)
        physai_track_stop(c);
}

void physai_stop_towards(struct physai_control *c, enum physai_control_state after, enum physai_cause cause)
{
    if (!(c->status.state == PHYSAI_STOPPING || c->status.state == PHYSAI_HOLD))
        physai_track_stop(c);
    enter(c, PHYSAI_STOPPING, cause, -1, 0, 0);
    c->after = after;
    drop_chunks(c);
}

/* The robot was moved on purpose: whatever was going on, it goes on from here. */
void physai_take_new_place(struct physai_control *c)
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
    if (physai_moving_state(c))
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_REPOSITIONED, -1, 0, 0);
}

/* ---- what is asked of it ---- */

void physai_take_chunk(struct physai_control *c)
{
    if (!physai_mailbox_take(&c->chunk_box))
        return;
    c->pending = &c->chunk_slots[c->chunk_box.front];
    if (!physai_moving_state(c))
        drop_chunks(c);
}

static bool can_leave_latch(const struct physai_control *c)
{
    const uint32_t shut = PHYSAI_STATE_GATE_LATCHED | PHYSAI_STATE_ESTOP | PHYSAI_STATE_UNHEARD |
                          PHYSAI_STATE_SLOW | PHYSAI_STATE_CONTRADICTED;
    return physai_latched(c) && !(c->state.flags & shut);
}

/* Whether the robot's own gate and emergency stop are open and it is known where it is; if not, an arm that
 * is to be activated latches.
 */
static bool robot_allows(struct physai_control *c)
{
    if (c->state.flags & PHYSAI_STATE_ESTOP)
        physai_estop(c, PHYSAI_CAUSE_ESTOP_HARDWARE);
    else if (c->state.flags & PHYSAI_STATE_GATE_LATCHED)
        physai_gate_fault(c);
    else if (c->state.flags & PHYSAI_STATE_CONTRADICTED)
        physai_fault(c, false, PHYSAI_CAUSE_STATE_CONTRADICTED, -1, 0, 0);
    return !physai_latched(c);
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

/* What an arm has to wait for before it is activated; without a state nothing is known of it. */
static enum physai_cause wanted_of_robot(const struct physai_control *c, bool fresh)
{
    if (!fresh)
        return c->not_finite ? PHYSAI_CAUSE_STATE_NOT_FINITE : PHYSAI_CAUSE_NONE;
    if (c->state.flags & PHYSAI_STATE_UNHEARD)
        return PHYSAI_CAUSE_UNHEARD;
    return c->state.flags & PHYSAI_STATE_SLOW ? PHYSAI_CAUSE_STATE_SLOW : PHYSAI_CAUSE_NONE;
}

/* The most severe request wins; those that need to know where the arm is wait for a fresh state. */
void physai_take_requests(struct physai_control *c, bool fresh)
{
    uint32_t asked = atomic_exchange_explicit(&c->requests, 0, memory_order_acq_rel) | c->waiting_requests;
    enum physai_cause wanting = wanted_of_robot(c, fresh);
    if (asked & PHYSAI_REQUEST_DEACTIVATE)
        asked &= ~(uint32_t)PHYSAI_REQUEST_ACTIVATE;
    if ((!fresh || wanting) && asked)
        asked = still_wanted(c, asked);
    c->waiting_requests = asked & ~(uint32_t)PHYSAI_REQUEST_ESTOP;
    if (fresh) /* what is wanting may still come */
        c->waiting_requests = wanting ? asked & PHYSAI_REQUEST_ACTIVATE : 0;
    if (asked & PHYSAI_REQUEST_ESTOP) {
        physai_estop(c, PHYSAI_CAUSE_ESTOP_REQUESTED);
        c->waiting_requests = 0;
        return;
    }
    if (wanting && (asked & PHYSAI_REQUEST_ACTIVATE) && c->status.state == PHYSAI_INACTIVE &&
        c->status.cause != wanting)
        enter(c, PHYSAI_INACTIVE, wanting, -1, 0, 0);
    if (!fresh || !asked)
        return;
    if ((asked & PHYSAI_REQUEST_RESET) && can_leave_latch(c)) {
        c->status.paused = 0;
        seed(c);
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_RESET, -1, 0, 0);
    }
    if (!wanting && (asked & PHYSAI_REQUEST_ACTIVATE) && c->status.state == PHYSAI_INACTIVE &&
        robot_allows(c)) {
        c->status.paused = 0;
        seed(c);
        enter(c, PHYSAI_HOLD, PHYSAI_CAUSE_ACTIVATED, -1, 0, 0);
    }
    if ((asked & PHYSAI_REQUEST_RESUME) && !(asked & PHYSAI_REQUEST_STOP) && c->status.paused) {
        c->status.paused = 0;
        if (physai_moving_state(c)) /* no longer stopped on request; whoever reads the cause must see that */
            enter(c, c->status.state, PHYSAI_CAUSE_RESUMED, -1, 0, 0);
    }
    if ((asked & PHYSAI_REQUEST_END_CHUNK) && physai_moving_state(c)) {
        if (c->status.state == PHYSAI_TRACK)
            physai_stop_towards(c, PHYSAI_HOLD, PHYSAI_CAUSE_CHUNK_ENDED);
        else
            drop_chunks(c);
    }
    if ((asked & PHYSAI_REQUEST_STOP) && physai_moving_state(c)) {
        c->status.paused = 1;
        if (c->status.state != PHYSAI_STOPPING || c->after != PHYSAI_INACTIVE)
            physai_stop_towards(c, PHYSAI_HOLD, PHYSAI_CAUSE_STOP_REQUESTED);
    }
    if ((asked & PHYSAI_REQUEST_DEACTIVATE) && physai_moving_state(c))
        physai_stop_towards(c, PHYSAI_INACTIVE, PHYSAI_CAUSE_DEACTIVATED);
}

void physai_take_settings(struct physai_control *c)
{
    if (!physai_mailbox_take(&c->settings_box))
        return;
    bool had_tank = c->settings.tank_energy > 0;
    c->settings = c->settings_slots[c->settings_box.front];
    c->law_changed = true;
    c->law.tank = had_tank ? physai_min(c->law.tank, c->settings.tank_energy) : c->settings.tank_energy;
    if (c->space == PHYSAI_CHUNK_POSE && c->settings.law == PHYSAI_LAW_JOINT) {
        /* The joint law cannot follow a pose: it brings the arm to rest. */
        drop_chunks(c);
        physai_track_seed(c, c->state.dq);
        physai_track_stop(c);
        if (physai_moving_state(c)) {
            if (c->status.state != PHYSAI_STOPPING)
                c->after = PHYSAI_HOLD;
            enter(c, PHYSAI_STOPPING, PHYSAI_CAUSE_LAW_CHANGED, -1, 0, 0);
        }
    }
}

/* ---- at rest ---- */

void physai_come_to_rest(struct physai_control *c)
{
    if (!physai_track_rests(c))
        return;
    if (c->status.state == PHYSAI_STOPPING) {
        c->status.state = c->after;
        if (c->after == PHYSAI_INACTIVE)
            c->seeded = c->enabled = false;
    }
    double fastest = 0;
    for (uint32_t i = 0; i < c->n; i++)
        fastest = physai_max(fastest, fabs(c->state.dq[i]));
    if (c->status.state == PHYSAI_ESTOP && fastest < REST_SPEED)
        c->seeded = c->enabled = false; /* the brakes */
}
