#include "law.h"

#include "joint_limits.h"
#include "linear.h"
#include "rotation.h"

#include <math.h>
#include <string.h>

#define N PHYSAI_MAX_JOINTS

#define APPROACH      5.0  /* 1/s: friction is compensated towards a joint's error as if it moved so fast */
#define COUPLED       0.25 /* share of the clip up to which the reference's motion counts fully */
#define RELEASED      0.75 /* and from which on it does not */
#define STOP_PUSH     5.0  /* Nm that keep the null space from a joint's stop */
#define STOP_ZONE     0.3  /* rad from the stop over which they grow */
#define PIVOT_LOW     0.02 /* relative pivot of the mobility below which the arm counts as nearly singular */
#define MOBILITY_T    0.1  /* 1/kg added there: no more than 10 kg at the tool */
#define MOBILITY_R    2.0  /* 1/(kg m^2): no more than 0.5 kg m^2 */
#define JACOBI_SWEEPS 8    /* at most; from the last cycle's eigenvectors one is nearly always enough */
#define OFF_DIAGONAL  1e-3 /* of the diagonal elements, that is left in the end */

double physai_friction(const struct physai_friction *f, double dq)
{
    if (f->coulomb == 0)
        return f->viscous * dq;
    return f->coulomb * (tanh(f->slope / 2 * (dq + f->shift)) - tanh(f->slope / 2 * f->shift)) +
           f->viscous * dq;
}

/*
 * Dry friction leaves an arm at rest beside its target, where a spring alone cannot move it. So friction is
 * compensated as if the arm were on its way there. An error as large as its clip is no friction but an
 * obstacle, against which nothing is added. `error` has `n` components; writes the velocity.
 */
static void approach(const double *error, int n, double limit, double *velocity)
{
    double square = 0;
    for (int i = 0; i < n; i++)
        square += error[i] * error[i];
    double share = fmax(0, 1 - sqrt(square) / limit);
    for (int i = 0; i < n; i++)
        velocity[i] = APPROACH * share * error[i];
}

static double clip(double value, double limit)
{
    return fmax(-limit, fmin(limit, value));
}

void physai_joint_law(const struct physai_law_input *in, double *tau)
{
    const struct physai_settings *s = in->settings;
    const struct physai_dynamics *d = in->dynamics;
    const struct physai_motion *r = in->reference;
    for (uint32_t i = 0; i < in->n; i++) {
        const struct physai_joint_limits *joint = &in->config->joints[i];
        double inertia = d->inertia[i][i];
        double target = fmax(joint->position_min, fmin(joint->position_max, r->q[i]));
        double most = in->force * s->clip[i], error = clip(target - in->q[i], most), towards;
        approach(&error, 1, most, &towards);
        double damping = 2 * s->damping_ratio[i] * sqrt(s->stiffness[i] * inertia);
        tau[i] = in->gain * s->stiffness[i] * error + damping * (r->dq[i] - in->dq[i]) + d->bias[i];
        for (uint32_t j = 0; j < in->n; j++)
            tau[i] += d->inertia[i][j] * r->ddq[j];
        tau[i] += in->gain * s->friction_compensation *
                  physai_friction(&in->config->friction[i], r->dq[i] + towards);
    }
}

/* ---- Cartesian law ---- */

/*
 * Lower Cholesky factor G of the mobility J M^-1 J^T, to which a little is added near singular poses;
 * `weighted` is M^-1 J^T, row by row.
 */
static bool factor_mobility(const struct physai_law_input *in, double weighted[6][N], double g[6][6])
{
    const struct physai_dynamics *d = in->dynamics;
    uint32_t n = in->n;
    double mobility[6][6];
    physai_dynamics_weigh_tool(d, weighted);
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b <= a; b++) {
            mobility[a][b] = 0;
            for (uint32_t i = 0; i < n; i++)
                mobility[a][b] += d->tool_jacobian[a][i] * weighted[b][i];
        }
    }
    memcpy(g, mobility, sizeof mobility);
    bool regular = physai_cholesky(6, 6, &g[0][0]);
    double lowest = regular ? 1 : 0;
    for (int a = 0; regular && a < 6; a++)
        lowest = fmin(lowest, g[a][a] * g[a][a] / mobility[a][a]);
    if (lowest >= PIVOT_LOW)
        return true;
    /* The variable damping of Nakamura and Hanafusa (1986, doi 10.1115/1.3143764). */
    double share = (1 - lowest / PIVOT_LOW) * (1 - lowest / PIVOT_LOW);
    for (int a = 0; a < 6; a++)
        mobility[a][a] += share * (a < 3 ? MOBILITY_T : MOBILITY_R);
    memcpy(g, mobility, sizeof mobility);
    return physai_cholesky(6, 6, &g[0][0]);
}

/* One cyclic sweep of Jacobi rotations on the symmetric c, whose columns of v turn along. */
static void jacobi_sweep(double c[6][6], double v[6][6])
{
    for (int p = 0; p < 5; p++) {
        for (int q = p + 1; q < 6; q++) {
            if (fabs(c[p][q]) <= 1e-12 * (fabs(c[p][p]) + fabs(c[q][q])))
                continue;
            double theta = (c[q][q] - c[p][p]) / (2 * c[p][q]);
            double t = copysign(1, theta) / (fabs(theta) + sqrt(theta * theta + 1));
            double cosine = 1 / sqrt(t * t + 1), sine = t * cosine;
            for (int k = 0; k < 6; k++) {
                double a = c[k][p], b = c[k][q];
                c[k][p] = cosine * a - sine * b;
                c[k][q] = sine * a + cosine * b;
            }
            for (int k = 0; k < 6; k++) {
                double a = c[p][k], b = c[q][k];
                c[p][k] = cosine * a - sine * b;
                c[q][k] = sine * a + cosine * b;
                a = v[k][p], b = v[k][q];
                v[k][p] = cosine * a - sine * b;
                v[k][q] = sine * a + cosine * b;
            }
        }
    }
}

static bool diagonal(double c[6][6])
{
    for (int p = 0; p < 5; p++)
        for (int q = p + 1; q < 6; q++)
            if (!(c[p][q] * c[p][q] <= OFF_DIAGONAL * OFF_DIAGONAL * fabs(c[p][p] * c[q][q])))
                return false;
    return true;
}

static void multiply(const double a[6][6], const double b[6][6], double product[6][6])
{
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 6; j++) {
            product[i][j] = 0;
            for (int k = 0; k < 6; k++)
                product[i][j] += a[i][k] * b[k][j];
        }
    }
}

/*
 * force = 2 zeta (Lambda # K) velocity, without forming either. With mobility = G G^T it is Lambda = G^-T
 * G^-1 and Lambda # K = G^-T (G^T K G)^(1/2) G^-1. The root comes from the eigenvectors V of C = G^T K G,
 * which turn slowly: from the last cycle's, at most one sweep is enough but for rare crossings of
 * eigenvalues.
 */
static void damp(const struct physai_settings *s, double g[6][6], struct physai_law_memory *memory,
                 const double velocity[6], double force[6])
{
    double c[6][6], turned[6][6], product[6][6], zeta[6], y[6], z[6];
    for (int a = 0; a < 6; a++) {
        zeta[a] = sqrt(s->cartesian_damping_ratio[a / 3]);
        for (int b = 0; b <= a; b++) {
            c[a][b] = 0;
            for (int k = a; k < 6; k++)
                c[a][b] += g[k][a] * s->cartesian_stiffness[k] * g[k][b];
            c[b][a] = c[a][b];
        }
    }
    if (!memory->warm) {
        memset(memory->modes, 0, sizeof memory->modes);
        for (int a = 0; a < 6; a++)
            memory->modes[a][a] = 1;
    }
    multiply(c, memory->modes, product);
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b < 6; b++) {
            turned[a][b] = 0;
            for (int k = 0; k < 6; k++)
                turned[a][b] += memory->modes[k][a] * product[k][b];
        }
    }
    for (int sweep = 0; sweep < JACOBI_SWEEPS && !diagonal(turned); sweep++)
        jacobi_sweep(turned, memory->modes);
    memory->warm = true;

    for (int a = 0; a < 6; a++)
        y[a] = zeta[a] * velocity[a];
    physai_forward(6, 6, &g[0][0], y);
    for (int a = 0; a < 6; a++) {
        z[a] = 0;
        for (int k = 0; k < 6; k++)
            z[a] += memory->modes[k][a] * y[k];
        z[a] *= sqrt(fmax(0, turned[a][a]));
    }
    for (int a = 0; a < 6; a++) {
        y[a] = 0;
        for (int k = 0; k < 6; k++)
            y[a] += memory->modes[a][k] * z[k];
    }
    physai_backward(6, 6, &g[0][0], y);
    for (int a = 0; a < 6; a++)
        force[a] = 2 * zeta[a] * y[a];
}

/* Towards the posture, and away from the joints' stops. */
static void nullspace_torque(const struct physai_law_input *in, double *tau)
{
    const struct physai_settings *s = in->settings;
    for (uint32_t i = 0; i < in->n; i++) {
        const struct physai_joint_limits *joint = &in->config->joints[i];
        double damping =
            2 * s->nullspace_damping_ratio * sqrt(s->nullspace_stiffness * in->dynamics->inertia[i][i]);
        double near_low = 1 - (in->q[i] - joint->position_min) / STOP_ZONE;
        double near_high = 1 - (joint->position_max - in->q[i]) / STOP_ZONE;
        tau[i] = in->gain * s->nullspace_stiffness * (in->reference->q[i] - in->q[i]) +
                 damping * (in->reference->dq[i] - in->dq[i]) +
                 STOP_PUSH * (clip(near_low, 1) * (near_low > 0) - clip(near_high, 1) * (near_high > 0));
        for (uint32_t j = 0; j < in->n; j++)
            tau[i] += in->dynamics->inertia[i][j] * in->reference->ddq[j];
    }
}

static void clip_vector(double v[3], double limit)
{
    double length = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    if (!(length <= limit))
        for (int i = 0; i < 3; i++)
            v[i] *= limit / length;
}

/*
 * How much of the reference's velocity and acceleration counts: all of it near the reference, nothing when
 * the error comes close to its clip. An arm that is held up by something then feels the spring's bound and
 * its own damping, and not how its reference moves on behind the obstacle.
 */
static double coupling(const double error[3], double limit)
{
    double size = sqrt(error[0] * error[0] + error[1] * error[1] + error[2] * error[2]) / limit;
    double x = clip((size - COUPLED) / (RELEASED - COUPLED), 1) * (size > COUPLED);
    return 1 - x * x * (3 - 2 * x);
}

bool physai_cartesian_law(const struct physai_law_input *in, struct physai_law_memory *memory, double *tau)
{
    const struct physai_settings *s = in->settings;
    const struct physai_dynamics *d = in->dynamics;
    double weighted[6][N], g[6][6], error[6], slip[6], force[6], inertial[6], moving[6], tau0[N], share[2];
    if (!factor_mobility(in, weighted, g))
        return false;
    memcpy(error, in->pose_error, sizeof error);
    clip_vector(error, in->force * s->cartesian_clip[0]);
    clip_vector(error + 3, in->force * s->cartesian_clip[1]);
    for (int half = 0; half < 2; half++) {
        approach(error + 3 * half, 3, in->force * s->cartesian_clip[half], moving + 3 * half);
        share[half] = coupling(error + 3 * half, in->force * s->cartesian_clip[half]);
    }
    for (int a = 0; a < 6; a++) {
        double speed = 0;
        for (uint32_t i = 0; i < in->n; i++)
            speed += d->tool_jacobian[a][i] * in->dq[i];
        slip[a] = share[a / 3] * in->tool->velocity[a] - speed;
        inertial[a] = share[a / 3] * in->tool->acceleration[a] - d->tool_drift[a];
        moving[a] += in->tool->velocity[a];
    }
    damp(s, g, memory, slip, force);
    physai_solve(6, 6, &g[0][0], inertial); /* Lambda (ddx_r - dJ dq) */
    for (int a = 0; a < 6; a++)
        force[a] += in->gain * s->cartesian_stiffness[a] * error[a] + inertial[a] + s->target_wrench[a];

    /* J^T Lambda J M^-1 tau_0 is what tau_0 would do at the tool. */
    nullspace_torque(in, tau0);
    double felt[6];
    for (int a = 0; a < 6; a++) {
        felt[a] = 0;
        for (uint32_t i = 0; i < in->n; i++)
            felt[a] += weighted[a][i] * tau0[i];
    }
    physai_solve(6, 6, &g[0][0], felt);
    physai_solve(6, 6, &g[0][0], moving); /* to joint velocities by M^-1 J^T Lambda */
    for (uint32_t i = 0; i < in->n; i++) {
        double dq = 0;
        tau[i] = tau0[i] + d->bias[i];
        for (int a = 0; a < 6; a++) {
            tau[i] += d->tool_jacobian[a][i] * (force[a] - felt[a]);
            dq += weighted[a][i] * moving[a];
        }
        tau[i] += in->gain * s->friction_compensation * physai_friction(&in->config->friction[i], dq);
    }
    return true;
}

void physai_pose_error(const struct physai_pose_motion *wanted, const struct physai_dynamics *d,
                       double error[6])
{
    double measured[4], turn[3];
    physai_quat_from_matrix(d->tool_rotation, measured);
    physai_quat_difference(measured, wanted->orientation, turn);
    for (int i = 0; i < 3; i++)
        error[i] = wanted->position[i] - d->tool_position[i];
    physai_quat_rotate(measured, turn, error + 3);
}

void physai_energy_tank(const struct physai_settings *s, struct physai_law_memory *memory, uint32_t n,
                        double step_s, const double *bias, const double *dq, double *tau)
{
    if (!(s->tank_energy > 0))
        return;
    double power = 0;
    for (uint32_t i = 0; i < n; i++)
        power += (tau[i] - bias[i]) * dq[i];
    double available = fmin(s->tank_energy, memory->tank + s->tank_power * step_s);
    double spent = power * step_s;
    if (spent > available) {
        double share = available / spent;
        for (uint32_t i = 0; i < n; i++)
            tau[i] = bias[i] + share * (tau[i] - bias[i]);
        spent = available;
    }
    memory->tank = fmin(s->tank_energy, available - spent);
}
