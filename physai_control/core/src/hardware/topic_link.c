#include "hardware/topic_link.h"

#include "clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKEND "topic"
#define ROOM    20 /* messages */

/* Of the way that a finger has. */
#define TOLERANCE 0.25 /* by which two readings at rest may differ */
#define FASTEST   12.5 /* 1/s */

/* ---- options ---- */

static const struct physai_option OPTION_TABLE[LINK_OPTIONS] = {
    [LINK_STATE_TOPIC] = {.name = "state_topic", .initial = "hardware/joint_states"},
    [LINK_COMMAND_TOPIC] = {.name = "command_topic", .initial = "hardware/joint_command"},
    [LINK_COMMAND] = {.name = "command", .initial = "effort", .choices = {"effort", "position", "velocity"}},
    [LINK_FORMAT] = {.name = "format",
                     .initial = "multiarray",
                     .choices = {"multiarray", "joint_state", "float64"}},
    [LINK_JOINTS] = {.name = "joints", .initial = ""},
    [LINK_FINGERS] = {.name = "fingers", .initial = ""},
    [LINK_GRIPPER_TOPIC] = {.name = "gripper_topic", .initial = ""},
    [LINK_ENABLE_TOPIC] = {.name = "enable_topic", .initial = ""},
    [LINK_STOPPED_TOPIC] = {.name = "stopped_topic", .initial = ""},
    [LINK_ESTOP_TOPIC] = {.name = "estop_topic", .initial = ""},
    [LINK_NODE_NAME] = {.name = "node_name", .initial = "physai_hardware"},
    [LINK_NAMESPACE] = {.name = "namespace", .initial = ""},
    [LINK_STALE_MS] = {.name = "stale_ms", .initial = "20", .low = 2, .high = 10000},
    [LINK_STALE_COMMAND] = {.name = "stale_command",
                            .initial = "default",
                            .choices = {"default", "nothing", "zero", "hold"}},
    [LINK_PACE] = {.name = "pace", .initial = "state", .choices = {"state", "timer"}},
    [LINK_TORQUE] = {.name = "torque", .initial = "measured", .choices = {"measured", "commanded"}},
    [LINK_VELOCITY_GAIN] = {.name = "velocity_gain", .initial = "5", .low = 0, .high = 100},
    [LINK_GATE] = {.name = "gate", .initial = "none", .choices = {"none", "brakes", "damping", "hold"}},
};

const char *physai_link_text(const struct physai_link_options *options, int option)
{
    return options->table[option].text;
}

/* The gripper's own finger of that name, or -1. */
static int own_finger(const struct physai_gripper *gripper, const char *name)
{
    for (uint32_t f = 0; f < gripper->n_fingers; f++)
        if (strcmp(gripper->fingers[f].joint, name) == 0)
            return (int)f;
    return -1;
}

/*
 * Where the driver's joints are at an opening: those of the robot's file, also as many under other names in
 * its order, as that says; others, as a driver may name its gripper's, share the opening evenly.
 */
static int map_fingers(struct physai_link_options *options, const struct physai_gripper *gripper,
                       const struct physai_link_gripper *at, char *text, size_t text_size)
{
    uint32_t known = 0, stranger = at->first;
    bool own = false, renamed = at->count == gripper->n_fingers;
    for (uint32_t i = at->first; i < at->first + at->count; i++)
        own = own || own_finger(gripper, options->finger_names[i]) >= 0;
    for (uint32_t i = at->first; i < at->first + at->count; i++) {
        int f = own ? own_finger(gripper, options->finger_names[i]) : renamed ? (int)(i - at->first) : -1;
        struct physai_link_finger *finger = &options->fingers[i];
        double range = gripper->opening_max - gripper->opening_min;
        known += f >= 0;
        stranger = f >= 0 ? stranger : i;
        finger->ratio = f >= 0 ? physai_finger_ratio(gripper, (uint32_t)f) : 1.0 / at->count;
        finger->closed = f >= 0 ? physai_finger_position(gripper, (uint32_t)f, 0) : 0;
        finger->tolerance = TOLERANCE * fabs(finger->ratio) * range;
        finger->fastest = FASTEST * fabs(finger->ratio) * range;
    }
    if (known == 0 || known == at->count)
        return 0;
    snprintf(text, text_size,
             BACKEND
             " option fingers: '%.120s' is no finger of the robot's file, and others are; name either",
             options->finger_names[stranger]);
    return -1;
}

/* The next of names with commas between, without blanks around; false where there is none that fits. */
static bool next_name(const char **names, char name[PHYSAI_NAME_SIZE])
{
    *names += strspn(*names, " ");
    size_t length = strcspn(*names, ","), comma = length;
    while (length && (*names)[length - 1] == ' ')
        length--;
    if (!length || length >= PHYSAI_NAME_SIZE)
        return false;
    snprintf(name, PHYSAI_NAME_SIZE, "%.*s", (int)length, *names);
    *names += comma + ((*names)[comma] == ',');
    return true;
}

/* What the driver calls the robot's joints: as the robot's file does, or in its order by the option. */
static int take_joints(struct physai_link_options *options, const struct physai_hardware_config *config,
                       char *text, size_t text_size)
{
    const char *names = physai_link_text(options, LINK_JOINTS), *all = names;
    memcpy(options->joint_names, config->joint_names, sizeof options->joint_names);
    uint32_t count = 0;
    bool good = true;
    while (*names && good && count < config->n_joints)
        good = next_name(&names, options->joint_names[count++]);
    for (uint32_t i = 0; i < count && good; i++)
        for (uint32_t k = 0; k < i; k++)
            good = good && strcmp(options->joint_names[i], options->joint_names[k]) != 0;
    if (!*all || (good && count == config->n_joints && !*names))
        return 0;
    snprintf(text, text_size,
             BACKEND
             " option joints: the driver's names of the %u joints, in the order of the robot's file, each "
             "once, with commas between; got '%.120s'",
             config->n_joints, all);
    return -1;
}

static int split_fingers(struct physai_link_options *options, const struct physai_gripper *gripper,
                         const char *names, struct physai_link_gripper *at, char *text, size_t text_size)
{
    const char *all = names;
    *at = (struct physai_link_gripper){.first = options->n_fingers};
    while (*names) {
        if (at->count == PHYSAI_MAX_FINGERS ||
            !next_name(&names, options->finger_names[options->n_fingers])) {
            snprintf(text, text_size,
                     BACKEND
                     " option fingers: up to %d names with commas between, of up to %d characters; got "
                     "'%.120s'",
                     PHYSAI_MAX_FINGERS, PHYSAI_NAME_SIZE - 1, all);
            return -1;
        }
        options->n_fingers++;
        at->count++;
    }
    return map_fingers(options, gripper, at, text, text_size);
}

double physai_link_opening(const struct physai_link_options *options, uint32_t tool, const double *positions)
{
    const struct physai_link_gripper *at = &options->grippers[tool];
    double sum = 0;
    for (uint32_t i = at->first; i < at->first + at->count; i++)
        sum += (positions[i] - options->fingers[i].closed) / options->fingers[i].ratio;
    return sum / at->count;
}

uint32_t physai_link_gripper_values(const struct physai_link_options *options, uint32_t tool, double opening,
                                    double values[PHYSAI_MAX_FINGERS])
{
    const struct physai_link_gripper *gripper = &options->grippers[tool];
    values[0] = opening;
    for (uint32_t i = 0; i < gripper->count; i++) {
        const struct physai_link_finger *finger = &options->fingers[gripper->first + i];
        values[i] = finger->closed + finger->ratio * opening;
    }
    return gripper->count ? gripper->count : 1;
}

uint32_t physai_link_names_sent(const struct physai_link_options *options,
                                const struct physai_hardware_config *config, char names[][PHYSAI_NAME_SIZE])
{
    uint32_t n = config->n_joints;
    memcpy(names, options->joint_names, n * sizeof *names);
    for (uint32_t t = 0; t < options->n_tools; t++) {
        const struct physai_link_gripper *gripper = &options->grippers[t];
        if (!gripper->joined)
            continue;
        uint32_t count = gripper->count ? gripper->count : 1;
        memcpy(names + n, gripper->count ? options->finger_names[gripper->first] : config->tool_names[t],
               count * sizeof *names);
        n += count;
    }
    return n;
}

/* With one end effector the options have no suffix. */
static int take_grippers(struct physai_link_options *options, const struct physai_hardware_config *config,
                         char *text, size_t text_size)
{
    bool several = config->n_tools > 1;
    for (int plain = LINK_FINGERS; several && plain <= LINK_GRIPPER_TOPIC; plain++) {
        if (!physai_link_text(options, plain)[0])
            continue;
        snprintf(text, text_size, BACKEND " option %s: the robot has several end effectors; give %s.%s",
                 options->table[plain].name, options->table[plain].name, config->tool_names[0]);
        return -1;
    }
    for (uint32_t t = 0; t < config->n_tools; t++) {
        int fingers = several ? LINK_OPTIONS + 2 * (int)t : LINK_FINGERS;
        int topic = several ? fingers + 1 : LINK_GRIPPER_TOPIC;
        const struct physai_gripper *gripper = &config->grippers[t];
        if (split_fingers(options, gripper, physai_link_text(options, fingers), &options->grippers[t], text,
                          text_size) != 0)
            return -1;
        options->grippers[t].topic = physai_link_text(options, topic);
        options->grippers[t].joined =
            !strstr(options->grippers[t].topic, "{joint}") &&
            strcmp(options->grippers[t].topic, physai_link_text(options, LINK_COMMAND_TOPIC)) == 0;
        const char *given = options->grippers[t].topic[0] ? options->table[topic].name
                            : options->grippers[t].count  ? options->table[fingers].name
                                                          : NULL;
        if (given && gripper->kind == PHYSAI_GRIPPER_NONE) {
            snprintf(text, text_size, BACKEND " option %s: the robot's file has no gripper there", given);
            return -1;
        }
        if (options->grippers[t].topic[0] && !options->grippers[t].count &&
            gripper->kind != PHYSAI_GRIPPER_SUCTION) {
            snprintf(text, text_size, BACKEND " options: %s needs %s", options->table[topic].name,
                     options->table[fingers].name);
            return -1;
        }
    }
    return 0;
}

static void name_options(struct physai_link_options *options, const struct physai_hardware_config *config)
{
    memcpy(options->table, OPTION_TABLE, sizeof OPTION_TABLE);
    for (uint32_t t = 0; t < config->n_tools; t++) {
        for (uint32_t k = 0; k < 2; k++) {
            char *name = options->names[2 * t + k];
            snprintf(name, sizeof options->names[0], k ? "gripper_topic.%s" : "fingers.%s",
                     config->tool_names[t]);
            options->table[LINK_OPTIONS + 2 * t + k] = (struct physai_option){.name = name, .initial = ""};
        }
    }
}

/* A combination that cannot be meant. */
static const char *contradiction(const struct physai_link_options *options)
{
    int stale = options->table[LINK_STALE_COMMAND].choice;
    bool per_joint = options->format == LINK_FLOAT64;
    if (per_joint != (strstr(physai_link_text(options, LINK_COMMAND_TOPIC), "{joint}") != NULL))
        return per_joint ? "format float64 needs {joint} in command_topic"
                         : "{joint} in command_topic needs format float64";
    for (uint32_t t = 0; t < options->n_tools; t++) {
        const char *topic = options->grippers[t].topic;
        if (options->grippers[t].joined &&
            (options->format != LINK_JOINT_STATE || options->command != LINK_POSITION))
            return "gripper_topic may be command_topic for positions in format joint_state alone";
        if (topic[0] && per_joint != (strstr(topic, "{joint}") != NULL))
            return per_joint ? "format float64 needs {joint} in gripper_topic"
                             : "{joint} in gripper_topic needs format float64";
    }
    if (stale == LINK_STALE_HOLD && options->command != LINK_POSITION)
        return "stale_command hold is for command position";
    if (stale == LINK_STALE_ZERO && options->command == LINK_POSITION)
        return "stale_command zero is not for command position: zero is a place";
    return NULL;
}

int physai_link_options(struct physai_link_options *options, const struct physai_hardware_config *config,
                        char *text, size_t text_size)
{
    size_t count = LINK_OPTIONS + (config->n_tools > 1 ? 2 * config->n_tools : 0);
    options->n_tools = config->n_tools;
    options->n_fingers = 0;
    name_options(options, config);
    if (physai_options_read(BACKEND, config->options, options->table, count, text, text_size) != 0 ||
        take_joints(options, config, text, text_size) != 0 ||
        take_grippers(options, config, text, text_size) != 0)
        return -1;
    options->command = (enum physai_link_command)options->table[LINK_COMMAND].choice;
    options->format = (enum physai_link_format)options->table[LINK_FORMAT].choice;
    const char *wrong = contradiction(options);
    if (wrong)
        snprintf(text, text_size, BACKEND " options: %s", wrong);
    return wrong ? -1 : 0;
}

int physai_link_joint_topic(char *topic, size_t size, const char *pattern, const char *joint)
{
    const char *place = strstr(pattern, "{joint}");
    int length = place ? snprintf(topic, size, "%.*s%s%s", (int)(place - pattern), pattern, joint,
                                  place + strlen("{joint}"))
                       : snprintf(topic, size, "%s", pattern);
    return length >= 0 && (size_t)length < size ? 0 : -1;
}

/* ---- rcl ---- */

static int fail(const char *what, const char *name, char *text, size_t text_size)
{
    snprintf(text, text_size, BACKEND ": %s '%s': %s", what, name, rcl_get_error_string().str);
    rcl_reset_error();
    return -1;
}

static rmw_qos_profile_t profile(enum physai_link_qos qos, bool writes)
{
    rmw_qos_profile_t result = rmw_qos_profile_default;
    /* Several publishers may share what we listen to: one must not hide another. */
    result.depth = writes ? 1 : ROOM;
    result.reliability =
        qos == LINK_NEWEST ? RMW_QOS_POLICY_RELIABILITY_BEST_EFFORT : RMW_QOS_POLICY_RELIABILITY_RELIABLE;
    result.durability =
        qos == LINK_LATCHED ? RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL : RMW_QOS_POLICY_DURABILITY_VOLATILE;
    return result;
}

static int make_node(struct physai_link *link, const char *node_name, const char *name_space, char *text,
                     size_t text_size)
{
    rcl_init_options_t options = rcl_get_zero_initialized_init_options();
    rcl_node_options_t node_options = rcl_node_get_default_options();
    node_options.enable_rosout = false;
    if (rcl_init_options_init(&options, rcl_get_default_allocator()) != RCL_RET_OK)
        return fail("options of", node_name, text, text_size);
    rcl_ret_t made = rcl_init(0, NULL, &options, &link->context);
    int error = made == RCL_RET_OK ? 0 : fail("context of", node_name, text, text_size);
    if (!error &&
        rcl_node_init(&link->node, node_name, name_space, &link->context, &node_options) != RCL_RET_OK)
        error = fail("node", node_name, text, text_size);
    if (!error && rcl_guard_condition_init(&link->interrupt, &link->context,
                                           rcl_guard_condition_get_default_options()) != RCL_RET_OK)
        error = fail("guard condition of", node_name, text, text_size);
    if (rcl_init_options_fini(&options) != RCL_RET_OK || rcl_node_options_fini(&node_options) != RCL_RET_OK)
        rcl_reset_error();
    return error;
}

int physai_link_open(struct physai_link *link, const char *node_name, const char *name_space, void *owner,
                     char *text, size_t text_size)
{
    memset(link, 0, sizeof *link);
    link->context = rcl_get_zero_initialized_context();
    link->node = rcl_get_zero_initialized_node();
    link->interrupt = rcl_get_zero_initialized_guard_condition();
    link->owner = owner;
    return make_node(link, node_name, name_space, text, text_size);
}

int physai_link_subscribe(struct physai_link *link, const rosidl_message_type_support_t *type,
                          const char *topic, enum physai_link_qos qos, void *message,
                          physai_link_receive receive, int index, char *text, size_t text_size)
{
    if (link->count == PHYSAI_LINK_SUBSCRIPTIONS) {
        snprintf(text, text_size, BACKEND ": more than %d topics", PHYSAI_LINK_SUBSCRIPTIONS);
        return -1;
    }
    struct physai_link_subscription *subscription = &link->subscriptions[link->count];
    *subscription = (struct physai_link_subscription){
        .handle = rcl_get_zero_initialized_subscription(),
        .message = message,
        .receive = receive,
        .index = index,
    };
    rcl_subscription_options_t options = rcl_subscription_get_default_options();
    options.qos = profile(qos, false);
    rcl_ret_t made = rcl_subscription_init(&subscription->handle, &link->node, type, topic, &options);
    int error = made == RCL_RET_OK ? 0 : fail("subscription of", topic, text, text_size);
    if (rcl_subscription_options_fini(&options) != RCL_RET_OK)
        rcl_reset_error();
    link->count += !error;
    return error;
}

int physai_link_subscribe_flag(struct physai_link *link, const char *topic, std_msgs__msg__Bool *message,
                               physai_link_receive receive, int index, char *text, size_t text_size)
{
    const rosidl_message_type_support_t *type = ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Bool);
    int error = 0;
    for (int qos = LINK_NEWEST; qos <= LINK_LATCHED && !error; qos++) {
        error = physai_link_subscribe(link, type, topic, (enum physai_link_qos)qos, message, receive, index,
                                      text, text_size);
        if (!error)
            link->subscriptions[link->count - 1].late = true;
    }
    return error;
}

int physai_link_advertise(struct physai_link *link, rcl_publisher_t *publisher,
                          const rosidl_message_type_support_t *type, const char *topic,
                          enum physai_link_qos qos, char *text, size_t text_size)
{
    *publisher = rcl_get_zero_initialized_publisher();
    rcl_publisher_options_t options = rcl_publisher_get_default_options();
    options.qos = profile(qos, true);
    if (rcl_publisher_init(publisher, &link->node, type, topic, &options) != RCL_RET_OK)
        return fail("publisher of", topic, text, text_size);
    return 0;
}

#define WINDOW 64 /* numbers of a publisher that are known again */

/*
 * Whether the message was not received yet, from another subscription. One that the publisher sent before the
 * newest that came is marked as overtaken.
 */
static bool is_new(struct physai_link *link)
{
    const uint8_t *gid = link->info.publisher_gid.data;
    uint64_t number = link->info.publication_sequence_number;
    link->overtaken = false;
    if (!number || number == RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED)
        return true;
    for (size_t i = 0; i < PHYSAI_LINK_PUBLISHERS; i++) {
        struct physai_link_publisher *one = &link->heard[i];
        if (!one->number || memcmp(one->gid, gid, PHYSAI_LINK_GID) != 0)
            continue;
        link->overtaken = number <= one->number;
        if (!link->overtaken) {
            uint64_t step = number - one->number;
            one->came = (step < WINDOW ? one->came << step : 0) | 1;
            one->number = number;
            return true;
        }
        uint64_t back = one->number - number;
        if (back >= WINDOW)
            return true; /* too old to be known again: rather twice than never */
        bool came = one->came >> back & 1;
        one->came |= (uint64_t)1 << back;
        return !came;
    }
    struct physai_link_publisher *place = &link->heard[link->heard_next++ % PHYSAI_LINK_PUBLISHERS];
    memcpy(place->gid, gid, PHYSAI_LINK_GID);
    place->number = number;
    place->came = 1;
    return true;
}

/* Take what has come, newest last. */
static void take(struct physai_link *link, struct physai_link_subscription *subscription)
{
    link->current = subscription;
    while (rcl_take(&subscription->handle, subscription->message, &link->info, NULL) == RCL_RET_OK)
        if (is_new(link) && (subscription->late || !link->overtaken))
            subscription->receive(link->owner, subscription->message, subscription->index, physai_clock_ns());
    rcl_reset_error();
}

bool physai_link_who(const struct physai_link *link, const uint8_t *gid, char who[PHYSAI_LINK_WHO])
{
    rcl_allocator_t allocator = rcl_get_default_allocator();
    rcl_topic_endpoint_info_array_t found = rcl_get_zero_initialized_topic_endpoint_info_array();
    const char *topic = rcl_subscription_get_topic_name(&link->current->handle);
    bool there = false;
    snprintf(who, PHYSAI_LINK_WHO, "a node that is gone");
    if (topic &&
        rcl_get_publishers_info_by_topic(&link->node, &allocator, topic, false, &found) == RCL_RET_OK) {
        for (size_t i = 0; i < found.size && !there; i++) {
            const rmw_topic_endpoint_info_t *one = &found.info_array[i];
            there = memcmp(one->endpoint_gid, gid, PHYSAI_LINK_GID) == 0;
            const char *space = strcmp(one->node_namespace, "/") == 0 ? "" : one->node_namespace;
            if (there)
                snprintf(who, PHYSAI_LINK_WHO, "%.70s/%.70s", space, one->node_name);
        }
    }
    if (rcl_topic_endpoint_info_array_fini(&found, &allocator) != RCL_RET_OK)
        rcl_reset_error();
    return there;
}

static bool wait_for_messages(struct physai_link *link, rcl_wait_set_t *waits)
{
    bool ready = rcl_wait_set_clear(waits) == RCL_RET_OK &&
                 rcl_wait_set_add_guard_condition(waits, &link->interrupt, NULL) == RCL_RET_OK;
    for (size_t i = 0; i < link->count && ready; i++)
        ready = rcl_wait_set_add_subscription(waits, &link->subscriptions[i].handle, NULL) == RCL_RET_OK;
    return ready && rcl_wait(waits, -1) == RCL_RET_OK;
}

static void *receive(void *handle)
{
    struct physai_link *link = handle;
    rcl_wait_set_t waits = rcl_get_zero_initialized_wait_set();
    if (rcl_wait_set_init(&waits, link->count, 1, 0, 0, 0, 0, &link->context, rcl_get_default_allocator()) !=
        RCL_RET_OK)
        return NULL; /* nothing is received: the watchdogs say so */
    while (!atomic_load_explicit(&link->quit, memory_order_acquire) && wait_for_messages(link, &waits))
        for (size_t i = 0; i < link->count; i++)
            if (waits.subscriptions[i])
                take(link, &link->subscriptions[i]);
    if (rcl_wait_set_fini(&waits) != RCL_RET_OK)
        rcl_reset_error();
    return NULL;
}

int physai_link_start(struct physai_link *link, char *text, size_t text_size)
{
    int error = physai_thread_start(&link->thread, receive, link);
    if (error)
        snprintf(text, text_size, BACKEND ": the receiving thread could not be started: %s", strerror(error));
    link->running = !error;
    return error ? -1 : 0;
}

void physai_link_stop(struct physai_link *link)
{
    if (!link->running)
        return;
    atomic_store_explicit(&link->quit, true, memory_order_release);
    if (rcl_trigger_guard_condition(&link->interrupt) != RCL_RET_OK)
        rcl_reset_error();
    pthread_join(link->thread, NULL);
    link->running = false;
}

void physai_link_unadvertise(struct physai_link *link, rcl_publisher_t *publisher)
{
    if (publisher->impl && rcl_publisher_fini(publisher, &link->node) != RCL_RET_OK)
        rcl_reset_error();
}

void physai_link_close(struct physai_link *link)
{
    physai_link_stop(link);
    rcl_ret_t ended = RCL_RET_OK;
    for (size_t i = 0; i < link->count; i++)
        ended |= rcl_subscription_fini(&link->subscriptions[i].handle, &link->node);
    link->count = 0;
    if (link->interrupt.impl)
        ended |= rcl_guard_condition_fini(&link->interrupt);
    if (link->node.impl)
        ended |= rcl_node_fini(&link->node);
    if (link->context.impl) {
        if (rcl_context_is_valid(&link->context))
            ended |= rcl_shutdown(&link->context);
        ended |= rcl_context_fini(&link->context);
    }
    if (ended != RCL_RET_OK)
        rcl_reset_error();
}

bool physai_link_publish(const rcl_publisher_t *publisher, const void *message)
{
    if (rcl_publish(publisher, message, NULL) == RCL_RET_OK)
        return true;
    rcl_reset_error();
    return false;
}

bool physai_link_publish_bool(const rcl_publisher_t *publisher, bool value)
{
    std_msgs__msg__Bool message = {.data = value};
    return physai_link_publish(publisher, &message);
}
