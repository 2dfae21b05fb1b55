/*
 * physai_bridge.h: the embedded cell's arm behind ROS 2 topics, as a robot's driver would be.
 *
 * The bridge stands in the controller's place in the plant (physai_plant_set_controller): for every state it
 * publishes a joint state and hands the plant the command that came back, so that the plant's own gate judges
 * what arrives over the wire. It reads the same options as the `topic` hardware backend at the other end.
 *
 * An arm that is commanded in positions or velocities has a servo of its own here, with gravity compensation.
 */
#ifndef PHYSAI_BRIDGE_H
#define PHYSAI_BRIDGE_H

#include "physai_hardware.h"

#define PHYSAI_BRIDGE_ABI         2u
#define PHYSAI_BRIDGE_ROUND_TRIPS 8192

struct physai_bridge_config {
    uint32_t abi;
    uint32_t reserved;
    struct physai_hardware_config robot;       /* as the backend gets it */
    int32_t dof[PHYSAI_MAX_JOINTS];            /* of each joint in the bias forces */
    double torque_limit[PHYSAI_MAX_JOINTS];    /* Nm, of the servo */
    double servo_stiffness[PHYSAI_MAX_JOINTS]; /* Nm/rad */
    double servo_damping[PHYSAI_MAX_JOINTS];   /* Nms/rad */
    double answer_s;                           /* wall time that the plant waits for an answer */
    int64_t epoch_ns;                          /* ROS time of simulated time 0 */
    char node_name[PHYSAI_NAME_SIZE];
};

/* What the wire does to messages, in simulated time, for tests. All 0: nothing. */
struct physai_bridge_faults {
    double drop, duplicate, reorder; /* shares of the messages, 0 to 1 */
    double delay_s, jitter_s;        /* every message is late by delay_s and up to jitter_s more */
    uint32_t mute_states;            /* 1: no state leaves */
    uint32_t mute_commands;          /* 1: no command arrives */
};

struct physai_bridge_counts {
    uint64_t states;   /* published */
    uint64_t commands; /* arrived */
    uint64_t refused;  /* arrived but malformed, repeated or out of order */
    uint64_t applied;  /* handed to the plant */
};

struct physai_bridge;

PHYSAI_API uint32_t physai_bridge_abi_version(void);
PHYSAI_API int physai_bridge_layout(int line, char *text, size_t size); /* as physai_control_layout */

/* `bias` is mjData's qfrc_bias; it outlives the bridge. */
PHYSAI_API int physai_bridge_create(const double *bias, const struct physai_bridge_config *config,
                                    struct physai_bridge **bridge, char *text, size_t text_size);

/* After the plant's last step. */
PHYSAI_API void physai_bridge_destroy(struct physai_bridge *bridge);

/* The plant's controller; `bridge` is a struct physai_bridge. */
PHYSAI_API int physai_bridge_cycle(void *bridge, const struct physai_state *state,
                                   struct physai_command *command);

/* From any thread. */
PHYSAI_API void physai_bridge_set_faults(struct physai_bridge *bridge,
                                         const struct physai_bridge_faults *faults);
PHYSAI_API void physai_bridge_read_counts(struct physai_bridge *bridge, struct physai_bridge_counts *counts);

/* Wall times, s, from the newest states to the commands that answered them; returns how many. Not during a
 * cycle. */
PHYSAI_API int physai_bridge_read_round_trips(const struct physai_bridge *bridge, double *seconds, int size);

#endif
