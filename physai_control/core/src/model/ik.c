#include "model/ik.h"

#include "model/linear.h"
#include "model/rotation.h"
#include "physai_control.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N             PHYSAI_MAX_JOINTS
#define DAMPING       1e-5 /* m^2, rad^2: of the least squares */
#define LARGEST_STEP  0.3  /* rad in a round */
#define POSTURE_SHARE 0.1  /* of the way to the posture, once for each pose */

/* What is left to the target: m along the base's axes, rad about them. */
static void pose_error(const struct physai_tool_motion *tool, const double position[3],
                       const double rotation[9], double error[6])
{
    double turn[9], q[4];
    for (int i = 0; i < 3; i++) {
        error[i] = position[i] - tool->position[i];
        for (int j = 0; j < 3; j++) {
            turn[3 * i + j] = 0;
            for (int k = 0; k < 3; k++)
                turn[3 * i + j] += rotation[3 * i + k] * tool->rotation[3 * j + k];
        }
    }
    physai_quat_from_matrix(turn, q);
    physai_quat_log(q, error + 3);
}

/* Rows 3 to 5 along the target's axes, and all times their weights. */
static void weigh(const double rotation[9], const double weights[6], int columns, int width, double *rows)
{
    for (int c = 0; c < columns; c++) {
        double about[3];
        for (int i = 0; i < 3; i++) {
            about[i] = 0;
            for (int k = 0; k < 3; k++)
                about[i] += rotation[3 * k + i] * rows[(3 + k) * width + c];
        }
        for (int i = 0; i < 3; i++) {
            rows[i * width + c] *= weights[i];
            rows[(3 + i) * width + c] = weights[3 + i] * about[i];
        }
    }
}

static double length(const double v[3])
{
    return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

/* x <- J^T (J J^T + damping)^-1 y, with the factored matrix. */
static void pseudo_inverse(const double jacobian[6][N], const double factor[6][6], int n, double y[6],
                           double *x)
{
    physai_solve(6, 6, &factor[0][0], 1, y);
    for (int i = 0; i < n; i++) {
        x[i] = 0;
        for (int a = 0; a < 6; a++)
            x[i] += jacobian[a][i] * y[a];
    }
}

/*
 * Damped least squares (Wampler 1986, doi 10.1109/TSMC.1986.289285): dq = J^T (J J^T + damping)^-1 error.
 * With a pull, its share that does not move the tool is added.
 */
static bool step(const double jacobian[6][N], int n, const double error[6], const double *pull, double *dq)
{
    double square[6][6], y[6], moved[N], largest = 0;
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b <= a; b++) {
            square[a][b] = a == b ? DAMPING : 0;
            for (int i = 0; i < n; i++)
                square[a][b] += jacobian[a][i] * jacobian[b][i];
            square[b][a] = square[a][b];
        }
    }
    if (!physai_factor(6, 6, &square[0][0]))
        return false;
    memcpy(y, error, sizeof y);
    pseudo_inverse(jacobian, square, n, y, dq);
    if (pull) {
        for (int a = 0; a < 6; a++) {
            y[a] = 0;
            for (int i = 0; i < n; i++)
                y[a] += jacobian[a][i] * pull[i];
        }
        pseudo_inverse(jacobian, square, n, y, moved);
        for (int i = 0; i < n; i++)
            dq[i] += pull[i] - moved[i];
    }
    for (int i = 0; i < n; i++)
        largest = fmax(largest, fabs(dq[i]));
    for (int i = 0; i < n && largest > LARGEST_STEP; i++)
        dq[i] *= LARGEST_STEP / largest;
    return true;
}

static double within(const struct physai_ik *ik, int i, double q)
{
    return fmax(ik->low[i], fmin(ik->high[i], q));
}

bool physai_inverse_kinematics(struct physai_dynamics *d, uint32_t t, const struct physai_ik *ik,
                               const double position[3], const double rotation[9], double *q,
                               double remaining[6])
{
    const struct physai_tool_motion *tool = &d->tools[t];
    int n = (int)d->model->n_joints;
    bool moves[N] = {false};
    double pull[N] = {0}, dq[N], jacobian[6][N], error[6];
    for (int i = tool->frame.link; i >= 0; i = d->model->links[i].parent)
        moves[i] = true;
    for (int i = 0; i < n; i++) {
        q[i] = moves[i] ? within(ik, i, q[i]) : q[i];
        pull[i] = ik->posture && moves[i] ? POSTURE_SHARE * (ik->posture[i] - q[i]) : 0;
    }
    for (int round = 0;; round++) {
        physai_dynamics_kinematics(d, q);
        pose_error(tool, position, rotation, error);
        memcpy(jacobian, tool->jacobian, sizeof jacobian);
        weigh(rotation, ik->weights, 1, 1, error);
        weigh(rotation, ik->weights, n, N, &jacobian[0][0]);
        bool reached = length(error) < ik->tolerance[0] && length(error + 3) < ik->tolerance[1];
        if (reached && (!ik->posture || round > 0))
            return true;
        memcpy(remaining, error, sizeof error);
        if (round == ik->rounds || !step(jacobian, n, error, ik->posture && round == 0 ? pull : NULL, dq))
            return false;
        for (int i = 0; i < n; i++)
            q[i] = moves[i] ? within(ik, i, q[i] + dq[i]) : q[i];
    }
}
