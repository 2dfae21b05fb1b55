/* See physai_kinematics.h. */
#include "physai_kinematics.h"

#include "model/ik.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct physai_kinematics {
    struct physai_model model;
    struct physai_dynamics dynamics;
};

int physai_kinematics_create(const char *model_path, const char *base_frame, const char *tool_frame,
                             uint32_t n_joints, const char joint_names[][PHYSAI_NAME_SIZE],
                             struct physai_kinematics **created, char *text, size_t text_size)
{
    *created = NULL;
    if (n_joints < 1 || n_joints > PHYSAI_MAX_JOINTS) {
        snprintf(text, text_size, "%u driven joints given, 1 to %d are possible", n_joints,
                 PHYSAI_MAX_JOINTS);
        return PHYSAI_ERROR_ARGUMENT;
    }
    struct physai_kinematics *kinematics = calloc(1, sizeof *kinematics);
    struct physai_control_config *config = calloc(1, sizeof *config);
    int error = PHYSAI_ERROR_MEMORY;
    if (kinematics && config) {
        config->n_joints = n_joints;
        config->n_tools = 1;
        snprintf(config->model_path, sizeof config->model_path, "%s", model_path);
        snprintf(config->base_frame, sizeof config->base_frame, "%s", base_frame);
        snprintf(config->tools[0].frame, sizeof config->tools[0].frame, "%s", tool_frame);
        memcpy(config->joint_names, joint_names, n_joints * sizeof joint_names[0]);
        error = physai_model_load(&kinematics->model, config, text, text_size);
    } else {
        snprintf(text, text_size, "out of memory");
    }
    free(config);
    if (!error)
        error = physai_dynamics_init(&kinematics->dynamics, &kinematics->model);
    if (error) {
        physai_kinematics_destroy(kinematics);
        return error;
    }
    *created = kinematics;
    return PHYSAI_OK;
}

void physai_kinematics_destroy(struct physai_kinematics *kinematics)
{
    if (kinematics)
        physai_model_free(&kinematics->model);
    free(kinematics);
}

uint32_t physai_kinematics_inverse(struct physai_kinematics *kinematics, const struct physai_inverse *inverse,
                                   const double *positions, const double *rotations, double *joints,
                                   double remaining[6])
{
    const uint32_t n = kinematics->model.n_joints;
    const size_t row = n * sizeof(double);
    struct physai_ik ik = {.rounds = (int)inverse->rounds,
                           .low = inverse->low,
                           .high = inverse->high,
                           .posture = inverse->has_posture ? inverse->posture : NULL};
    memcpy(ik.weights, inverse->weights, sizeof ik.weights);
    memcpy(ik.tolerance, inverse->tolerance, sizeof ik.tolerance);
    for (uint32_t k = 0; k < inverse->n_steps; k++) {
        double *q = joints + k * n;
        memcpy(q, k ? q - n : inverse->seed, row);
        if (!physai_inverse_kinematics(&kinematics->dynamics, 0, &ik, positions + 3 * k, rotations + 9 * k, q,
                                       remaining))
            return k;
    }
    return inverse->n_steps;
}
