/* The side of the control core that may lock and allocate: creation, chunks, requests, status. */
#include "internal.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_HEAD offsetof(struct physai_status, compute)

uint32_t physai_control_abi_version(void)
{
    return PHYSAI_CONTROL_ABI;
}

const char *physai_control_strerror(int error)
{
    switch (error) {
    case PHYSAI_OK:
        return "ok";
    case PHYSAI_ERROR_ARGUMENT:
        return "wrong argument";
    case PHYSAI_ERROR_MODEL:
        return "wrong robot model";
    case PHYSAI_ERROR_MEMORY:
        return "out of memory";
    case PHYSAI_ERROR_HARDWARE:
        return "hardware error";
    case PHYSAI_ERROR_THREAD:
        return "thread error";
    case PHYSAI_ERROR_RUNNING:
        return "the thread is running already";
    case PHYSAI_REFUSED_STATE:
        return "refused in this state";
    case PHYSAI_REFUSED_SHAPE:
        return "wrong shape";
    case PHYSAI_REFUSED_NOT_FINITE:
        return "not finite";
    case PHYSAI_REFUSED_SEQUENCE:
        return "out of order";
    case PHYSAI_REFUSED_TIME:
        return "wrong time";
    case PHYSAI_REFUSED_POSITION:
        return "position limit";
    case PHYSAI_REFUSED_VELOCITY:
        return "velocity limit";
    case PHYSAI_REFUSED_ACCELERATION:
        return "acceleration limit";
    case PHYSAI_REFUSED_JUMP:
        return "jump";
    case PHYSAI_REFUSED_GEOFENCE:
        return "geofence";
    case PHYSAI_REFUSED_GRIPPER:
        return "gripper opening";
    case PHYSAI_REFUSED_DISTANCE:
        return "distance between the arms";
    case PHYSAI_REFUSED_JERK:
        return "jerk limit";
    case PHYSAI_REFUSED_ROTATION:
        return "rotation";
    case PHYSAI_REFUSED_UNREACHABLE:
        return "unreachable";
    case PHYSAI_REFUSED_LEASE:
        return "another policy's lease";
    case PHYSAI_REFUSED_SETTINGS:
        return "wrong settings";
    default:
        return "unknown error";
    }
}

/* ---- emergency stop by signal: a handler may only touch lock-free atomics ---- */

#define MOST_CONTROLS 16

static _Atomic(struct physai_control *) controls[MOST_CONTROLS];

static void register_for_estop(struct physai_control *control)
{
    for (int i = 0; i < MOST_CONTROLS; i++) {
        struct physai_control *none = NULL;
        if (atomic_compare_exchange_strong(&controls[i], &none, control))
            return;
    }
}

static void unregister_for_estop(struct physai_control *control)
{
    for (int i = 0; i < MOST_CONTROLS; i++) {
        struct physai_control *found = control;
        if (atomic_compare_exchange_strong(&controls[i], &found, NULL))
            return;
    }
}

static void on_estop_signal(int signal_number)
{
    (void)signal_number;
    for (int i = 0; i < MOST_CONTROLS; i++) {
        struct physai_control *control = atomic_load(&controls[i]);
        if (control)
            atomic_fetch_or(&control->requests, PHYSAI_REQUEST_ESTOP);
    }
}

int physai_control_estop_on_signal(int signal_number)
{
    struct sigaction action = {.sa_handler = on_estop_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    return sigaction(signal_number, &action, NULL) == 0 ? PHYSAI_OK : PHYSAI_ERROR_ARGUMENT;
}

/* ---- configuration ---- */

static bool positive(double value)
{
    return value > 0 && value < 1e9;
}

static bool in_range(double value, double low, double high)
{
    return value >= low && value <= high;
}

static int check_joints(const struct physai_control_config *config, char *text, size_t text_size)
{
    for (uint32_t i = 0; i < config->n_joints; i++) {
        const struct physai_joint_limits *joint = &config->joints[i];
        const struct physai_friction *friction = &config->friction[i];
        if (!(joint->position_min < joint->position_max) || !positive(joint->velocity) ||
            !positive(joint->acceleration) || !positive(joint->jerk) || !positive(joint->torque) ||
            !positive(joint->torque_rate) || !positive(joint->stop_torque_rate) ||
            !in_range(joint->contact_torque, 0, 1e9) || !positive(joint->braking_decel_2a) ||
            !in_range(joint->braking_offset, 0, 1e9) || !in_range(friction->coulomb, 0, 1e6) ||
            !in_range(friction->slope, 0, 1e6) || !in_range(friction->shift, -1e3, 1e3) ||
            !in_range(friction->viscous, 0, 1e6) || !in_range(config->encoder_offset[i], -7, 7)) {
            snprintf(text, text_size, "a limit or calibration of %s is not finite or out of range",
                     config->joint_names[i]);
            return PHYSAI_ERROR_ARGUMENT;
        }
    }
    return PHYSAI_OK;
}

static int check_fences(const struct physai_control_config *config, char *text, size_t text_size)
{
    for (uint32_t i = 0; i < config->n_fences; i++) {
        const struct physai_fence *fence = &config->fences[i];
        double square = 0;
        bool good = config->n_fences <= PHYSAI_MAX_FENCES && fence->kind <= PHYSAI_FENCE_PLANE &&
                    !(fence->points >> 2 * config->n_tools);
        for (uint32_t t = 0; good && t < config->n_tools; t++)
            good = !(fence->points & PHYSAI_FENCE_ELBOW << 2 * t && !config->tools[t].elbow_frame[0]);
        for (int k = 0; good && k < 3; k++) {
            square += fence->normal[k] * fence->normal[k];
            if (fence->kind != PHYSAI_FENCE_PLANE)
                good = fence->low[k] < fence->high[k];
        }
        if (good && fence->kind == PHYSAI_FENCE_PLANE)
            good = in_range(square, 0.999, 1.001) && in_range(fence->offset, -1e3, 1e3);
        if (!good) {
            snprintf(
                text, text_size,
                "geofence %u is not finite, empty, not of unit normal, one too many (%d are possible) or "
                "holds for a tool or an elbow that is not named",
                i, PHYSAI_MAX_FENCES);
            return PHYSAI_ERROR_ARGUMENT;
        }
    }
    return PHYSAI_OK;
}

static bool good_gripper(const struct physai_gripper *gripper)
{
    double range = gripper->opening_max - gripper->opening_min;
    bool good = gripper->kind <= PHYSAI_GRIPPER_SUCTION && gripper->n_fingers <= PHYSAI_MAX_FINGERS;
    if (gripper->kind == PHYSAI_GRIPPER_NONE)
        return good && gripper->n_fingers == 0 && gripper->opening_min == 0 && gripper->opening_max == 0;
    good = good && in_range(gripper->opening_min, -1e3, 1e3) && in_range(gripper->opening_max, -1e3, 1e3) &&
           range > 0 && in_range(gripper->force, 0, 1e9);
    if (gripper->kind == PHYSAI_GRIPPER_SUCTION)
        good = good && gripper->opening_min == 0 && gripper->opening_max == 1;
    else
        good = good && positive(gripper->speed);
    for (uint32_t f = 0; good && f < gripper->n_fingers; f++)
        good = in_range(gripper->fingers[f].closed, -1e3, 1e3) &&
               in_range(gripper->fingers[f].open, -1e3, 1e3) &&
               gripper->fingers[f].open != gripper->fingers[f].closed;
    return good;
}

static int check_tools(const struct physai_control_config *config, char *text, size_t text_size)
{
    if (config->n_tools < 1 || config->n_tools > PHYSAI_MAX_TOOLS) {
        snprintf(text, text_size, "%u end effectors given, 1 to %d are possible", config->n_tools,
                 PHYSAI_MAX_TOOLS);
        return PHYSAI_ERROR_ARGUMENT;
    }
    for (uint32_t t = 0; t < config->n_tools; t++) {
        const struct physai_tool *tool = &config->tools[t];
        bool good = in_range(tool->payload_mass, 0, 1e9);
        for (int i = 0; i < 3; i++)
            good = good && in_range(tool->payload_com[i], -10, 10);
        if (!good || !good_gripper(&tool->gripper)) {
            snprintf(text, text_size,
                     "%s of the end effector '%s' is not finite, empty, out of range or of an unknown kind",
                     good ? "the gripper" : "the payload", tool->name);
            return PHYSAI_ERROR_ARGUMENT;
        }
    }
    if (!in_range(config->arms_distance, 0, 10)) {
        snprintf(text, text_size, "the distance between the arms must be within [0, 10] m");
        return PHYSAI_ERROR_ARGUMENT;
    }
    return PHYSAI_OK;
}

/* What is slower cannot be guarded, nor a torque be held by. */
static int check_rate(const struct physai_control_config *config, char *text, size_t text_size)
{
    double least = config->position_commanded ? 20 : 100;
    if (in_range(config->rate_hz, least, 1e5) && config->state_timeout_s > 1 / config->rate_hz)
        return PHYSAI_OK;
    snprintf(
        text, text_size,
        "the rate is %g Hz with a timeout of %g s; a robot that takes %s needs %g Hz and a timeout of more "
        "than one period",
        config->rate_hz, config->state_timeout_s, config->position_commanded ? "positions" : "torques",
        least);
    return PHYSAI_ERROR_ARGUMENT;
}

static int check_config(const struct physai_control_config *config, char *text, size_t text_size)
{
    int error;
    if (config->abi != PHYSAI_CONTROL_ABI) {
        snprintf(text, text_size, "the caller was made for ABI %u, this library has %u", config->abi,
                 PHYSAI_CONTROL_ABI);
        return PHYSAI_ERROR_ARGUMENT;
    }
    if (config->n_joints < 1 || config->n_joints > PHYSAI_MAX_JOINTS) {
        snprintf(text, text_size, "%u driven joints given, 1 to %d are possible", config->n_joints,
                 PHYSAI_MAX_JOINTS);
        return PHYSAI_ERROR_ARGUMENT;
    }
    if ((error = check_joints(config, text, text_size)) || (error = check_tools(config, text, text_size)) ||
        (error = check_fences(config, text, text_size)) || (error = check_rate(config, text, text_size)))
        return error;
    if (physai_check_settings(config, &config->settings, text, text_size))
        return PHYSAI_ERROR_ARGUMENT;
    const double must_be_positive[] = {config->blend_s,
                                       config->stop_acceleration,
                                       config->state_timeout_s,
                                       config->velocity_trip,
                                       config->tracking_trip_rad,
                                       config->chunk_jump_rad,
                                       config->observer_gain,
                                       config->chunk_jump_m,
                                       config->pose_trip[0],
                                       config->pose_trip[1],
                                       config->pose[0].velocity,
                                       config->pose[1].velocity,
                                       config->pose[0].acceleration,
                                       config->pose[1].acceleration,
                                       config->pose[0].jerk,
                                       config->pose[1].jerk,
                                       config->reduced_speed,
                                       config->reduced_tool_speed,
                                       config->reduced_force};
    const double must_not_be_negative[] = {
        config->gain_ramp_s,     config->position_margin_rad, config->geofence_margin_m, config->chunk_lead_s,
        config->command_delay_s, config->contact_force,       config->contact_moment};
    bool good = config->reduced_speed <= 1 && config->reduced_force <= 1 && config->command_delay_s <= 0.1;
    for (size_t i = 0; i < sizeof must_be_positive / sizeof(double); i++)
        good = good && positive(must_be_positive[i]);
    for (size_t i = 0; i < sizeof must_not_be_negative / sizeof(double); i++)
        good = good && in_range(must_not_be_negative[i], 0, 1e9);
    if (!good) {
        snprintf(text, text_size, "a setting of the controller is not finite or out of range");
        return PHYSAI_ERROR_ARGUMENT;
    }
    return PHYSAI_OK;
}

/* Where one joint moves two tools, each would need what the other one takes. */
static int check_law(const struct physai_control *control, uint32_t law, char *text, size_t text_size)
{
    if (law != PHYSAI_LAW_CARTESIAN || control->model.shared < 0)
        return PHYSAI_OK;
    snprintf(text, text_size,
             "the Cartesian law is not for this robot: %s moves several tools; use the joint law",
             control->config.joint_names[control->model.shared]);
    return PHYSAI_REFUSED_SETTINGS;
}

int physai_control_create(const struct physai_control_config *config, struct physai_control **created,
                          char *text, size_t text_size)
{
    int error = check_config(config, text, text_size);
    *created = NULL;
    if (error)
        return error;
    struct physai_control *control = aligned_alloc(64, (sizeof *control + 63) / 64 * 64);
    if (!control) {
        snprintf(text, text_size, "out of memory");
        return PHYSAI_ERROR_MEMORY;
    }
    memset(control, 0, sizeof *control);
    control->config = *config;
    control->n = config->n_joints;
    control->n_tools = config->n_tools;
    physai_friction_init(&control->friction, config->friction, config->n_joints);
    control->period_s = 1 / config->rate_hz;
    control->step_s = control->period_s;
    control->status.state = PHYSAI_INACTIVE;
    control->status.cause_joint = -1;
    control->settings = control->posted_settings = config->settings;
    control->gain = 1;
    for (int i = 0; i < 6 * PHYSAI_MAX_TOOLS; i++) {
        control->pose_limits[i] = config->pose[i % 6 / 3];
        control->pose_limits[i].position_min = -INFINITY;
        control->pose_limits[i].position_max = INFINITY;
        control->pose_limits[i].braking_decel_2a = 1; /* no stop to brake for */
    }
    physai_mailbox_init(&control->chunk_box);
    physai_mailbox_init(&control->status_box);
    physai_mailbox_init(&control->settings_box);
    pthread_mutex_init(&control->mutex, NULL);
    error = physai_model_load(&control->model, config, text, text_size);
    if (!error)
        error = check_law(control, config->settings.law, text, text_size) ? PHYSAI_ERROR_ARGUMENT : PHYSAI_OK;
    if (!error)
        error = physai_dynamics_init(&control->dynamics, &control->model);
    if (!error)
        error = physai_dynamics_init(&control->reference_dynamics, &control->model);
    if (!error)
        error = physai_dynamics_init(&control->chunk_dynamics, &control->model);
    if (error) {
        if (error == PHYSAI_ERROR_MEMORY)
            snprintf(text, text_size, "out of memory");
        physai_control_destroy(control);
        return error;
    }
    const double point_mass[6] = {0};
    for (uint32_t t = 0; t < config->n_tools; t++)
        physai_dynamics_set_payload(&control->dynamics, t, config->tools[t].payload_mass,
                                    config->tools[t].payload_com, point_mass);
    register_for_estop(control);
    *created = control;
    return PHYSAI_OK;
}

void physai_control_destroy(struct physai_control *control)
{
    if (!control)
        return;
    unregister_for_estop(control);
    physai_control_stop(control);
    if (control->reference_dynamics.model)
        physai_dynamics_fini(&control->reference_dynamics);
    if (control->dynamics.model)
        physai_dynamics_fini(&control->dynamics);
    if (control->chunk_dynamics.model)
        physai_dynamics_fini(&control->chunk_dynamics);
    physai_model_free(&control->model);
    pthread_mutex_destroy(&control->mutex);
    free(control);
}

const struct physai_status *physai_latest_status(struct physai_control *control)
{
    physai_mailbox_take(&control->status_box);
    return &control->status_slots[control->status_box.front];
}

int physai_control_post_chunk(struct physai_control *control, const struct physai_chunk *chunk, char *text,
                              size_t text_size)
{
    char reason[PHYSAI_TEXT_SIZE - 32] = "";
    pthread_mutex_lock(&control->mutex);
    int error = physai_validate_chunk(control, chunk, physai_latest_status(control),
                                      &control->chunk_slots[control->chunk_box.back], reason, sizeof reason);
    if (error) {
        control->rejected++;
        snprintf(control->last_rejection, sizeof control->last_rejection, "chunk %llu: %s",
                 (unsigned long long)chunk->sequence, reason);
    } else {
        physai_remember_sequence(control, chunk->lease, chunk->sequence);
        control->accepted++;
        physai_mailbox_publish(&control->chunk_box);
    }
    pthread_mutex_unlock(&control->mutex);
    if (text_size)
        snprintf(text, text_size, "%s", reason);
    return error;
}

int physai_control_request(struct physai_control *control, uint32_t requests)
{
    atomic_fetch_or_explicit(&control->requests, requests, memory_order_release);
    return PHYSAI_OK;
}

int physai_check_settings(const struct physai_control_config *config, const struct physai_settings *s,
                          char *text, size_t text_size)
{
    const char *wrong = NULL;
    for (uint32_t i = 0; i < config->n_joints; i++) {
        if (!in_range(s->stiffness[i], 0, 14250))
            wrong = "joint stiffness must be within [0, 14250] Nm/rad";
        if (!in_range(s->damping_ratio[i], 0, 5))
            wrong = "joint damping ratio must be within [0, 5]";
        if (!in_range(s->clip[i], 1e-4, 7))
            wrong = "joint clip must be within [0.0001, 7] rad";
        if (wrong) {
            snprintf(text, text_size, "%s: %s", config->joint_names[i], wrong);
            return PHYSAI_REFUSED_SETTINGS;
        }
    }
    if (s->law > PHYSAI_LAW_CARTESIAN)
        wrong = "law must be joint or cartesian";
    for (int a = 0; a < 6; a++) {
        if (!in_range(s->cartesian_stiffness[a], 0, a < 3 ? 5000 : 500))
            wrong = "Cartesian stiffness must be within [0, 5000] N/m and [0, 500] Nm/rad";
        for (uint32_t t = 0; t < config->n_tools; t++)
            if (!in_range(s->target_wrench[t][a], a < 3 ? -100 : -20, a < 3 ? 100 : 20))
                wrong = "target wrench must be within 100 N and 20 Nm";
    }
    for (int half = 0; half < 2; half++) {
        if (!in_range(s->cartesian_damping_ratio[half], 0, 5))
            wrong = "Cartesian damping ratio must be within [0, 5]";
        if (!in_range(s->cartesian_clip[half], 1e-4, half ? 3.1 : 1))
            wrong = "Cartesian clip must be within [0.0001, 1] m and [0.0001, 3.1] rad";
    }
    if (!in_range(s->nullspace_stiffness, 0, 500) || !in_range(s->nullspace_damping_ratio, 0, 5))
        wrong = "null space stiffness must be within [0, 500] Nm/rad and its damping ratio within [0, 5]";
    if (!in_range(s->friction_compensation, 0, 1))
        wrong = "friction compensation must be within [0, 1]";
    if (!in_range(s->tank_energy, 0, 1e4) || !in_range(s->tank_power, 0, 1e4))
        wrong = "tank energy and power must be within [0, 10000] J and W";
    if (wrong)
        snprintf(text, text_size, "%s", wrong);
    return wrong ? PHYSAI_REFUSED_SETTINGS : PHYSAI_OK;
}

int physai_control_post_settings(struct physai_control *control, const struct physai_settings *settings,
                                 char *text, size_t text_size)
{
    int error = physai_check_settings(&control->config, settings, text, text_size);
    if (!error)
        error = check_law(control, settings->law, text, text_size);
    if (error)
        return error;
    pthread_mutex_lock(&control->mutex);
    control->posted_settings = *settings;
    control->settings_slots[control->settings_box.back] = *settings;
    physai_mailbox_publish(&control->settings_box);
    pthread_mutex_unlock(&control->mutex);
    return PHYSAI_OK;
}

int physai_control_set_residual(struct physai_control *control, const struct physai_residual_network *network,
                                char *text, size_t text_size)
{
    if (control->running) {
        snprintf(text, text_size, "the residual can only be set before the thread is started");
        return PHYSAI_ERROR_RUNNING;
    }
    return physai_residual_load(&control->residual, network, control->n, text, text_size);
}

int physai_control_read_settings(struct physai_control *control, struct physai_settings *settings)
{
    pthread_mutex_lock(&control->mutex);
    *settings = control->posted_settings;
    pthread_mutex_unlock(&control->mutex);
    return PHYSAI_OK;
}

int physai_control_read_records(struct physai_control *control, struct physai_record *records, int size)
{
    pthread_mutex_lock(&control->mutex);
    int count = physai_blackbox_read(&control->blackbox, records, size);
    pthread_mutex_unlock(&control->mutex);
    return count;
}

int physai_control_read_status(struct physai_control *control, struct physai_status *status)
{
    pthread_mutex_lock(&control->mutex);
    memcpy(status, physai_latest_status(control), STATUS_HEAD);
    status->chunks_accepted = control->accepted;
    status->chunks_rejected = control->rejected;
    status->fifo = control->fifo;
    status->locked = control->locked;
    memcpy(status->last_rejection, control->last_rejection, sizeof status->last_rejection);
    pthread_mutex_unlock(&control->mutex);
    physai_histogram_read(&control->compute, &status->compute);
    physai_histogram_read(&control->wake, &status->wake);
    physai_describe_cause(&control->config, status, status->cause_text, sizeof status->cause_text);
    return PHYSAI_OK;
}

void physai_control_clear_latency(struct physai_control *control)
{
    atomic_store_explicit(&control->compute.clear, 1, memory_order_relaxed);
    atomic_store_explicit(&control->wake.clear, 1, memory_order_relaxed);
}
