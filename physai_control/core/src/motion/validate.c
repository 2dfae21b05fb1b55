#include "internal.h"
#include "model/ik.h"
#include "model/rotation.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NS        1e-9
#define SHORTEST  1000000    /* ns between setpoints */
#define LONGEST   1000000000 /* ns between setpoints */
#define FAR       ((int64_t)1 << 61)
#define TOLERANCE 1e-6
#define EXPIRY_S                                                                                             \
    5.0 /* after the last step at most: so late a silent policy is noticed by a chunk of one step */
#define WIDTH_SLOP 1e-4 /* m */
#define UNIT_SLOP  1e-3 /* of a quaternion's length */
#define PATH_ERROR 1e-3 /* of the arm's reach: may pass a fence between two checks */

/* What a plan's channels are: the joints, or the tool's axes. */
struct channels {
    uint32_t n;
    const struct physai_joint_limits *limits;
    bool joints;
};

static const char *channel_name(const struct physai_control *control, const struct channels *channels,
                                uint32_t i)
{
    static const char *const tool[6] = {"the tool along x", "the tool along y", "the tool along z",
                                        "the tool about x", "the tool about y", "the tool about z"};
    return channels->joints ? control->config.joint_names[i] : tool[i];
}

static const char *unit(const struct channels *channels, uint32_t i)
{
    return channels->joints || i >= 3 ? "rad" : "m";
}

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

/* One policy at a time; a chunk that overtook the status is dropped by the cycle (switch_plan). */
static int check_lease(const struct physai_chunk *chunk, const struct physai_status *status, char *text,
                       size_t text_size)
{
    if (chunk->lease == 0)
        REFUSE(PHYSAI_REFUSED_LEASE, "its lease is 0; a policy draws any other number when it starts");
    if (status->active_sequence && chunk->lease != status->active_lease)
        REFUSE(
            PHYSAI_REFUSED_LEASE,
            "lease %016llx: the arm follows the policy with lease %016llx; end that one, or wait until its "
            "chunk has ended",
            (unsigned long long)chunk->lease, (unsigned long long)status->active_lease);
    return PHYSAI_OK;
}

static int check_shape(const struct physai_control *control, const struct physai_chunk *chunk, char *text,
                       size_t text_size)
{
    if (chunk->mode > PHYSAI_CHUNK_POSE)
        REFUSE(PHYSAI_REFUSED_SHAPE, "mode %u is unknown; 0 (joints) and 1 (tool pose) are possible",
               chunk->mode);
    if (chunk->mode == PHYSAI_CHUNK_JOINTS && chunk->n_values != control->n)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u joints given, the robot has %u", chunk->n_values, control->n);
    if (chunk->mode == PHYSAI_CHUNK_POSE && chunk->n_values != 7)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u numbers for a tool pose given, 7 are needed (x y z, qw qx qy qz)",
               chunk->n_values);
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
        double square = 0;
        for (uint32_t i = 0; i < chunk->n_values; i++) {
            double value = chunk->values[k][i];
            square += i >= 3 ? value * value : 0;
            if (!isfinite(value))
                REFUSE(PHYSAI_REFUSED_NOT_FINITE, "step %u of %s is not finite", k,
                       chunk->mode == PHYSAI_CHUNK_JOINTS ? control->config.joint_names[i] : "the tool pose");
        }
        if (chunk->mode == PHYSAI_CHUNK_POSE && !(fabs(sqrt(square) - 1) <= UNIT_SLOP))
            REFUSE(PHYSAI_REFUSED_ROTATION, "the quaternion of step %u has the length %.4g, it must be 1", k,
                   sqrt(square));
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
    uint64_t last = physai_last_sequence(control, chunk->lease);
    if (chunk->sequence <= last)
        REFUSE(PHYSAI_REFUSED_SEQUENCE, "sequence %llu does not come after %llu of the same lease",
               (unsigned long long)chunk->sequence, (unsigned long long)last);
    if (!(chunk->start_ns > -FAR && chunk->start_ns < FAR && chunk->expiry_ns > -FAR &&
          chunk->expiry_ns < FAR))
        REFUSE(PHYSAI_REFUSED_TIME, "start or expiry is not a time");
    int64_t last_ns = chunk->start_ns + (int64_t)(chunk->n_steps - 1) * chunk->dt_ns;
    if (chunk->expiry_ns <= now_ns)
        REFUSE(PHYSAI_REFUSED_TIME, "it expired %.3f s ago", (double)(now_ns - chunk->expiry_ns) * NS);
    if (chunk->expiry_ns <= chunk->start_ns)
        REFUSE(PHYSAI_REFUSED_TIME, "it expires before it starts");
    if ((double)(chunk->expiry_ns - (last_ns > now_ns ? last_ns : now_ns)) * NS > EXPIRY_S)
        REFUSE(PHYSAI_REFUSED_TIME, "it expires %.3g s after its last step, at most %.3g s are allowed",
               (double)(chunk->expiry_ns - last_ns) * NS, EXPIRY_S);
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

static int check_position(const struct physai_control *control, const struct channels *channels,
                          const struct physai_plan *plan, uint32_t i, double q, int64_t time_ns, char *text,
                          size_t text_size)
{
    const struct physai_joint_limits *joint = &channels->limits[i];
    if (!(q >= joint->position_min - TOLERANCE && q <= joint->position_max + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_POSITION, "%s reaches %.4g rad at %.3f s, [%.4g, %.4g] is allowed",
               channel_name(control, channels, i), q, (double)(time_ns - plan->start_ns) * NS,
               joint->position_min, joint->position_max);
    return PHYSAI_OK;
}

static int check_motion(const struct physai_control *control, const struct channels *channels,
                        const struct physai_plan *plan, uint32_t i, int64_t time_ns,
                        const struct physai_motion *motion, char *text, size_t text_size)
{
    const struct physai_joint_limits *joint = &channels->limits[i];
    const char *name = channel_name(control, channels, i);
    double at = (double)(time_ns - plan->start_ns) * NS;
    double q = motion->q[i], dq = motion->dq[i], ddq = motion->ddq[i];
    int error = check_position(control, channels, plan, i, q, time_ns, text, text_size);
    if (error)
        return error;
    double allowed = dq >= 0 ? physai_speed_limit_up(joint, q) : physai_speed_limit_down(joint, q);
    if (!(fabs(dq) <= allowed + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_VELOCITY, "%s moves at %.3g %s/s at %.3f s, %.3g is allowed there", name, dq,
               unit(channels, i), at, allowed);
    if (!(fabs(ddq) <= joint->acceleration + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_ACCELERATION, "%s accelerates at %.3g %s/s2 at %.3f s, %.3g is allowed", name,
               ddq, unit(channels, i), at, joint->acceleration);
    return PHYSAI_OK;
}

static int check_limits(const struct physai_control *control, const struct channels *channels,
                        const struct physai_plan *plan, char *text, size_t text_size)
{
    double h = (double)plan->dt_ns * NS;
    /* A setpoint out of range is named as such, before the acceleration that leads to it. */
    for (uint32_t k = 0; k < plan->n_steps; k++) {
        for (uint32_t i = 0; i < channels->n; i++) {
            int error = check_position(control, channels, plan, i, plan->q[k][i],
                                       plan->start_ns + (int64_t)k * plan->dt_ns, text, text_size);
            if (error)
                return error;
        }
    }
    for (uint32_t k = 0; k < plan->n_steps; k++) {
        int64_t knot_ns = plan->start_ns + (int64_t)k * plan->dt_ns;
        struct physai_motion motion;
        physai_plan_evaluate(plan, knot_ns, &motion);
        for (uint32_t i = 0; i < channels->n; i++) {
            int error = check_motion(control, channels, plan, i, knot_ns, &motion, text, text_size);
            if (error || k + 1 == plan->n_steps) {
                if (error)
                    return error;
                continue;
            }
            /* Between setpoints: where the velocity is zero, and where it is extreme. */
            double at[3], c0 = plan->ddq[k][i], c1 = plan->ddq[k + 1][i], jerk = (c1 - c0) / h;
            int n = turning_points(plan, k, i, at);
            if ((c0 < 0) != (c1 < 0))
                at[n++] = h * c0 / (c0 - c1);
            for (int j = 0; j < n; j++) {
                int64_t time_ns = knot_ns + (int64_t)(at[j] / NS);
                physai_plan_evaluate_joint(plan, i, time_ns, &motion.q[i], &motion.dq[i], &motion.ddq[i]);
                error = check_motion(control, channels, plan, i, time_ns, &motion, text, text_size);
                if (error)
                    return error;
            }
            if (!(fabs(jerk) <= channels->limits[i].jerk * (1 + TOLERANCE)))
                REFUSE(PHYSAI_REFUSED_JERK, "%s has a jerk of %.3g %s/s3 after step %u, %.3g is allowed",
                       channel_name(control, channels, i), jerk, unit(channels, i), k,
                       channels->limits[i].jerk);
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

static double distance(const double a[3], const double b[3])
{
    return sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) +
                (a[2] - b[2]) * (a[2] - b[2]));
}

static int check_pose_jump(const struct physai_control *control, const struct physai_plan *plan,
                           const struct physai_status *status, char *text, size_t text_size)
{
    uint32_t k = first_future(plan, status->time_ns);
    const double none[3] = {0};
    double far = distance(plan->q[k], status->tool_reference), turn = distance(plan->q[k] + 3, none);
    for (uint32_t step = 0; step < plan->n_steps; step++)
        if (!(distance(plan->q[step] + 3, none) <= PHYSAI_CHART))
            REFUSE(PHYSAI_REFUSED_ROTATION, "step %u turns the tool by %.3g rad from now, %.3g are allowed",
                   step, distance(plan->q[step] + 3, none), PHYSAI_CHART);
    if (!(far <= control->config.chunk_jump_m))
        REFUSE(PHYSAI_REFUSED_JUMP, "its next step is %.3g m from where the tool is now, %.3g is allowed",
               far, control->config.chunk_jump_m);
    if (!(turn <= control->config.chunk_jump_rad))
        REFUSE(PHYSAI_REFUSED_JUMP, "its next step is %.3g rad from how the tool stands now, %.3g is allowed",
               turn, control->config.chunk_jump_rad);
    return PHYSAI_OK;
}

static int refuse_fenced(const struct physai_violation *worst, double at_s, const double p[3], char *text,
                         size_t text_size)
{
    REFUSE(PHYSAI_REFUSED_GEOFENCE, "the %s is at (%.3f, %.3f, %.3f) m at %.3f s, %.3f m beyond geofence %d",
           worst->point == PHYSAI_FENCE_ELBOW ? "elbow" : "tool", p[0], p[1], p[2], at_s, worst->distance,
           worst->fence);
}

/*
 * How often to check from setpoint k to the next. Between two points h apart, a point of the arm leaves the
 * straight line that joins them by at most |p''| h^2 / 8, and with all joints' speeds v and accelerations a,
 * |p''| is at most reach (sum a + (sum v)^2).
 */
static int64_t time_between_checks_ns(const struct physai_plan *plan, uint32_t k)
{
    double h = (double)plan->dt_ns * NS, speed = 0, acceleration = 0;
    for (uint32_t i = 0; i < plan->n_joints; i++) {
        double most = fmax(fabs(plan->ddq[k][i]), fabs(plan->ddq[k + 1][i]));
        speed += fabs(plan->q[k + 1][i] - plan->q[k][i]) / h + h * most; /* is the mean one somewhere */
        acceleration += most;
    }
    double step = sqrt(8 * PATH_ERROR / fmax(acceleration + speed * speed, 1e-9));
    return plan->dt_ns / (1 + (int64_t)(h / step)) + 1;
}

/* The elbow is where the joints put it; with tool poses it is for the cycle to guard. */
static const double *elbow_of(const struct physai_control *control, const struct physai_plan *plan)
{
    bool known = plan->mode == PHYSAI_CHUNK_JOINTS && control->model.elbow.link >= 0;
    return known ? control->chunk_dynamics.elbow_position : NULL;
}

/* Where the plan is at one time: what the joints' stops and the fences allow there. */
static int check_place(struct physai_control *control, const struct channels *channels,
                       const struct physai_plan *plan, int64_t time_ns, const physai_fence_table allowed,
                       char *text, size_t text_size)
{
    struct physai_dynamics *dynamics = &control->chunk_dynamics;
    struct physai_motion motion;
    physai_plan_evaluate(plan, time_ns, &motion);
    for (uint32_t i = 0; i < channels->n; i++) {
        int error = check_motion(control, channels, plan, i, time_ns, &motion, text, text_size);
        if (error)
            return error;
    }
    const double *tool = motion.q, *elbow = elbow_of(control, plan);
    if (plan->mode == PHYSAI_CHUNK_JOINTS) {
        physai_dynamics_tool(dynamics, motion.q);
        tool = dynamics->tool_position;
    }
    physai_fence_table distance;
    physai_fences_measure(&control->config, tool, elbow, distance);
    struct physai_violation worst = physai_fences_worst(&control->config, distance, allowed);
    if (!(worst.distance <= worst.allowed + TOLERANCE))
        return refuse_fenced(&worst, (double)(time_ns - plan->start_ns) * NS,
                             worst.point == PHYSAI_FENCE_ELBOW ? elbow : tool, text, text_size);
    return PHYSAI_OK;
}

/*
 * What is still to come, between the setpoints too: a path may leave a fence or outrun a joint's stop where
 * no setpoint does. From beyond a fence, a chunk may lead back but not further out.
 */
static int check_way_ahead(struct physai_control *control, const struct channels *channels,
                           const struct physai_plan *plan, const struct physai_status *status, char *text,
                           size_t text_size)
{
    struct physai_dynamics *dynamics = &control->chunk_dynamics;
    physai_dynamics_tool(dynamics, status->reference);
    physai_fence_table now;
    physai_fences_measure(&control->config, dynamics->tool_position, elbow_of(control, plan), now);
    for (uint32_t k = 0; k + 1 < plan->n_steps; k++) {
        int64_t from_ns = plan->start_ns + (int64_t)k * plan->dt_ns, to_ns = from_ns + plan->dt_ns;
        if (to_ns <= status->time_ns)
            continue;
        int64_t step_ns = time_between_checks_ns(plan, k);
        for (int64_t t = from_ns > status->time_ns ? from_ns : status->time_ns; t < to_ns; t += step_ns) {
            int error = check_place(control, channels, plan, t, now, text, text_size);
            if (error)
                return error;
        }
    }
    return check_place(control, channels, plan, plan->end_ns, now, text, text_size);
}

/* The joint positions that a chunk of tool poses stands for, from where the joints are now. */
static int to_joints(struct physai_control *control, const struct physai_chunk *chunk,
                     const struct physai_status *status, struct physai_chunk *joints, char *text,
                     size_t text_size)
{
    double q[PHYSAI_MAX_JOINTS];
    memcpy(joints, chunk, sizeof *joints);
    memcpy(q, status->reference, sizeof q);
    joints->mode = PHYSAI_CHUNK_JOINTS;
    joints->n_values = control->n;
    for (uint32_t k = 0; k < chunk->n_steps; k++) {
        double missed =
            physai_inverse_kinematics(&control->chunk_dynamics, control->config.joints, chunk->values[k], q);
        if (!(missed <= PHYSAI_IK_TOLERANCE))
            REFUSE(PHYSAI_REFUSED_UNREACHABLE,
                   "the arm cannot reach the tool pose of step %u; %.1f mm are missing", k, 1e3 * missed);
        memcpy(joints->values[k], q, sizeof q);
    }
    return PHYSAI_OK;
}

int physai_validate_chunk(struct physai_control *control, const struct physai_chunk *chunk,
                          const struct physai_status *status, struct physai_plan *plan, char *text,
                          size_t text_size)
{
    int error;
    if ((error = check_state(status, text, text_size)) ||
        (error = check_lease(chunk, status, text, text_size)) ||
        (error = check_shape(control, chunk, text, text_size)) ||
        (error = check_finite(control, chunk, text, text_size)) ||
        (error = check_time(control, chunk, status->time_ns, text, text_size)))
        return error;
    bool by_pose =
        control->posted_settings.law == PHYSAI_LAW_CARTESIAN && !control->config.position_commanded;
    struct channels channels = {control->n, control->config.joints, true};
    struct physai_chunk joints;
    if (chunk->mode == PHYSAI_CHUNK_POSE && by_pose) {
        channels = (struct channels){6, control->pose_limits, false};
        physai_plan_fit_pose(plan, chunk, status->tool_reference + 3);
        error = check_pose_jump(control, plan, status, text, text_size);
    } else if (chunk->mode == PHYSAI_CHUNK_POSE) {
        error = to_joints(control, chunk, status, &joints, text, text_size);
        if (!error)
            physai_plan_fit(plan, &joints);
    } else {
        physai_plan_fit(plan, chunk);
    }
    if (error || (error = check_limits(control, &channels, plan, text, text_size)) ||
        (channels.joints && (error = check_jump(control, plan, status, text, text_size))) ||
        (error = check_way_ahead(control, &channels, plan, status, text, text_size)))
        return error;
    return PHYSAI_OK;
}
