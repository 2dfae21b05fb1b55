/*
 * Kinematics and dynamics of the arm. MuJoCo reads its MJCF or URDF; what the cycle needs of it is compiled
 * into a flat tree of links with one joint each, and computed by our own recursions.
 *
 * Frames: everything that leaves this file is in the base frame, the body of the model that the config names.
 */
#ifndef PHYSAI_DYNAMICS_H
#define PHYSAI_DYNAMICS_H

#include "physai_control.h"

#include <mujoco/mujoco.h>
#include <stdbool.h>

#define PHYSAI_FINGERS   (PHYSAI_MAX_TOOLS * PHYSAI_MAX_FINGERS) /* of all grippers */
#define PHYSAI_MAX_LINKS (PHYSAI_MAX_JOINTS + PHYSAI_FINGERS)

/* A frame in another one; the rotation row by row. */
struct physai_pose {
    double rotation[9];
    double position[3]; /* m */
};

/* Of a rigid body, in and about its link's frame. */
struct physai_inertia {
    double mass;      /* kg */
    double moment[3]; /* kg m: mass times centre of mass */
    double second[6]; /* kg m^2: xx yy zz xy xz yz */
};

/* What one joint moves. Its frame sits in the joint, with the joint's axis as z. */
struct physai_link {
    int parent; /* link that carries it, -1: the base */
    bool slides;
    double zero;                   /* rad or m: joint position at which the frame is `at_zero` */
    struct physai_pose at_zero;    /* in the parent's frame */
    struct physai_inertia inertia; /* with all bodies that no other joint of the arm or gripper moves */
};

/* A frame fixed to a link. */
struct physai_frame {
    int link; /* -1: none */
    struct physai_pose pose;
};

/* Where a finger is: `closed` + `ratio` times its gripper's opening. */
struct physai_finger_map {
    int tool;
    int address; /* in MuJoCo's qpos */
    double closed;
    double ratio;
};

/*
 * The model, shared read-only by the real-time and the other side. Links of the arms stand at the index that
 * the config gives their joint, those of the grippers from PHYSAI_MAX_JOINTS on. Other joints of the model
 * stay at their initial position.
 */
struct physai_model {
    mjModel *mj;
    struct physai_frame *bodies; /* where MuJoCo's bodies sit on the links */
    uint32_t n_joints;
    uint32_t n_tools;
    uint32_t n_fingers;
    int v_address[PHYSAI_MAX_JOINTS];
    struct physai_finger_map fingers[PHYSAI_FINGERS];
    struct physai_link links[PHYSAI_MAX_LINKS];
    int order[PHYSAI_MAX_JOINTS];           /* links of the arm, parents first */
    int finger_order[PHYSAI_FINGERS];       /* links of the grippers, parents first */
    bool carries_finger[PHYSAI_MAX_JOINTS]; /* links of the arm whose inertia a gripper's opening changes */
    double armature[PHYSAI_MAX_JOINTS];     /* kg m^2: inertia of the drives */
    double gravity[3];                      /* m/s^2, base frame */
    bool adds_gravity;                      /* the controller, or else the robot of its own */
    struct physai_pose base;                /* in MuJoCo's world */
    struct physai_frame tools[PHYSAI_MAX_TOOLS];
    struct physai_frame elbows[PHYSAI_MAX_TOOLS];
    int shared; /* a joint that moves two tools, -1 if none does */
};

/* A tool and its elbow, base frame. The loops over joints are as wide as the arrays or a part of them. */
struct physai_tool_motion {
    double jacobian[6][PHYSAI_MAX_JOINTS]; /* linear then angular */
    double position[3];                    /* m */
    double rotation[9];                    /* row by row, base frame from tool */
    double drift[6]; /* m/s^2, rad/s^2: its acceleration at constant dq, linear then angular */
    double elbow_position[3];
    double elbow_jacobian[3][PHYSAI_MAX_JOINTS];
    struct physai_frame frame; /* on a link of the arm */
    struct physai_frame elbow;
};

/* One side's workspace and results. */
struct physai_dynamics {
    const struct physai_model *model;

    /* Results. */
    double inertia[PHYSAI_MAX_JOINTS][PHYSAI_MAX_JOINTS]; /* kg m^2 */
    double load[PHYSAI_MAX_JOINTS];                       /* Nm: Coriolis and gravity */
    double bias[PHYSAI_MAX_JOINTS];                       /* Nm: what of it the controller has to add */
    double gravity[PHYSAI_MAX_JOINTS];                    /* Nm: the same at rest */
    struct physai_tool_motion tools[PHYSAI_MAX_TOOLS];
    double factor[PHYSAI_MAX_JOINTS]
                 [PHYSAI_MAX_JOINTS]; /* inertia = L D L^T; the inverse of D on the diagonal */

    /* The arms with their payloads and with the grippers as they are open, by component and link. */
    struct physai_inertia payload[PHYSAI_MAX_TOOLS]; /* in the tool's frame */
    struct physai_inertia carried[PHYSAI_MAX_LINKS]; /* links with the payloads, each without its gripper */
    double opening[PHYSAI_MAX_TOOLS];
    double finger[PHYSAI_FINGERS];    /* position of each */
    int padded;                       /* n_joints rounded up for the sake of vector instructions */
    double turns[PHYSAI_MAX_JOINTS];  /* 1 for a hinge, 0 for a slide */
    double slides[PHYSAI_MAX_JOINTS]; /* the other way round */
    double zero[PHYSAI_MAX_JOINTS];   /* joint position of the frame that follows, in the parent's */
    double zero_frame[PHYSAI_MAX_JOINTS][3][4]; /* axes and origin, row by row */
    double mass[PHYSAI_MAX_JOINTS];             /* kg */
    double centre[3][PHYSAI_MAX_JOINTS];        /* m, of mass, link's frame */
    double second[6][PHYSAI_MAX_JOINTS];        /* kg m^2, about the centre, link's frame */
};

int physai_model_load(struct physai_model *model, const struct physai_control_config *config, char *text,
                      size_t text_size);
void physai_model_free(struct physai_model *model);

/* No allocation in what follows; all but init and the payload may be called in a cycle. */
int physai_dynamics_init(struct physai_dynamics *dynamics, const struct physai_model *model);
void physai_dynamics_fini(struct physai_dynamics *dynamics);

/*
 * What a tool carries: mass in kg, centre of mass in m, inertia about it in kg m^2 (xx yy zz xy xz yz), all
 * in the tool's frame. Replaces an earlier payload; counts from the next update on.
 */
void physai_dynamics_set_payload(struct physai_dynamics *dynamics, uint32_t tool, double mass,
                                 const double com[3], const double inertia[6]);

/* Of all tools the poses alone: position, rotation, elbow_position. */
void physai_dynamics_poses(struct physai_dynamics *dynamics, const double *q);

/* The same with both Jacobians. */
void physai_dynamics_kinematics(struct physai_dynamics *dynamics, const double *q);

/* Everything but the factor. False if a result is not finite. */
bool physai_dynamics_update(struct physai_dynamics *dynamics, const double *q, const double *dq,
                            const double *opening);

/* torque = inertia ddq; or the momentum of dq. */
void physai_dynamics_inertial(const struct physai_dynamics *dynamics, const double *ddq, double *torque);

/* Factors the inertia for physai_dynamics_solve. False, and nothing to be solved, if it is not positive
 * definite. */
bool physai_dynamics_factor(struct physai_dynamics *dynamics);

/* x = inertia^-1 rhs, with the last factor; both may be the same array. */
void physai_dynamics_solve(const struct physai_dynamics *dynamics, const double *rhs, double *x);

/* inertia^-1 jacobian^T of a tool, with the last factor. */
void physai_dynamics_weigh_tool(const struct physai_dynamics *dynamics, uint32_t tool,
                                double weighted[PHYSAI_MAX_JOINTS][6]);

/* The wrench on a tool that explains joint torques best: damped least squares of J^T w = tau. */
void physai_dynamics_wrench(const struct physai_dynamics *dynamics, uint32_t tool, const double *tau,
                            double wrench[6]);

#endif
