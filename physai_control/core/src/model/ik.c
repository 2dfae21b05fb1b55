#include "model/ik.h"

#include "model/linear.h"
#include "model/rotation.h"

#include <string.h>

#define ROUNDS       60
#define DAMPING      1e-4 /* m^2, rad^2: of the least squares */
#define LARGEST_STEP 0.2  /* rad in a round */
#define ARM_M        0.1  /* a rotation error of 1 rad counts like so many metres */

static void pose_error(const struct physai_tool_motion *tool, const double pose[7], double error[6])
{
    double measured[4], turn[3];
    physai_quat_from_matrix(tool->rotation, measured);
    physai_quat_difference(measured, pose + 3, turn);
    physai_quat_rotate(measured, turn, error + 3);
    for (int i = 0; i < 3; i++)
        error[i] = pose[i] - tool->position[i];
}

static double size(const double error[6])
{
    double square = 0;
    for (int i = 0; i < 6; i++)
        square += (i < 3 ? 1 : ARM_M * ARM_M) * error[i] * error[i];
    return sqrt(square);
}

/* Damped least squares (Wampler 1986, doi 10.1109/TSMC.1986.289285): dq = J^T (J J^T + damping)^-1 error. */
static bool step(const struct physai_tool_motion *tool, uint32_t n, const double error[6], double *dq)
{
    double square[6][6], y[6];
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b <= a; b++) {
            square[a][b] = a == b ? DAMPING : 0;
            for (uint32_t i = 0; i < n; i++)
                square[a][b] += tool->jacobian[a][i] * tool->jacobian[b][i];
            square[b][a] = square[a][b];
        }
    }
    memcpy(y, error, sizeof y);
    if (!physai_factor(6, 6, &square[0][0]))
        return false;
    physai_solve(6, 6, &square[0][0], 1, y);
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        dq[i] = 0;
        for (int a = 0; a < 6; a++)
            dq[i] += tool->jacobian[a][i] * y[a];
        largest = fmax(largest, fabs(dq[i]));
    }
    if (largest > LARGEST_STEP)
        for (uint32_t i = 0; i < n; i++)
            dq[i] *= LARGEST_STEP / largest;
    return true;
}

double physai_inverse_kinematics(struct physai_dynamics *d, uint32_t tool,
                                 const struct physai_joint_limits *joints, const double pose[7], double *q)
{
    uint32_t n = d->model->n_joints;
    double error[6], dq[PHYSAI_MAX_JOINTS];
    for (int round = 0;; round++) {
        physai_dynamics_kinematics(d, q);
        pose_error(&d->tools[tool], pose, error);
        if (size(error) <= PHYSAI_IK_TOLERANCE || round == ROUNDS)
            return size(error);
        if (!step(&d->tools[tool], n, error, dq))
            return INFINITY;
        for (uint32_t i = 0; i < n; i++)
            q[i] = fmax(joints[i].position_min, fmin(joints[i].position_max, q[i] + dq[i]));
    }
}
