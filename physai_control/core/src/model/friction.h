/* Friction of the joints, for the observer and for what the laws feed forward. */
#ifndef PHYSAI_FRICTION_H
#define PHYSAI_FRICTION_H

#include "physai_control.h"

/* The config's numbers by kind, for loops over the joints; tanh(slope/2 shift) is computed once. */
struct physai_friction_curves {
    uint32_t n;
    double coulomb[PHYSAI_MAX_JOINTS];   /* Nm */
    double steepness[PHYSAI_MAX_JOINTS]; /* slope/2, s/rad */
    double shift[PHYSAI_MAX_JOINTS];     /* slope/2 shift */
    double at_rest[PHYSAI_MAX_JOINTS];   /* tanh of it */
    double viscous[PHYSAI_MAX_JOINTS];   /* Nm s/rad */
};

void physai_friction_init(struct physai_friction_curves *curves, const struct physai_friction *joints,
                          uint32_t n);

/* Friction of joints that move at dq, Nm. */
void physai_friction(const struct physai_friction_curves *curves, const double *dq, double *torque);

#endif
