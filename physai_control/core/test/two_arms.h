/* Two seven-joint arms side by side on one base, in MuJoCo's own physics. */
#ifndef PHYSAI_TEST_TWO_ARMS_H
#define PHYSAI_TEST_TWO_ARMS_H

#include "robot.h"

#include <mujoco/mujoco.h>
#include <stdarg.h>
#include <unistd.h>

#define BOTH  14
#define APART 0.3 /* m from the middle to each arm's foot */

static const double elbowed[JOINTS] = {0, 0.5, 0, 1.2, 0, 0.6, 0};
static const char *const sides[2] = {"left", "right"};

static inline void put(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline void put(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
    CHECK(length >= 0 && (size_t)length < size - used);
}

/* Seven joints, turning about z and y in turn; the left hand has a hinge that opens backwards, and one more
 * that turns the other way. */
static inline void put_arm(char *text, size_t size, int side)
{
    const char *name = sides[side];
    put(text, size, "<body name='%s_foot' pos='0 %g 0'>", name, side ? -APART : APART);
    for (int i = 0; i < JOINTS; i++)
        put(text, size,
            "<body name='%s_link%d' pos='0 0 %g'><joint name='%s_joint%d' axis='0 %d %d' armature='0.1' "
            "damping='0.1'/><geom type='capsule' size='0.03' fromto='0 0 0 0 0 0.14' mass='%g' contype='0' "
            "conaffinity='0'/>",
            name, i + 1, i ? 0.16 : 0.1, name, i + 1, i % 2, !(i % 2), 2.0 - 0.25 * i);
    put(text, size, "<site name='%s_tool' pos='0 0 0.1'/>", name);
    if (!side)
        put(text, size,
            "<body pos='0.02 0 0.1'><joint name='jaw' axis='0 1 0' armature='0.02' damping='0.1'/>"
            "<geom type='box' size='0.005 0.01 0.03' pos='0 0 0.03' mass='0.05' contype='0' "
            "conaffinity='0'/></body>"
            "<body pos='-0.02 0 0.1'><joint name='thumb' axis='0 1 0' armature='0.02' damping='0.1'/>"
            "<geom type='box' size='0.005 0.01 0.03' pos='0 0 0.03' mass='0.05' contype='0' "
            "conaffinity='0'/></body>");
    for (int i = 0; i < JOINTS + 1; i++)
        put(text, size, "</body>");
}

/* `torso`: both stand on a joint of their own. */
static inline void write_two_arms(char *path, bool torso)
{
    char text[16384] = "";
    put(text, sizeof text,
        "<mujoco><compiler angle='radian'/><option timestep='0.001' integrator='implicitfast'/>"
        "<worldbody><body name='base'><geom size='0.05' contype='0' conaffinity='0'/><body name='stand'>"
        "%s<geom size='0.05' contype='0' conaffinity='0'/>",
        torso ? "<joint name='torso' axis='0 0 1' armature='0.1'/>" : "");
    put_arm(text, sizeof text, 0);
    put_arm(text, sizeof text, 1);
    put(text, sizeof text, "</body></body></worldbody></mujoco>");
    int file = mkstemps(path, 4);
    CHECK(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

/* The left one has a hinged gripper of 0 to 0.8 rad, the right one suction. */
static inline struct physai_control_config two_arms_config(const char *path)
{
    struct physai_control_config config = robot_config();
    snprintf(config.model_path, sizeof config.model_path, "%s", path);
    snprintf(config.base_frame, PHYSAI_NAME_SIZE, "base");
    config.n_joints = BOTH;
    config.n_tools = 2;
    config.n_fences = 0;
    for (int i = 0; i < BOTH; i++) {
        snprintf(config.joint_names[i], PHYSAI_NAME_SIZE, "%s_joint%d", sides[i / JOINTS], i % JOINTS + 1);
        config.joints[i] = config.joints[0];
        config.joints[i].position_min = -2.8;
        config.joints[i].position_max = 2.8;
        config.settings.stiffness[i] = 300;
        config.settings.damping_ratio[i] = 1;
        config.settings.clip[i] = 0.5;
    }
    memset(config.tools, 0, sizeof config.tools);
    for (int t = 0; t < 2; t++) {
        snprintf(config.tools[t].name, PHYSAI_NAME_SIZE, "%s", sides[t]);
        snprintf(config.tools[t].frame, PHYSAI_NAME_SIZE, "%s_tool", sides[t]);
        snprintf(config.tools[t].elbow_frame, PHYSAI_NAME_SIZE, "%s_link4", sides[t]);
    }
    config.tools[0].gripper =
        (struct physai_gripper){.kind = PHYSAI_GRIPPER_HINGE,
                                .n_fingers = 2,
                                .fingers = {{.joint = "jaw", .closed = 0.1, .open = -0.7},
                                            {.joint = "thumb", .closed = 0, .open = 0.4}},
                                .opening_max = 0.8,
                                .speed = 2,
                                .force = 2};
    config.tools[1].gripper = (struct physai_gripper){.kind = PHYSAI_GRIPPER_SUCTION, .opening_max = 1};
    return config;
}

/* The core, and the arms that it drives. */
struct pair {
    struct physai_control *control;
    mjModel *model;
    mjData *data;
    struct physai_state state;
    struct physai_command command;
    struct physai_status status;
    uint64_t sequence;
    int qpos[BOTH], dof[BOTH];
};

static inline void pair_open(struct pair *pair, const struct physai_control_config *config)
{
    char text[1024] = "";
    memset(pair, 0, sizeof *pair);
    if (physai_control_create(config, &pair->control, text, sizeof text))
        fprintf(stderr, "%s\n", text);
    CHECK(pair->control);
    pair->model = mj_loadXML(config->model_path, NULL, text, sizeof text);
    pair->data = mj_makeData(pair->model);
    pair->state.n_joints = BOTH;
    pair->state.time_ns = 5000 * TICK;
    pair->state.opening[1] = 1;
    for (int i = 0; i < BOTH; i++) {
        int joint = mj_name2id(pair->model, mjOBJ_JOINT, config->joint_names[i]);
        pair->qpos[i] = pair->model->jnt_qposadr[joint];
        pair->dof[i] = pair->model->jnt_dofadr[joint];
        pair->data->qpos[pair->qpos[i]] = elbowed[i % JOINTS];
        pair->state.q[i] = elbowed[i % JOINTS];
    }
}

static inline void pair_close(struct pair *pair)
{
    mj_deleteData(pair->data);
    mj_deleteModel(pair->model);
    physai_control_destroy(pair->control);
}

/* One cycle on the state as it stands. */
static inline int pair_cycle(struct pair *pair)
{
    pair->state.seq++;
    pair->state.time_ns += TICK;
    int sent = physai_control_cycle(pair->control, &pair->state, &pair->command);
    physai_control_read_status(pair->control, &pair->status);
    return sent;
}

/* The commanded torques move the arms, and brakes hold them. */
static inline void pair_run(struct pair *pair, int ticks)
{
    for (; ticks > 0; ticks--) {
        pair_cycle(pair);
        bool enabled = pair->command.flags & PHYSAI_COMMAND_ENABLE;
        for (int i = 0; i < BOTH; i++) {
            pair->state.tau[i] = enabled ? pair->command.tau[i] : 0;
            pair->data->qfrc_applied[pair->dof[i]] = pair->state.tau[i];
        }
        memcpy(pair->state.opening, pair->command.opening, sizeof pair->state.opening);
        if (enabled)
            mj_step(pair->model, pair->data);
        for (int i = 0; i < BOTH; i++) {
            pair->state.q[i] = pair->data->qpos[pair->qpos[i]];
            pair->state.dq[i] = enabled ? pair->data->qvel[pair->dof[i]] : 0;
        }
    }
}

static inline void pair_activate(struct pair *pair)
{
    pair_run(pair, 2);
    physai_control_request(pair->control, PHYSAI_REQUEST_ACTIVATE);
    pair_run(pair, 700);
    if (pair->status.state != PHYSAI_HOLD)
        fprintf(stderr, "%s\n", pair->status.cause_text);
    CHECK(pair->status.state == PHYSAI_HOLD);
}

/* Joint setpoints from the reference to `goal`, in 0.8 s. */
static inline struct physai_chunk pair_chunk(struct pair *pair, const double *goal)
{
    struct physai_chunk chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.sequence = ++pair->sequence;
    chunk.lease = 1;
    chunk.n_values = BOTH;
    chunk.n_steps = 17;
    chunk.dt_ns = 50 * TICK;
    chunk.observation_ns = chunk.start_ns = pair->state.time_ns;
    chunk.expiry_ns = chunk.start_ns + 20 * chunk.dt_ns;
    for (uint32_t k = 0; k < chunk.n_steps; k++) {
        double share = 0.5 * (1 - cos(M_PI * k / (chunk.n_steps - 1)));
        for (int i = 0; i < BOTH; i++)
            chunk.values[k][i] = pair->status.reference[i] + share * (goal[i] - pair->status.reference[i]);
        chunk.opening[k][0] = 0.5;
        chunk.opening[k][1] = 1;
    }
    return chunk;
}

/* The tools go by `way`, m of each, and turn by nothing. */
static inline struct physai_chunk pair_poses(struct pair *pair, const double way[2][3])
{
    struct physai_chunk chunk = pair_chunk(pair, pair->status.reference);
    chunk.mode = PHYSAI_CHUNK_POSE;
    chunk.n_values = 14;
    for (uint32_t k = 0; k < chunk.n_steps; k++) {
        double share = 0.5 * (1 - cos(M_PI * k / (chunk.n_steps - 1)));
        for (int t = 0; t < 2; t++) {
            memcpy(chunk.values[k] + 7 * t, pair->status.tools[t].reference, 7 * sizeof(double));
            for (int a = 0; a < 3; a++)
                chunk.values[k][7 * t + a] += share * way[t][a];
        }
    }
    return chunk;
}

static inline int pair_post(struct pair *pair, const struct physai_chunk *chunk, char text[PHYSAI_TEXT_SIZE])
{
    int error = physai_control_post_chunk(pair->control, chunk, text, PHYSAI_TEXT_SIZE);
    CHECK((error == PHYSAI_OK) == (text[0] == '\0'));
    return error;
}

#endif
