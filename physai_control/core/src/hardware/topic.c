/*
 * The `topic` backend: a robot, or a simulator, behind ROS 2 topics. docs/howto/hardware.md has the options.
 *
 * Three threads. One receives joint states through rcl, one sends commands through rcl, and the control
 * thread between them exchanges values with both through wait-free mailboxes, because rcl and the middleware
 * allocate and lock.
 *
 *     topic -> receive -> state_box -> read | cycle | write -> command_box -> send -> topic
 *
 * A topic has no sequence number, so the backend counts states itself, and its rule for sending is one of
 * age: a command is sent once, and only while the state that it answers arrived less than stale_ms ago. When
 * that time passes without such a command, whoever is to blame, the sending thread lets go: it sends what
 * `stale_command` says, once, and nothing more. Until the controller has acknowledged that by disabling its
 * torque, states carry PHYSAI_STATE_GATE_LATCHED, so that the controller latches too and only a reset goes
 * on.
 */
#include "clock.h"
#include "hardware/topic_output.h"
#include "hardware/topic_pace.h"
#include "hardware/topic_states.h"

#include "mailbox.h"

#include <math.h>
#include <rcutils/logging_macros.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_NAME            "physai.hardware.topic"
#define LOG_PERIOD_MS       1000
#define MAX_BUTTONS         16
#define VELOCITY_CORRECTION 0.5         /* rad/s: how much the position error may add to a velocity command */
#define MIN_EFFORT_HZ       300         /* torques that come more slowly run away: docs/howto/hardware.md */
#define SLACK               1.05        /* of the time between states, for a clock that is not the robot's */
#define SLOW_NS             500000000LL /* for which states may come too seldom once they have not */
#define LISTENERS_NS        50000000    /* between two looks at who receives commands */
#define FAREWELL_NS         50000000    /* for the last messages to arrive when the backend is closed */

/* Who says that an emergency stop is pressed, or that the robot's gate has stopped it; pressed wins. */
struct button {
    bool used;
    uint8_t gid[PHYSAI_LINK_GID];
    uint32_t bits; /* what it says is so */
};

struct outgoing {
    struct physai_command command;
    int64_t arrival_ns; /* CLOCK_MONOTONIC of the state that it answers */
    double measured[PHYSAI_MAX_JOINTS];
};

struct robot {
    struct physai_link link;
    struct physai_link_options options;
    uint32_t n;
    int64_t stale_ns, period_ns;

    /* Receiving thread. */
    sensor_msgs__msg__JointState joint_state;
    std_msgs__msg__Bool flag;
    struct physai_states gathered;
    struct button buttons[MAX_BUTTONS];
    struct physai_pace pace;
    int64_t named_ns;                     /* when the sources that contradict each other were named last */
    char contradiction[PHYSAI_COMPLAINT]; /* that is to be named; empty for none */
    _Atomic int64_t stamp_ns;             /* written by the receiving thread alone */

    /* Receiving thread to control thread. */
    struct physai_mailbox state_box;
    struct physai_state states[3];
    _Atomic uint32_t state_word;
    _Atomic uint32_t flags;          /* what the robot's own topics say */
    _Atomic uint32_t pulses;         /* what they have said since a state was taken last */
    _Atomic bool slow;               /* states come too seldom for torques, or it is not known yet */
    _Atomic int64_t contradicted_ns; /* until then the sources of joint states count as contradicting */

    /* Control thread. */
    struct physai_state answered;
    double commanded[PHYSAI_MAX_JOINTS]; /* Nm */
    double opening[PHYSAI_MAX_TOOLS];    /* of a gripper that nothing measures: as commanded */
    int64_t deadline_ns;

    /* Control thread to sending thread. */
    struct physai_mailbox command_box;
    struct outgoing commands[3];
    _Atomic uint32_t command_word;

    /* Sending thread. */
    pthread_t sender;
    bool sender_runs;
    _Atomic bool quit;
    _Atomic bool unheard; /* nobody receives commands */
    int64_t looked_ns;    /* when that was seen last */
    _Atomic bool latched; /* let go by itself, and the controller has not acknowledged it */
    bool driving;
    int64_t silent_ns;             /* when to let go: arrival of the last answered state and stale_ns */
    double held[PHYSAI_MAX_PARTS]; /* fingers as commanded */
    struct physai_topic_output arm, grippers[PHYSAI_MAX_TOOLS];
    rcl_publisher_t enable;
};

/* ---- receiving thread ---- */

#define COMPLAIN(...)                                                                                        \
    RCUTILS_LOG_WARN_THROTTLE_NAMED(RCUTILS_STEADY_TIME, LOG_PERIOD_MS, LOG_NAME, __VA_ARGS__)

/*
 * Name the publishers that contradict each other, now and then. To look them up may take longer than a state
 * may be old, so it is done once the controller has the state that says so.
 */
static void name_accused(struct robot *r, int64_t now_ns)
{
    char one[PHYSAI_LINK_WHO], other[PHYSAI_LINK_WHO];
    if (!r->contradiction[0] || (r->named_ns && now_ns - r->named_ns < LOG_PERIOD_MS * 1000000LL))
        return;
    r->named_ns = now_ns;
    const struct physai_states *states = &r->gathered;
    physai_link_who(&r->link, states->sources[states->accused[0]].gid, one);
    physai_link_who(&r->link, states->sources[states->accused[1]].gid, other);
    RCUTILS_LOG_ERROR_NAMED(LOG_NAME, "%s: %s (%s, %s); not followed, and the arm is not driven",
                            physai_link_text(&r->options, LINK_STATE_TOPIC), r->contradiction, one, other);
    r->contradiction[0] = '\0';
}

/* Torques that answer states which come too seldom run away, whatever rate the robot's file promises. */
static void watch_pace(struct robot *r, int64_t stamp_ns)
{
    if (r->options.command != LINK_EFFORT)
        return;
    double interval_s = physai_pace_measure(&r->pace, stamp_ns);
    if (interval_s <= SLACK / MIN_EFFORT_HZ)
        r->pace.good_ns = stamp_ns;
    else if (isfinite(interval_s))
        COMPLAIN("%s: states come at %.0f Hz by their stamps; effort needs %d Hz; take command: position",
                 physai_link_text(&r->options, LINK_STATE_TOPIC), 1 / interval_s, MIN_EFFORT_HZ);
    bool slow = !r->pace.good_ns || stamp_ns - r->pace.good_ns > SLOW_NS;
    atomic_store_explicit(&r->slow, slow, memory_order_relaxed);
}

static void on_joint_state(void *owner, const void *message, int index, int64_t now_ns)
{
    (void)index;
    struct robot *r = owner;
    struct physai_states *states = &r->gathered;
    struct physai_state *state = &r->states[r->state_box.back];
    bool complete = physai_states_take(states, message, r->link.info.publisher_gid.data, now_ns, state);
    if (states->contradicted_ns == now_ns) {
        atomic_store_explicit(&r->contradicted_ns, now_ns + PHYSAI_CONTRADICTED, memory_order_relaxed);
        if (r->contradiction[0]) /* and no state has come since */
            name_accused(r, now_ns);
        else
            memcpy(r->contradiction, states->complaint, sizeof r->contradiction);
    } else if (states->complaint[0]) {
        COMPLAIN("%s: %s", physai_link_text(&r->options, LINK_STATE_TOPIC), states->complaint);
    }
    if (!complete)
        return;
    atomic_store_explicit(&r->stamp_ns, state->time_ns, memory_order_relaxed);
    watch_pace(r, state->time_ns);
    physai_mailbox_publish(&r->state_box);
    physai_word_bump(&r->state_word);
    name_accused(r, now_ns);
}

/* The publisher's place in the table; when it is full, one that presses nothing makes room, else the last. */
static struct button *find_button(struct robot *r, const uint8_t *gid)
{
    struct button *free_one = &r->buttons[MAX_BUTTONS - 1];
    for (struct button *b = r->buttons; b < r->buttons + MAX_BUTTONS; b++) {
        if (b->used && memcmp(b->gid, gid, PHYSAI_LINK_GID) == 0)
            return b;
        if (!b->used || (free_one->used && !b->bits))
            free_one = b;
    }
    *free_one = (struct button){.used = true};
    memcpy(free_one->gid, gid, PHYSAI_LINK_GID);
    return free_one;
}

/*
 * Each publisher's last word counts, and pressed wins: the flag falls when nobody says so any more. What one
 * that is gone had pressed falls with the next that says it is not. A pulse reaches the next state whatever
 * is said before that is taken.
 */
static void on_flag(void *owner, const void *message, int bit, int64_t now_ns)
{
    (void)now_ns;
    struct robot *r = owner;
    bool pressed = ((const std_msgs__msg__Bool *)message)->data;
    if (pressed) /* however short: the control thread looks only when a state comes */
        atomic_fetch_or_explicit(&r->pulses, (uint32_t)bit, memory_order_relaxed);
    if (r->link.overtaken)
        return; /* what it says now has come before */
    struct button *button = find_button(r, r->link.info.publisher_gid.data);
    if (pressed) {
        button->bits |= (uint32_t)bit;
        atomic_fetch_or_explicit(&r->flags, (uint32_t)bit, memory_order_relaxed);
        return;
    }
    button->bits &= ~(uint32_t)bit;
    for (struct button *b = r->buttons; b < r->buttons + MAX_BUTTONS; b++) {
        char who[PHYSAI_LINK_WHO];
        if (!(b->bits & (uint32_t)bit))
            continue;
        if (physai_link_who(&r->link, b->gid, who))
            return;
        b->bits &= ~(uint32_t)bit;
    }
    atomic_fetch_and_explicit(&r->flags, ~(uint32_t)bit, memory_order_relaxed);
}

/* ---- control thread ---- */

/* The newest state that was not read yet. */
static bool take_state(struct robot *r, struct physai_state *state)
{
    if (!physai_mailbox_take(&r->state_box))
        return false;
    *state = r->states[r->state_box.front];
    state->flags |= atomic_load_explicit(&r->flags, memory_order_relaxed) |
                    atomic_exchange_explicit(&r->pulses, 0, memory_order_relaxed);
    if (atomic_load_explicit(&r->latched, memory_order_acquire))
        state->flags |= PHYSAI_STATE_GATE_LATCHED |
                        (state->flags & PHYSAI_STATE_GATE_LATCHED ? 0u : (uint32_t)PHYSAI_STATE_LET_GO);
    if (atomic_load_explicit(&r->unheard, memory_order_acquire))
        state->flags |= PHYSAI_STATE_UNHEARD;
    if (atomic_load_explicit(&r->slow, memory_order_relaxed))
        state->flags |= PHYSAI_STATE_SLOW;
    if (physai_clock_ns() < atomic_load_explicit(&r->contradicted_ns, memory_order_relaxed))
        state->flags |= PHYSAI_STATE_CONTRADICTED;
    if (r->options.command == LINK_EFFORT && r->options.table[LINK_TORQUE].choice == LINK_TORQUE_COMMANDED) {
        memcpy(state->tau, r->commanded, sizeof state->tau);
        state->flags &= ~(uint32_t)PHYSAI_STATE_NO_TORQUE;
    }
    for (uint32_t t = 0; t < r->options.n_tools; t++)
        if (!r->options.grippers[t].count)
            state->opening[t] = r->opening[t];
    r->answered = *state;
    return true;
}

static int wait_for_state(struct robot *r, struct physai_state *state, int64_t deadline_ns)
{
    do {
        uint32_t seen = atomic_load_explicit(&r->state_word, memory_order_acquire);
        if (take_state(r, state))
            return PHYSAI_HARDWARE_OK;
        physai_word_sleep(&r->state_word, seen, deadline_ns);
    } while (physai_clock_ns() < deadline_ns);
    return take_state(r, state) ? PHYSAI_HARDWARE_OK : PHYSAI_HARDWARE_TIMEOUT;
}

/* For states that come faster than the loop shall run: the newest at each period. */
static int next_period(struct robot *r, struct physai_state *state)
{
    int64_t now_ns = physai_clock_ns();
    r->deadline_ns += r->period_ns;
    if (r->deadline_ns < now_ns)
        r->deadline_ns = now_ns; /* periods that were missed are skipped */
    physai_sleep_until(r->deadline_ns);
    if (!take_state(r, state))
        return PHYSAI_HARDWARE_TIMEOUT;
    state->published_ns = 0; /* waiting for the timer is no lateness */
    return PHYSAI_HARDWARE_OK;
}

static int topic_read(void *handle, struct physai_state *state, int64_t timeout_ns)
{
    struct robot *r = handle;
    if (r->options.table[LINK_PACE].choice == LINK_PACE_TIMER)
        return next_period(r, state);
    return wait_for_state(r, state, physai_clock_ns() + timeout_ns);
}

static int topic_write(void *handle, const struct physai_command *command)
{
    struct robot *r = handle;
    struct outgoing *slot = &r->commands[r->command_box.back];
    slot->command = *command;
    slot->arrival_ns = r->answered.seq == command->seq ? r->answered.published_ns : 0;
    memcpy(slot->measured, r->answered.q, sizeof slot->measured);
    for (uint32_t t = 0; t < r->options.n_tools; t++)
        if (r->options.grippers[t].topic[0])
            r->opening[t] = command->opening[t];
    if (command->flags & PHYSAI_COMMAND_ENABLE)
        memcpy(r->commanded, command->tau, sizeof r->commanded);
    else
        memset(r->commanded, 0, sizeof r->commanded);
    physai_mailbox_publish(&r->command_box);
    physai_word_bump(&r->command_word);
    return PHYSAI_HARDWARE_OK;
}

/* ---- sending thread ---- */

static void numbers_to_send(const struct robot *r, const struct outgoing *out, double *values)
{
    double gain = r->options.table[LINK_VELOCITY_GAIN].number;
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->options.command == LINK_EFFORT) {
            values[i] = out->command.tau[i];
        } else if (r->options.command == LINK_POSITION) {
            values[i] = out->command.q[i];
        } else {
            /* Velocities alone would let the arm drift away from the reference. */
            double correction = gain * (out->command.q[i] - out->measured[i]);
            values[i] =
                out->command.dq[i] + fmax(-VELOCITY_CORRECTION, fmin(VELOCITY_CORRECTION, correction));
        }
    }
}

static bool all_finite(const double *values, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static void announce(struct robot *r, bool driving)
{
    if (r->enable.impl)
        physai_link_publish_bool(&r->enable, driving);
    r->driving = driving;
}

static void send_command(struct robot *r, const struct outgoing *out)
{
    double values[PHYSAI_MAX_PARTS], fingers[PHYSAI_MAX_FINGERS];
    uint32_t n = r->n;
    numbers_to_send(r, out, values);
    for (uint32_t t = 0; t < r->options.n_tools; t++)
        if (r->options.grippers[t].joined)
            n += physai_link_gripper_values(&r->options, t, out->command.opening[t], values + n);
    if (!all_finite(values, n))
        return; /* the watchdog lets go if that goes on */
    if (!r->driving)
        announce(r, true);
    memcpy(r->held, out->measured, r->n * sizeof *values);
    memcpy(r->held + r->n, values + r->n, (n - r->n) * sizeof *values);
    r->silent_ns = out->arrival_ns + r->stale_ns;
    physai_topic_output_send(&r->arm, values, out->command.time_ns);
    for (uint32_t t = 0; t < r->options.n_tools; t++) {
        if (!r->options.grippers[t].topic[0] || r->options.grippers[t].joined)
            continue;
        if (all_finite(fingers, physai_link_gripper_values(&r->options, t, out->command.opening[t], fingers)))
            physai_topic_output_send(&r->grippers[t], fingers, out->command.time_ns);
    }
}

/* The last message to a robot that is no longer commanded. It is not repeated: its own gate is to act. */
static void let_go(struct robot *r)
{
    static const int by_command[] = {LINK_STALE_NOTHING, LINK_STALE_HOLD, LINK_STALE_ZERO};
    const double zeros[PHYSAI_MAX_JOINTS] = {0};
    int64_t stamp_ns = atomic_load_explicit(&r->stamp_ns, memory_order_relaxed);
    int what = r->options.table[LINK_STALE_COMMAND].choice;
    if (what == LINK_STALE_DEFAULT)
        what = by_command[r->options.command];
    if (what == LINK_STALE_ZERO)
        physai_topic_output_send(&r->arm, zeros, stamp_ns);
    else if (what == LINK_STALE_HOLD)
        physai_topic_output_send(&r->arm, r->held, stamp_ns);
    announce(r, false);
}

static void latch(struct robot *r)
{
    let_go(r);
    atomic_store_explicit(&r->latched, true, memory_order_release);
    RCUTILS_LOG_ERROR_NAMED(LOG_NAME,
                            "no command that answers a joint state of the last %.0f ms: let go of the robot",
                            r->options.table[LINK_STALE_MS].number);
}

static void handle_command(struct robot *r, const struct outgoing *out)
{
    if (!(out->command.flags & PHYSAI_COMMAND_ENABLE)) {
        if (r->driving)
            let_go(r);
        atomic_store_explicit(&r->latched, false, memory_order_release);
    } else if (!atomic_load_explicit(&r->latched, memory_order_relaxed) &&
               physai_clock_ns() - out->arrival_ns <= r->stale_ns) {
        send_command(r, out);
    }
}

/* Commands that nobody receives are not sent into the dark: the controller is told. */
static void look_for_listeners(struct robot *r, int64_t now_ns)
{
    if (r->looked_ns && now_ns - r->looked_ns < LISTENERS_NS)
        return;
    r->looked_ns = now_ns;
    bool unheard = false;
    for (uint32_t i = 0; i < r->arm.publisher_count; i++) {
        size_t count = 0;
        if (rcl_publisher_get_subscription_count(&r->arm.publishers[i], &count) != RCL_RET_OK)
            rcl_reset_error();
        unheard = unheard || !count;
    }
    atomic_store_explicit(&r->unheard, unheard, memory_order_release);
}

static void *send(void *handle)
{
    struct robot *r = handle;
    while (!atomic_load_explicit(&r->quit, memory_order_acquire)) {
        uint32_t seen = atomic_load_explicit(&r->command_word, memory_order_acquire);
        int64_t now_ns = physai_clock_ns();
        /* Before a new command is looked at: after this process was stopped, it would hide the gap. */
        if (r->driving && now_ns > r->silent_ns)
            latch(r);
        look_for_listeners(r, now_ns);
        if (physai_mailbox_take(&r->command_box))
            handle_command(r, &r->commands[r->command_box.front]);
        else
            physai_word_sleep(&r->command_word, seen, r->driving ? r->silent_ns + 1 : now_ns + LISTENERS_NS);
    }
    if (r->driving)
        let_go(r);
    return NULL;
}

/* ---- open and close ---- */

static int subscribe(struct robot *r, char *text, size_t text_size)
{
    const struct {
        int option, bit;
    } flags[] = {{LINK_STOPPED_TOPIC, PHYSAI_STATE_GATE_LATCHED}, {LINK_ESTOP_TOPIC, PHYSAI_STATE_ESTOP}};
    int error = physai_link_subscribe(&r->link, ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState),
                                      physai_link_text(&r->options, LINK_STATE_TOPIC), LINK_NEWEST,
                                      &r->joint_state, on_joint_state, 0, text, text_size);
    for (size_t i = 0; i < 2 && !error; i++) {
        const char *topic = physai_link_text(&r->options, flags[i].option);
        if (topic[0])
            error =
                physai_link_subscribe_flag(&r->link, topic, &r->flag, on_flag, flags[i].bit, text, text_size);
    }
    return error;
}

static int advertise(struct robot *r, const struct physai_hardware_config *config, char *text,
                     size_t text_size)
{
    const char *enable = physai_link_text(&r->options, LINK_ENABLE_TOPIC);
    char names[PHYSAI_MAX_PARTS][PHYSAI_NAME_SIZE];
    uint32_t n = physai_link_names_sent(&r->options, config, names);
    int error = physai_topic_output_open(&r->arm, &r->link, r->options.format, r->options.command,
                                         physai_link_text(&r->options, LINK_COMMAND_TOPIC), n,
                                         (const char (*)[PHYSAI_NAME_SIZE])names, text, text_size);
    for (uint32_t t = 0; t < r->options.n_tools && !error; t++) {
        const struct physai_link_gripper *gripper = &r->options.grippers[t];
        bool fingers = gripper->count > 0;
        if (gripper->topic[0] && !gripper->joined)
            error = physai_topic_output_open(
                &r->grippers[t], &r->link, r->options.format, LINK_POSITION, gripper->topic,
                fingers ? gripper->count : 1,
                fingers ? (const char (*)[PHYSAI_NAME_SIZE])r->options.finger_names + gripper->first
                        : config->tool_names + t,
                text, text_size);
    }
    if (!error && enable[0])
        error = physai_link_advertise(&r->link, &r->enable, ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Bool),
                                      enable, LINK_LATCHED, text, text_size);
    if (!error)
        announce(r, false);
    return error;
}

/* What the robot does with torques is not ours to stop, so something there has to. */
static const char *unsafe_effort(const struct robot *r, double rate_hz)
{
    if (r->options.command != LINK_EFFORT)
        return NULL;
    if (rate_hz < MIN_EFFORT_HZ)
        return "effort over topics needs control.rate_hz of at least 300 Hz, since the loop runs away below; "
               "take command: position";
    if (!r->options.table[LINK_GATE].choice)
        return "effort over topics needs hardware.gate: what stops the arm on the robot's side when commands "
               "end; "
               "take command: position where there is nothing";
    return NULL;
}

static int start_sender(struct robot *r, char *text, size_t text_size)
{
    int error = physai_thread_start(&r->sender, send, r);
    if (error)
        snprintf(text, text_size, "the sending thread could not be started: %s", strerror(error));
    r->sender_runs = !error;
    return error;
}

/* Give what was sent last the time to arrive. */
static void say_farewell(struct robot *r)
{
    if (r->arm.publisher_count &&
        rcl_publisher_wait_for_all_acked(&r->arm.publishers[0], FAREWELL_NS) != RCL_RET_OK)
        rcl_reset_error();
    if (r->enable.impl && rcl_publisher_wait_for_all_acked(&r->enable, FAREWELL_NS) != RCL_RET_OK)
        rcl_reset_error();
}

static void topic_close(void *handle)
{
    struct robot *r = handle;
    if (r->sender_runs) {
        atomic_store_explicit(&r->quit, true, memory_order_release);
        physai_word_bump(&r->command_word);
        pthread_join(r->sender, NULL);
        say_farewell(r);
    }
    physai_link_stop(&r->link);
    physai_topic_output_close(&r->arm, &r->link);
    for (uint32_t t = 0; t < r->options.n_tools; t++)
        physai_topic_output_close(&r->grippers[t], &r->link);
    physai_link_unadvertise(&r->link, &r->enable);
    physai_link_close(&r->link);
    sensor_msgs__msg__JointState__fini(&r->joint_state);
    free(r);
}

static int open_all(struct robot *r, const struct physai_hardware_config *config, char *text,
                    size_t text_size)
{
    if (physai_link_options(&r->options, config, text, text_size) != 0)
        return -1;
    const char *unsafe = unsafe_effort(r, config->rate_hz);
    if (unsafe) {
        snprintf(text, text_size, "topic: %s", unsafe);
        return -1;
    }
    r->stale_ns = (int64_t)(r->options.table[LINK_STALE_MS].number * 1e6);
    if (2 * r->stale_ns < 3 * r->period_ns) {
        snprintf(
            text, text_size,
            "topic: stale_ms is %g ms and states come every %g ms; give at least 1.5 of these, as stale_ms: "
            "%.0f",
            (double)r->stale_ns * 1e-6, (double)r->period_ns * 1e-6, 3 * (double)r->period_ns * 1e-6);
        return -1;
    }
    for (uint32_t t = 0; t < config->n_tools; t++)
        r->opening[t] = r->options.grippers[t].topic[0] ? config->grippers[t].opening_max
                                                        : config->grippers[t].opening_min;
    atomic_store_explicit(&r->unheard, true, memory_order_relaxed);
    atomic_store_explicit(&r->slow, r->options.command == LINK_EFFORT, memory_order_relaxed);
    physai_states_init(&r->gathered, r->n, &r->options, r->stale_ns);
    if (!sensor_msgs__msg__JointState__init(&r->joint_state)) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    if (physai_link_open(&r->link, physai_link_text(&r->options, LINK_NODE_NAME),
                         physai_link_text(&r->options, LINK_NAMESPACE), r, text, text_size) != 0 ||
        subscribe(r, text, text_size) != 0 || advertise(r, config, text, text_size) != 0 ||
        physai_link_start(&r->link, text, text_size) != 0 || start_sender(r, text, text_size) != 0)
        return -1;
    return 0;
}

static int topic_open(const struct physai_hardware_config *config, void **handle, char *text,
                      size_t text_size)
{
    struct robot *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);
    if (!r) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    memset(r, 0, sizeof *r);
    r->n = config->n_joints;
    r->period_ns = (int64_t)(1e9 / config->rate_hz);
    physai_mailbox_init(&r->state_box);
    physai_mailbox_init(&r->command_box);
    /* The middleware's threads carry every message: they are to have the priority of ours. */
    struct physai_schedule before = physai_schedule_raise();
    int error = open_all(r, config, text, text_size);
    physai_schedule_restore(before);
    if (error) {
        topic_close(r);
        return -1;
    }
    *handle = r;
    return 0;
}

const struct physai_hardware *physai_hardware_entry(void)
{
    static const struct physai_hardware backend = {
        .abi = PHYSAI_HARDWARE_ABI,
        .paces = 1, /* with pace=timer too: read then waits for the timer */
        .name = "topic",
        .open = topic_open,
        .read = topic_read,
        .write = topic_write,
        .close = topic_close,
    };
    return &backend;
}
