/*
 * Joint states of one robot from whoever publishes them on one topic.
 *
 * An arm and its gripper often have a driver each, and a platform's wheels a third: parts of the robot that
 * come in several messages are put together, each part no older than it may be, and other joints are let be.
 * A joint has one source, the publisher that is heard first; another that publishes the same joint is not
 * followed. If it says the same it does no harm. If it contradicts (a joint_state_publisher that fills in
 * zeros, a second driver), nobody knows any more where the robot is, and that is told.
 */
#ifndef PHYSAI_TOPIC_STATES_H
#define PHYSAI_TOPIC_STATES_H

#include "hardware/topic_link.h"
#include "physai_hardware.h"

#include <sensor_msgs/msg/joint_state.h>
#include <stdbool.h>

#define PHYSAI_GID_SIZE     16 /* bytes that tell publishers apart */
#define PHYSAI_MAX_SOURCES  16
#define PHYSAI_COMPLAINT    400
#define PHYSAI_MAX_PARTS    (PHYSAI_MAX_JOINTS + PHYSAI_LINK_FINGERS) /* joints, then fingers */
#define PHYSAI_CONTRADICTED 1000000000 /* ns for which a contradiction counts */
#define PHYSAI_SILENT_NS    1000000000 /* a source that is silent for so long has lost its joints */
#define PHYSAI_GRIPPER_NS   500000000  /* a gripper's state may be so old, or stale_ns if that is more */

/* One publisher. */
struct physai_source {
    uint8_t gid[PHYSAI_GID_SIZE];
    int64_t arrival_ns; /* of its last message; 0: none */
    int64_t ahead_ns;   /* stamp far ahead of the others that was not believed yet, 0 for none */
    bool suspected;     /* its last message was a jump that was not believed yet, */
    int jumps;          /* one of so many in a row that confirmed nothing */
    double suspect[PHYSAI_MAX_PARTS]; /* to here */
};

/* One joint or finger. */
struct physai_part {
    double q, dq, tau;
    int64_t stamp_ns, arrival_ns; /* 0: none came */
    int source;
    bool fresh;                 /* came after the last state */
    bool has_speed, has_effort; /* as measured */
};

struct physai_states {
    const struct physai_link_options *options;
    uint32_t n, n_fingers;
    char names[PHYSAI_MAX_PARTS][PHYSAI_NAME_SIZE];
    bool needs_effort, needs_speed, reads_effort;
    int64_t stale_ns;
    struct physai_source sources[PHYSAI_MAX_SOURCES];
    struct physai_part parts[PHYSAI_MAX_PARTS];
    uint64_t seq;
    int64_t began_ns, state_ns;       /* arrival of the first message and of the last that made a state */
    int64_t contradicted_ns;          /* when sources contradicted each other last, 0 for never */
    int accused[2];                   /* sources that did; the same twice: one that says two things in turn */
    char strangers[256];              /* names in the last message that are none of ours, in words */
    char complaint[PHYSAI_COMPLAINT]; /* about the last message; empty if there is none */
};

/*
 * `options` outlive it. A robot that is commanded in torques measures velocities and, unless the option
 * torque says otherwise, torques. One that is commanded in positions or velocities may measure neither: what
 * it has measured once it must go on to measure, and velocities that it does not measure are what its
 * positions make of them, filtered.
 */
void physai_states_init(struct physai_states *states, uint32_t n, const struct physai_link_options *options,
                        int64_t stale_ns);

/*
 * Take a message that came from the publisher `gid` at `now_ns` (CLOCK_MONOTONIC). Returns true and fills
 * `state` when it completes one: every joint of the arm has come since the last, and no part is too old.
 */
bool physai_states_take(struct physai_states *states, const sensor_msgs__msg__JointState *message,
                        const uint8_t *gid, int64_t now_ns, struct physai_state *state);

/* Whether sources contradict each other now. */
bool physai_states_contradicted(const struct physai_states *states, int64_t now_ns);

#endif
