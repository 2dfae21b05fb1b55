#include "model/residual.h"

#include "motion/joint_limits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HIDDEN PHYSAI_RESIDUAL_HIDDEN

#define EXCESS        2.0  /* times the bound: more is not a residual any more */
#define EXCESS_TIME_S 0.05 /* a sharp reversal of friction may overshoot for a moment */
#define PUSH_LIMIT_RAD                                                                                       \
    0.03 /* the bound over the stiffness, 15 to 25 mrad on the arms at hand, and a little */
#define PUSH_WINDOW_S 0.5
#define DEVIATION_RAD 0.05 /* twice what the bound alone can hold against the stiffness */
#define DEVIATION_S   0.1
#define CHATTER_SHARE 0.8
#define CHATTER_S     0.25
#define NEGLIGIBLE    1e-12f /* weights and inputs below are zero: denormal products would be slow */
#define TANH_ONE      4.97f  /* where the fraction below reaches one */

/* Lambert's continued fraction for tanh, cut after seven terms. */
float physai_residual_tanh(float x)
{
    float c = x > TANH_ONE ? TANH_ONE : x < -TANH_ONE ? -TANH_ONE : x;
    float s = c * c;
    return c * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + 28 * s)));
}

/* Copies finite numbers, the negligible ones as zero. */
static bool take(float *to, const float *from, size_t count)
{
    bool finite = true;
    for (size_t k = 0; k < count; k++) {
        finite = finite && isfinite(from[k]);
        to[k] = fabsf(from[k]) < NEGLIGIBLE ? 0 : from[k];
    }
    return finite;
}

#define TAKE(member)                                                                                         \
    take((float *)to->member, (const float *)network->member, sizeof to->member / sizeof(float))

int physai_residual_load(struct physai_residual *residual, const struct physai_residual_network *network,
                         uint32_t n_joints, char *text, size_t text_size)
{
    struct physai_residual_network *to = &residual->network;
    memset(residual, 0, sizeof *residual);
    physai_residual_reset(residual);
    if (!network)
        return PHYSAI_OK;
    if (network->n_joints != n_joints || n_joints < 1 || n_joints > PHYSAI_MAX_JOINTS) {
        snprintf(text, text_size, "the residual was trained for %u joints, the robot has %u",
                 network->n_joints, n_joints);
        return PHYSAI_ERROR_ARGUMENT;
    }
    if (network->n_hidden < 1 || network->n_hidden > HIDDEN) {
        snprintf(text, text_size, "the residual has %u hidden units a layer, 1 to %d are allowed",
                 network->n_hidden, HIDDEN);
        return PHYSAI_ERROR_ARGUMENT;
    }
    to->n_joints = n_joints;
    to->n_hidden = network->n_hidden;
    bool finite = TAKE(input_mean) & TAKE(input_scale) & TAKE(w1) & TAKE(b1) & TAKE(w2) & TAKE(b2) &
                  TAKE(w3) & TAKE(b3) & TAKE(output_scale);
    if (!finite) {
        snprintf(text, text_size, "the residual's weights are not all finite; train it again");
        return PHYSAI_ERROR_ARGUMENT;
    }
    for (uint32_t k = 0; k < 3 * n_joints; k++) {
        if (!(to->input_scale[k] > 0)) {
            snprintf(text, text_size, "the residual's input %u has the scale %g, it must be above 0", k,
                     (double)to->input_scale[k]);
            return PHYSAI_ERROR_ARGUMENT;
        }
    }
    residual->loaded = true;
    return PHYSAI_OK;
}

void physai_residual_reset(struct physai_residual *residual)
{
    residual->reason = PHYSAI_RESIDUAL_WELL;
    residual->joint = 0;
    residual->share = 1;
    memset(residual->tau, 0, sizeof residual->tau);
    memset(residual->excess_s, 0, sizeof residual->excess_s);
    memset(residual->push, 0, sizeof residual->push);
    memset(residual->deviation, 0, sizeof residual->deviation);
    memset(residual->chatter, 0, sizeof residual->chatter);
}

/* ---- the network ---- */

/* Beyond what it was trained on it sees the edge, so that it never extrapolates. */
static void normalize(const struct physai_residual_network *net, uint32_t first, uint32_t n,
                      const double *values, float *x)
{
    for (uint32_t i = 0; i < n; i++) {
        float v = ((float)values[i] - net->input_mean[first + i]) / net->input_scale[first + i];
        v = v > 1 ? 1 : v < -1 ? -1 : v;
        x[first + i] = fabsf(v) < NEGLIGIBLE ? 0 : v;
    }
}

/* The inner loops run over outputs, so that the compiler may use vectors without reordering a sum. */
static void layer(const float weights[][HIDDEN], const float *bias, const float *x, uint32_t n, float *y)
{
    memcpy(y, bias, HIDDEN * sizeof *y);
    for (uint32_t k = 0; k < n; k++)
        for (int j = 0; j < HIDDEN; j++)
            y[j] += weights[k][j] * x[k];
    for (int j = 0; j < HIDDEN; j++)
        y[j] = physai_residual_tanh(y[j]);
}

static void evaluate(const struct physai_residual_network *net, const double *q, const double *reference_dq,
                     const double *reference_ddq, double *tau)
{
    float x[PHYSAI_RESIDUAL_INPUTS], first[HIDDEN], second[HIDDEN], y[PHYSAI_MAX_JOINTS];
    uint32_t n = net->n_joints;
    normalize(net, 0, n, q, x);
    normalize(net, n, n, reference_dq, x);
    normalize(net, 2 * n, n, reference_ddq, x);
    layer(net->w1, net->b1, x, 3 * n, first);
    layer(net->w2, net->b2, first, HIDDEN, second);
    memcpy(y, net->b3, sizeof y);
    for (int k = 0; k < HIDDEN; k++)
        for (int j = 0; j < PHYSAI_MAX_JOINTS; j++)
            y[j] += net->w3[k][j] * second[k];
    for (uint32_t i = 0; i < n; i++)
        tau[i] = (double)(y[i] * net->output_scale[i]);
}

/* ---- its behaviour ---- */

static void give_up(struct physai_residual *r, enum physai_residual_reason reason, uint32_t joint)
{
    if (r->reason == PHYSAI_RESIDUAL_WELL) {
        r->reason = reason;
        r->joint = joint;
    }
}

static bool inputs_finite(uint32_t n, const double *q, const double *dq, const double *reference_dq,
                          const double *reference_ddq, const double *tracking_error,
                          const double *torque_limit, double step_s)
{
    return physai_all_finite(q, n) && physai_all_finite(dq, n) && physai_all_finite(reference_dq, n) &&
           physai_all_finite(reference_ddq, n) && physai_all_finite(tracking_error, n) &&
           physai_all_finite(torque_limit, n) && physai_all_finite(&step_s, 1);
}

/* Move one joint's torque towards what the network wants, and judge how it does that. */
static void move(struct physai_residual *r, uint32_t i, double wanted, double bound, double step_s)
{
    double step = bound * step_s / PHYSAI_RESIDUAL_RISE_S;
    double target = fmax(-bound, fmin(bound, wanted)), change = target - r->tau[i];
    bool limited = !(fabs(change) <= step);
    r->tau[i] += limited ? copysign(step, change) : change;

    r->excess_s[i] = fabs(wanted) <= EXCESS * bound ? 0 : r->excess_s[i] + step_s;
    r->chatter[i] += (limited - r->chatter[i]) * fmin(1, step_s / CHATTER_S);
    if (!(r->excess_s[i] <= EXCESS_TIME_S))
        give_up(r, PHYSAI_RESIDUAL_EXCESSIVE, i);
    if (!(r->chatter[i] <= CHATTER_SHARE))
        give_up(r, PHYSAI_RESIDUAL_CHATTERS, i);
}

/* What its present torque does to the motion of one joint. */
static void watch(struct physai_residual *r, uint32_t i, double velocity_error, double tracking_error,
                  double bound, double step_s)
{
    double share = r->tau[i] / bound;
    double away = -tracking_error * share; /* rad: positive when it pushes the joint further out */
    r->push[i] += share * velocity_error * step_s - r->push[i] * fmin(1, step_s / PUSH_WINDOW_S);
    r->deviation[i] += (away - r->deviation[i]) * fmin(1, step_s / DEVIATION_S);
    if (!(r->push[i] <= PUSH_LIMIT_RAD))
        give_up(r, PHYSAI_RESIDUAL_PUSHES, i);
    if (!(r->deviation[i] <= DEVIATION_RAD))
        give_up(r, PHYSAI_RESIDUAL_DEVIATES, i);
}

bool physai_residual_add(struct physai_residual *r, const double *q, const double *dq,
                         const double *reference_dq, const double *reference_ddq,
                         const double *tracking_error, const double *torque_limit, double step_s, double *tau)
{
    uint32_t n = r->network.n_joints;
    double wanted[PHYSAI_MAX_JOINTS];
    if (!r->loaded || !(r->share > 0))
        return false;
    if (r->reason == PHYSAI_RESIDUAL_WELL) {
        if (inputs_finite(n, q, dq, reference_dq, reference_ddq, tracking_error, torque_limit, step_s) &&
            step_s > 0) {
            evaluate(&r->network, q, reference_dq, reference_ddq, wanted);
            for (uint32_t i = 0; i < n && r->reason == PHYSAI_RESIDUAL_WELL; i++)
                if (!physai_all_finite(&wanted[i], 1))
                    give_up(r, PHYSAI_RESIDUAL_NOT_FINITE, i);
        } else {
            give_up(r, PHYSAI_RESIDUAL_NOT_FINITE, 0);
        }
    }
    for (uint32_t i = 0; i < n && r->reason == PHYSAI_RESIDUAL_WELL; i++) {
        double bound = PHYSAI_RESIDUAL_SHARE * torque_limit[i];
        watch(r, i, dq[i] - reference_dq[i], tracking_error[i], bound, step_s);
        move(r, i, wanted[i], bound, step_s);
    }
    if (r->reason != PHYSAI_RESIDUAL_WELL) {
        double step = step_s / PHYSAI_RESIDUAL_RISE_S;
        r->share = step > 0 ? fmax(0, r->share - step) : 0; /* without a time it is gone at once */
    }
    for (uint32_t i = 0; i < n; i++)
        tau[i] += r->share * r->tau[i];
    return r->reason == PHYSAI_RESIDUAL_WELL;
}
