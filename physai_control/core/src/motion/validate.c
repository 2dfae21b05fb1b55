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
#define OPENING_SLOP     1e-4 /* m, rad or share */
#define UNIT_SLOP        1e-3 /* of a quaternion's length */
#define IK_ROUNDS        60
#define IK_TOLERANCE_M   1e-4
#define IK_TOLERANCE_RAD 1e-3
#define PATH_ERROR       1e-3 /* of the arm's reach: may pass a fence between two checks */

/* What a plan's channels are: the joints, or the tools' axes. */
struct channels {
    uint32_t n;
    const struct physai_joint_limits *limits;
    bool joints;
};

struct name {
    char text[4 * PHYSAI_NAME_SIZE];
};

static struct name tool_name(const struct physai_control *control, uint32_t tool)
{
    struct name name;
    physai_fence_name(&control->config, 2 * tool, name.text, 2 * PHYSAI_NAME_SIZE);
    return name;
}

static struct name channel_name(const struct physai_control *control, const struct channels *channels,
                                uint32_t i)
{
    static const char *const axes[6] = {"along x", "along y", "along z", "about x", "about y", "about z"};
    struct name name;
    if (channels->joints)
        snprintf(name.text, sizeof name.text, "%s", control->config.joint_names[i]);
    else
        snprintf(name.text, sizeof name.text, "the %.127s %s", tool_name(control, i / 6).text, axes[i % 6]);
    return name;
}

static const char *unit(const struct channels *channels, uint32_t i)
{
    return channels->joints || i % 6 >= 3 ? "rad" : "m";
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
    if (chunk->mode == PHYSAI_CHUNK_POSE && chunk->n_values != 7 * control->n_tools)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u numbers for a tool pose given, %u are needed (x y z, qw qx qy qz%s)",
               chunk->n_values, 7 * control->n_tools,
               control->n_tools > 1 ? " for each of the robot's tools" : "");
    if (chunk->mode == PHYSAI_CHUNK_POSE && control->model.shared >= 0)
        REFUSE(PHYSAI_REFUSED_SHAPE, "tool poses are given, but %s moves several tools; give joint positions",
               control->config.joint_names[control->model.shared]);
    if (chunk->n_steps < 1 || chunk->n_steps > PHYSAI_MAX_STEPS)
        REFUSE(PHYSAI_REFUSED_SHAPE, "%u steps given, 1 to %d are allowed", chunk->n_steps, PHYSAI_MAX_STEPS);
    if (chunk->dt_ns < SHORTEST || chunk->dt_ns > LONGEST)
        REFUSE(PHYSAI_REFUSED_SHAPE, "dt is %.6g s, 0.001 to 1 s are allowed", (double)chunk->dt_ns * NS);
    return PHYSAI_OK;
}

static int check_quaternion(const struct physai_control *control, const double *q, uint32_t step,
                            uint32_t tool, char *text, size_t text_size)
{
    double length = sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    if (!(fabs(length - 1) <= UNIT_SLOP))
        REFUSE(PHYSAI_REFUSED_ROTATION, "the %s's quaternion of step %u has the length %.4g, it must be 1",
               tool_name(control, tool).text, step, length);
    return PHYSAI_OK;
}

static int check_opening(const struct physai_control *control, double opening, uint32_t step, uint32_t tool,
                         char *text, size_t text_size)
{
    const struct physai_tool *owner = &control->config.tools[tool];
    const struct physai_gripper *gripper = &owner->gripper;
    const char *name = control->n_tools > 1 ? owner->name : "the tool";
    if (!isfinite(opening))
        REFUSE(PHYSAI_REFUSED_NOT_FINITE, "the gripper's opening of step %u is not finite (%s)", step, name);
    if (gripper->kind == PHYSAI_GRIPPER_NONE && opening != 0)
        REFUSE(PHYSAI_REFUSED_GRIPPER,
               "the gripper's opening of step %u is %.4g, and %s has no gripper: give 0", step, opening,
               name);
    if (!(opening >= gripper->opening_min - OPENING_SLOP && opening <= gripper->opening_max + OPENING_SLOP))
        REFUSE(PHYSAI_REFUSED_GRIPPER,
               "the gripper's opening of step %u is %.4g%s, %.4g to %.4g are allowed (%s)", step, opening,
               gripper->kind == PHYSAI_GRIPPER_PARALLEL ? " m"
               : gripper->kind == PHYSAI_GRIPPER_HINGE  ? " rad"
                                                        : "",
               gripper->opening_min, gripper->opening_max, name);
    return PHYSAI_OK;
}

static int check_finite(const struct physai_control *control, const struct physai_chunk *chunk, char *text,
                        size_t text_size)
{
    bool poses = chunk->mode == PHYSAI_CHUNK_POSE;
    int error;
    for (uint32_t k = 0; k < chunk->n_steps; k++) {
        for (uint32_t i = 0; i < chunk->n_values; i++)
            if (!isfinite(chunk->values[k][i]))
                REFUSE(PHYSAI_REFUSED_NOT_FINITE, "step %u of %s%s is not finite", k,
                       poses ? "the pose of the " : "",
                       poses ? tool_name(control, i / 7).text : control->config.joint_names[i]);
        for (uint32_t t = 0; t < control->n_tools; t++)
            if ((poses &&
                 (error = check_quaternion(control, chunk->values[k] + 7 * t + 3, k, t, text, text_size))) ||
                (error = check_opening(control, chunk->opening[k][t], k, t, text, text_size)))
                return error;
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
               channel_name(control, channels, i).text, q, (double)(time_ns - plan->start_ns) * NS,
               joint->position_min, joint->position_max);
    return PHYSAI_OK;
}

static int check_motion(const struct physai_control *control, const struct channels *channels,
                        const struct physai_plan *plan, uint32_t i, int64_t time_ns,
                        const struct physai_motion *motion, char *text, size_t text_size)
{
    const struct physai_joint_limits *joint = &channels->limits[i];
    double at = (double)(time_ns - plan->start_ns) * NS;
    double q = motion->q[i], dq = motion->dq[i], ddq = motion->ddq[i];
    int error = check_position(control, channels, plan, i, q, time_ns, text, text_size);
    if (error)
        return error;
    double allowed = dq >= 0 ? physai_speed_limit_up(joint, q) : physai_speed_limit_down(joint, q);
    if (!(fabs(dq) <= allowed + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_VELOCITY, "%s moves at %.3g %s/s at %.3f s, %.3g is allowed there",
               channel_name(control, channels, i).text, dq, unit(channels, i), at, allowed);
    if (!(fabs(ddq) <= joint->acceleration + TOLERANCE))
        REFUSE(PHYSAI_REFUSED_ACCELERATION, "%s accelerates at %.3g %s/s2 at %.3f s, %.3g is allowed",
               channel_name(control, channels, i).text, ddq, unit(channels, i), at, joint->acceleration);
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
                       channel_name(control, channels, i).text, jerk, unit(channels, i), k,
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
    uint32_t next = first_future(plan, status->time_ns);
    const double none[3] = {0};
    for (uint32_t t = 0; t < control->n_tools; t++) {
        const double *place = plan->q[next] + 6 * t;
        double far = distance(place, status->tools[t].reference), turn = distance(place + 3, none);
        for (uint32_t step = 0; step < plan->n_steps; step++)
            if (!(distance(plan->q[step] + 6 * t + 3, none) <= PHYSAI_CHART))
                REFUSE(PHYSAI_REFUSED_ROTATION, "step %u turns the %s by %.3g rad from now, %.3g are allowed",
                       step, tool_name(control, t).text, distance(plan->q[step] + 6 * t + 3, none),
                       PHYSAI_CHART);
        if (!(far <= control->config.chunk_jump_m))
            REFUSE(PHYSAI_REFUSED_JUMP, "its next step is %.3g m from where the %s is now, %.3g is allowed",
                   far, tool_name(control, t).text, control->config.chunk_jump_m);
        if (!(turn <= control->config.chunk_jump_rad))
            REFUSE(PHYSAI_REFUSED_JUMP,
                   "its next step is %.3g rad from how the %s stands now, %.3g is allowed", turn,
                   tool_name(control, t).text, control->config.chunk_jump_rad);
    }
    return PHYSAI_OK;
}

static int refuse_fenced(const struct physai_control_config *config, const struct physai_violation *worst,
                         double at_s, const struct physai_places *places, char *text, size_t text_size)
{
    if (worst->fence == PHYSAI_ARMS) {
        uint32_t pair[2];
        physai_fence_pair(worst->point, pair);
        REFUSE(PHYSAI_REFUSED_DISTANCE,
               "the arms of %s and %s would be %.3f m apart at %.3f s, %.3f m are required",
               config->tools[pair[0]].name, config->tools[pair[1]].name,
               config->arms_distance - worst->distance, at_s, config->arms_distance);
    }
    char name[2 * PHYSAI_NAME_SIZE];
    uint32_t t = worst->point / 2;
    const double *p = worst->point % 2 ? places->elbows[t] : places->tools[t];
    physai_fence_name(config, worst->point, name, sizeof name);
    REFUSE(PHYSAI_REFUSED_GEOFENCE, "the %s is at (%.3f, %.3f, %.3f) m at %.3f s, %.3f m beyond geofence %d",
           name, p[0], p[1], p[2], at_s, worst->distance, worst->fence);
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

/* Where the joints put the tools and elbows. With tool poses the elbows are for the cycle to guard. */
static struct physai_places places_of(const struct physai_control *control, bool with_elbows)
{
    const struct physai_dynamics *dynamics = &control->chunk_dynamics;
    struct physai_places places = {{NULL}, {NULL}};
    for (uint32_t t = 0; t < control->n_tools; t++) {
        bool known = with_elbows && control->model.elbows[t].link >= 0;
        places.tools[t] = dynamics->tools[t].position;
        places.elbows[t] = known ? dynamics->tools[t].elbow_position : NULL;
    }
    return places;
}

/* Where the plan is at one time: what the joints' stops, the fences and the other arms allow there. */
static int check_place(struct physai_control *control, const struct channels *channels,
                       const struct physai_plan *plan, int64_t time_ns, const physai_fence_table allowed,
                       char *text, size_t text_size)
{
    struct physai_motion motion;
    physai_plan_evaluate(plan, time_ns, &motion);
    for (uint32_t i = 0; i < channels->n; i++) {
        int error = check_motion(control, channels, plan, i, time_ns, &motion, text, text_size);
        if (error)
            return error;
    }
    struct physai_places places = places_of(control, channels->joints);
    if (channels->joints)
        physai_dynamics_poses(&control->chunk_dynamics, motion.q);
    for (uint32_t t = 0; !channels->joints && t < control->n_tools; t++)
        places.tools[t] = motion.q + 6 * t;
    physai_fence_table distance;
    physai_fences_measure(&control->config, &places, distance);
    struct physai_violation worst = physai_fences_worst(&control->config, distance, allowed);
    if (!(worst.distance <= worst.allowed + TOLERANCE))
        return refuse_fenced(&control->config, &worst, (double)(time_ns - plan->start_ns) * NS, &places, text,
                             text_size);
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
    physai_fence_table now;
    struct physai_places places = places_of(control, channels->joints);
    physai_dynamics_poses(&control->chunk_dynamics, status->reference);
    physai_fences_measure(&control->config, &places, now);
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

/* An arm of few joints, and one at its stops, cannot turn or shift its tool as it likes: which way, is said.
 */
static int refuse_unreached(const struct physai_control *control, uint32_t tool, uint32_t step,
                            const double left[6], char *text, size_t text_size)
{
    static const char *const axes[6] = {"along x",     "along y",     "along z",
                                        "about its x", "about its y", "about its z"};
    int worst = 0;
    double turn = sqrt(left[3] * left[3] + left[4] * left[4] + left[5] * left[5]);
    for (int a = 1; a < 6; a++)
        if (fabs(left[a]) / (a < 3 ? IK_TOLERANCE_M : IK_TOLERANCE_RAD) >
            fabs(left[worst]) / (worst < 3 ? IK_TOLERANCE_M : IK_TOLERANCE_RAD))
            worst = a;
    REFUSE(PHYSAI_REFUSED_UNREACHABLE,
           "the arm cannot reach the %s pose of step %u; %.1f mm and %.3f rad are missing, most of it %s",
           tool_name(control, tool).text, step, 1e3 * distance(left, (const double[3]){0}), turn,
           axes[worst]);
}

/* The joint positions that a chunk of tool poses stands for, from where the joints are now. */
static int to_joints(struct physai_control *control, const struct physai_chunk *chunk,
                     const struct physai_status *status, struct physai_chunk *joints, char *text,
                     size_t text_size)
{
    double q[PHYSAI_MAX_JOINTS], low[PHYSAI_MAX_JOINTS], high[PHYSAI_MAX_JOINTS], left[6], rotation[9];
    struct physai_ik ik = {.rounds = IK_ROUNDS,
                           .low = low,
                           .high = high,
                           .weights = {1, 1, 1, 1, 1, 1},
                           .tolerance = {IK_TOLERANCE_M, IK_TOLERANCE_RAD}};
    for (uint32_t i = 0; i < control->n; i++) {
        low[i] = control->config.joints[i].position_min;
        high[i] = control->config.joints[i].position_max;
    }
    memcpy(joints, chunk, sizeof *joints);
    memcpy(q, status->reference, sizeof q);
    joints->mode = PHYSAI_CHUNK_JOINTS;
    joints->n_values = control->n;
    for (uint32_t k = 0; k < chunk->n_steps; k++) {
        for (uint32_t t = 0; t < control->n_tools; t++) {
            const double *pose = chunk->values[k] + 7 * t;
            physai_quat_matrix(pose + 3, rotation);
            if (!physai_inverse_kinematics(&control->chunk_dynamics, t, &ik, pose, rotation, q, left))
                return refuse_unreached(control, t, k, left, text, text_size);
        }
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
        double anchors[PHYSAI_MAX_TOOLS][4];
        for (uint32_t t = 0; t < control->n_tools; t++)
            memcpy(anchors[t], status->tools[t].reference + 3, sizeof anchors[t]);
        channels = (struct channels){6 * control->n_tools, control->pose_limits, false};
        physai_plan_fit_poses(plan, chunk, anchors);
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
