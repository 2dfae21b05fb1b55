/* What the files of the core share. */
#ifndef PHYSAI_INTERNAL_H
#define PHYSAI_INTERNAL_H

#include "blackbox.h"
#include "latency.h"
#include "mailbox.h"
#include "model/dynamics.h"
#include "model/residual.h"
#include "motion/fence.h"
#include "motion/joint_limits.h"
#include "motion/law.h"
#include "motion/plan.h"
#include "motion/reference.h"
#include "physai_control.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Residual of the generalized momentum: what torque from outside explains the motion. */
struct physai_observer {
    bool started;
    double integral[PHYSAI_MAX_JOINTS];
    double torque[PHYSAI_MAX_JOINTS]; /* Nm, the estimate */
    double inertia[PHYSAI_MAX_JOINTS][PHYSAI_MAX_JOINTS];
};

/* How plausible the measured state is, and how steady the torque. */
struct physai_monitor {
    uint32_t implausible;                  /* states refused in a row */
    uint32_t late;                         /* states skipped by the robot, in a row */
    uint32_t same;                         /* states that repeat the one before to the last bit, in a row */
    double torque_then[PHYSAI_MAX_JOINTS]; /* Nm, commanded when they began to */
    double slowest;                        /* rad/s, of the fastest joint since a stop was latched */
    double speed[PHYSAI_MAX_JOINTS];       /* rad/s, of the last cycle */
    double restless_s;                     /* that it moves although it should have come to rest */
    double fence_stop;                     /* m further outside the fences to which a stop may take an arm, */
    double arms_stop;                      /* and two arms nearer to each other */
    int64_t degraded_until_ns;             /* ROS time */
    double drift[PHYSAI_MAX_JOINTS];       /* rad that positions moved beyond what velocities say, lately */
    double smooth[PHYSAI_MAX_JOINTS];      /* Nm, the torque without its fast part */
    double side[PHYSAI_MAX_JOINTS];        /* 1 or -1: to which its fast part swung last */
    double swings[PHYSAI_MAX_JOINTS];      /* from one side to the other, lately */
};

/* The reference slowed down: it follows the wanted one as fast as it may. */
struct physai_governor {
    bool on;
    struct physai_motion motion;
};

/* How far a policy process has counted its chunks. */
struct physai_lease {
    uint64_t lease; /* 0: this entry is free */
    uint64_t last_sequence;
};

/* Leases that are remembered, so that an old chunk of an earlier one is not taken again. */
#define PHYSAI_LEASES 16

struct physai_control {
    /* Fixed after create. */
    struct physai_control_config config;
    struct physai_model model;
    struct physai_friction_curves friction;
    uint32_t n;
    uint32_t n_tools;
    double period_s;

    /* Exchange between the sides. */
    struct physai_mailbox chunk_box;
    struct physai_plan chunk_slots[3];
    struct physai_mailbox status_box;
    struct physai_status status_slots[3]; /* up to `compute`; the rest is added by the reader */
    struct physai_mailbox settings_box;
    struct physai_settings settings_slots[3];
    struct physai_blackbox blackbox;
    _Atomic uint32_t requests;
    struct physai_histogram compute;
    struct physai_histogram wake;

    /* Real-time side. */
    struct physai_dynamics dynamics;
    struct physai_observer observer;
    struct physai_dynamics reference_dynamics; /* of the joint reference, for the Cartesian law */
    struct physai_monitor monitor;
    struct physai_settings settings;
    struct physai_law_memory law;
    struct physai_residual residual;
    struct physai_reference reference; /* of the joints */
    struct physai_reference pose;      /* of the tools, while space is PHYSAI_CHUNK_POSE */
    struct physai_joint_limits pose_limits[6 * PHYSAI_MAX_TOOLS];
    double anchor[PHYSAI_MAX_TOOLS][4];                /* of the pose's channels */
    double posture[PHYSAI_MAX_JOINTS];                 /* rad, that the null space tends to in pose space */
    struct physai_pose_motion tools[PHYSAI_MAX_TOOLS]; /* the wanted motion of each */
    enum physai_chunk_mode space;                      /* which of the two is followed */
    struct physai_governor governor;
    struct physai_state state; /* the last accepted one */
    struct physai_status status;
    const struct physai_plan *pending;
    uint32_t waiting_requests; /* that need a fresh state */
    int64_t waiting_since_ns;
    enum physai_control_state after; /* where STOPPING leads */
    bool have_state;
    bool not_finite; /* what came in this cycle */
    bool enabled;    /* torque is applied; else the robot holds its brakes */
    bool seeded;     /* the reference started from a measured pose and is valid */
    bool hardware_gone;
    bool standing_still; /* no new state because the robot's time is paused */
    double step_s;       /* between the last two states */
    double tau[PHYSAI_MAX_JOINTS];
    bool law_changed; /* since the last torque: what it computes now may differ by a step */
    bool too_fast;    /* a joint is beyond its speed limit: braked with the stop's torque rate */
    bool tau_valid;   /* the law computed a torque in the last cycle */
    double gap_s;     /* between the last two states, as it was */
    double law_tau[PHYSAI_MAX_JOINTS];       /* Nm, of the law in the last cycle, before clamps */
    double gain;                             /* share of the stiffness, below 1 while degraded */
    physai_fence_table fence_start;          /* m outside each fence since the arm was switched on */
    physai_fence_table fence_most;           /* m outside that are allowed for that */
    double gripper_target[PHYSAI_MAX_TOOLS]; /* opening */
    double gripper_reference[PHYSAI_MAX_TOOLS];
    bool gripper_seeded;
    int64_t ramp_start_ns;
    int64_t started_ns;       /* CLOCK_MONOTONIC, of this cycle */
    int64_t state_arrival_ns; /* of the last cycle with a state */
    int64_t wake_ns;          /* lateness of this cycle's start, below 0 if unknown */

    /* Other side, under the mutex. */
    pthread_mutex_t mutex;
    struct physai_dynamics chunk_dynamics;
    struct physai_settings posted_settings;
    struct physai_lease leases[PHYSAI_LEASES]; /* the latest first */
    uint64_t accepted;
    uint64_t rejected;
    char last_rejection[PHYSAI_TEXT_SIZE];

    /* Thread. */
    bool running;
    bool fifo;
    bool locked;
    _Atomic bool quit;
    pthread_t thread;
    void *library;
    const struct physai_hardware *hardware;
    void *handle;
};

/* Checks a chunk against the limits, the reference and the clock and fits its plan; fills `text` on refusal.
 */
int physai_validate_chunk(struct physai_control *control, const struct physai_chunk *chunk,
                          const struct physai_status *status, struct physai_plan *plan, char *text,
                          size_t text_size);

int physai_check_settings(const struct physai_control_config *config, const struct physai_settings *settings,
                          char *text, size_t text_size);

static inline bool physai_latched(const struct physai_control *control)
{
    return control->status.state == PHYSAI_FAULT || control->status.state == PHYSAI_ESTOP;
}

static inline bool physai_moving_state(const struct physai_control *control)
{
    return control->status.state == PHYSAI_HOLD || control->status.state == PHYSAI_TRACK ||
           control->status.state == PHYSAI_STOPPING;
}

/* The real-time side. A file calls those above it alone: track.c, state.c, guards.c, cycle.c. */

/* ---- track.c ---- */

/* Start the reference over at the measured pose, with a velocity or at rest (NULL). */
void physai_track_seed(struct physai_control *control, const double *velocity);
void physai_track_stop(struct physai_control *control);
void physai_track_stop_from_measured(struct physai_control *control);

/* The reference of this cycle in two steps: which plan is followed, true when it ends here; then joints, tool
 * and gripper. */
bool physai_track_begin(struct physai_control *control);
void physai_track_go_on(struct physai_control *control);
bool physai_track_rests(struct physai_control *control);

/* ---- state.c ---- */

/*
 * In hold, an arm whose gains still rise is carried by the modelled weight alone. If that moves it, load or
 * gravity are not as modelled, and no gain holds it: every fault then closes the brakes.
 */
bool physai_rising(const struct physai_control *control);

/* Latch a fault. With a valid state the arm is brought to rest, else the brakes close. */
void physai_fault(struct physai_control *control, bool state_is_valid, enum physai_cause cause, int joint,
                  double value, double limit);
void physai_gate_fault(struct physai_control *control);
void physai_estop(struct physai_control *control, enum physai_cause cause);
void physai_stop_towards(struct physai_control *control, enum physai_control_state after,
                         enum physai_cause cause);

/* The robot was moved on purpose: whatever was going on, it goes on from here. */
void physai_take_new_place(struct physai_control *control);

/* What the other side has posted. */
void physai_take_chunk(struct physai_control *control);
void physai_take_requests(struct physai_control *control, bool fresh);
void physai_take_settings(struct physai_control *control);

/* Where a stop leads once the reference rests. */
void physai_come_to_rest(struct physai_control *control);

/* ---- guards.c ---- */

/* Before a state is used: false if the arm cannot have got there from the last one. */
bool physai_plausible(struct physai_control *control, const struct physai_state *state, double step_s);

/* On the measured state, each cycle; they fault. */
void physai_guard(struct physai_control *control);

/* On the torque that was computed, before it is clamped. */
void physai_guard_torque(struct physai_control *control, const double *tau);

/* ---- the other side ---- */

/* A sentence for the status's cause. */
void physai_describe_cause(const struct physai_control_config *config, const struct physai_status *status,
                           char *text, size_t text_size);

/* The last sequence number that was accepted of a lease, 0 before the first; under the mutex. */
uint64_t physai_last_sequence(const struct physai_control *control, uint64_t lease);
void physai_remember_sequence(struct physai_control *control, uint64_t lease, uint64_t sequence);

/* The newest status; under the mutex. */
const struct physai_status *physai_latest_status(struct physai_control *control);

#endif
