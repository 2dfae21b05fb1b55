/* Kinematics and dynamics of the arm, from its MJCF or URDF through MuJoCo. */
#ifndef PHYSAI_DYNAMICS_H
#define PHYSAI_DYNAMICS_H

#include "physai_control.h"

#include <mujoco/mujoco.h>
#include <stdbool.h>

/* The model, shared read-only by the real-time and the other side. */
struct physai_model {
    mjModel *mj;
    uint32_t n_joints;
    uint32_t n_fingers;
    int q_address[PHYSAI_MAX_JOINTS];
    int v_address[PHYSAI_MAX_JOINTS];
    int finger_address[PHYSAI_MAX_JOINTS];
    int tool_site;
    int base_body;
};

/* One side's workspace and results. */
struct physai_dynamics {
    const struct physai_model *model;
    mjData *mj;
    mjtNum *full;                                         /* nv x nv */
    mjtNum *jacobian;                                     /* 6 x nv */
    double inertia[PHYSAI_MAX_JOINTS][PHYSAI_MAX_JOINTS]; /* kg m^2 */
    double bias[PHYSAI_MAX_JOINTS];                       /* Nm: Coriolis, and gravity if the core adds it */
    double gravity[PHYSAI_MAX_JOINTS];                    /* Nm: the same at rest */
    double tool_jacobian[6][PHYSAI_MAX_JOINTS];           /* base frame, linear then angular */
    double tool_position[3];                              /* m, base frame */
};

int physai_model_load(struct physai_model *model, const struct physai_control_config *config, char *text,
                      size_t text_size);
void physai_model_free(struct physai_model *model);

int physai_dynamics_init(struct physai_dynamics *dynamics, const struct physai_model *model);
void physai_dynamics_fini(struct physai_dynamics *dynamics);

/* Tool position alone. No allocation. */
void physai_dynamics_tool(struct physai_dynamics *dynamics, const double *q);

/* Everything. No allocation; returns false if MuJoCo reported an error. */
bool physai_dynamics_update(struct physai_dynamics *dynamics, const double *q, const double *dq,
                            double gripper_width);

/* The wrench on the tool that explains joint torques best: damped least squares of J^T w = tau. */
void physai_dynamics_wrench(const struct physai_dynamics *dynamics, const double *tau, double wrench[6]);

#endif
