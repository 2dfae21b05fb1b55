/* See physai_bridge.h. */
#include "physai_bridge.h"

#include "clock.h"
#include "hardware/topic_link.h"
#include "wire.h"

#include <math.h>
#include <rosidl_runtime_c/primitives_sequence_functions.h>
#include <rosidl_runtime_c/string_functions.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_AGE_NS    20000000 /* a command that answers an older state is as good as none */
#define STOPPED_STEPS 50       /* steps between two messages on whether the gate has stopped the arm */
#define ARRIVALS      64       /* commands that may arrive between two steps */

/* The newest command that the wire brought. */
struct incoming {
    uint64_t count;
    int64_t stamp_ns; /* of the state that it answers, 0 if the format does not say */
    double values[PHYSAI_MAX_JOINTS];
};

struct physai_bridge {
    struct physai_bridge_config config;
    struct physai_link_options options;
    struct physai_link link;
    const double *bias;
    uint32_t n;
    bool needs_enable;
    rcl_publisher_t states, stopped;

    /* Receiving thread. */
    sensor_msgs__msg__JointState joint_command;
    std_msgs__msg__Float64MultiArray array;
    std_msgs__msg__Float64 number;
    std_msgs__msg__Bool flag;
    double parts[PHYSAI_MAX_JOINTS]; /* of a command that comes joint by joint */
    uint64_t parts_seen;

    /* Between the threads, under the mutex; `word` changes with every arrival. */
    pthread_mutex_t mutex;
    _Atomic uint32_t word;
    struct physai_parcel arrivals[ARRIVALS];
    size_t arrived;
    double fingers[PHYSAI_LINK_FINGERS];
    double openings[PHYSAI_MAX_TOOLS]; /* of a gripper without fingers */
    bool commanded[PHYSAI_MAX_TOOLS];
    bool enabled;
    struct physai_bridge_faults faults;
    struct physai_bridge_counts counts;

    /* Plant's thread. */
    sensor_msgs__msg__JointState state_message;
    struct physai_wire to_controller, from_controller;
    struct incoming newest;
    uint64_t used; /* count of the command that was applied last */
    bool driven;
    double servo_target[PHYSAI_MAX_JOINTS];
    uint64_t steps;
    bool was_stopped;
    uint64_t answers;
    double round_trips[PHYSAI_BRIDGE_ROUND_TRIPS];
};

uint32_t physai_bridge_abi_version(void)
{
    return PHYSAI_BRIDGE_ABI;
}

/* ---- receiving thread ---- */

static void arrive(struct physai_bridge *b, const struct physai_parcel *command)
{
    pthread_mutex_lock(&b->mutex);
    b->counts.commands++;
    if (command && b->arrived < ARRIVALS)
        b->arrivals[b->arrived++] = *command;
    else
        b->counts.refused++;
    pthread_mutex_unlock(&b->mutex);
    physai_word_bump(&b->word);
}

static void on_array(void *owner, const void *taken, int index, int64_t now_ns)
{
    (void)index, (void)now_ns;
    struct physai_bridge *b = owner;
    const std_msgs__msg__Float64MultiArray *message = taken;
    struct physai_parcel command = {0};
    bool complete = message->data.size == b->n;
    if (complete)
        memcpy(command.values, message->data.data, b->n * sizeof(double));
    arrive(b, complete ? &command : NULL);
}

/* A command that comes joint by joint is complete with its last joint. */
static void on_number(void *owner, const void *message, int joint, int64_t now_ns)
{
    (void)now_ns;
    struct physai_bridge *b = owner;
    struct physai_parcel command = {0};
    b->parts[joint] = ((const std_msgs__msg__Float64 *)message)->data;
    b->parts_seen |= (uint64_t)1 << joint;
    if (b->parts_seen != ((uint64_t)1 << b->n) - 1)
        return;
    b->parts_seen = 0;
    memcpy(command.values, b->parts, sizeof b->parts);
    arrive(b, &command);
}

/* The value of `name` in the message, from the array that is meant; false if there is none. */
static bool value_of(const sensor_msgs__msg__JointState *message, enum physai_link_command command,
                     const char *name, double *value)
{
    const rosidl_runtime_c__double__Sequence *meant = command == LINK_EFFORT     ? &message->effort
                                                      : command == LINK_POSITION ? &message->position
                                                                                 : &message->velocity;
    for (size_t i = 0; i < message->name.size && meant->size == message->name.size; i++) {
        if (strcmp(message->name.data[i].data, name) == 0) {
            *value = meant->data[i];
            return true;
        }
    }
    return false;
}

static void on_joint_command(void *owner, const void *taken, int index, int64_t now_ns)
{
    (void)index, (void)now_ns;
    struct physai_bridge *b = owner;
    const sensor_msgs__msg__JointState *message = taken;
    struct physai_parcel command = {0};
    bool complete = true;
    command.stamp_ns = (int64_t)message->header.stamp.sec * 1000000000 + message->header.stamp.nanosec;
    for (uint32_t i = 0; i < b->n && complete; i++)
        complete = value_of(message, b->options.command, b->options.joint_names[i], &command.values[i]);
    arrive(b, complete ? &command : NULL);
}

/* `finger` is one of the gripper's own; of a gripper without, 0 is the opening itself. */
static void set_finger(struct physai_bridge *b, uint32_t tool, uint32_t finger, double position)
{
    const struct physai_link_gripper *gripper = &b->options.grippers[tool];
    pthread_mutex_lock(&b->mutex);
    if (gripper->count)
        b->fingers[gripper->first + finger] = position;
    else
        b->openings[tool] = position;
    b->commanded[tool] = true;
    pthread_mutex_unlock(&b->mutex);
}

static uint32_t values_of(const struct physai_bridge *b, uint32_t tool)
{
    uint32_t count = b->options.grippers[tool].count;
    return count ? count : 1;
}

static const char (*names_of(const struct physai_bridge *b, uint32_t tool)) [PHYSAI_NAME_SIZE] {
    const struct physai_link_gripper *gripper = &b->options.grippers[tool];
    return gripper->count ? b->options.finger_names + gripper->first : b->config.robot.tool_names + tool;
}

/* The index is PHYSAI_MAX_FINGERS times the tool, and the finger where each comes alone. */
static void on_gripper(void *owner, const void *taken, int index, int64_t now_ns)
{
    (void)now_ns;
    struct physai_bridge *b = owner;
    uint32_t tool = (uint32_t)index / PHYSAI_MAX_FINGERS, n = values_of(b, tool);
    if (b->options.format == LINK_FLOAT64) {
        set_finger(b, tool, (uint32_t)index % PHYSAI_MAX_FINGERS,
                   ((const std_msgs__msg__Float64 *)taken)->data);
        return;
    }
    const std_msgs__msg__Float64MultiArray *array = taken;
    for (uint32_t i = 0; i < n; i++) {
        double position;
        if (b->options.format == LINK_JOINT_STATE) {
            if (value_of(taken, LINK_POSITION, names_of(b, tool)[i], &position))
                set_finger(b, tool, i, position);
        } else if (array->data.size == n) {
            set_finger(b, tool, i, array->data.data[i]);
        }
    }
}

static void on_enable(void *owner, const void *message, int index, int64_t now_ns)
{
    (void)index, (void)now_ns;
    struct physai_bridge *b = owner;
    pthread_mutex_lock(&b->mutex);
    b->enabled = ((const std_msgs__msg__Bool *)message)->data;
    pthread_mutex_unlock(&b->mutex);
    physai_word_bump(&b->word);
}

/* ---- one step of the plant ---- */

static void publish_stopped(struct physai_bridge *b, bool stopped)
{
    if (b->stopped.impl && (stopped != b->was_stopped || b->steps % STOPPED_STEPS == 0))
        physai_link_publish_bool(&b->stopped, stopped);
    b->was_stopped = stopped;
    b->steps++;
}

static void publish_state(struct physai_bridge *b, const struct physai_state *state)
{
    int64_t stamp_ns = b->config.epoch_ns + state->time_ns;
    sensor_msgs__msg__JointState *message = &b->state_message;
    message->header.stamp.sec = (int32_t)(stamp_ns / 1000000000);
    message->header.stamp.nanosec = (uint32_t)(stamp_ns % 1000000000);
    memcpy(message->position.data, state->q, b->n * sizeof(double));
    memcpy(message->velocity.data, state->dq, b->n * sizeof(double));
    memcpy(message->effort.data, state->tau, b->n * sizeof(double));
    for (uint32_t t = 0; t < b->options.n_tools; t++) {
        const struct physai_link_gripper *gripper = &b->options.grippers[t];
        for (uint32_t i = gripper->first; i < gripper->first + gripper->count; i++)
            message->position.data[b->n + i] =
                b->options.fingers[i].closed + b->options.fingers[i].ratio * state->opening[t];
    }
    physai_link_publish(&b->states, message);
}

/* Put the state on the wire and publish what comes out; returns the newest stamp published, 0 for none. */
static int64_t send_states(struct physai_bridge *b, const struct physai_bridge_faults *faults,
                           const struct physai_state *state)
{
    struct physai_parcel parcel = {.state = *state};
    int64_t newest_ns = 0;
    uint64_t published = 0;
    if (!faults->mute_states)
        physai_wire_put(&b->to_controller, faults, &parcel, state->time_ns);
    for (; physai_wire_take(&b->to_controller, &parcel, state->time_ns); published++) {
        publish_state(b, &parcel.state);
        if (b->config.epoch_ns + parcel.state.time_ns > newest_ns)
            newest_ns = b->config.epoch_ns + parcel.state.time_ns;
    }
    pthread_mutex_lock(&b->mutex);
    b->counts.states += published;
    pthread_mutex_unlock(&b->mutex);
    return newest_ns;
}

/* Whether the controller has answered the state of that stamp, as far as the format can tell. */
static bool is_answered(struct physai_bridge *b, int64_t stamp_ns, bool *enabled)
{
    pthread_mutex_lock(&b->mutex);
    *enabled = b->enabled || !b->needs_enable;
    bool answered = false;
    for (size_t i = 0; i < b->arrived; i++)
        answered = answered || !b->arrivals[i].stamp_ns || b->arrivals[i].stamp_ns >= stamp_ns;
    pthread_mutex_unlock(&b->mutex);
    return answered;
}

/*
 * Simulated time waits for the controller's answer, on a busy machine for answer_s. It does not wait for a
 * state that did not leave, for a controller that has let go, or where none has driven the arm.
 */
static bool await_answer(struct physai_bridge *b, int64_t stamp_ns)
{
    int64_t sent_ns = physai_clock_ns();
    int64_t deadline_ns = sent_ns + (int64_t)(b->config.answer_s * 1e9);
    for (bool enabled;;) {
        uint32_t seen = atomic_load_explicit(&b->word, memory_order_acquire);
        bool answered = is_answered(b, stamp_ns, &enabled);
        int64_t now_ns = physai_clock_ns();
        if (answered && stamp_ns)
            b->round_trips[b->answers++ % PHYSAI_BRIDGE_ROUND_TRIPS] = (double)(now_ns - sent_ns) * 1e-9;
        if (answered || !enabled || !stamp_ns || !b->driven || now_ns >= deadline_ns)
            return enabled;
        physai_word_sleep(&b->word, seen, deadline_ns);
    }
}

/* Put what has arrived on the wire and take what comes out. A repeated or overtaken command counts as none.
 */
static void take_commands(struct physai_bridge *b, const struct physai_bridge_faults *faults, int64_t now_ns)
{
    struct physai_parcel command;
    uint64_t refused = 0;
    pthread_mutex_lock(&b->mutex);
    for (size_t i = 0; i < b->arrived && !faults->mute_commands; i++)
        physai_wire_put(&b->from_controller, faults, &b->arrivals[i], now_ns);
    b->arrived = 0;
    pthread_mutex_unlock(&b->mutex);
    while (physai_wire_take(&b->from_controller, &command, now_ns)) {
        if (command.stamp_ns && command.stamp_ns <= b->newest.stamp_ns) {
            refused++;
            continue;
        }
        b->newest.stamp_ns = command.stamp_ns;
        b->newest.count++;
        memcpy(b->newest.values, command.values, sizeof command.values);
    }
    pthread_mutex_lock(&b->mutex);
    b->counts.refused += refused;
    pthread_mutex_unlock(&b->mutex);
}

/* The arm's own servo, for commands that are positions or velocities. */
static double servo_torque(const struct physai_bridge *b, const struct physai_state *state, uint32_t i)
{
    double torque = b->bias[b->config.dof[i]] +
                    b->config.servo_stiffness[i] * (b->servo_target[i] - state->q[i]) -
                    b->config.servo_damping[i] * state->dq[i];
    return fmax(-b->config.torque_limit[i], fmin(b->config.torque_limit[i], torque));
}

static void apply(struct physai_bridge *b, const struct physai_state *state, struct physai_command *command)
{
    double period_s = 1 / b->config.robot.rate_hz;
    for (uint32_t i = 0; i < b->n; i++) {
        double value = b->newest.values[i];
        if (b->options.command == LINK_EFFORT) {
            command->tau[i] = value;
            continue;
        }
        if (!b->driven)
            b->servo_target[i] = state->q[i];
        if (b->options.command == LINK_POSITION)
            b->servo_target[i] = value;
        else
            b->servo_target[i] += value * period_s;
        /* fmax and fmin would make a number of what is none. */
        command->tau[i] = isfinite(value) ? servo_torque(b, state, i) : value;
    }
    pthread_mutex_lock(&b->mutex);
    for (uint32_t t = 0; t < b->options.n_tools; t++) {
        command->opening[t] = state->opening[t];
        if (b->commanded[t])
            command->opening[t] = b->options.grippers[t].count
                                      ? physai_link_opening(&b->options, t, b->fingers)
                                      : b->openings[t];
        command->grip_force[t] = b->config.robot.grippers[t].force;
    }
    b->counts.applied++;
    pthread_mutex_unlock(&b->mutex);
    command->flags = PHYSAI_COMMAND_ENABLE;
    b->driven = true;
}

int physai_bridge_cycle(void *handle, const struct physai_state *state, struct physai_command *command)
{
    struct physai_bridge *b = handle;
    bool stopped = state->flags & PHYSAI_STATE_GATE_LATCHED;
    pthread_mutex_lock(&b->mutex);
    struct physai_bridge_faults faults = b->faults;
    pthread_mutex_unlock(&b->mutex);
    publish_stopped(b, stopped);
    if (stopped)
        b->driven = false;
    bool enabled = await_answer(b, send_states(b, &faults, state));
    take_commands(b, &faults, state->time_ns);

    memset(command, 0, sizeof *command);
    command->seq = state->seq;
    command->time_ns = state->time_ns;
    command->n_joints = b->n;
    bool fresh = b->newest.count != b->used;
    if (b->newest.stamp_ns)
        fresh = fresh && b->config.epoch_ns + state->time_ns - b->newest.stamp_ns <= MAX_AGE_NS;
    b->used = b->newest.count;
    if (!enabled) { /* the controller has let go on purpose: brakes, and no fault */
        b->driven = false;
        return 1;
    }
    if (fresh)
        apply(b, state, command);
    return fresh;
}

/* ---- life ---- */

static bool prepare_messages(struct physai_bridge *b)
{
    sensor_msgs__msg__JointState *state = &b->state_message;
    uint32_t names = b->n + b->options.n_fingers;
    bool good = sensor_msgs__msg__JointState__init(state) &&
                sensor_msgs__msg__JointState__init(&b->joint_command) &&
                std_msgs__msg__Float64MultiArray__init(&b->array) &&
                rosidl_runtime_c__String__Sequence__init(&state->name, names) &&
                rosidl_runtime_c__double__Sequence__init(&state->position, names) &&
                rosidl_runtime_c__double__Sequence__init(&state->velocity, names) &&
                rosidl_runtime_c__double__Sequence__init(&state->effort, names);
    for (uint32_t i = 0; i < names && good; i++)
        good = rosidl_runtime_c__String__assign(
            &state->name.data[i], i < b->n ? b->options.joint_names[i] : b->options.finger_names[i - b->n]);
    return good;
}

/* A group of joints in the format of the options; messages are taken into the one that fits. */
static int subscribe_group(struct physai_bridge *b, const char *pattern, int index, uint32_t n,
                           const char names[][PHYSAI_NAME_SIZE], physai_link_receive array,
                           physai_link_receive joints, physai_link_receive number, char *text,
                           size_t text_size)
{
    if (b->options.format == LINK_MULTIARRAY)
        return physai_link_subscribe(&b->link, ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Float64MultiArray),
                                     pattern, LINK_NEWEST, &b->array, array, index, text, text_size);
    if (b->options.format == LINK_JOINT_STATE)
        return physai_link_subscribe(&b->link, ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState),
                                     pattern, LINK_NEWEST, &b->joint_command, joints, index, text, text_size);
    int error = 0;
    for (uint32_t i = 0; i < n && !error; i++) {
        char topic[2 * PHYSAI_OPTION_SIZE];
        error = physai_link_joint_topic(topic, sizeof topic, pattern, names[i]);
        if (error)
            snprintf(text, text_size, "topic '%.80s...' is too long", pattern);
        else
            error =
                physai_link_subscribe(&b->link, ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Float64), topic,
                                      LINK_NEWEST, &b->number, number, index + (int)i, text, text_size);
    }
    return error;
}

static int connect_topics(struct physai_bridge *b, char *text, size_t text_size)
{
    const rosidl_message_type_support_t *boolean = ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Bool);
    const char *enable = physai_link_text(&b->options, LINK_ENABLE_TOPIC);
    const char *stopped = physai_link_text(&b->options, LINK_STOPPED_TOPIC);
    b->needs_enable = enable[0];
    int error = physai_link_open(&b->link, b->config.node_name, physai_link_text(&b->options, LINK_NAMESPACE),
                                 b, text, text_size);
    if (!error)
        error =
            subscribe_group(b, physai_link_text(&b->options, LINK_COMMAND_TOPIC), 0, b->n,
                            b->options.joint_names, on_array, on_joint_command, on_number, text, text_size);
    for (uint32_t t = 0; t < b->options.n_tools && !error; t++)
        if (b->options.grippers[t].topic[0])
            error =
                subscribe_group(b, b->options.grippers[t].topic, (int)t * PHYSAI_MAX_FINGERS, values_of(b, t),
                                names_of(b, t), on_gripper, on_gripper, on_gripper, text, text_size);
    /* Twice: no one quality of service gets both what was latched before and what is sent unreliably. */
    for (int qos = LINK_NEWEST; enable[0] && !error && qos <= LINK_LATCHED; qos += LINK_LATCHED - LINK_NEWEST)
        error = physai_link_subscribe(&b->link, boolean, enable, (enum physai_link_qos)qos, &b->flag,
                                      on_enable, 0, text, text_size);
    if (!error && stopped[0])
        error = physai_link_advertise(&b->link, &b->stopped, boolean, stopped, LINK_LATCHED, text, text_size);
    if (!error)
        error = physai_link_advertise(
            &b->link, &b->states, ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState),
            physai_link_text(&b->options, LINK_STATE_TOPIC), LINK_COMMAND_QOS, text, text_size);
    return error ? error : physai_link_start(&b->link, text, text_size);
}

static int set_up(struct physai_bridge *b, char *text, size_t text_size)
{
    if (physai_link_options(&b->options, &b->config.robot, text, text_size) != 0)
        return -1;
    if (!prepare_messages(b)) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    return connect_topics(b, text, text_size);
}

int physai_bridge_create(const double *bias, const struct physai_bridge_config *config,
                         struct physai_bridge **bridge, char *text, size_t text_size)
{
    *bridge = NULL;
    if (!bias || config->abi != PHYSAI_BRIDGE_ABI || config->robot.n_joints < 1 ||
        config->robot.n_joints > PHYSAI_MAX_JOINTS || !(config->robot.rate_hz > 0)) {
        snprintf(text, text_size, "wrong bridge configuration");
        return -1;
    }
    struct physai_bridge *b = calloc(1, sizeof *b);
    if (!b) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    b->config = *config;
    b->bias = bias;
    b->n = config->robot.n_joints;
    pthread_mutex_init(&b->mutex, NULL);
    b->to_controller.random = 0x9e3779b97f4a7c15ULL;
    b->from_controller.random = 0xd1b54a32d192ed03ULL;
    struct physai_schedule before = physai_schedule_raise(); /* for the middleware's threads */
    int error = set_up(b, text, text_size);
    physai_schedule_restore(before);
    if (error) {
        physai_bridge_destroy(b);
        return -1;
    }
    *bridge = b;
    return 0;
}

void physai_bridge_destroy(struct physai_bridge *b)
{
    if (!b)
        return;
    physai_link_stop(&b->link);
    physai_link_unadvertise(&b->link, &b->states);
    physai_link_unadvertise(&b->link, &b->stopped);
    physai_link_close(&b->link);
    sensor_msgs__msg__JointState__fini(&b->state_message);
    sensor_msgs__msg__JointState__fini(&b->joint_command);
    std_msgs__msg__Float64MultiArray__fini(&b->array);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

void physai_bridge_set_faults(struct physai_bridge *b, const struct physai_bridge_faults *faults)
{
    pthread_mutex_lock(&b->mutex);
    b->faults = *faults;
    pthread_mutex_unlock(&b->mutex);
}

void physai_bridge_read_counts(struct physai_bridge *b, struct physai_bridge_counts *counts)
{
    pthread_mutex_lock(&b->mutex);
    *counts = b->counts;
    pthread_mutex_unlock(&b->mutex);
}

int physai_bridge_read_round_trips(const struct physai_bridge *b, double *seconds, int size)
{
    uint64_t total = b->answers;
    uint64_t kept = total < PHYSAI_BRIDGE_ROUND_TRIPS ? total : PHYSAI_BRIDGE_ROUND_TRIPS;
    uint64_t count = kept < (uint64_t)size ? kept : (uint64_t)size;
    for (uint64_t i = 0; i < count; i++)
        seconds[i] = b->round_trips[(total - count + i) % PHYSAI_BRIDGE_ROUND_TRIPS];
    return (int)count;
}
