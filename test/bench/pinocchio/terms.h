/* The arm's dynamics terms by Pinocchio, behind C functions: what bench_cycle.c times beside the control
 * core. */
#ifndef PHYSAI_BENCH_TERMS_H
#define PHYSAI_BENCH_TERMS_H

#ifdef __cplusplus
extern "C" {
#endif

#define TERMS_JOINTS 32
#define TERMS_ARM    7 /* joints of the arm that the tool's inertia is computed for */

/* The arm in numbers; poses are a rotation row by row, then a position, in the parent joint's frame. */
struct terms_arm {
    int n, tool_joint;
    int parent[TERMS_JOINTS]; /* -1: the base */
    double placement[TERMS_JOINTS][12];
    double axis[TERMS_JOINTS][3];
    double mass[TERMS_JOINTS];
    double centre[TERMS_JOINTS][3];
    double inertia[TERMS_JOINTS][6]; /* xx yy zz xy xz yz about the centre */
    double armature[TERMS_JOINTS];
    double gravity[3];
    double tool[12];
};

/* Its terms in the base frame; Jacobian and drift linear, then angular. */
struct terms {
    double inertia[TERMS_JOINTS][TERMS_JOINTS];
    double bias[TERMS_JOINTS], gravity[TERMS_JOINTS];
    double jacobian[6][TERMS_JOINTS];
    double position[3], rotation[9], drift[6];
    double tool_inertia[6][6], null_space[TERMS_JOINTS][TERMS_JOINTS]; /* after terms_update_tool */
};

struct terms_pinocchio;

struct terms_pinocchio *terms_open(const struct terms_arm *arm);

/* Computes all of them at one state but the last two. */
void terms_update(struct terms_pinocchio *pinocchio, const double *q, const double *dq);

/*
 * After it, at the same state: the inertia at the tool, L = (J M^-1 J^T)^-1, and the projector of torques
 * onto the null space, 1 - J^T L J M^-1 (Khatib 1987). The arm must have TERMS_ARM joints.
 */
void terms_update_tool(struct terms_pinocchio *pinocchio);

/* Copies out what the last updates computed. */
void terms_read(const struct terms_pinocchio *pinocchio, struct terms *terms);

#ifdef __cplusplus
}
#endif
#endif
