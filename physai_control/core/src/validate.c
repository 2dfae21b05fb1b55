#include "internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define NS         1e-9
#define SHORTEST   1000000    /* ns between setpoints */
#define LONGEST    1000000000 /* ns between setpoints */
#define FAR        ((int64_t)1 << 61)
#define TOLERANCE  1e-6
#define WIDTH_SLOP 1e-4 /* m */

static int refuse(int error, char *text, size_t text_size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(int error, char *text, size_t text_size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, text_size, format, arguments);
    va_end(arguments);
    return error;
}

#define REFUSE(error, ...) return refuse(error, text, text_size, __VA_ARGS__)

static int check_state(const struct physai_status *status, char *text, size_t text_size)
{
    if (status->state == PHYSAI_FAULT || status->state == PHYSAI_ESTOP)
        REFUSE(PHYSAI_REFUSED_STATE, "the controller is in %s; reset it first",
               status->state == PHYSAI_FAULT ? "fault" : "estop");
    if (status->state == PHYSAI_INACTIVE)
        REFUSE(PHYSAI_REFUSED_STATE, "the controller is inactive; activate it first");
    if (status->paused)
        REFUSE(PHYSAI_REFUSED_STATE, "the controller was stopped by request; resume it first");
    return PHYSAI_OK;
}

static int check_shape(const struct physai_control *control, const struct physai_chunk *chunk, char *text,
                       size_t text_size)
{
    if (chunk->n_joints != control->n)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u joints given, the robot has %u", chunk->n_joints, control->n);
    if (chunk->n_steps < 1 || chunk->n_steps > PHYSAI_MAX_STEPS)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u steps given, 1 to %d are allowed", chunk->n_steps, PHYSAI_MAX_STEPS);
    if (chunk->dt_ns < SHORTEST || chunk->dt_ns > LONGEST)
        REFUSE(PHYSAI_REFUSED_SHAPE, "dt is %.6g s, 0.001 to 1 s are allowed", (double)chunk->dt_ns * NS);
    return PHYSAI_OK;
}

static int check_finite(const struct physai_control *control, const struct physai_chunk *chunk, char *text,
                        size_t text_size)
{
    for (uint32_t k = 0; k < chunk->n_steps; k++) {
        for (uint32_t i = 0; i < control->n; i++)
            if (!isfinite(chunk->q[k][i]))
                REFUSE(PHYSAI_REFUSED_NOT_FINITE, "step %u of %s is not finite", k,
                       control->config.joint_names[i]);
        double width = chunk->gripper_width[k];
        if (!isfinite(width))
            REFUSE(PHYSAI_REFUSED_NOT_FINITE, "gripper width of step %u is not finite", k);
        if (!(width >= control->config.gripper_width_min - WIDTH_SLOP &&
              width <= control->config.gripper_width_max + WIDTH_SLOP))
            REFUSE(PHYSAI_REFUSED_GRIPPER, "gripper width of step %u is %.4g m, %.4g to %.4g are allowed", k,
                   width, control->config.gripper_width_min, control->config.gripper_width_max);
    }
    return PHYSAI_OK;
}

static int check_time(const struct physai_control *control, const struct physai_chunk *chunk, int64_t now_ns,
                      char *text, size_t text_size)
{
    if (chunk->sequence <= control->last_sequence)
        REFUSE(PHYSAI_REFUSED_SEQUENCE, "sequence %llu does not come after %llu",
               (unsigned long long)chunk->sequence, (unsigned long long)control->last_sequence);
    if (!(chunk->start_ns > -FAR && chunk->start_ns < FAR && chunk->expiry_ns > -FAR &&
          chunk->expiry_ns < FAR))
        REFUSE(PHYSAI_REFUSED_TIME, "start or expiry is not a time");
    int64_t last_ns = chunk->start_ns + (int64_t)(chunk->n_steps - 1) * chunk->dt_ns;
    if (chunk->expiry_ns <= now_ns)
        REFUSE(PHYSAI_REFUSED_TIME, "it expired %.3f s ago", (double)(now_ns - chunk->expiry_ns) * NS);
    if (chunk->expiry_ns <= chunk->start_ns)
        REFUSE(PHYSAI_REFUSED_TIME, "it expires before it starts");
    if (chunk->n_steps > 1 && last_ns <= now_ns)
        REFUSE(PHYSAI_REFUSED_TIME, "its last step was %.3f s ago", (double)(now_ns - last_ns) * NS);
    if ((double)(chunk->start_ns - now_ns) * NS > control->config.chunk_lead_s)
        REFUSE(PHYSAI_REFUSED_TIME, "it starts %.3f s in the future, at most %.3f s are allowed",
               (double)(chunk->start_ns - now_ns) * NS, control->config.chunk_lead_s);
    return PHYSAI_OK;
}

/* Where a joint's spline is extreme between two setpoints: the roots of its velocity. */
static int turning_points(const struct physai_plan *plan, uint32_t k, uint32_t i, double root[2])
{
    double h = (double)plan->dt_ns * NS, c0 = plan->ddq[k][i], c1 = plan->ddq[k + 1][i];
    double v0 = (plan->q[k + 1][i] - plan->q[k][i]) / h - h / 6 * (2 * c0 + c1);
    double a = (c1 - c0) / (2 * h), discriminant = c0 * c0 - 4 * a * v0; /* v0 + c0 x + a x^2 */
    int n = 0;
    if (!(discriminant >= 0))
        return 0;
    double w = -0.5 * (c0 + copysign(sqrt(discriminant), c0)); /* stable form; either may divide by zero */
    double candidates[2] = {v0 / w, w / a};
    for (int j = 0; j < 2; j++)
        if (candidates[j] > 0 && candidates[j] < h)
            root[n++] = candidates[j];
    return n;
}

static int check_position(const struct physai_control *control, const struct physai_plan *plan, uint32_t i,
                          double q, int64_t time_ns, char *text, size_t text_size)
{
    const struct physai_joint_limits *joint = &control->config.joints[i];
    if (!(q >= joint->position_min - TOLERANCE && q <= joint->position_max + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_POSITION, "%s reaches %.4g rad at %.3f s, [%.4g, %.4g] is allowed",
               control->config.joint_names[i], q, (double)(time_ns - plan->start_ns) * NS,
               joint->position_min, joint->position_max);
    return PHYSAI_OK;
}

static int check_motion(const struct physai_control *control, const struct physai_plan *plan, uint32_t i,
                        int64_t time_ns, char *text, size_t text_size)
{
    const struct physai_joint_limits *joint = &control->config.joints[i];
    const char *name = control->config.joint_names[i];
    double at = (double)(time_ns - plan->start_ns) * NS;
    double q, dq, ddq;
    physai_plan_evaluate_joint(plan, i, time_ns, &q, &dq, &ddq);
    int error = check_position(control, plan, i, q, time_ns, text, text_size);
    if (error)
        return error;
    double allowed = dq >= 0 ? physai_speed_limit_up(joint, q) : physai_speed_limit_down(joint, q);
    if (!(fabs(dq) <= allowed + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_VELOCITY, "%s moves at %.3g rad/s at %.3f s, %.3g is allowed there", name, dq,
               at, allowed);
    if (!(fabs(ddq) <= joint->acceleration + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_ACCELERATION, "%s accelerates at %.3g rad/s2 at %.3f s, %.3g is allowed", name,
               ddq, at, joint->acceleration);
    return PHYSAI_OK;
}

static int check_limits(const struct physai_control *control, const struct physai_plan *plan, char *text,
                        size_t text_size)
{
    double h = (double)plan->dt_ns * NS;
    /* A setpoint out of range is named as such, before the acceleration that leads to it. */
    for (uint32_t k = 0; k < plan->n_steps; k++) {
        for (uint32_t i = 0; i < control->n; i++) {
            int error = check_position(control, plan, i, plan->q[k][i],
                                       plan->start_ns + (int64_t)k * plan->dt_ns, text, text_size);
            if (error)
                return error;
        }
    }
    for (uint32_t k = 0; k < plan->n_steps; k++) {
        int64_t knot_ns = plan->start_ns + (int64_t)k * plan->dt_ns;
        for (uint32_t i = 0; i < control->n; i++) {
            int error = check_motion(control, plan, i, knot_ns, text, text_size);
            if (error || k + 1 == plan->n_steps) {
                if (error)
                    return error;
                continue;
            }
            /* Between setpoints: where the velocity is zero, and where it is extreme. */
            double at[3], c0 = plan->ddq[k][i], c1 = plan->ddq[k + 1][i];
            int n = turning_points(plan, k, i, at);
            if ((c0 < 0) != (c1 < 0))
                at[n++] = h * c0 / (c0 - c1);
            for (int j = 0; j < n; j++) {
                error = check_motion(control, plan, i, knot_ns + (int64_t)(at[j] / NS), text, text_size);
                if (error)
                    return error;
            }
        }
    }
    return PHYSAI_OK;
}

/* Index of the first setpoint that is still to come. */
static uint32_t first_future(const struct physai_plan *plan, int64_t now_ns)
{
    uint32_t k = 0;
    while (k + 1 < plan->n_steps && plan->start_ns + (int64_t)k * plan->dt_ns < now_ns)
        k++;
    return k;
}

static int check_jump(const struct physai_control *control, const struct physai_plan *plan,
                      const struct physai_status *status, char *text, size_t text_size)
{
    uint32_t k = first_future(plan, status->time_ns);
    for (uint32_t i = 0; i < control->n; i++) {
        double jump = plan->q[k][i] - status->reference[i];
        if (!(fabs(jump) <= control->config.chunk_jump_rad))
            REFUSE(PHYSAI_REFUSED_JUMP, "its next step is %.3g rad from where %s is now, %.3g is allowed",
                   jump, control->config.joint_names[i], control->config.chunk_jump_rad);
    }
    return PHYSAI_OK;
}

static int check_geofence(struct physai_control *control, const struct physai_plan *plan,
                          const struct physai_status *status, char *text, size_t text_size)
{
    const struct physai_control_config *config = &control->config;
    struct physai_dynamics *dynamics = &control->chunk_dynamics;
    physai_dynamics_tool(dynamics, status->reference);
    /* From outside, a chunk may lead back in but not further out. */
    double allowed = physai_outside(dynamics->tool_position, config->geofence_min, config->geofence_max);
    for (uint32_t k = first_future(plan, status->time_ns); k < plan->n_steps; k++) {
        physai_dynamics_tool(dynamics, plan->q[k]);
        const double *p = dynamics->tool_position;
        if (!(physai_outside(p, config->geofence_min, config->geofence_max) <= allowed + TOLERANCE))
            REFUSE(
                PHYSAI_REFUSED_GEOFENCE,
                "step %u puts the tool at (%.3f, %.3f, %.3f) m, outside the geofence (%.3g, %.3g, %.3g) to "
                "(%.3g, %.3g, %.3g)",
                k, p[0], p[1], p[2], config->geofence_min[0], config->geofence_min[1],
                config->geofence_min[2], config->geofence_max[0], config->geofence_max[1],
                config->geofence_max[2]);
    }
    return PHYSAI_OK;
}

int physai_validate_chunk(struct physai_control *control, const struct physai_chunk *chunk,
                          const struct physai_status *status, struct physai_plan *plan, char *text,
                          size_t text_size)
{
    int error;
    if ((error = check_state(status, text, text_size)) ||
        (error = check_shape(control, chunk, text, text_size)) ||
        (error = check_finite(control, chunk, text, text_size)) ||
        (error = check_time(control, chunk, status->time_ns, text, text_size)))
        return error;
    physai_plan_fit(plan, chunk);
    if ((error = check_limits(control, plan, text, text_size)) ||
        (error = check_jump(control, plan, status, text, text_size)) ||
        (error = check_geofence(control, plan, status, text, text_size)))
        return error;
    return PHYSAI_OK;
}
