/*
 * physai_hardware.h: how the control core talks to a robot.
 *
 * A backend is a shared library `libphysai_hardware_<name>.so` that exports `physai_hardware_entry()`.
 * The core calls open and close from an ordinary thread, read and write from the real-time thread only.
 * read and write must not allocate, lock or log.
 *
 * Units are SI and radians. Arrays have room for PHYSAI_MAX_JOINTS; the first n_joints count.
 */
#ifndef PHYSAI_HARDWARE_H
#define PHYSAI_HARDWARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PHYSAI_HARDWARE_ABI 1u
#define PHYSAI_MAX_JOINTS   16
#define PHYSAI_NAME_SIZE    64
#define PHYSAI_API          __attribute__((visibility("default")))

/* Flags of a state. */
enum {
    PHYSAI_STATE_GATE_LATCHED = 1u << 0, /* the other side's own gate has stopped the robot */
    PHYSAI_STATE_ESTOP = 1u << 1,        /* an emergency stop is pressed or latched */
    PHYSAI_STATE_REPOSITIONED = 1u
        << 2, /* the robot was moved on purpose since the last state (a simulator's reset) */
    PHYSAI_STATE_UNHEARD = 1u << 3,      /* nobody receives commands: there is nothing to activate */
    PHYSAI_STATE_CONTRADICTED = 1u << 4, /* its sources say different things of one joint */
    PHYSAI_STATE_SLOW = 1u << 5,         /* states come too seldom for what is commanded, or not known yet */
};

/* Flags of a command. */
enum {
    PHYSAI_COMMAND_ENABLE = 1u << 0, /* apply the torque; without it the robot holds its brakes */
};

/* What the robot measured at one instant. */
struct physai_state {
    uint64_t seq;         /* counts up with every state */
    int64_t time_ns;      /* ROS time of the measurement: the clock of trajectories */
    int64_t published_ns; /* CLOCK_MONOTONIC when the state was handed over, 0 if unknown */
    uint32_t n_joints;
    uint32_t flags;
    double q[PHYSAI_MAX_JOINTS];   /* rad */
    double dq[PHYSAI_MAX_JOINTS];  /* rad/s */
    double tau[PHYSAI_MAX_JOINTS]; /* Nm, measured at the joint */
    double gripper_width;          /* m */
};

/* What the robot shall do until the next command. */
struct physai_command {
    uint64_t seq;    /* of the state that this answers */
    int64_t time_ns; /* of the state that this answers */
    uint32_t n_joints;
    uint32_t flags;
    double tau[PHYSAI_MAX_JOINTS]; /* Nm */
    double q[PHYSAI_MAX_JOINTS];   /* rad, reference, for position-controlled robots */
    double dq[PHYSAI_MAX_JOINTS];  /* rad/s, reference */
    double gripper_width;          /* m, target */
    double gripper_force;          /* N, limit */
};

struct physai_hardware_config {
    uint32_t n_joints;
    uint32_t reserved;
    double rate_hz;
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    char options[1024]; /* lines of "key=value" from the embodiment file */
};

/* Results of read and write. */
enum {
    PHYSAI_HARDWARE_OK = 0,
    PHYSAI_HARDWARE_TIMEOUT = 1, /* read: nothing new within the timeout */
    PHYSAI_HARDWARE_PAUSED = 2,  /* read: nothing new because the robot's time stands still on purpose */
    PHYSAI_HARDWARE_GONE = -1,   /* the robot is gone and will not come back on this handle */
};

struct physai_hardware {
    uint32_t abi;   /* PHYSAI_HARDWARE_ABI */
    uint32_t paces; /* 1: read blocks until the next state and so paces the loop; 0: a timer does */
    const char *name;
    /* Returns 0 and sets `handle`, or returns another number and writes the reason to `error`. */
    int (*open)(const struct physai_hardware_config *config, void **handle, char *error, size_t error_size);
    int (*read)(void *handle, struct physai_state *state, int64_t timeout_ns);
    int (*write)(void *handle, const struct physai_command *command);
    void (*close)(void *handle);
};

/* The one symbol that a backend exports. */
PHYSAI_API const struct physai_hardware *physai_hardware_entry(void);

#ifdef __cplusplus
}
#endif
#endif
