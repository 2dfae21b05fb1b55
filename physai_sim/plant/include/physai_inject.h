/*
 * physai_inject.h: faults between the plant and a controller in the same process, on a fixed schedule.
 *
 * physai_inject_cycle stands where the plant would call the controller's cycle. It passes the measured state
 * on, corrupted as the schedule says, and the command back, and keeps what the controller said of itself in
 * every step. The plant's own log stays the truth.
 *
 * With libphysai_trial preloaded the controller's clock is simulated time while it runs its cycle, so that
 * a trial with the same seed is the same trial, and allocations within the cycle are counted.
 */
#ifndef PHYSAI_INJECT_H
#define PHYSAI_INJECT_H

#include "physai_plant.h"

#define PHYSAI_INJECT_EVENTS   40 /* one for every joint, and some */
#define PHYSAI_INJECT_LOG_SIZE PHYSAI_PLANT_LOG_SIZE
#define PHYSAI_INJECT_WATCHED  8

enum physai_inject_kind {
    PHYSAI_INJECT_NOTHING = 0,
    /* The values of `field`, of one joint or (joint < 0) of all. */
    PHYSAI_INJECT_OFFSET = 1,   /* + magnitude */
    PHYSAI_INJECT_NOISE = 2,    /* + normal noise of that standard deviation */
    PHYSAI_INJECT_SCALE = 3,    /* x magnitude */
    PHYSAI_INJECT_VALUE = 4,    /* = magnitude, which may be no number */
    PHYSAI_INJECT_BIT_FLIP = 5, /* bit number `magnitude` of the double is inverted */
    PHYSAI_INJECT_FREEZE = 6,   /* all values stay what they were; numbers and stamps go on */
    /* The channel from the robot. */
    PHYSAI_INJECT_STATE_LOSS = 7,     /* with probability `magnitude` */
    PHYSAI_INJECT_STATE_DELAY = 8,    /* by `magnitude` steps */
    PHYSAI_INJECT_STATE_REPEAT = 9,   /* with that probability the last one comes again instead */
    PHYSAI_INJECT_STATE_REORDER = 10, /* with that probability two neighbours change places */
    PHYSAI_INJECT_FLAG = 11,          /* the flag bits in `magnitude` are set in the state */
    /* The channel to the robot. */
    PHYSAI_INJECT_COMMAND_LOSS = 12,  /* with probability `magnitude` */
    PHYSAI_INJECT_COMMAND_DELAY = 13, /* by `magnitude` steps */
    PHYSAI_INJECT_CLOCK = 14,         /* the robot's clock, and its stamps, are off by `magnitude` s */
    PHYSAI_INJECT_COMMAND_VALUE = 15, /* torque and position of `joint`, or of all, are `magnitude` */
};

enum physai_inject_field {
    PHYSAI_INJECT_Q = 0,
    PHYSAI_INJECT_DQ = 1,
    PHYSAI_INJECT_TAU = 2,
    PHYSAI_INJECT_GRIPPER = 3,
};

struct physai_inject_event {
    uint32_t kind;  /* enum physai_inject_kind */
    uint32_t field; /* enum physai_inject_field */
    int32_t joint;  /* below 0: every joint */
    uint32_t reserved;
    double start_s; /* simulated time; it acts in [start_s, start_s + duration_s) */
    double duration_s;
    double magnitude;
};

struct physai_inject_config {
    uint64_t seed;
    uint32_t n_events;
    uint32_t n_watched;
    struct physai_inject_event events[PHYSAI_INJECT_EVENTS];
    const double
        *watched[PHYSAI_INJECT_WATCHED]; /* numbers of the simulation that are copied in every step */
    physai_cycle cycle;                  /* of the controller */
    int (*read_status)(void *controller, void *status); /* physai_control_read_status */
    void *controller;
};

/* One step as the controller reports it. */
struct physai_inject_sample {
    double time_s;
    uint32_t state; /* enum physai_control_state */
    uint32_t cause;
    int32_t cause_joint;
    uint32_t allocations; /* within this cycle */
    uint64_t cause_cycle;
    uint64_t cycles;
    uint64_t missed_states;
    uint64_t withheld; /* cycles so far to which no newer state was passed */
    uint64_t active_sequence;
    uint32_t space; /* enum physai_chunk_mode of the reference */
    uint32_t residual_active;
    double reference[PHYSAI_MAX_JOINTS];
    double tool_reference[PHYSAI_MAX_TOOLS][7];
    double watched[PHYSAI_INJECT_WATCHED];
};

struct physai_inject;

/* Returns NULL for a wrong configuration, or when there is no memory. */
PHYSAI_API struct physai_inject *physai_inject_create(const struct physai_inject_config *config);
PHYSAI_API void physai_inject_destroy(struct physai_inject *inject);

/* Add an event while the plant stands; -1 when there is no room. */
PHYSAI_API int physai_inject_add(struct physai_inject *inject, const struct physai_inject_event *event);

/* A `physai_cycle` whose controller is a physai_inject. */
PHYSAI_API int physai_inject_cycle(void *inject, const struct physai_state *state,
                                   struct physai_command *command);

/* Copy the newest samples, oldest first; returns how many. */
PHYSAI_API int physai_inject_log(const struct physai_inject *inject, struct physai_inject_sample *samples,
                                 int size);

/* 1 when libphysai_trial is preloaded, so that trials repeat. */
PHYSAI_API int physai_inject_repeats(void);

#endif
