/*
 * physai_plant.h: the physics side of the embedded cell.
 *
 * Steps a MuJoCo model in lock step with a controller: through shared memory (another process) or by calling
 * the controller's cycle directly (the same process). Its gate stops the arm when commands stop.
 *
 * One thread runs the plant; physai_plant_interrupt may be called from any thread.
 */
#ifndef PHYSAI_PLANT_H
#define PHYSAI_PLANT_H

#include "physai_hardware.h"

#define PHYSAI_PLANT_ABI      5u
#define PHYSAI_PLANT_LOG_SIZE 8192
#define PHYSAI_PLANT_DELAYS   64 /* command_delay_steps are fewer */

/* What holds the arm. */
enum physai_gate {
    PHYSAI_GATE_BRAKED = 0,  /* no controller, or it is inactive: brakes hold the arm */
    PHYSAI_GATE_DRIVEN = 1,  /* a controller's torques are applied, or its positions followed */
    PHYSAI_GATE_MISSING = 2, /* commands are missing, the last torque is held */
    PHYSAI_GATE_DAMPING = 3, /* latched: gravity compensation and damping */
    PHYSAI_GATE_LATCHED = 4, /* latched: brakes hold the arm until a reset */
};

struct physai_plant_config {
    uint32_t abi;
    uint32_t n_joints;
    uint32_t n_tools;
    uint32_t adds_gravity;        /* the robot's drives carry its weight, commands come on top */
    uint32_t command_delay_steps; /* a command's torque acts so many steps later, as in a slow drive */
    uint32_t cycle_steps;         /* steps of the physics for each cycle of the controller */
    uint32_t takes_positions;     /* servos of the robot's own follow the commanded positions, which are all
                                     that it measures; 0: it takes and measures torques */
    uint32_t reserved;
    int32_t qpos[PHYSAI_MAX_JOINTS]; /* addresses in mjData */
    int32_t dof[PHYSAI_MAX_JOINTS];
    struct physai_gripper grippers[PHYSAI_MAX_TOOLS]; /* their forces are of all fingers together */
    int32_t finger_qpos[PHYSAI_MAX_TOOLS][PHYSAI_MAX_FINGERS];
    int32_t finger_dof[PHYSAI_MAX_TOOLS][PHYSAI_MAX_FINGERS];
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    char shm_name[PHYSAI_NAME_SIZE];        /* empty: no shared memory */
    double torque_limit[PHYSAI_MAX_JOINTS]; /* Nm; a command beyond it counts as none */
    double servo_stiffness[PHYSAI_MAX_JOINTS], servo_damping[PHYSAI_MAX_JOINTS]; /* Nm/rad, Nms/rad */
    double servo_speed[PHYSAI_MAX_JOINTS]; /* rad/s that a servo catches up with at most */
    double real_time_factor;               /* 0: as fast as possible */
    double gate_s;                         /* simulated time without a command until the gate acts */
    double damping_s;                      /* simulated time of damping before the brakes close */
    double grace_s;                        /* wall time that a living controller may take for one command */
};

/* The truth at one step. */
struct physai_plant_sample {
    double time_s;
    uint32_t gate;
    uint32_t missed; /* commands missed in a row */
    double q[PHYSAI_MAX_JOINTS];
    double dq[PHYSAI_MAX_JOINTS];
    double tau[PHYSAI_MAX_JOINTS]; /* Nm applied by the controller or the gate */
};

struct physai_plant;
typedef int (*physai_cycle)(void *controller, const struct physai_state *state,
                            struct physai_command *command);

PHYSAI_API uint32_t physai_plant_abi_version(void);
PHYSAI_API int physai_plant_layout(int line, char *text, size_t size); /* as physai_control_layout */

/* `model` and `data` are an mjModel and an mjData that outlive the plant. */
PHYSAI_API int physai_plant_create(void *model, void *data, const struct physai_plant_config *config,
                                   struct physai_plant **plant, char *text, size_t text_size);
PHYSAI_API void physai_plant_destroy(struct physai_plant *plant);

/* The controller in this process; NULL for none. */
PHYSAI_API void physai_plant_set_controller(struct physai_plant *plant, physai_cycle cycle, void *controller);

/* Run n steps; returns how many were run (fewer after an interrupt), or -1 when physics diverged. */
PHYSAI_API int physai_plant_run(struct physai_plant *plant, int n);

/*
 * Go on in another cell with the same robot, whose joints stand and move in `data` as they did here: the
 * controller sees no difference. `config` says where they are in that model; nothing else of it counts.
 * Between two runs.
 */
PHYSAI_API void physai_plant_move(struct physai_plant *plant, void *model, void *data,
                                  const struct physai_plant_config *config);

/* Open the gate again and tell the controller that the arm was moved on purpose. */
PHYSAI_API void physai_plant_reset(struct physai_plant *plant);
PHYSAI_API void physai_plant_interrupt(struct physai_plant *plant);
PHYSAI_API uint32_t physai_plant_gate(const struct physai_plant *plant);

/* Copy the newest samples, oldest first; returns how many. Not while the plant runs. */
PHYSAI_API int physai_plant_log(const struct physai_plant *plant, struct physai_plant_sample *samples,
                                int size);

#endif
