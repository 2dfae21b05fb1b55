/* A Franka Research 3 for tests, and a plant without dynamics that is wherever the reference is. */
#ifndef PHYSAI_TEST_ROBOT_H
#define PHYSAI_TEST_ROBOT_H

#include "check.h"
#include "internal.h"

#include <string.h>

#define JOINTS 7
#define TICK   1000000LL

static const double home[JOINTS] = {0.0, -0.6, 0.0, -2.4, 0.0, 1.8, 0.7854};

static inline struct physai_control_config robot_config(void)
{
    static const double low[JOINTS] = {-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159};
    static const double high[JOINTS] = {2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159};
    static const double speed[JOINTS] = {2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26};
    static const double stiffness[JOINTS] = {600, 600, 600, 600, 250, 150, 50};
    static const double decel_2a[JOINTS] = {12, 5.17, 7, 8, 34, 11, 34};
    static const double offset[JOINTS] = {0.3, 0.2, 0.2, 0.3, 0.35, 0.35, 0.35};
    struct physai_control_config config;
    memset(&config, 0, sizeof config);
    config.abi = PHYSAI_CONTROL_ABI;
    config.n_joints = JOINTS;
    config.n_tools = 1;
    config.adds_gravity = 1;
    snprintf(config.model_path, sizeof config.model_path, "%s", PHYSAI_TEST_MODEL);
    snprintf(config.base_frame, sizeof config.base_frame, "base_link");
    struct physai_tool *tool = &config.tools[0];
    snprintf(tool->name, sizeof tool->name, "hand");
    snprintf(tool->frame, sizeof tool->frame, "tool0");
    for (int i = 0; i < JOINTS; i++) {
        snprintf(config.joint_names[i], PHYSAI_NAME_SIZE, "fr3_joint%d", i + 1);
        config.joints[i] = (struct physai_joint_limits){.position_min = low[i],
                                                        .position_max = high[i],
                                                        .velocity = speed[i],
                                                        .acceleration = 10,
                                                        .jerk = 5000,
                                                        .torque = i < 4 ? 87 : 12,
                                                        .torque_rate = 1000,
                                                        .stop_torque_rate = 1000,
                                                        .braking_decel_2a = decel_2a[i],
                                                        .braking_offset = offset[i]};
        config.settings.stiffness[i] = stiffness[i];
        config.settings.damping_ratio[i] = 1;
        config.settings.clip[i] = 0.5;
    }
    for (int a = 0; a < 6; a++)
        config.settings.cartesian_stiffness[a] = a < 3 ? 600 : 30;
    for (int half = 0; half < 2; half++) {
        config.settings.cartesian_damping_ratio[half] = 1;
        config.settings.cartesian_clip[half] = half ? 0.4 : 0.05;
        config.pose_trip[half] = half ? 0.8 : 0.15;
        config.pose[half] =
            half ? (struct physai_joint_limits){.velocity = 2.5, .acceleration = 17, .jerk = 8500}
                 : (struct physai_joint_limits){.velocity = 1, .acceleration = 9, .jerk = 4500};
    }
    config.settings.nullspace_stiffness = 10;
    config.settings.nullspace_damping_ratio = 1;
    config.chunk_jump_m = 0.15;
    config.reduced_speed = config.reduced_tool_speed = 0.25;
    config.reduced_force = 0.5;
    tool->gripper = (struct physai_gripper){
        .kind = PHYSAI_GRIPPER_PARALLEL, .n_fingers = 2, .opening_max = 0.08, .speed = 0.15, .force = 30};
    for (int i = 0; i < 2; i++) {
        snprintf(tool->gripper.fingers[i].joint, PHYSAI_NAME_SIZE, "fr3_finger_joint%d", i + 1);
        tool->gripper.fingers[i].open = 0.04;
    }
    config.rate_hz = 1000;
    config.blend_s = 0.15;
    config.gain_ramp_s = 0.5;
    config.stop_acceleration = 5;
    config.state_timeout_s = 0.02;
    config.velocity_trip = 1.1;
    config.tracking_trip_rad = 0.35;
    config.position_margin_rad = 0.05;
    config.geofence_margin_m = 0.02;
    config.chunk_jump_rad = 0.35;
    config.chunk_lead_s = 0.2;
    config.observer_gain = 20;
    const double fence_min[3] = {0.10, -0.60, 0.003}, fence_max[3] = {0.85, 0.60, 0.80};
    config.n_fences = 1;
    config.fences[0].points = PHYSAI_FENCE_TOOL;
    memcpy(config.fences[0].low, fence_min, sizeof fence_min);
    memcpy(config.fences[0].high, fence_max, sizeof fence_max);
    return config;
}

struct robot {
    struct physai_control *control;
    struct physai_state state;
    struct physai_command command;
    struct physai_status status;
    uint64_t sequence;
};

static inline void robot_open(struct robot *robot)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_control_config config = robot_config();
    memset(robot, 0, sizeof *robot);
    int error = physai_control_create(&config, &robot->control, text, sizeof text);
    if (error)
        fprintf(stderr, "%s\n", text);
    CHECK(error == PHYSAI_OK);
    robot->state.n_joints = JOINTS;
    robot->state.time_ns = 5000 * TICK;
    robot->state.opening[0] = 0.08;
    memcpy(robot->state.q, home, sizeof home);
}

static inline void robot_close(struct robot *robot)
{
    physai_control_destroy(robot->control);
}

static inline int robot_cycle(struct robot *robot, const struct physai_state *state)
{
    int sent = physai_control_cycle(robot->control, state, &robot->command);
    physai_control_read_status(robot->control, &robot->status);
    return sent;
}

/* One cycle with the state as it stands, then the arm goes exactly where it was asked to. */
static inline int robot_tick(struct robot *robot)
{
    robot->state.seq++;
    robot->state.time_ns += TICK;
    int sent = robot_cycle(robot, &robot->state);
    if (sent && (robot->command.flags & PHYSAI_COMMAND_ENABLE)) {
        memcpy(robot->state.q, robot->command.q, sizeof robot->state.q);
        memcpy(robot->state.dq, robot->command.dq, sizeof robot->state.dq);
        memcpy(robot->state.tau, robot->command.tau, sizeof robot->state.tau);
        memcpy(robot->state.opening, robot->command.opening, sizeof robot->state.opening);
    }
    return sent;
}

static inline void robot_run(struct robot *robot, int ticks)
{
    while (ticks-- > 0)
        CHECK(robot_tick(robot) == 1);
}

static inline void robot_activate(struct robot *robot)
{
    robot_run(robot, 2);
    physai_control_request(robot->control, PHYSAI_REQUEST_ACTIVATE);
    robot_run(robot, 2);
    CHECK(robot->status.state == PHYSAI_HOLD);
}

/* A smooth chunk from the present reference, by `reach` on every joint. */
static inline struct physai_chunk robot_chunk(struct robot *robot, double reach)
{
    struct physai_chunk chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.sequence = ++robot->sequence;
    chunk.lease = 1;
    chunk.n_values = JOINTS;
    chunk.n_steps = 16;
    chunk.dt_ns = 50 * TICK;
    chunk.observation_ns = chunk.start_ns = robot->state.time_ns;
    chunk.expiry_ns = chunk.start_ns + 16 * chunk.dt_ns;
    for (uint32_t k = 0; k < chunk.n_steps; k++) {
        for (int i = 0; i < JOINTS; i++)
            chunk.values[k][i] =
                robot->status.reference[i] + reach * 0.5 * (1 - cos(M_PI * k / (chunk.n_steps - 1)));
        chunk.opening[k][0] = 0.08;
    }
    return chunk;
}

static inline int robot_post(struct robot *robot, const struct physai_chunk *chunk)
{
    char text[PHYSAI_TEXT_SIZE];
    int error = physai_control_post_chunk(robot->control, chunk, text, sizeof text);
    CHECK((error == PHYSAI_OK) == (text[0] == '\0'));
    return error;
}

/* Following a chunk, 300 cycles on its way. */
static inline void robot_start_moving(struct robot *robot)
{
    robot_open(robot);
    robot_activate(robot);
    struct physai_chunk chunk = robot_chunk(robot, 0.2);
    CHECK(robot_post(robot, &chunk) == PHYSAI_OK);
    robot_run(robot, 300);
    CHECK(robot->status.state == PHYSAI_TRACK);
}

#endif
