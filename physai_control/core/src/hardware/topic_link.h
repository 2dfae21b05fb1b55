/*
 * What the two ends of a robot behind topics share: the options that name topics and formats, and a thin
 * layer over rcl. One end is the `topic` hardware backend, the other the bridge of the embedded cell.
 *
 * rcl and the middleware below allocate and lock, so nothing here may be called from a real-time loop.
 */
#ifndef PHYSAI_TOPIC_LINK_H
#define PHYSAI_TOPIC_LINK_H

#include "hardware/backend.h"
#include "physai_hardware.h"

#include <rcl/error_handling.h>
#include <rcl/graph.h>
#include <rcl/rcl.h>
#include <sensor_msgs/msg/joint_state.h>
#include <std_msgs/msg/bool.h>
#include <std_msgs/msg/float64.h>
#include <std_msgs/msg/float64_multi_array.h>

#define PHYSAI_LINK_SUBSCRIPTIONS 80
#define PHYSAI_LINK_PUBLISHERS    64
#define PHYSAI_LINK_GID           16 /* bytes that tell publishers apart */

/* ---- options ---- */

enum {
    LINK_STATE_TOPIC,
    LINK_COMMAND_TOPIC,
    LINK_COMMAND,
    LINK_FORMAT,
    LINK_JOINTS,
    LINK_FINGERS,
    LINK_GRIPPER_TOPIC,
    LINK_ENABLE_TOPIC,
    LINK_STOPPED_TOPIC,
    LINK_ESTOP_TOPIC,
    LINK_NODE_NAME,
    LINK_NAMESPACE,
    LINK_STALE_MS,
    LINK_STALE_COMMAND,
    LINK_PACE,
    LINK_TORQUE,
    LINK_VELOCITY_GAIN,
    LINK_GATE,
    LINK_OPTIONS /* after them: of several end effectors the fingers of each, then its gripper's topic */
};

/* Choices, in the order of the option's table. */
enum physai_link_command {
    LINK_EFFORT,
    LINK_POSITION,
    LINK_VELOCITY
};
enum physai_link_format {
    LINK_MULTIARRAY,
    LINK_JOINT_STATE,
    LINK_FLOAT64
};
enum physai_link_stale {
    LINK_STALE_DEFAULT,
    LINK_STALE_NOTHING,
    LINK_STALE_ZERO,
    LINK_STALE_HOLD
};
enum {
    LINK_PACE_STATE,
    LINK_PACE_TIMER
};
enum {
    LINK_TORQUE_MEASURED,
    LINK_TORQUE_COMMANDED
};

/* A joint of a gripper as the driver names it: at `closed` + `ratio` times the gripper's opening. */
struct physai_link_finger {
    double closed, ratio;
    double tolerance; /* by which two readings at rest may differ */
    double fastest;   /* rad/s or m/s */
};

struct physai_link_gripper {
    const char *topic; /* for commands; empty for none */
    uint32_t first;    /* its fingers among all, */
    uint32_t count;    /* 0: nothing measures it */
    bool joined;       /* its positions go in one message with the arm's */
};

#define PHYSAI_LINK_FINGERS (PHYSAI_MAX_TOOLS * PHYSAI_MAX_FINGERS)
#define PHYSAI_LINK_TABLE   (LINK_OPTIONS + 2 * PHYSAI_MAX_TOOLS)

struct physai_link_options {
    struct physai_option table[PHYSAI_LINK_TABLE];
    char names[2 * PHYSAI_MAX_TOOLS][PHYSAI_NAME_SIZE + 16]; /* of the options of several end effectors */
    enum physai_link_command command;
    enum physai_link_format format;
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE]; /* as the driver names them */
    uint32_t n_tools;
    struct physai_link_gripper grippers[PHYSAI_MAX_TOOLS];
    uint32_t n_fingers; /* of all grippers */
    char finger_names[PHYSAI_LINK_FINGERS][PHYSAI_NAME_SIZE];
    struct physai_link_finger fingers[PHYSAI_LINK_FINGERS];
};

/* Returns 0, or -1 with a text that names the option, what was given and what is allowed. */
int physai_link_options(struct physai_link_options *options, const struct physai_hardware_config *config,
                        char *text, size_t text_size);

/* The opening of a gripper whose fingers, among those of all grippers, are at `positions`. */
double physai_link_opening(const struct physai_link_options *options, uint32_t tool, const double *positions);

/* What is sent to a gripper: its fingers' positions, or its opening where it has none; returns how many. */
uint32_t physai_link_gripper_values(const struct physai_link_options *options, uint32_t tool, double opening,
                                    double values[PHYSAI_MAX_FINGERS]);

/* The driver's names of what goes in one message with the arm's joints, these first; returns how many. */
uint32_t physai_link_names_sent(const struct physai_link_options *options,
                                const struct physai_hardware_config *config, char names[][PHYSAI_NAME_SIZE]);

/* Value of a text option. */
const char *physai_link_text(const struct physai_link_options *options, int option);

/* ---- rcl ---- */

typedef void (*physai_link_receive)(void *owner, const void *message, int index, int64_t now_ns);

struct physai_link_subscription {
    rcl_subscription_t handle;
    void *message; /* where a message is taken into; the owner's */
    physai_link_receive receive;
    int index;
    bool late; /* what a newer message of the same publisher has overtaken is received, too */
};

/* What came last of one publisher: where a topic has several subscriptions, each message counts once. */
struct physai_link_publisher {
    uint8_t gid[PHYSAI_LINK_GID];
    uint64_t number; /* the newest */
    uint64_t came;   /* which of the 64 up to it have: bit i is of number - i */
};

/* A node with a context of its own and one thread that receives. */
struct physai_link {
    rcl_context_t context;
    rcl_node_t node;
    rcl_guard_condition_t interrupt;
    struct physai_link_subscription subscriptions[PHYSAI_LINK_SUBSCRIPTIONS];
    size_t count;
    struct physai_link_publisher heard[PHYSAI_LINK_PUBLISHERS];
    size_t heard_next;
    /* Of the message that `receive` is called for. */
    const struct physai_link_subscription *current;
    rmw_message_info_t info;
    bool overtaken; /* by a newer one that was received before it */
    void *owner;
    pthread_t thread;
    bool running;
    _Atomic bool quit;
};

enum physai_link_qos {
    LINK_NEWEST,      /* best effort, volatile: every publisher is heard; with room for several */
    LINK_COMMAND_QOS, /* reliable, volatile, newest */
    LINK_LATCHED,     /* reliable, transient local: who comes late gets the last one */
};

/* All return 0, or -1 with the reason in `text`. The domain is that of the environment. */
int physai_link_open(struct physai_link *link, const char *node_name, const char *name_space, void *owner,
                     char *text, size_t text_size);
int physai_link_subscribe(struct physai_link *link, const rosidl_message_type_support_t *type,
                          const char *topic, enum physai_link_qos qos, void *message,
                          physai_link_receive receive, int index, char *text, size_t text_size);

/*
 * A flag of which each pulse counts: heard in every way that there is, since no one quality of service gets
 * what is sent unreliably, what was lost and is sent again, and what was latched before. Each message is
 * received once, one that was sent again after a newer one with `overtaken` set.
 */
int physai_link_subscribe_flag(struct physai_link *link, const char *topic, std_msgs__msg__Bool *message,
                               physai_link_receive receive, int index, char *text, size_t text_size);
int physai_link_advertise(struct physai_link *link, rcl_publisher_t *publisher,
                          const rosidl_message_type_support_t *type, const char *topic,
                          enum physai_link_qos qos, char *text, size_t text_size);

#define PHYSAI_LINK_WHO 160

/*
 * To be called by `receive`: the node of a publisher of the same topic, by its `gid`, into `who`. False, and
 * a word for it, if that publisher is gone.
 */
bool physai_link_who(const struct physai_link *link, const uint8_t *gid, char who[PHYSAI_LINK_WHO]);

/* Start receiving: `receive` runs in the link's thread from now on. */
int physai_link_start(struct physai_link *link, char *text, size_t text_size);

/* End the thread; no `receive` runs any more. */
void physai_link_stop(struct physai_link *link);

/* After physai_link_stop, and after the owner has finished its publishers with physai_link_unadvertise. */
void physai_link_close(struct physai_link *link);
void physai_link_unadvertise(struct physai_link *link, rcl_publisher_t *publisher);

/* Publish; true if the middleware took it. */
bool physai_link_publish(const rcl_publisher_t *publisher, const void *message);
bool physai_link_publish_bool(const rcl_publisher_t *publisher, bool value);

/* `pattern` with {joint} replaced; -1 when it does not fit. */
int physai_link_joint_topic(char *topic, size_t size, const char *pattern, const char *joint);

#endif
