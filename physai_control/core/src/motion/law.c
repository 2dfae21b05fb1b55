#include "motion/law.h"

#include "minmax.h"
#include "model/linear.h"
#include "model/rotation.h"
#include "motion/joint_limits.h"

#include <math.h>
#include <string.h>

#define N PHYSAI_MAX_JOINTS

#define APPROACH      5.0   /* 1/s: friction is compensated towards a joint's error as if it moved so fast */
#define COUPLED       0.25  /* share of the clip up to which the reference's motion counts fully */
#define RELEASED      0.75  /* and from which on it does not */
#define STOP_PUSH     5.0   /* Nm that keep the null space from a joint's stop */
#define STOP_ZONE     0.3   /* rad from the stop over which they grow */
#define PIVOT_LOW     0.02  /* relative pivot of the mobility below which the arm counts as nearly singular */
#define MOBILITY_T    0.1   /* 1/kg added there: no more than 10 kg at the tool */
#define MOBILITY_R    2.0   /* 1/(kg m^2): no more than 0.5 kg m^2 */
#define JACOBI_SWEEPS 8     /* at most; from the last cycle's eigenvectors one is nearly always enough */
#define OFF_DIAGONAL  0.02  /* of the diagonal elements, that may be left: 1e-4 of the root */
#define NO_STIFFNESS  1e-12 /* of that of all axes together, which every axis has */

/*
 * Dry friction leaves an arm at rest beside its target, where a spring alone cannot move it. So friction is
 * compensated as if the arm were on its way there, at this many times the error a second. An error as large
 * as its clip is no friction but an obstacle, against which nothing is added.
 */
static double approach(double error, double limit)
{
    return APPROACH * physai_max(0, 1 - error / limit);
}

/* Of joints that shall move at dq. */
static void add_friction(const struct physai_law_input *in, const double *dq, double *tau)
{
    double friction[N];
    physai_friction(in->friction, dq, friction);
    for (uint32_t i = 0; i < in->n; i++)
        tau[i] += in->gain * in->settings->friction_compensation * friction[i];
}

static double length(const double v[3])
{
    return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

static double clip(double value, double limit)
{
    return physai_max(-limit, physai_min(limit, value));
}

void physai_joint_law(const struct physai_law_input *in, double *tau)
{
    const struct physai_settings *s = in->settings;
    const struct physai_dynamics *d = in->dynamics;
    const struct physai_motion *r = in->reference;
    double wanted[N] = {0}, inertial[N];
    physai_dynamics_inertial(d, r->ddq, inertial);
    for (uint32_t i = 0; i < in->n; i++) {
        const struct physai_joint_limits *joint = &in->config->joints[i];
        double inertia = d->inertia[i][i];
        double target = physai_max(joint->position_min, physai_min(joint->position_max, r->q[i]));
        double most = in->force * s->clip[i], error = clip(target - in->q[i], most);
        double damping = 2 * s->damping_ratio[i] * sqrt(s->stiffness[i] * inertia);
        tau[i] =
            in->gain * s->stiffness[i] * error + damping * (r->dq[i] - in->dq[i]) + inertial[i] + d->bias[i];
        wanted[i] = r->dq[i] + approach(fabs(error), most) * error;
    }
    add_friction(in, wanted, tau);
}

/* ---- Cartesian law ---- */

/*
 * The mobility J M^-1 J^T as L D L^T, with a little added to it near singular poses; `weighted` is M^-1 J^T.
 */
static bool factor_mobility(const struct physai_law_input *in, uint32_t t, double weighted[N][6],
                            double factor[6][6])
{
    double mobility[6][6] = {0};
    physai_dynamics_weigh_tool(in->dynamics, t, weighted);
    for (uint32_t i = 0; i < in->n; i++)
        for (int a = 0; a < 6; a++)
            physai_add_scaled(6, in->dynamics->tools[t].jacobian[a][i], weighted[i], mobility[a]);
    memcpy(factor, mobility, sizeof mobility);
    bool regular = physai_factor(6, 6, &factor[0][0]);
    double lowest = regular ? 1 : 0;
    for (int a = 0; regular && a < 6; a++)
        lowest = physai_min(lowest, 1 / (factor[a][a] * mobility[a][a]));
    if (lowest >= PIVOT_LOW)
        return true;
    /* The variable damping of Nakamura and Hanafusa (1986, doi 10.1115/1.3143764). */
    double share = (1 - lowest / PIVOT_LOW) * (1 - lowest / PIVOT_LOW);
    for (int a = 0; a < 6; a++)
        mobility[a][a] += share * (a < 3 ? MOBILITY_T : MOBILITY_R);
    memcpy(factor, mobility, sizeof mobility);
    return physai_factor(6, 6, &factor[0][0]);
}

/* Turns the axes p and q of the symmetric c such that c[p][q] vanishes; the columns of v turn along. */
static void jacobi_rotation(double c[6][6], double v[6][6], int p, int q)
{
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

static bool coupled(double c[6][6], int p, int q)
{
    return c[p][q] * c[p][q] > OFF_DIAGONAL * OFF_DIAGONAL * c[p][p] * c[q][q];
}

/* Nearly always so, hence without a branch for each pair. */
static bool diagonal(double c[6][6])
{
    int pairs = 0;
    for (int p = 0; p < 5; p++)
        for (int q = p + 1; q < 6; q++)
            pairs += coupled(c, p, q);
    return pairs == 0;
}

static void jacobi_sweep(double c[6][6], double v[6][6])
{
    for (int p = 0; p < 5; p++)
        for (int q = p + 1; q < 6; q++)
            if (coupled(c, p, q))
                jacobi_rotation(c, v, p, q);
}

/*
 * y <- (G^T K G)^(1/2) y. The eigenvectors V turn slowly, so those of the last cycle nearly make C = V^T G^T
 * K G V diagonal. What is left beside its diagonal counts to first order: there the root's elements are
 * C_ab / (sqrt(C_aa) + sqrt(C_bb)).
 */
static void apply_root(double g[6][6], const double stiffness[6], double v[6][6], double y[6])
{
    double gv[6][6] = {0}, c[6][6] = {0}, root[6], z[6] = {0}, rooted[6], trace = 0;
    for (int k = 0; k < 6; k++)
        for (int i = k; i < 6; i++)
            physai_add_scaled(6, g[i][k], v[k], gv[i]);
    for (int k = 0; k < 6; k++)
        for (int a = 0; a < 6; a++)
            physai_add_scaled(6, stiffness[k] * gv[k][a], gv[k], c[a]);
    for (int a = 0; a < 6; a++)
        trace += c[a][a];
    for (int a = 0; a < 6; a++)
        c[a][a] += NO_STIFFNESS * (trace + 1); /* an axis without stiffness has no damping either */
    for (int sweep = 0; sweep < JACOBI_SWEEPS && !diagonal(c); sweep++)
        jacobi_sweep(c, v);
    for (int a = 0; a < 6; a++)
        root[a] = sqrt(c[a][a]);
    for (int k = 0; k < 6; k++)
        for (int a = 0; a < 6; a++)
            z[a] += v[k][a] * y[k];
    for (int a = 0; a < 6; a++) {
        rooted[a] = root[a] * z[a];
        for (int b = 0; b < 6; b++)
            rooted[a] += a == b ? 0 : c[a][b] / (root[a] + root[b]) * z[b];
    }
    for (int a = 0; a < 6; a++) {
        y[a] = 0;
        for (int k = 0; k < 6; k++)
            y[a] += v[a][k] * rooted[k];
    }
}

/* Vectors of the tool's space that Lambda is applied to, side by side. */
enum {
    INERTIAL, /* ddx_r - dJ dq */
    FELT,     /* J M^-1 tau_0: what the null space's torque would do at the tool */
    MOVING,   /* the velocity that friction is compensated for */
    SLIP,     /* dx_r - J dq, to which Lambda # K is applied */
    COLUMNS
};

/*
 * x <- Lambda x, and in the column SLIP x <- (Lambda # K) x, without forming either. The mobility is L D L^T
 * = G G^T, so Lambda = L^-T D^-1 L^-1 and Lambda # K = G^-T (G^T K G)^(1/2) G^-1.
 */
static void apply_inertia(const double stiffness[6], double factor[6][6], double modes[6][6],
                          double x[6][COLUMNS])
{
    double g[6][6], y[6], inverse[6]; /* of D^(1/2) */
    for (int a = 0; a < 6; a++) {
        inverse[a] = sqrt(factor[a][a]);
        g[a][a] = 1 / inverse[a];
        for (int i = a + 1; i < 6; i++)
            g[i][a] = factor[i][a] * g[a][a];
    }
    physai_forward(6, 6, &factor[0][0], COLUMNS, &x[0][0]);
    for (int a = 0; a < 6; a++)
        y[a] = inverse[a] * x[a][SLIP];
    apply_root(g, stiffness, modes, y);
    for (int a = 0; a < 6; a++) {
        for (int column = 0; column < SLIP; column++)
            x[a][column] *= factor[a][a];
        x[a][SLIP] = inverse[a] * y[a];
    }
    physai_backward(6, 6, &factor[0][0], COLUMNS, &x[0][0]);
}

/* Towards the posture, and away from the joints' stops. */
static void nullspace_torque(const struct physai_law_input *in, double *tau)
{
    const struct physai_settings *s = in->settings;
    double inertial[N];
    physai_dynamics_inertial(in->dynamics, in->reference->ddq, inertial);
    for (uint32_t i = 0; i < in->n; i++) {
        const struct physai_joint_limits *joint = &in->config->joints[i];
        double damping =
            2 * s->nullspace_damping_ratio * sqrt(s->nullspace_stiffness * in->dynamics->inertia[i][i]);
        double near_low = 1 - (in->q[i] - joint->position_min) / STOP_ZONE;
        double near_high = 1 - (joint->position_max - in->q[i]) / STOP_ZONE;
        tau[i] = in->gain * s->nullspace_stiffness * (in->reference->q[i] - in->q[i]) +
                 damping * (in->reference->dq[i] - in->dq[i]) +
                 STOP_PUSH * (clip(near_low, 1) * (near_low > 0) - clip(near_high, 1) * (near_high > 0));
        tau[i] += inertial[i];
    }
}

/*
 * Dry friction holds up a tool that was pushed into something, and what it touches feels the spring and the
 * friction together. It does so until the first joint slips: for a force f u at the tool, which is |J^T u|_i
 * f at the joint i, until f = min_i coulomb_i / |J^T u|_i. A bound on the force counts it.
 */
static double held_by_friction(const struct physai_law_input *in, uint32_t t, const double way[3])
{
    double force = INFINITY;
    for (uint32_t i = 0; i < in->n; i++) {
        double lever = 0;
        for (int a = 0; a < 3; a++)
            lever += in->dynamics->tools[t].jacobian[a][i] * way[a];
        if (lever != 0)
            force = physai_min(force, in->friction->coulomb[i] / fabs(lever));
    }
    return force;
}

/* The error beyond which the tool's force does not grow, less what friction adds to it; at least half of it.
 */
static double translation_clip(const struct physai_law_input *in, uint32_t t, double most)
{
    const double *error = in->status[t].pose_error;
    double size = length(error), force[3];
    if (!(size > most / 2))
        return most;
    for (int a = 0; a < 3; a++)
        force[a] = in->gain * in->settings->cartesian_stiffness[a] * error[a] / size * most;
    double bound = length(force);
    if (!(bound > 0))
        return most;
    for (int a = 0; a < 3; a++)
        force[a] /= bound;
    return most * physai_max(0.5, 1 - held_by_friction(in, t, force) / bound);
}

static void clip_vector(double v[3], double limit)
{
    double size = length(v);
    if (!(size <= limit))
        for (int i = 0; i < 3; i++)
            v[i] *= limit / size;
}

/*
 * How much of the reference's velocity and acceleration counts: all of it near the reference, nothing when
 * the error comes close to its clip. An arm that is held up by something then feels the spring's bound and
 * its own damping, and not how its reference moves on behind the obstacle.
 */
static double coupling(const double error[3], double limit)
{
    double size = length(error) / limit;
    double x = clip((size - COUPLED) / (RELEASED - COUPLED), 1) * (size > COUPLED);
    return 1 - x * x * (3 - 2 * x);
}

/* Adds what one tool takes: its share of the torque, and of the velocity that friction is compensated for. */
static bool add_tool(const struct physai_law_input *in, uint32_t t, double modes[6][6], const double *tau0,
                     double *wanted, double *tau)
{
    const struct physai_settings *s = in->settings;
    const struct physai_tool_motion *d = &in->dynamics->tools[t];
    const struct physai_pose_motion *r = &in->tools[t];
    double weighted[N][6], factor[6][6], x[6][COLUMNS], error[6], towards[2], share[2], zeta[2];
    if (!factor_mobility(in, t, weighted, factor))
        return false;
    memcpy(error, in->status[t].pose_error, sizeof error);
    for (int half = 0; half < 2; half++) {
        double most = in->force * s->cartesian_clip[half];
        if (half == 0)
            most = translation_clip(in, t, most);
        clip_vector(error + 3 * half, most);
        towards[half] = approach(length(error + 3 * half), most);
        share[half] = coupling(error + 3 * half, most);
        zeta[half] = sqrt(s->cartesian_damping_ratio[half]);
    }
    for (int a = 0; a < 6; a++) {
        double speed = 0, felt = 0;
        for (uint32_t i = 0; i < in->n; i++) {
            speed += d->jacobian[a][i] * in->dq[i];
            felt += weighted[i][a] * tau0[i];
        }
        x[a][INERTIAL] = share[a / 3] * r->acceleration[a] - d->drift[a];
        x[a][FELT] = felt;
        x[a][MOVING] = r->velocity[a] + towards[a / 3] * error[a];
        x[a][SLIP] = zeta[a / 3] * (share[a / 3] * r->velocity[a] - speed);
    }
    apply_inertia(s->cartesian_stiffness, factor, modes, x);

    double force[6]; /* that the tool shall feel, less what the null space's torque would do there */
    for (int a = 0; a < 6; a++)
        force[a] = in->gain * s->cartesian_stiffness[a] * error[a] + 2 * zeta[a / 3] * x[a][SLIP] +
                   x[a][INERTIAL] + s->target_wrench[t][a] - x[a][FELT];
    for (uint32_t i = 0; i < in->n; i++) {
        double dq = 0; /* M^-1 J^T Lambda of the wanted velocity */
        for (int a = 0; a < 6; a++) {
            tau[i] += d->jacobian[a][i] * force[a];
            dq += weighted[i][a] * x[a][MOVING];
        }
        wanted[i] += dq;
    }
    return true;
}

bool physai_cartesian_law(const struct physai_law_input *in, struct physai_law_memory *memory, double *tau)
{
    double wanted[N] = {0}, tau0[N];
    if (!memory->warm) {
        memset(memory->modes, 0, sizeof memory->modes);
        for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
            for (int a = 0; a < 6; a++)
                memory->modes[t][a][a] = 1;
    }
    memory->warm = true;
    nullspace_torque(in, tau0);
    for (uint32_t i = 0; i < in->n; i++) {
        tau[i] = tau0[i] + in->dynamics->bias[i];
        wanted[i] = 0;
    }
    for (uint32_t t = 0; t < in->config->n_tools; t++)
        if (!add_tool(in, t, memory->modes[t], tau0, wanted, tau))
            return false;
    add_friction(in, wanted, tau);
    return true;
}

void physai_pose_error(const struct physai_pose_motion *wanted, const struct physai_tool_motion *tool,
                       double error[6])
{
    double measured[4], turn[3];
    physai_quat_from_matrix(tool->rotation, measured);
    physai_quat_difference(measured, wanted->orientation, turn);
    for (int i = 0; i < 3; i++)
        error[i] = wanted->position[i] - tool->position[i];
    physai_quat_rotate(measured, turn, error + 3);
}

static double power_of(uint32_t n, const double *tau, const double *bias, const double *dq)
{
    double power = 0;
    for (uint32_t i = 0; i < n; i++)
        power += (tau[i] - bias[i]) * dq[i];
    return power;
}

void physai_energy_tank(const struct physai_settings *s, struct physai_law_memory *memory, uint32_t n,
                        double step_s, const double *bias, const double *dq, const double *applied,
                        double *tau)
{
    if (!(s->tank_energy > 0))
        return;
    double given = power_of(n, applied, bias, dq) * step_s, wanted = power_of(n, tau, bias, dq) * step_s;
    memory->tank = physai_min(s->tank_energy, memory->tank + s->tank_power * step_s - given);
    double available = physai_max(0, memory->tank);
    for (uint32_t i = 0; wanted > available && i < n; i++)
        tau[i] = bias[i] + available / wanted * (tau[i] - bias[i]);
}
