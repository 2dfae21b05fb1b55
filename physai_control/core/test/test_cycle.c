/* Activation, chunks, seams, stops and the gripper, cycle by cycle. */
#include "robot.h"

static struct robot robot;

static bool enabled(void)
{
    return robot.command.flags & PHYSAI_COMMAND_ENABLE;
}

static void test_inactive_asks_for_the_brakes(void)
{
    robot_open(&robot);
    robot_run(&robot, 5);
    CHECK(robot.status.state == PHYSAI_INACTIVE && !enabled());
    CHECK(robot.command.seq == robot.state.seq && robot.command.time_ns == robot.state.time_ns);
    CHECK(robot.status.cause_text[0] == '\0');
    robot_close(&robot);
}

static void test_activation_starts_from_gravity(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    CHECK(enabled());
    CHECK(fabs(robot.command.tau[1]) > 5); /* the shoulder carries the arm at once */
    CHECK(strstr(robot.status.cause_text, "activated"));
    double torque = robot.command.tau[1];
    robot_run(&robot, 1000);
    CHECK_NEAR(robot.command.tau[1], torque, 1e-9);
    for (int i = 0; i < JOINTS; i++)
        CHECK(robot.command.q[i] == home[i] && robot.command.dq[i] == 0);
    robot_close(&robot);
}

static void test_chunk_is_followed_and_ends_in_hold(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.2);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_REFUSED_SEQUENCE);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_TRACK && robot.status.active_sequence == chunk.sequence);
    robot_run(&robot, 400);
    CHECK(robot.status.state == PHYSAI_TRACK);
    CHECK_NEAR(robot.command.q[0], chunk.values[8][0], 0.01);
    while (robot.state.time_ns < chunk.expiry_ns)
        robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    CHECK(strstr(robot.status.cause_text, "chunk expired"));
    CHECK_NEAR(robot.command.q[0], chunk.values[15][0], 0.01);
    for (int i = 0; i < JOINTS; i++)
        CHECK(robot.status.reference_velocity[i] == 0);
    robot_close(&robot);
}

/* However fast the chunk moves at its end: at rest by the expiry. */
static void test_at_rest_by_the_expiry(void)
{
    for (int lead = 150; lead <= 700; lead += 50) {
        robot_open(&robot);
        robot_activate(&robot);
        struct physai_chunk chunk = robot_chunk(&robot, 0.3);
        chunk.expiry_ns = chunk.start_ns + lead * TICK;
        CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
        while (robot.state.time_ns <= chunk.expiry_ns)
            robot_run(&robot, 1);
        robot_run(&robot, 2);
        CHECK(robot.status.state == PHYSAI_HOLD);
        for (int i = 0; i < JOINTS; i++)
            CHECK(robot.status.reference_velocity[i] == 0);
        robot_close(&robot);
    }
}

/* A policy that contradicts itself: the reference has neither step nor kink at any seam. */
static void test_seams_are_smooth(void)
{
    double last_q[JOINTS], last_dq[JOINTS], last_ddq[JOINTS];
    robot_open(&robot);
    robot_activate(&robot);
    for (int round = 0; round < 60; round++) {
        struct physai_chunk chunk = robot_chunk(&robot, 0.1 * (round % 2 ? -1 : 1));
        for (int i = 0; i < JOINTS; i++) {
            double jump = check_random(-0.05, 0.05); /* 50 mrad, 5 times a second */
            for (uint32_t k = 0; k < chunk.n_steps; k++)
                chunk.values[k][i] += jump;
        }
        robot_post(&robot, &chunk);
        for (int tick = 0; tick < 200; tick++) {
            memcpy(last_q, robot.status.reference, sizeof last_q);
            memcpy(last_dq, robot.status.reference_velocity, sizeof last_dq);
            memcpy(last_ddq, robot.status.reference_acceleration, sizeof last_ddq);
            robot_run(&robot, 1);
            for (int i = 0; i < JOINTS; i++) {
                CHECK_NEAR(robot.status.reference[i], last_q[i] + last_dq[i] * 1e-3, 1e-5);
                CHECK_NEAR(robot.status.reference_velocity[i], last_dq[i] + last_ddq[i] * 1e-3, 1e-3);
                CHECK(fabs(robot.status.reference_acceleration[i] - last_ddq[i]) < 1);
                CHECK(fabs(robot.status.reference_acceleration[i]) < 15);
            }
        }
    }
    CHECK(robot.status.chunks_accepted > 50);
    CHECK(robot.status.state == PHYSAI_TRACK);
    robot_close(&robot);
}

static void test_late_steps_are_skipped(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.1);
    chunk.start_ns -= 400 * TICK;
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 300);
    /* At 0.7 s of the chunk, not at 0.3 s. */
    CHECK_NEAR(robot.command.q[0], chunk.values[14][0], 0.01);
    robot_close(&robot);
}

static void test_a_chunk_waits_for_its_start(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.1);
    chunk.start_ns += 100 * TICK;
    chunk.expiry_ns += 100 * TICK;
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 95);
    CHECK(robot.status.state == PHYSAI_HOLD);
    robot_run(&robot, 10);
    CHECK(robot.status.state == PHYSAI_TRACK);
    robot_close(&robot);
}

static void test_stop_and_resume(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.3);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 300);
    physai_control_request(robot.control, PHYSAI_REQUEST_STOP);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_STOPPING && robot.status.paused);
    robot_run(&robot, 500);
    CHECK(robot.status.state == PHYSAI_HOLD && strstr(robot.status.cause_text, "stop requested"));
    physai_control_request(robot.control, PHYSAI_REQUEST_RESUME);
    robot_run(&robot, 1);
    CHECK(robot.status.cause == PHYSAI_CAUSE_RESUMED && !robot.status.paused);
    chunk = robot_chunk(&robot, 0.1);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_TRACK);
    physai_control_request(robot.control, PHYSAI_REQUEST_DEACTIVATE);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_INACTIVE && !enabled());
    robot_close(&robot);
}

static void test_an_ended_chunk_stops_on_its_path_and_the_next_is_followed(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.3);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 300);
    double fastest = fabs(robot.status.reference_velocity[0]), before = robot.status.reference[0];
    CHECK(fastest > 0.1);
    physai_control_request(robot.control, PHYSAI_REQUEST_END_CHUNK);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_STOPPING && !robot.status.paused && robot.status.active_sequence == 0);
    CHECK(robot.status.cause == PHYSAI_CAUSE_CHUNK_ENDED && strstr(robot.status.cause_text, "ended chunk"));
    int cycles = 0;
    while (robot.status.state == PHYSAI_STOPPING && cycles++ < 300) {
        robot_run(&robot, 1);
        CHECK(fabs(robot.status.reference_velocity[0]) <= fastest + 0.02);
    }
    CHECK(robot.status.state == PHYSAI_HOLD && fabs(robot.status.reference[0] - before) < 0.1);
    CHECK(robot.status.reference_velocity[0] == 0);
    /* In hold it only drops what waits. */
    physai_control_request(robot.control, PHYSAI_REQUEST_END_CHUNK);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_HOLD && robot.status.cause == PHYSAI_CAUSE_CHUNK_ENDED);
    chunk = robot_chunk(&robot, 0.1);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_TRACK && robot.status.active_sequence == chunk.sequence);
    /* A person's stop is stronger, whichever came first. */
    physai_control_request(robot.control, PHYSAI_REQUEST_END_CHUNK | PHYSAI_REQUEST_STOP);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_STOPPING && robot.status.paused);
    CHECK(robot.status.cause == PHYSAI_CAUSE_STOP_REQUESTED);
    robot_close(&robot);
}

static void test_an_ended_chunk_changes_no_latched_state(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    physai_control_request(robot.control, PHYSAI_REQUEST_ESTOP);
    robot_run(&robot, 1);
    physai_control_request(robot.control, PHYSAI_REQUEST_END_CHUNK);
    robot_run(&robot, 5);
    CHECK(robot.status.state == PHYSAI_ESTOP && robot.status.cause == PHYSAI_CAUSE_ESTOP_REQUESTED);
    robot_close(&robot);
    robot_open(&robot);
    physai_control_request(robot.control, PHYSAI_REQUEST_END_CHUNK);
    robot_run(&robot, 5);
    CHECK(robot.status.state == PHYSAI_INACTIVE);
    robot_close(&robot);
}

static void test_repositioned(void)
{
    robot_start_moving(&robot);
    memcpy(robot.state.q, home, sizeof home);
    robot.state.q[0] = 1.5;
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    robot.state.flags = PHYSAI_STATE_REPOSITIONED;
    robot_run(&robot, 1);
    robot.state.flags = 0;
    CHECK(robot.status.state == PHYSAI_HOLD && strstr(robot.status.cause_text, "repositioned"));
    CHECK(robot.command.q[0] == 1.5);
    robot_run(&robot, 100);
    CHECK(robot.status.state == PHYSAI_HOLD);
    robot_close(&robot);
}

/* Deactivation is not forgotten when the cell is rearranged before the arm has come to rest. */
static void test_repositioned_while_leaving(void)
{
    robot_start_moving(&robot);
    physai_control_request(robot.control, PHYSAI_REQUEST_DEACTIVATE);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_STOPPING);
    robot.state.flags = PHYSAI_STATE_REPOSITIONED;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_INACTIVE && !enabled());
    physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    robot_close(&robot);
}

static void test_a_robot_that_adds_its_weight(void)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_control_config config = robot_config();
    robot_open(&robot);
    physai_control_destroy(robot.control);
    config.adds_gravity = 0;
    for (int i = 0; i < JOINTS; i++)
        config.joints[i].contact_torque = 5;
    CHECK(physai_control_create(&config, &robot.control, text, sizeof text) == PHYSAI_OK);
    double weight = 0;
    for (int tick = 0; tick < 2000; tick++) {
        if (tick == 2)
            physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
        robot_run(&robot, 1);
        for (int i = 0; i < JOINTS; i++) {
            CHECK(fabs(robot.command.tau[i]) < 0.5);
            robot.state.tau[i] = robot.command.tau[i] + robot.control->dynamics.load[i];
            weight = fmax(weight, fabs(robot.control->dynamics.load[i]));
        }
    }
    CHECK(weight > 10);
    CHECK(robot.status.state == PHYSAI_HOLD);
    for (int i = 0; i < JOINTS; i++)
        CHECK(fabs(robot.status.tau_external[i]) < 0.5);
    robot_close(&robot);
}

/* A servo lags behind its setpoints: a stop goes on from the setpoint, and does not throw the arm back. */
static void test_a_stop_by_setpoints(void)
{
    enum {
        LAG = 15
    };
    double sent[LAG][JOINTS], last[JOINTS], most = 0;
    robot_start_moving(&robot);
    robot.control->config.position_commanded = 1;
    for (int tick = 0; tick < LAG; tick++)
        memcpy(sent[tick], robot.state.q, sizeof sent[tick]);
    for (int tick = 0; tick < 200; tick++) {
        memcpy(last, robot.command.q, sizeof last);
        memcpy(sent[tick % LAG], last, sizeof last);
        memcpy(robot.state.q, sent[(tick + 1) % LAG], sizeof last);
        if (tick == 100) {
            robot.state.dq[2] = 2.62 * 1.2;
            CHECK(fabs(robot.state.q[2] - last[2]) > 3e-3);
        }
        robot_run(&robot, 1);
        for (int i = 0; i < JOINTS; i++)
            most = fmax(most, fabs(robot.command.q[i] - last[i]));
    }
    CHECK(robot.status.cause == PHYSAI_CAUSE_VELOCITY);
    CHECK(most < 1e-3);
    robot_close(&robot);
}

/* A joint beyond its speed limit is braked with the torque rate of a stop. */
static void test_torque_rate_of_a_joint_that_is_too_fast(void)
{
    for (int fast = 0; fast < 2; fast++) {
        robot_start_moving(&robot);
        for (int i = 0; i < JOINTS; i++)
            robot.control->config.joints[i].torque_rate = 300;
        double before = robot.command.tau[3];
        robot.state.dq[3] = 2.62 * (fast ? 1.02 : 0.98);
        robot_run(&robot, 1);
        CHECK(robot.status.state == PHYSAI_TRACK);
        CHECK_NEAR(before - robot.command.tau[3], fast ? 1.0 : 0.3, 1e-9);
        robot_close(&robot);
    }
}

/* Reduced mode starts from the reference as it is: no cycle takes two steps. */
static void test_reduced_mode_starts_without_a_step(void)
{
    robot_start_moving(&robot);
    double last = robot.command.q[0], speed = robot.command.dq[0];
    CHECK(fabs(speed) > 0.05);
    robot.control->settings.reduced = 1;
    robot_run(&robot, 1);
    CHECK_NEAR(robot.command.q[0] - last, speed * 1e-3, 2e-5);
    robot_close(&robot);
}

/* Whatever the arm does, the torque keeps to its bounds. */
static void test_torque_bounds_hold_under_noise(void)
{
    double last[JOINTS];
    robot_start_moving(&robot);
    for (int tick = 0; tick < 3000; tick++) {
        memcpy(last, robot.command.tau, sizeof last);
        bool was = enabled();
        robot_tick(&robot);
        for (int i = 0; i < JOINTS; i++) {
            robot.state.q[i] += check_random(-0.02, 0.02);
            robot.state.dq[i] = check_random(-4, 4);
            CHECK(fabs(robot.command.tau[i]) <= (i < 4 ? 87 : 12));
            if (was && enabled())
                CHECK(fabs(robot.command.tau[i] - last[i]) <= 1 + 1e-9);
        }
        if (tick % 100 == 0)
            physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    }
    robot_close(&robot);
}

static void test_gripper(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    CHECK_NEAR(robot.command.opening[0], 0.08, 1e-12);
    struct physai_chunk chunk = robot_chunk(&robot, 0.0);
    for (uint32_t k = 0; k < chunk.n_steps; k++)
        chunk.opening[k][0] = k < 4 ? 0.08 : 0.0;
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 190);
    CHECK_NEAR(robot.command.opening[0], 0.08, 1e-12);
    double last = 0.08;
    for (int tick = 0; tick < 1000; tick++) {
        robot_run(&robot, 1);
        CHECK(last - robot.command.opening[0] <= 0.15e-3 + 1e-12);
        last = robot.command.opening[0];
    }
    CHECK(last == 0); /* still closed after the chunk has ended: what is held is not dropped */
    robot_close(&robot);
}

static void test_refused_configurations(void)
{
    char text[PHYSAI_TEXT_SIZE];
    struct physai_control *control;
    struct physai_control_config config = robot_config();
    config.settings.stiffness[3] = NAN;
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_ERROR_ARGUMENT && !control);
    CHECK(strstr(text, "fr3_joint4"));
    config = robot_config();
    config.abi = 999;
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_ERROR_ARGUMENT);
    config = robot_config();
    snprintf(config.tools[0].frame, sizeof config.tools[0].frame, "nowhere");
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_ERROR_MODEL);
    CHECK(strstr(text, "nowhere"));
    config = robot_config();
    snprintf(config.model_path, sizeof config.model_path, "/none.xml");
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_ERROR_MODEL);
    config = robot_config();
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_OK);
    snprintf(control->config.hardware_path, sizeof control->config.hardware_path, "/none.so");
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_ERROR_HARDWARE &&
          strstr(text, "none.so"));
    physai_control_destroy(control);
}

int main(void)
{
    test_inactive_asks_for_the_brakes();
    test_activation_starts_from_gravity();
    test_chunk_is_followed_and_ends_in_hold();
    test_at_rest_by_the_expiry();
    test_seams_are_smooth();
    test_late_steps_are_skipped();
    test_a_chunk_waits_for_its_start();
    test_stop_and_resume();
    test_an_ended_chunk_stops_on_its_path_and_the_next_is_followed();
    test_an_ended_chunk_changes_no_latched_state();
    test_repositioned();
    test_repositioned_while_leaving();
    test_a_robot_that_adds_its_weight();
    test_a_stop_by_setpoints();
    test_torque_rate_of_a_joint_that_is_too_fast();
    test_reduced_mode_starts_without_a_step();
    test_torque_bounds_hold_under_noise();
    test_gripper();
    test_refused_configurations();
    return 0;
}
