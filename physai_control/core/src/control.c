/* The side of the control core that may lock and allocate: creation, chunks, requests, status. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_HEAD offsetof(struct physai_status, compute)

uint32_t physai_control_abi_version(void)
{
    return PHYSAI_CONTROL_ABI;
}

size_t physai_control_sizeof(int index)
{
    const size_t sizes[] = {sizeof(struct physai_control_config), sizeof(struct physai_chunk),
                            sizeof(struct physai_status), sizeof(struct physai_state),
                            sizeof(struct physai_command)};
    return index >= 0 && (size_t)index < sizeof sizes / sizeof *sizes ? sizes[index] : 0;
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
        return "gripper width";
    default:
        return "unknown error";
    }
}

static bool positive(double value)
{
    return value > 0 && value < 1e9;
}

static int check_config(const struct physai_control_config *config, char *text, size_t text_size)
{
    if (config->abi != PHYSAI_CONTROL_ABI) {
        snprintf(text, text_size, "the caller was made for ABI %u, this library has %u", config->abi,
                 PHYSAI_CONTROL_ABI);
        return PHYSAI_ERROR_ARGUMENT;
    }
    if (config->n_joints < 1 || config->n_joints > PHYSAI_MAX_JOINTS ||
        config->n_fingers > PHYSAI_MAX_JOINTS) {
        snprintf(text, text_size, "%u joints and %u fingers given, 1 to %d and 0 to %d are possible",
                 config->n_joints, config->n_fingers, PHYSAI_MAX_JOINTS, PHYSAI_MAX_JOINTS);
        return PHYSAI_ERROR_ARGUMENT;
    }
    for (uint32_t i = 0; i < config->n_joints; i++) {
        const struct physai_joint_limits *joint = &config->joints[i];
        if (!(joint->position_min < joint->position_max) || !positive(joint->velocity) ||
            !positive(joint->acceleration) || !positive(joint->torque) || !positive(joint->torque_rate) ||
            !(joint->stiffness >= 0 && joint->stiffness < 1e6) ||
            !(joint->damping_ratio >= 0 && joint->damping_ratio < 100) ||
            !positive(joint->braking_decel_2a) || !(joint->braking_offset >= 0)) {
            snprintf(text, text_size, "a limit or gain of %s is not finite or out of range",
                     config->joint_names[i]);
            return PHYSAI_ERROR_ARGUMENT;
        }
    }
    const double must_be_positive[] = {
        config->rate_hz,         config->blend_s,       config->stop_acceleration,
        config->state_timeout_s, config->velocity_trip, config->tracking_trip_rad,
        config->chunk_jump_rad,  config->gripper_speed, config->observer_gain};
    const double must_not_be_negative[] = {config->gain_ramp_s,       config->position_margin_rad,
                                           config->geofence_margin_m, config->chunk_lead_s,
                                           config->gripper_force,     config->gripper_width_min};
    bool good = config->gripper_width_min <= config->gripper_width_max;
    for (size_t i = 0; i < sizeof must_be_positive / sizeof(double); i++)
        good = good && positive(must_be_positive[i]);
    for (size_t i = 0; i < sizeof must_not_be_negative / sizeof(double); i++)
        good = good && must_not_be_negative[i] >= 0 && must_not_be_negative[i] < 1e9;
    for (int i = 0; i < 3; i++)
        good = good && config->geofence_min[i] < config->geofence_max[i];
    if (!good) {
        snprintf(text, text_size,
                 "a setting of the controller, gripper or geofence is not finite or out of range");
        return PHYSAI_ERROR_ARGUMENT;
    }
    return PHYSAI_OK;
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
    control->period_s = 1 / config->rate_hz;
    control->step_s = control->period_s;
    control->status.state = PHYSAI_INACTIVE;
    control->status.cause_joint = -1;
    physai_mailbox_init(&control->chunk_box);
    physai_mailbox_init(&control->status_box);
    pthread_mutex_init(&control->mutex, NULL);
    error = physai_model_load(&control->model, config, text, text_size);
    if (!error)
        error = physai_dynamics_init(&control->dynamics, &control->model);
    if (!error)
        error = physai_dynamics_init(&control->chunk_dynamics, &control->model);
    if (error) {
        if (error == PHYSAI_ERROR_MEMORY)
            snprintf(text, text_size, "out of memory");
        physai_control_destroy(control);
        return error;
    }
    *created = control;
    return PHYSAI_OK;
}

void physai_control_destroy(struct physai_control *control)
{
    if (!control)
        return;
    physai_control_stop(control);
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
        control->last_sequence = chunk->sequence;
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
