/*
 * The learned residual: a small network's joint torque on top of the law, which cannot do much harm.
 *
 * The network sees the measured position and the reference's velocity and acceleration, not the measured
 * velocity: it can carry a spring or a friction that the model lacks, but it cannot become a negative damper.
 * Whatever it answers is bounded to a tenth of each joint's torque limit and rate limited. When it misbehaves
 * it is faded out within 50 ms and stays off until the next reset:
 * - an input or an answer is not finite;
 * - it asks for more than twice its bound for longer than 50 ms (it grows);
 * - over about half a second it pushed a joint away from its reference, weighted with the share of its bound,
 *   by more than 0.03 rad: the work that it does on the tracking error, which a feed-forward gives back and a
 *   self-excited oscillation does not;
 * - a joint stays far from its reference, and the residual pushes it further away;
 * - its answer changes faster than the rate limit for longer than about 0.4 s (it chatters).
 *
 * A fixed number of operations a cycle, whatever the weights: at most 96*32 + 32*32 + 32*32 multiplications
 * and 64 times tanh. No allocation, lock or system call after the load.
 */
#ifndef PHYSAI_RESIDUAL_H
#define PHYSAI_RESIDUAL_H

#include "physai_control.h"

#include <stdbool.h>

#define PHYSAI_RESIDUAL_HIDDEN 32
#define PHYSAI_RESIDUAL_INPUTS (3 * PHYSAI_MAX_JOINTS)

#define PHYSAI_RESIDUAL_SHARE  0.1  /* of a joint's torque limit that the residual may reach */
#define PHYSAI_RESIDUAL_RISE_S 0.05 /* from nothing to the bound; also the time of the fade */

/*
 * q, reference dq, reference ddq (3n), each (x - mean) / scale within [-1, 1], through two layers of tanh
 * into n torques. Row k of a matrix belongs to input k of its layer; what a smaller network does not use is
 * zero.
 */
struct physai_residual_network {
    uint32_t n_joints;
    uint32_t n_hidden;
    float input_mean[PHYSAI_RESIDUAL_INPUTS];  /* rad, rad/s, rad/s^2 */
    float input_scale[PHYSAI_RESIDUAL_INPUTS]; /* above 0 */
    float w1[PHYSAI_RESIDUAL_INPUTS][PHYSAI_RESIDUAL_HIDDEN];
    float b1[PHYSAI_RESIDUAL_HIDDEN];
    float w2[PHYSAI_RESIDUAL_HIDDEN][PHYSAI_RESIDUAL_HIDDEN];
    float b2[PHYSAI_RESIDUAL_HIDDEN];
    float w3[PHYSAI_RESIDUAL_HIDDEN][PHYSAI_MAX_JOINTS];
    float b3[PHYSAI_MAX_JOINTS];
    float output_scale[PHYSAI_MAX_JOINTS]; /* Nm */
};

/* Why it is off. */
enum physai_residual_reason {
    PHYSAI_RESIDUAL_WELL = 0,
    PHYSAI_RESIDUAL_NOT_FINITE = 1,
    PHYSAI_RESIDUAL_EXCESSIVE = 2,
    PHYSAI_RESIDUAL_PUSHES = 3,
    PHYSAI_RESIDUAL_DEVIATES = 4,
    PHYSAI_RESIDUAL_CHATTERS = 5,
};

struct physai_residual {
    struct physai_residual_network network;
    bool loaded;
    uint32_t reason;               /* enum physai_residual_reason: of the fade, until the reset */
    uint32_t joint;                /* that showed it */
    double share;                  /* of the torque that is applied: 1, falling to 0 once it misbehaves */
    double tau[PHYSAI_MAX_JOINTS]; /* Nm, before the fade */
    double excess_s[PHYSAI_MAX_JOINTS]; /* it has asked for too much for this long */
    double push[PHYSAI_MAX_JOINTS];     /* rad, work on the tracking error over the bound, forgotten slowly */
    double deviation[PHYSAI_MAX_JOINTS]; /* rad from the reference in the residual's direction, low-passed */
    double chatter[PHYSAI_MAX_JOINTS];   /* share of the time at the rate limit, low-passed */
};

/* A NULL network is none. PHYSAI_ERROR_ARGUMENT, with the reason, for one that does not fit or is not finite.
 */
int physai_residual_load(struct physai_residual *residual, const struct physai_residual_network *network,
                         uint32_t n_joints, char *text, size_t text_size);

/* Begin anew, from zero torque. */
void physai_residual_reset(struct physai_residual *residual);

/*
 * Add the residual to `tau`. `tracking_error` is reference - measured, rad; `torque_limit` is the joints'
 * own, Nm. False while it is faded or off, and without a network. Never makes a finite `tau` anything else.
 */
bool physai_residual_add(struct physai_residual *residual, const double *q, const double *dq,
                         const double *reference_dq, const double *reference_ddq,
                         const double *tracking_error, const double *torque_limit, double step_s,
                         double *tau);

/* tanh within 1.2e-4; NaN stays NaN. */
float physai_residual_tanh(float x);

#endif
