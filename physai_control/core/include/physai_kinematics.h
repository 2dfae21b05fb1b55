/*
 * physai_kinematics.h: inverse kinematics of whole chunks, without a control core. One thread at a time.
 */
#ifndef PHYSAI_KINEMATICS_H
#define PHYSAI_KINEMATICS_H

#include "physai_hardware.h"

#ifdef __cplusplus
extern "C" {
#endif

struct physai_kinematics; /* opaque */

/* What a solution is to keep to. */
struct physai_inverse {
    uint32_t n_steps;
    uint32_t rounds;      /* at most, for each step */
    uint32_t has_posture; /* the null space goes a tenth of the way to it, once a step */
    uint32_t reserved;
    double
        seed[PHYSAI_MAX_JOINTS]; /* rad: the first step is near it; joints that do not move the tool stay */
    double posture[PHYSAI_MAX_JOINTS]; /* rad */
    double low[PHYSAI_MAX_JOINTS];     /* rad: where joints may be */
    double high[PHYSAI_MAX_JOINTS];
    double weights[6];   /* along the base's x y z, about the target's; 0: left free */
    double tolerance[2]; /* m, rad */
};

/* Of the joints that are named and the tool, a site or body of the model. 0, or the reason in `text`. */
PHYSAI_API int physai_kinematics_create(const char *model_path, const char *base_frame,
                                        const char *tool_frame, uint32_t n_joints,
                                        const char joint_names[][PHYSAI_NAME_SIZE],
                                        struct physai_kinematics **created, char *text, size_t text_size);
PHYSAI_API void physai_kinematics_destroy(struct physai_kinematics *kinematics);

/*
 * Joint positions, n_steps rows of n_joints, at which the tool is at `positions` (rows of 3, m) and stands as
 * `rotations` (rows of 9, row by row) say, base frame. Returns how many of the steps were reached; of the
 * first that was not, `remaining` is what is left: m along the base's axes, rad about the target's.
 */
PHYSAI_API uint32_t physai_kinematics_inverse(struct physai_kinematics *kinematics,
                                              const struct physai_inverse *inverse, const double *positions,
                                              const double *rotations, double *joints, double remaining[6]);

#ifdef __cplusplus
}
#endif
#endif
