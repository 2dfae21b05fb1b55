/* What the files of the core share. */
#ifndef PHYSAI_INTERNAL_H
#define PHYSAI_INTERNAL_H

#include "dynamics.h"
#include "joint_limits.h"
#include "latency.h"
#include "mailbox.h"
#include "physai_control.h"
#include "plan.h"
#include "reference.h"

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

struct physai_control {
    /* Fixed after create. */
    struct physai_control_config config;
    struct physai_model model;
    uint32_t n;
    double period_s;

    /* Exchange between the sides. */
    struct physai_mailbox chunk_box;
    struct physai_plan chunk_slots[3];
    struct physai_mailbox status_box;
    struct physai_status status_slots[3]; /* up to `compute`; the rest is added by the reader */
    _Atomic uint32_t requests;
    struct physai_histogram compute;
    struct physai_histogram wake;

    /* Real-time side. */
    struct physai_dynamics dynamics;
    struct physai_observer observer;
    struct physai_reference reference;
    struct physai_state state; /* the last accepted one */
    struct physai_status status;
    const struct physai_plan *pending;
    uint32_t waiting_requests; /* that need a fresh state */
    int64_t waiting_since_ns;
    enum physai_control_state after; /* where STOPPING leads */
    bool have_state;
    bool enabled; /* torque is applied; else the robot holds its brakes */
    bool seeded;  /* the reference started from a measured pose and is valid */
    bool hardware_gone;
    bool standing_still; /* no new state because the robot's time is paused */
    double step_s;       /* between the last two states */
    double tau[PHYSAI_MAX_JOINTS];
    double fence_allowance; /* m outside the fence that were there when the chunk began */
    double gripper_target;
    double gripper_reference;
    bool gripper_seeded;
    int64_t ramp_start_ns;
    int64_t state_arrival_ns; /* CLOCK_MONOTONIC */
    int64_t wake_ns;          /* lateness of this cycle's start, below 0 if unknown */

    /* Other side, under the mutex. */
    pthread_mutex_t mutex;
    struct physai_dynamics chunk_dynamics;
    uint64_t last_sequence;
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

/* CLOCK_MONOTONIC; answered without a system call on Linux. */
int64_t physai_clock_ns(void);

/* Checks a chunk against the limits, the reference and the clock and fits its plan; fills `text` on refusal.
 */
int physai_validate_chunk(struct physai_control *control, const struct physai_chunk *chunk,
                          const struct physai_status *status, struct physai_plan *plan, char *text,
                          size_t text_size);

/* A sentence for the status's cause. */
void physai_describe_cause(const struct physai_control_config *config, const struct physai_status *status,
                           char *text, size_t text_size);

/* The newest status; under the mutex. */
const struct physai_status *physai_latest_status(struct physai_control *control);

#endif
