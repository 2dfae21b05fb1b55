/* The control laws: from a reference and the measured state to joint torques. No limits here; see cycle.c. */
#ifndef PHYSAI_LAW_H
#define PHYSAI_LAW_H

#include "model/dynamics.h"
#include "model/friction.h"
#include "motion/plan.h"

#include <stdbool.h>

/* The wanted motion of a tool in the base frame. */
struct physai_pose_motion {
    double position[3];     /* m */
    double orientation[4];  /* quaternion */
    double velocity[6];     /* m/s, rad/s */
    double acceleration[6]; /* m/s^2, rad/s^2 */
};

/* What the laws remember from cycle to cycle. */
struct physai_law_memory {
    /* Of each tool the eigenvectors, the columns, of the last stiffness as seen by the inertia. */
    double modes[PHYSAI_MAX_TOOLS][6][6];
    bool warm;                      /* `modes` is from the last cycle */
    double bump[PHYSAI_MAX_JOINTS]; /* Nm: what keeps the torque from stepping when the law changes */
    int64_t bump_start_ns;
    double tank; /* J */
};

/* One cycle's input of either law. */
struct physai_law_input {
    const struct physai_settings *settings;
    const struct physai_control_config *config;
    const struct physai_dynamics *dynamics;
    const struct physai_friction_curves *friction;
    uint32_t n;
    double gain;                             /* 0..1, times all stiffness */
    double force;                            /* 0..1, times all clips */
    const double *q;                         /* measured, rad */
    const double *dq;                        /* rad/s */
    const struct physai_motion *reference;   /* of the joints; the posture of the Cartesian law */
    const struct physai_pose_motion *tools;  /* Cartesian law, of each tool */
    const struct physai_tool_status *status; /* of each tool: pose_error */
};

/*
 * tau = K clip(r - q) + D (dr - dq) + M ddr + h, each joint for itself, with D_i = 2 zeta sqrt(K_i M_ii).
 */
void physai_joint_law(const struct physai_law_input *input, double *tau);

/*
 * tau = J^T [K clip(e) + D (dx_r - J dq) + Lambda (ddx_r - dJ dq) + f] + (1 - J^T Lambda J M^-1) tau_0 + h.
 *
 * Lambda = (J M^-1 J^T)^-1 is the arm's inertia at the tool (Khatib 1987, doi 10.1109/JRA.1987.1087068), and
 * D = 2 zeta (Lambda # K) with the geometric mean of the two, which damps every mode of Lambda, K with the
 * ratio zeta. Near singular poses Lambda is bounded, so force and torque stay bounded, too. Returns false
 * when the inertia is not positive definite. With several tools, of which no two share a joint, M is one
 * block for each, and each takes its own J^T Lambda J M^-1 out of the one tau_0.
 */
bool physai_cartesian_law(const struct physai_law_input *input, struct physai_law_memory *memory,
                          double *tau);

/* Where a tool is wanted, minus where it is: m, and the rotation vector in the base frame. */
void physai_pose_error(const struct physai_pose_motion *wanted, const struct physai_tool_motion *tool,
                       double error[6]);

/*
 * The energy tank: the law may give the arm no more energy than the tank holds (Hannaford and Ryu 2002, doi
 * 10.1109/70.988969: a passivity observer and controller at the actuators). `bias` is the torque that
 * balances gravity and Coriolis and does not count. What the arm was given by `applied`, the last torque
 * after all limits, is booked; what of `tau` exceeds the tank is scaled away.
 */
void physai_energy_tank(const struct physai_settings *settings, struct physai_law_memory *memory, uint32_t n,
                        double step_s, const double *bias, const double *dq, const double *applied,
                        double *tau);

#endif
