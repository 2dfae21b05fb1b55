/*
 * physai_control.h: the control core, a joint impedance controller with limits, watchdogs and latched faults.
 *
 * Two sides meet in a `struct physai_control`:
 * - The real-time side is whoever calls physai_control_cycle: the thread that physai_control_start makes, or
 *   a simulation in the same process. It never allocates, locks, logs or makes a system call.
 * - The other side posts chunks, requests changes of state and reads the status, from any thread and at any
 *   time. It locks among itself and exchanges data with the real-time side through wait-free mailboxes.
 */
#ifndef PHYSAI_CONTROL_H
#define PHYSAI_CONTROL_H

#include "physai_hardware.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHYSAI_CONTROL_ABI     5u
#define PHYSAI_MAX_STEPS       128 /* setpoints of one chunk */
#define PHYSAI_TEXT_SIZE       256
#define PHYSAI_LATENCY_BUCKETS 576
#define PHYSAI_MAX_FENCES      16
#define PHYSAI_MAX_POINTS      (2 * PHYSAI_MAX_TOOLS) /* that fences hold for: each tool and its elbow */
#define PHYSAI_RECORDS         640                    /* cycles that the black box keeps */
#define PHYSAI_RECORDS_AFTER   128                    /* of them, after the stop */

/* The numbers of ControlStatus.msg. */
enum physai_control_state {
    PHYSAI_INACTIVE = 0,
    PHYSAI_HOLD = 1,
    PHYSAI_TRACK = 2,
    PHYSAI_DEGRADED = 3, /* hold or track with gains and speed reduced, because states came late */
    PHYSAI_STOPPING = 4,
    PHYSAI_FAULT = 5, /* latched */
    PHYSAI_ESTOP = 6, /* latched */
};

/* Why the core last held, stopped or faulted. */
enum physai_cause {
    PHYSAI_CAUSE_NONE = 0,
    /* hold */
    PHYSAI_CAUSE_ACTIVATED,
    PHYSAI_CAUSE_RESET,
    PHYSAI_CAUSE_REPOSITIONED,
    PHYSAI_CAUSE_CHUNK_EXPIRED,
    PHYSAI_CAUSE_STOP_REQUESTED,
    PHYSAI_CAUSE_DEACTIVATED,
    PHYSAI_CAUSE_RESUMED,
    PHYSAI_CAUSE_LAW_CHANGED,
    /* fault */
    PHYSAI_CAUSE_STATE_NOT_FINITE,
    PHYSAI_CAUSE_STATE_TIMEOUT,
    PHYSAI_CAUSE_HARDWARE_GONE,
    PHYSAI_CAUSE_TORQUE_NOT_FINITE,
    PHYSAI_CAUSE_VELOCITY,
    PHYSAI_CAUSE_POSITION,
    PHYSAI_CAUSE_TRACKING,
    PHYSAI_CAUSE_GEOFENCE,
    PHYSAI_CAUSE_GATE,
    PHYSAI_CAUSE_DYNAMICS,
    PHYSAI_CAUSE_POSE_TRACKING,
    PHYSAI_CAUSE_STATE_GAP,
    PHYSAI_CAUSE_STATE_INCONSISTENT,
    PHYSAI_CAUSE_STATE_FROZEN,
    PHYSAI_CAUSE_CONTACT,
    PHYSAI_CAUSE_CONTACT_WRENCH,
    PHYSAI_CAUSE_INSTABILITY,
    /* estop */
    PHYSAI_CAUSE_ESTOP_REQUESTED,
    PHYSAI_CAUSE_ESTOP_HARDWARE,
    /* hold; the numbers before are an interface */
    PHYSAI_CAUSE_CHUNK_ENDED,
    /* inactive, or fault */
    PHYSAI_CAUSE_UNHEARD,
    /* fault */
    PHYSAI_CAUSE_STATE_CONTRADICTED,
    /* inactive, or fault */
    PHYSAI_CAUSE_STATE_SLOW,
    /* fault */
    PHYSAI_CAUSE_ARMS_DISTANCE,
    PHYSAI_CAUSE_LET_GO,
    PHYSAI_CAUSE_STATE_JUMPED,
};

/* Results; each has a text in physai_control_strerror. */
enum physai_control_error {
    PHYSAI_OK = 0,
    PHYSAI_ERROR_ARGUMENT = -1,
    PHYSAI_ERROR_MODEL = -2,
    PHYSAI_ERROR_MEMORY = -3,
    PHYSAI_ERROR_HARDWARE = -4,
    PHYSAI_ERROR_THREAD = -5,
    PHYSAI_ERROR_RUNNING = -6,
    /* refused chunks */
    PHYSAI_REFUSED_STATE = -10,
    PHYSAI_REFUSED_SHAPE = -11,
    PHYSAI_REFUSED_NOT_FINITE = -12,
    PHYSAI_REFUSED_SEQUENCE = -13,
    PHYSAI_REFUSED_TIME = -14,
    PHYSAI_REFUSED_POSITION = -15,
    PHYSAI_REFUSED_VELOCITY = -16,
    PHYSAI_REFUSED_ACCELERATION = -17,
    PHYSAI_REFUSED_JUMP = -18,
    PHYSAI_REFUSED_GEOFENCE = -19,
    PHYSAI_REFUSED_GRIPPER = -20,
    PHYSAI_REFUSED_JERK = -21,
    PHYSAI_REFUSED_ROTATION = -22,
    PHYSAI_REFUSED_UNREACHABLE = -23,
    PHYSAI_REFUSED_SETTINGS = -24,
    PHYSAI_REFUSED_LEASE = -25,
    PHYSAI_REFUSED_DISTANCE = -26,
};

enum physai_control_request {
    PHYSAI_REQUEST_ACTIVATE = 1u << 0,   /* inactive -> hold at the measured pose */
    PHYSAI_REQUEST_DEACTIVATE = 1u << 1, /* stop, then inactive; leaves latched states as they are */
    PHYSAI_REQUEST_STOP = 1u << 2,       /* stop, then hold; chunks are refused until resume */
    PHYSAI_REQUEST_RESUME = 1u << 3,     /* accept chunks again after stop */
    PHYSAI_REQUEST_RESET = 1u << 4,      /* leave fault or estop: hold at the measured pose */
    PHYSAI_REQUEST_ESTOP = 1u << 5,      /* stop and latch; the brakes close when the arm is at rest */
    PHYSAI_REQUEST_END_CHUNK = 1u << 6,  /* stop on the chunk's path, then hold; the next chunk is followed */
};

/* Of a joint; of a channel of a tool pose in m and rad, where position, torque and braking do not count. */
struct physai_joint_limits {
    double position_min; /* rad */
    double position_max;
    double velocity;         /* rad/s */
    double acceleration;     /* rad/s^2 */
    double jerk;             /* rad/s^3 */
    double torque;           /* Nm */
    double torque_rate;      /* Nm/s */
    double stop_torque_rate; /* Nm/s, while stopping and in a fault */
    double contact_torque;   /* Nm from outside: fault; 0 for none */
    double braking_decel_2a; /* rad/s^2: |dq| <= -offset + sqrt(2a * distance to the stop) */
    double braking_offset;   /* rad/s */
};

/* coulomb (tanh(slope/2 (dq + shift)) - tanh(slope/2 shift)) + viscous dq; see physai_base/embodiment.py. */
struct physai_friction {
    double coulomb; /* Nm */
    double slope;   /* s/rad */
    double shift;   /* rad/s */
    double viscous; /* Nm s/rad */
};

enum physai_fence_kind {
    PHYSAI_FENCE_INSIDE = 0,  /* stay in the box low..high */
    PHYSAI_FENCE_OUTSIDE = 1, /* stay out of the box low..high */
    PHYSAI_FENCE_PLANE = 2,   /* normal (unit) . point >= offset */
};

/* The points that a fence holds for: bit 2 t is the tool t, bit 2 t + 1 its elbow. Of the first tool: */
enum {
    PHYSAI_FENCE_TOOL = 1u << 0,
    PHYSAI_FENCE_ELBOW = 1u << 1,
};

struct physai_fence {
    uint32_t kind;   /* enum physai_fence_kind */
    uint32_t points; /* which it holds for, as bits */
    double low[3];   /* m, base frame */
    double high[3];
    double normal[3];
    double offset; /* m */
};

enum physai_law {
    PHYSAI_LAW_JOINT = 0,     /* joint impedance */
    PHYSAI_LAW_CARTESIAN = 1, /* Cartesian impedance with a null space */
};

/* What may change while the arm moves; a change never makes a step in the torque. */
struct physai_settings {
    uint32_t law;     /* enum physai_law */
    uint32_t reduced; /* reduced mode: speed and force scaled by the config's factors */
    uint32_t use_residual;
    uint32_t reserved;
    double stiffness[PHYSAI_MAX_JOINTS];     /* Nm/rad */
    double damping_ratio[PHYSAI_MAX_JOINTS]; /* of the stiffness with the joint's own inertia */
    double clip[PHYSAI_MAX_JOINTS];          /* rad: joint errors beyond it do not raise the torque */
    double cartesian_stiffness[6];           /* N/m along, Nm/rad about the axes of the base frame */
    double cartesian_damping_ratio[2];       /* of translation and rotation, with the arm's own inertia */
    double cartesian_clip[2];                /* m, rad: the force is at most stiffness x clip */
    double nullspace_stiffness;              /* Nm/rad towards the posture */
    double nullspace_damping_ratio;
    /* N, Nm that each tool shall exert, base frame, Cartesian law */
    double target_wrench[PHYSAI_MAX_TOOLS][6];
    double friction_compensation; /* share of the friction that is fed forward, 0 to 1 */
    double tank_energy; /* J that the law may put into the arm beyond what it takes out; 0: no tank */
    double tank_power;  /* W by which the tank fills again */
};

/* An end effector: what a policy moves and a gripper, if any, sits on. */
struct physai_tool {
    char name[PHYSAI_NAME_SIZE];
    char frame[PHYSAI_NAME_SIZE];       /* site or body of the model */
    char elbow_frame[PHYSAI_NAME_SIZE]; /* site or body that fences may hold for; empty for none */
    struct physai_gripper gripper;
    double payload_mass;   /* kg beyond the model */
    double payload_com[3]; /* m, tool frame */
};

struct physai_control_config {
    uint32_t abi; /* PHYSAI_CONTROL_ABI */
    uint32_t n_joints;
    uint32_t n_tools;
    uint32_t adds_gravity; /* 0: the robot adds its own weight's torque; Coriolis torque is ours to add */
    uint32_t realtime;     /* try SCHED_FIFO and mlockall */
    uint32_t position_commanded; /* the robot takes joint positions or velocities, not torques */
    uint32_t n_fences;
    uint32_t reserved;
    char model_path[1024];             /* MJCF, URDF, or a binary model of MuJoCo's if it ends in .mjb */
    char base_frame[PHYSAI_NAME_SIZE]; /* body of the model */
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    struct physai_tool tools[PHYSAI_MAX_TOOLS];
    struct physai_fence fences[PHYSAI_MAX_FENCES];
    struct physai_joint_limits joints[PHYSAI_MAX_JOINTS];
    struct physai_joint_limits pose[2]; /* of the tool: each translation axis, each rotation axis */
    struct physai_friction friction[PHYSAI_MAX_JOINTS];
    double encoder_offset[PHYSAI_MAX_JOINTS]; /* rad, subtracted from what the encoders say */
    double command_delay_s;                   /* from a command to its torque: the reference runs ahead */
    struct physai_settings settings;          /* at the start */
    double rate_hz;                           /* of the loop */
    double blend_s;             /* shortest time over which a mismatch with a new chunk decays */
    double gain_ramp_s;         /* after activation and reset */
    double stop_acceleration;   /* rad/s^2 of the reference */
    double state_timeout_s;     /* CLOCK_MONOTONIC */
    double velocity_trip;       /* times the velocity limit */
    double tracking_trip_rad;   /* |reference - measured| */
    double pose_trip[2];        /* m, rad between the tool and its reference, Cartesian law: fault */
    double position_margin_rad; /* measured joint position beyond its limit: fault */
    double geofence_margin_m;   /* measured point beyond a fence, or arms nearer than allowed: fault */
    double arms_distance;      /* m between any two arms, each the line from its elbow to its tool; 0: none */
    double chunk_jump_rad;     /* first future setpoint - reference */
    double chunk_jump_m;       /* the same of a tool position */
    double chunk_lead_s;       /* a chunk may start this far in the future */
    double observer_gain;      /* 1/s, of the momentum observer */
    double contact_force;      /* N from outside on the tool: fault; 0 for none */
    double contact_moment;     /* Nm */
    double reduced_speed;      /* reduced mode: times the joint velocity limits */
    double reduced_tool_speed; /* m/s */
    double reduced_force;      /* times the clips and the contact thresholds */
    char hardware_path[1024];  /* shared library; empty when the caller runs the cycles */
    char hardware_options[1024];
};

enum physai_chunk_mode {
    PHYSAI_CHUNK_JOINTS = 0, /* rows of n_joints positions, rad */
    PHYSAI_CHUNK_POSE = 1,   /* rows of each tool's position, m, and quaternion w x y z, base frame */
};

/* H setpoints at dt from start_ns. */
struct physai_chunk {
    uint64_t sequence;
    uint64_t lease; /* whose chunk: while one is followed, those of other leases are refused; not 0 */
    int64_t observation_ns;
    int64_t start_ns;
    int64_t dt_ns;
    int64_t expiry_ns; /* at rest by then unless a newer chunk came */
    uint32_t mode;     /* enum physai_chunk_mode */
    uint32_t n_values; /* in a row: n_joints, or 7 for each tool */
    uint32_t n_steps;
    uint32_t reserved;
    double values[PHYSAI_MAX_STEPS][PHYSAI_MAX_JOINTS];
    /* of each gripper, in its unit; 0 where there is none */
    double opening[PHYSAI_MAX_STEPS][PHYSAI_MAX_TOOLS];
};

/* Counts of durations in buckets 3 % wide; physai_control_bucket_ns gives a bucket's upper edge. */
struct physai_latency {
    uint64_t count[PHYSAI_LATENCY_BUCKETS];
    uint64_t total;
    uint64_t sum_ns;
    uint64_t max_ns;
};

/* What a tool does, in the base frame. */
struct physai_tool_status {
    double pose[7];       /* m and quaternion w x y z, measured */
    double reference[7];  /* the same, wanted; with the joint law as measured */
    double pose_error[6]; /* m, rad: reference - measured */
    double wrench[6];     /* N, Nm from outside, estimated */
    double opening;       /* of its gripper, measured */
    double opening_target;
};

struct physai_status {
    uint32_t state;      /* enum physai_control_state */
    uint32_t cause;      /* enum physai_cause */
    int32_t cause_joint; /* or tool, point or pair of tools; -1: none */
    uint32_t paused;     /* stop was requested: chunks are refused until resume */
    uint32_t fifo;       /* SCHED_FIFO was granted */
    uint32_t locked;     /* memory is locked */
    uint32_t law;        /* enum physai_law in force */
    uint32_t space;      /* enum physai_chunk_mode of the reference */
    uint32_t reduced;
    uint32_t degraded;
    uint32_t residual_active;
    uint32_t gaps; /* states of the robot that were skipped, in all */
    uint64_t cause_cycle;
    int64_t cause_time_ns;
    double cause_value;
    double cause_limit;
    uint64_t cause_sequence;
    int64_t time_ns; /* of the last state */
    uint64_t seq;    /* of the last state */
    uint64_t cycles;
    uint64_t overruns;
    uint64_t missed_states;
    uint64_t chunks_accepted;
    uint64_t chunks_rejected;
    uint64_t chunks_dropped;  /* accepted but overtaken by a stop or no longer near the reference */
    uint64_t active_sequence; /* 0: none */
    uint64_t active_lease;    /* of that chunk */
    int64_t observation_ns;   /* of the active chunk */
    double q[PHYSAI_MAX_JOINTS];
    double dq[PHYSAI_MAX_JOINTS];
    double reference[PHYSAI_MAX_JOINTS];
    double reference_velocity[PHYSAI_MAX_JOINTS];
    double reference_acceleration[PHYSAI_MAX_JOINTS];
    double tau[PHYSAI_MAX_JOINTS];          /* commanded; measured where it takes positions */
    double tau_external[PHYSAI_MAX_JOINTS]; /* estimated */
    double tank;                            /* J in the energy tank */
    struct physai_tool_status tools[PHYSAI_MAX_TOOLS];
    struct physai_latency compute;
    struct physai_latency wake;
    char cause_text[PHYSAI_TEXT_SIZE];
    char last_rejection[PHYSAI_TEXT_SIZE];
};

/* One cycle as the black box keeps it. */
struct physai_record {
    uint64_t cycle;
    uint32_t control_state; /* enum physai_control_state */
    uint32_t answered;      /* a command was sent */
    struct physai_state state;
    struct physai_command command;
};

struct physai_control; /* opaque */

/* ---- the other side: any thread, may lock and allocate ---- */

PHYSAI_API uint32_t physai_control_abi_version(void);
PHYSAI_API const char *physai_control_strerror(int error);

/* Line by line what structs and numbers of these headers are here, so that a binding can check itself; -1
 * after the last one (cmake/layout.py). */
PHYSAI_API int physai_control_layout(int line, char *text, size_t size);

/* Checks the config, loads the model, allocates everything. On an error `text` says what is wrong. */
PHYSAI_API int physai_control_create(const struct physai_control_config *config,
                                     struct physai_control **control, char *text, size_t text_size);

/* Opens the hardware and starts the real-time thread. */
PHYSAI_API int physai_control_start(struct physai_control *control, char *text, size_t text_size);

/* Ends the thread and closes the hardware. The robot's brakes or gate take over. */
PHYSAI_API int physai_control_stop(struct physai_control *control);
PHYSAI_API void physai_control_destroy(struct physai_control *control);

/* Validates the whole chunk and hands it over; a refused chunk changes nothing and `text` says why. */
PHYSAI_API int physai_control_post_chunk(struct physai_control *control, const struct physai_chunk *chunk,
                                         char *text, size_t text_size);

/*
 * Takes new settings as a whole, from the next cycle on; wrong ones are refused with the reason and change
 * nothing. The torque passes from the old law to the new one without a step. A change to the joint law while
 * the tool follows a pose brings the arm to rest.
 */
PHYSAI_API int physai_control_post_settings(struct physai_control *control,
                                            const struct physai_settings *settings, char *text,
                                            size_t text_size);
/* The calibration's learned residual, NULL for none; before the thread is started. */
struct physai_residual_network;
PHYSAI_API int physai_control_set_residual(struct physai_control *control,
                                           const struct physai_residual_network *network, char *text,
                                           size_t text_size);

PHYSAI_API int physai_control_read_settings(struct physai_control *control, struct physai_settings *settings);

/*
 * The cycles around the last latched stop, oldest first: copies up to `size` records and returns how many, 0
 * while none is complete. The box records again once it has been read.
 */
PHYSAI_API int physai_control_read_records(struct physai_control *control, struct physai_record *records,
                                           int size);

/* An emergency stop of every control core of this process when the signal comes, whatever else the process
 * is busy with. Returns 0 or PHYSAI_ERROR_ARGUMENT. */
PHYSAI_API int physai_control_estop_on_signal(int signal_number);

/* Asks for changes of state (a set of enum physai_control_request); they take effect in the next cycle. */
PHYSAI_API int physai_control_request(struct physai_control *control, uint32_t requests);
PHYSAI_API int physai_control_read_status(struct physai_control *control, struct physai_status *status);

/* Upper edge of a latency bucket. */
PHYSAI_API uint64_t physai_control_bucket_ns(int bucket);
PHYSAI_API void physai_control_clear_latency(struct physai_control *control);

/* ---- the real-time side: one thread at a time ---- */

/*
 * One cycle. `state` is NULL when no new state came. Returns 1 when `command` is to be sent, else 0.
 * Wait-free; no allocation, lock or system call. Do not call it while a thread of physai_control_start runs.
 */
PHYSAI_API int physai_control_cycle(struct physai_control *control, const struct physai_state *state,
                                    struct physai_command *command);

#ifdef __cplusplus
}
#endif
#endif
