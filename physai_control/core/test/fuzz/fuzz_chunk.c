/*
 * Whatever is posted: no crash, no number that is not finite, and an accepted chunk keeps its limits all
 * along.
 *
 * The input is a little program: post a chunk (any bytes, or a smooth one with a few wrong edits), run
 * cycles, send requests, change settings, measure nonsense. The arm goes exactly where it is asked to. Each
 * input starts from the same state, a copy of a core that holds, so that it does the same every time.
 */
#include "model/rotation.h"
#include "motion/fence.h"
#include "robot.h"

#include <float.h>

#define LONGEST_RUN 400 /* cycles of one input */
#define DENSE       8   /* samples between two setpoints */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the input, read as numbers; zeros when it has ended ---- */

static const uint8_t *input;
static size_t left;

static uint8_t byte(void)
{
    if (left == 0)
        return 0;
    left--;
    return *input++;
}

static uint64_t word(void)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | byte();
    return value;
}

static double between(double low, double high)
{
    unsigned value = byte();
    return low + (high - low) * (value << 8 | byte()) / 65535.0;
}

static double odd_number(void)
{
    static const double odd[] = {NAN,  -NAN, INFINITY, -INFINITY, DBL_MAX, -DBL_MAX, 1e300, DBL_MIN, 5e-324,
                                 -0.0, 0.0,  1.0,      -1.0,      180.0,   M_PI,     1e-9,  2.7437,  -3.0421};
    uint8_t which = byte();
    double any;
    uint64_t bits = 0;
    if (which < sizeof odd / sizeof *odd)
        return odd[which];
    if (which & 1)
        return between(-4, 4);
    bits = word();
    memcpy(&any, &bits, sizeof any);
    return any;
}

static int64_t odd_time(int64_t now_ns)
{
    static const int64_t odd[] = {0, -1, 1, INT64_MIN, INT64_MAX, (int64_t)1 << 61, -((int64_t)1 << 61)};
    uint8_t which = byte();
    if (which < sizeof odd / sizeof *odd)
        return odd[which];
    return which & 1 ? now_ns + (int64_t)between(-2e9, 2e9) : (int64_t)word();
}

/* ---- the core under test ---- */

static struct robot robot;
static struct physai_control *fresh; /* a copy of the control as it was when it first held */
static struct robot fresh_robot;
static struct physai_dynamics dynamics; /* for the law of the fences */
static double last_tau[PHYSAI_MAX_JOINTS];
static bool was_enabled;
static bool gentle; /* nothing was asked for or measured that may end in a fault */
static int cycles;

static void begin(void)
{
    static bool opened;
    if (!opened) {
        robot_open(&robot);
        robot_activate(&robot);
        robot_run(&robot, 600);
        fresh = malloc(sizeof *fresh);
        CHECK(fresh && physai_dynamics_init(&dynamics, &robot.control->model) == 0);
        memcpy(fresh, robot.control, sizeof *fresh);
        fresh_robot = robot;
        opened = true;
    }
    memcpy(robot.control, fresh, sizeof *fresh);
    robot = fresh_robot;
    was_enabled = false;
    gentle = true;
    cycles = 0;
}

/* ---- the laws ---- */

static void command_is_sound(void)
{
    const struct physai_control_config *config = &robot.control->config;
    const struct physai_command *command = &robot.command;
    bool enabled = command->flags & PHYSAI_COMMAND_ENABLE;
    CHECK(physai_all_finite(command->tau, JOINTS) && physai_all_finite(command->q, JOINTS) &&
          physai_all_finite(command->dq, JOINTS) && physai_all_finite(command->grip_force, 1));
    const struct physai_gripper *gripper = &config->tools[0].gripper;
    CHECK(command->opening[0] >= gripper->opening_min - 1e-9 &&
          command->opening[0] <= gripper->opening_max + 1e-9);
    for (int i = 0; i < JOINTS; i++) {
        const struct physai_joint_limits *joint = &config->joints[i];
        double rate = fmax(joint->torque_rate, joint->stop_torque_rate) * robot.control->period_s;
        CHECK(fabs(command->tau[i]) <= joint->torque);
        CHECK(!enabled || !was_enabled || fabs(command->tau[i] - last_tau[i]) <= rate + 1e-9);
    }
    memcpy(last_tau, command->tau, sizeof last_tau);
    was_enabled = enabled;
}

static void status_is_sound(void)
{
    const struct physai_status *s = &robot.control->status;
    CHECK(physai_all_finite(s->reference, JOINTS) && physai_all_finite(s->reference_velocity, JOINTS) &&
          physai_all_finite(s->reference_acceleration, JOINTS) && physai_all_finite(s->tau, JOINTS) &&
          physai_all_finite(s->tools[0].reference, 7) && physai_all_finite(&s->tools[0].opening_target, 1));
    CHECK(!(gentle && s->state == PHYSAI_FAULT));
}

static double outside(const double *q_or_pose, bool pose)
{
    if (!pose)
        physai_dynamics_poses(&dynamics, q_or_pose);
    struct physai_places places = {.tools = {pose ? q_or_pose : dynamics.tools[0].position}};
    const physai_fence_table none = {{0}};
    physai_fence_table distance;
    physai_fences_measure(&robot.control->config, &places, distance);
    return physai_fences_worst(&robot.control->config, distance, none).distance;
}

/* The next setpoint is near where the arm is wanted now. */
static void start_is_near(const struct physai_plan *plan)
{
    const struct physai_control_config *config = &robot.control->config;
    uint32_t k = 0;
    while (k + 1 < plan->n_steps && plan->start_ns + (int64_t)k * plan->dt_ns < robot.status.time_ns)
        k++;
    for (uint32_t i = 0; i < plan->n_joints; i++) {
        bool pose = plan->mode == PHYSAI_CHUNK_POSE, turn = !pose || i >= 3;
        double from = !pose ? robot.status.reference[i] : turn ? 0 : robot.status.tools[0].reference[i];
        CHECK(fabs(plan->q[k][i] - from) <= (turn ? config->chunk_jump_rad : config->chunk_jump_m) + 1e-9);
    }
}

/* The plan that was just put into the mailbox, between its setpoints too. */
static void plan_is_sound(const struct physai_chunk *chunk)
{
    const struct physai_control *c = robot.control;
    const struct physai_plan *plan = &c->chunk_slots[c->chunk_box.middle & 3u];
    bool pose = plan->mode == PHYSAI_CHUNK_POSE;
    uint32_t n = pose ? 6 : JOINTS;
    CHECK(c->chunk_box.middle & PHYSAI_MAILBOX_FRESH);
    CHECK(plan->sequence == chunk->sequence && plan->n_steps == chunk->n_steps && plan->n_joints == n);
    CHECK(physai_moving_state(c) && !robot.status.paused);
    CHECK(plan->expiry_ns > robot.status.time_ns && plan->start_ns < plan->expiry_ns);
    start_is_near(plan);
    double allowed = outside(pose ? robot.status.tools[0].reference : robot.status.reference, pose) + 1e-3;
    for (uint32_t k = 0; k < plan->n_steps; k++) {
        for (int sample = 0; sample < DENSE; sample++) {
            struct physai_motion motion;
            int64_t t = plan->start_ns + (int64_t)k * plan->dt_ns + sample * plan->dt_ns / DENSE;
            physai_plan_evaluate(plan, t, &motion);
            for (uint32_t i = 0; i < n; i++) {
                const struct physai_joint_limits *limit = pose ? &c->pose_limits[i] : &c->config.joints[i];
                CHECK(fabs(motion.dq[i]) <= limit->velocity + 1e-4);
                CHECK(fabs(motion.ddq[i]) <= limit->acceleration + 1e-4);
                if (pose)
                    continue;
                CHECK(motion.q[i] >= limit->position_min - 1e-4 && motion.q[i] <= limit->position_max + 1e-4);
                double speed = motion.dq[i] >= 0 ? physai_speed_limit_up(limit, motion.q[i])
                                                 : physai_speed_limit_down(limit, motion.q[i]);
                CHECK(fabs(motion.dq[i]) <= speed + 2e-2);
            }
            double out = t >= robot.status.time_ns ? outside(motion.q, pose) : 0;
            if (!(out <= allowed))
                fprintf(stderr, "%g m beyond a fence after step %u, %g allowed\n", out, k, allowed);
            CHECK(out <= allowed);
            const struct physai_gripper *gripper = &c->config.tools[0].gripper;
            CHECK(physai_plan_opening(plan, t)[0] >= gripper->opening_min - 2e-4 &&
                  physai_plan_opening(plan, t)[0] <= gripper->opening_max + 2e-4);
            if (k + 1 == plan->n_steps)
                break;
        }
    }
}

/* ---- what an input can do ---- */

static void run(int ticks)
{
    for (; ticks > 0 && cycles < LONGEST_RUN; ticks--, cycles++) {
        robot.state.seq++;
        robot.state.time_ns += TICK;
        int sent = physai_control_cycle(robot.control, &robot.state, &robot.command);
        if (sent && (robot.command.flags & PHYSAI_COMMAND_ENABLE)) {
            memcpy(robot.state.q, robot.command.q, sizeof robot.state.q);
            memcpy(robot.state.dq, robot.command.dq, sizeof robot.state.dq);
            memcpy(robot.state.tau, robot.command.tau, sizeof robot.state.tau);
            memcpy(robot.state.opening, robot.command.opening, sizeof robot.state.opening);
        }
        command_is_sound();
        status_is_sound();
    }
}

static void post(const struct physai_chunk *chunk)
{
    uint64_t before = physai_last_sequence(robot.control, chunk->lease), accepted = robot.control->accepted;
    unsigned box = robot.control->chunk_box.middle;
    int error = robot_post(&robot, chunk);
    CHECK(strcmp(physai_control_strerror(error), "unknown error") != 0);
    if (error == PHYSAI_OK) {
        CHECK(chunk->sequence > before && robot.control->accepted == accepted + 1);
        plan_is_sound(chunk);
    } else { /* and nothing has changed */
        CHECK(robot.control->accepted == accepted && robot.control->chunk_box.middle == box);
    }
}

static void edit(struct physai_chunk *chunk)
{
    static const uint32_t odd_counts[] = {0, 1, 2, PHYSAI_MAX_STEPS, PHYSAI_MAX_STEPS + 1};
    int64_t now_ns = robot.status.time_ns;
    for (int edits = byte() % 5; edits > 0; edits--) {
        uint8_t what = byte();
        uint32_t steps = chunk->n_steps - 1 < PHYSAI_MAX_STEPS ? chunk->n_steps : PHYSAI_MAX_STEPS;
        uint32_t k = byte() % steps, i = byte() % (JOINTS + 1);
        switch (what % 15) {
        case 0:
            chunk->sequence = word();
            break;
        case 1:
            chunk->observation_ns = odd_time(now_ns);
            break;
        case 2:
            chunk->start_ns = odd_time(now_ns);
            break;
        case 3:
            chunk->dt_ns = odd_time(50 * TICK);
            break;
        case 4:
            chunk->expiry_ns = odd_time(now_ns);
            break;
        case 5:
            chunk->n_values = byte() % (PHYSAI_MAX_JOINTS + 2);
            break;
        case 6:
            chunk->n_steps = byte() & 3 ? odd_counts[byte() % 5] : (uint32_t)word();
            break;
        case 7:
            chunk->mode = byte() & 1 ? byte() % 3 : (uint32_t)word();
            break;
        case 8:
            chunk->opening[k][byte() % PHYSAI_MAX_TOOLS] = odd_number();
            break;
        case 9:
            chunk->values[k][i] = odd_number();
            break;
        case 10:
            chunk->values[k][i] += between(-0.02, 0.02);
            break;
        case 11: /* from here on */
            for (double step = between(-0.4, 0.4); k < PHYSAI_MAX_STEPS; k++)
                chunk->values[k][i] += step;
            break;
        case 12: /* two joints change places */
            for (uint32_t row = 0; row < PHYSAI_MAX_STEPS; row++) {
                double kept = chunk->values[row][i];
                chunk->values[row][i] = chunk->values[row][k % JOINTS];
                chunk->values[row][k % JOINTS] = kept;
            }
            break;
        case 13:
            chunk->lease = word();
            break;
        default: /* degrees for radians */
            for (uint32_t row = 0; row < PHYSAI_MAX_STEPS; row++)
                chunk->values[row][i] *= 180 / M_PI;
        }
    }
}

/* Sines from the present reference, with edits. */
static struct physai_chunk swing(void)
{
    struct physai_chunk chunk = robot_chunk(&robot, 0);
    chunk.n_steps = 1 + byte() % 64;
    chunk.dt_ns = (int64_t)between(1e6, byte() & 1 ? 1e8 : 1e9);
    chunk.start_ns += (int64_t)between(-1e8, 1e8);
    chunk.expiry_ns = chunk.start_ns + (int64_t)(chunk.n_steps * (double)chunk.dt_ns * between(0, 1.5));
    for (int i = 0; i < JOINTS; i++) {
        double size = between(-1, 1) * between(0, 1), turn = between(0, M_PI),
               start = robot.status.reference[i];
        for (uint32_t k = 0; k < PHYSAI_MAX_STEPS; k++) {
            chunk.values[k][i] = start + size * (1 - cos(turn * k)) / 2;
            chunk.opening[k][0] = 0.04;
        }
    }
    return chunk;
}

/* A straight line and a turn from where the tool is, with edits. */
static struct physai_chunk line(void)
{
    struct physai_chunk chunk = swing();
    double direction[3], turn[3], step[3], quaternion[4];
    chunk.mode = PHYSAI_CHUNK_POSE;
    chunk.n_values = 7;
    for (int i = 0; i < 3; i++) {
        direction[i] = between(-0.4, 0.4);
        turn[i] = between(-1, 1);
    }
    for (uint32_t k = 0; k < PHYSAI_MAX_STEPS; k++) {
        double share = (1 - cos(M_PI * fmin(1, (double)k / chunk.n_steps))) / 2;
        for (int i = 0; i < 3; i++) {
            chunk.values[k][i] = robot.status.tools[0].pose[i] + share * direction[i];
            step[i] = share * turn[i];
        }
        physai_quat_exp(step, quaternion);
        physai_quat_multiply(robot.status.tools[0].pose + 3, quaternion, chunk.values[k] + 3);
    }
    return chunk;
}

static void change_settings(void)
{
    struct physai_settings settings;
    char text[PHYSAI_TEXT_SIZE] = "";
    physai_control_read_settings(robot.control, &settings);
    gentle = false; /* soft or wild gains may well end in a fault */
    settings.law = byte() & 3 ? settings.law ^ 1u : (uint32_t)word();
    settings.reduced = byte() & 1;
    double *numbers = settings.stiffness; /* the first of those that follow */
    size_t count = (sizeof settings - offsetof(struct physai_settings, stiffness)) / sizeof(double);
    for (int edits = byte() % 4; edits > 0; edits--)
        numbers[byte() % count] = odd_number();
    int error = physai_control_post_settings(robot.control, &settings, text, sizeof text);
    CHECK((error == PHYSAI_OK) == (text[0] == '\0'));
}

static void measure_nonsense(void)
{
    struct physai_state kept = robot.state;
    double *numbers[] = {robot.state.q, robot.state.dq, robot.state.tau};
    gentle = false;
    uint8_t what = byte();
    if (what % 4 < 3)
        numbers[what % 4][byte() % JOINTS] = odd_number();
    else if (what & 4)
        robot.state.opening[0] = odd_number();
    else
        robot.state.flags = byte() & ~(uint32_t)PHYSAI_STATE_REPOSITIONED; /* then the torque starts over */
    robot.state.n_joints = what & 128 ? byte() : JOINTS;
    run(1);
    int64_t time_ns = robot.state.time_ns;
    uint64_t seq = robot.state.seq;
    robot.state = kept;
    robot.state.time_ns = time_ns;
    robot.state.seq = seq;
}

static void post_any_bytes(void)
{
    struct physai_chunk chunk;
    uint8_t *bytes = (uint8_t *)&chunk;
    size_t start = left;
    const uint8_t *from = input;
    for (size_t i = 0; i < sizeof chunk; i++)
        bytes[i] = start ? from[i % start] : 0;
    post(&chunk);
    for (int i = 0; i < 16; i++)
        byte();
}

/* Anywhere within the limits of the joints, often close to one. */
static void start_elsewhere(void)
{
    for (int i = 0; i < JOINTS; i++) {
        const struct physai_joint_limits *joint = &robot.control->config.joints[i];
        double share = byte() & 1 ? between(0, 1) : byte() & 1 ? between(0, 0.02) : 1 - between(0, 0.02);
        robot.state.q[i] = joint->position_min + share * (joint->position_max - joint->position_min);
    }
    robot.state.flags = PHYSAI_STATE_REPOSITIONED;
    run(1);
    robot.state.flags = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    left = size;
    begin();
    if (byte() & 1)
        start_elsewhere();
    while (left > 0 && cycles < LONGEST_RUN) {
        struct physai_chunk chunk;
        uint8_t what = byte();
        physai_control_read_status(robot.control, &robot.status);
        switch (what % 8) {
        case 0:
            run(1 + byte());
            break;
        case 1:
            post_any_bytes();
            break;
        case 2:
            physai_control_request(robot.control, byte() & 31u); /* all but the emergency stop */
            break;
        case 3:
            if (what & 64)
                change_settings();
            else if (what & 32)
                measure_nonsense();
            else
                physai_control_request(robot.control, PHYSAI_REQUEST_ESTOP | byte());
            break;
        case 4:
            chunk = line();
            edit(&chunk);
            post(&chunk);
            break;
        default:
            chunk = swing();
            edit(&chunk);
            post(&chunk);
        }
        run(1);
    }
    run(40);
    return 0;
}
