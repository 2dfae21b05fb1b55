/*
 * physai_hardware.h: how the control core talks to a robot.
 *
 * A backend is a shared library `libphysai_hardware_<name>.so` that exports `physai_hardware_entry()`.
 * The core calls open and close from an ordinary thread, read and write from the real-time thread only.
 * read and write must not allocate, lock or log.
 *
 * Units are SI and radians; of a joint that slides they are metres and newtons. Arrays have room for
 * PHYSAI_MAX_JOINTS and PHYSAI_MAX_TOOLS; the first n_joints and n_tools count.
 */
#ifndef PHYSAI_HARDWARE_H
#define PHYSAI_HARDWARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PHYSAI_HARDWARE_ABI 2u
#define PHYSAI_MAX_JOINTS   32 /* that are driven */
#define PHYSAI_MAX_TOOLS    4  /* end effectors */
#define PHYSAI_MAX_FINGERS  8  /* joints of one gripper */
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
    PHYSAI_STATE_NO_TORQUE = 1u << 6,    /* the robot measures none; tau is 0 */
    PHYSAI_STATE_NO_VELOCITY = 1u << 7,  /* the robot measures none; dq is what positions make of it */
    PHYSAI_STATE_LET_GO = 1u << 8, /* with GATE_LATCHED: it was the backend's own watchdog that let go */
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
    double q[PHYSAI_MAX_JOINTS];      /* rad */
    double dq[PHYSAI_MAX_JOINTS];     /* rad/s */
    double tau[PHYSAI_MAX_JOINTS];    /* Nm, measured at the joint */
    double opening[PHYSAI_MAX_TOOLS]; /* of each gripper, in its unit; 0 where there is none */
};

/* What the robot shall do until the next command. */
struct physai_command {
    uint64_t seq;    /* of the state that this answers */
    int64_t time_ns; /* of the state that this answers */
    uint32_t n_joints;
    uint32_t flags;
    double tau[PHYSAI_MAX_JOINTS];       /* Nm */
    double q[PHYSAI_MAX_JOINTS];         /* rad, reference, for position-controlled robots */
    double dq[PHYSAI_MAX_JOINTS];        /* rad/s, reference */
    double opening[PHYSAI_MAX_TOOLS];    /* of each gripper, wanted, in its unit */
    double grip_force[PHYSAI_MAX_TOOLS]; /* N or Nm, limit */
};

enum physai_gripper_kind {
    PHYSAI_GRIPPER_NONE = 0,
    PHYSAI_GRIPPER_PARALLEL = 1, /* opening in m between the pads */
    PHYSAI_GRIPPER_HINGE = 2,    /* rad */
    PHYSAI_GRIPPER_SUCTION = 3,  /* 1: released, 0: gripping */
};

/* A joint of a gripper. It goes linearly from one position to the other, in rad or m. */
struct physai_finger {
    char joint[PHYSAI_NAME_SIZE];
    double closed; /* at the gripper's smallest opening */
    double open;   /* at its largest */
};

struct physai_gripper {
    uint32_t kind; /* enum physai_gripper_kind */
    uint32_t n_fingers;
    struct physai_finger fingers[PHYSAI_MAX_FINGERS];
    double opening_min; /* in the kind's unit */
    double opening_max;
    double speed; /* units/s */
    double force; /* N, of a hinge Nm */
};

/* What a finger's position changes by when the gripper opens by one unit; 0 where it cannot open. */
static inline double physai_finger_ratio(const struct physai_gripper *gripper, uint32_t finger)
{
    double range = gripper->opening_max - gripper->opening_min;
    return range > 0 ? (gripper->fingers[finger].open - gripper->fingers[finger].closed) / range : 0;
}

/* Where a finger is at an opening. */
static inline double physai_finger_position(const struct physai_gripper *gripper, uint32_t finger,
                                            double opening)
{
    return gripper->fingers[finger].closed +
           physai_finger_ratio(gripper, finger) * (opening - gripper->opening_min);
}

/* The opening at which a finger is at `position`. */
static inline double physai_finger_opening(const struct physai_gripper *gripper, uint32_t finger,
                                           double position)
{
    return gripper->opening_min +
           (position - gripper->fingers[finger].closed) / physai_finger_ratio(gripper, finger);
}

/*
 * rad/s that positions make of a joint whose velocity nobody measures, filtered: `speed` so far, positions
 * `before` and `now`, apart by step_s > 0.
 */
static inline double physai_speed_of(double speed, double before, double now, double step_s)
{
    double share = step_s / (step_s + 0.02);
    return speed + share * ((now - before) / step_s - speed);
}

struct physai_hardware_config {
    uint32_t n_joints;
    uint32_t n_tools;
    double rate_hz;
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    char tool_names[PHYSAI_MAX_TOOLS][PHYSAI_NAME_SIZE];
    struct physai_gripper grippers[PHYSAI_MAX_TOOLS];
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
