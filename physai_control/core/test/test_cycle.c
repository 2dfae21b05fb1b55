/* States, seams, faults and resets, cycle by cycle. */
#include "robot.h"

#include <time.h>
#include <unistd.h>

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

static void expect_fault(uint32_t cause, const char *word)
{
    CHECK(robot.status.state == PHYSAI_FAULT);
    CHECK(robot.status.cause == cause);
    if (!strstr(robot.status.cause_text, word))
        fprintf(stderr, "'%s' is not in '%s'\n", word, robot.status.cause_text);
    CHECK(strstr(robot.status.cause_text, word) && strstr(robot.status.cause_text, "cycle"));
    /* Latched: no chunk, no activation, no resumption leaves it. */
    uint64_t cycle = robot.status.cause_cycle;
    struct physai_chunk chunk = robot_chunk(&robot, 0.0);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_REFUSED_STATE);
    physai_control_request(robot.control,
                           PHYSAI_REQUEST_ACTIVATE | PHYSAI_REQUEST_RESUME | PHYSAI_REQUEST_STOP);
    robot_run(&robot, 800);
    CHECK(robot.status.state == PHYSAI_FAULT && robot.status.cause_cycle == cycle);
    /* Reset: hold at the measured pose. */
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    for (int i = 0; i < JOINTS; i++)
        CHECK(fabs(robot.command.q[i] - robot.status.q[i]) < 1e-12);
    robot_close(&robot);
}

static void start_moving(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    struct physai_chunk chunk = robot_chunk(&robot, 0.2);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 300);
    CHECK(robot.status.state == PHYSAI_TRACK);
}

/* Something carries a joint away from its reference, as fast as may be, until the core has noticed. */
static void carry_away(int joint, double by)
{
    const int ticks = 200;
    double start = robot.state.q[joint];
    for (int k = 1; k <= ticks && robot.status.state != PHYSAI_FAULT; k++) {
        robot.state.q[joint] = start + by * k / ticks;
        robot.state.dq[joint] = by / ticks * 1e3;
        robot_run(&robot, 1);
    }
}

static void test_faults(void)
{
    const double odd[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        start_moving();
        struct physai_state good = robot.state;
        robot.state.q[i] = odd[i];
        CHECK(robot_tick(&robot) == 1);
        CHECK(!enabled()); /* without a state there is nothing to control by: brakes */
        good.seq = robot.state.seq;
        good.time_ns = robot.state.time_ns;
        robot.state = good;
        memset(robot.state.dq, 0, sizeof robot.state.dq);
        expect_fault(PHYSAI_CAUSE_STATE_NOT_FINITE, "not finite");
    }
    start_moving();
    robot.state.dq[2] = 2.62 * 1.11;
    robot_run(&robot, 1);
    CHECK(enabled());
    expect_fault(PHYSAI_CAUSE_VELOCITY, "fr3_joint3");
    start_moving();
    carry_away(3, -0.4);
    CHECK(fabs(robot.command.q[3] - robot.state.q[3]) < 0.01); /* no pull back to where it was to be */
    expect_fault(PHYSAI_CAUSE_TRACKING, "fr3_joint4");
    start_moving();
    robot.state.flags = PHYSAI_STATE_GATE_LATCHED;
    robot_run(&robot, 1);
    CHECK(!enabled());
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_FAULT); /* not while the robot's own gate is latched */
    robot.state.flags = 0;
    expect_fault(PHYSAI_CAUSE_GATE, "gate");
}

/* Who asks for an arm whose states are nonsense is told so, and gets it as soon as they are not. */
static void test_activation_says_that_states_are_not_finite(void)
{
    robot_open(&robot);
    double good = robot.state.tau[2];
    robot.state.tau[2] = NAN;
    physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
    for (int k = 0; k < 5; k++)
        CHECK(robot_tick(&robot) == 0); /* nothing is answered */
    CHECK(robot.status.state == PHYSAI_INACTIVE && !enabled());
    CHECK(robot.status.cause == PHYSAI_CAUSE_STATE_NOT_FINITE);
    CHECK(strstr(robot.status.cause_text, "not finite"));
    robot.state.tau[2] = good;
    robot_run(&robot, 5);
    CHECK(robot.status.state == PHYSAI_HOLD && robot.status.cause == PHYSAI_CAUSE_ACTIVATED);
    robot_close(&robot);
}

static void test_position_fault(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    memcpy(robot.state.q, home, sizeof home);
    robot.state.q[5] = 0.5445 - 0.051;
    robot.state.flags = PHYSAI_STATE_REPOSITIONED;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT && robot.status.cause == PHYSAI_CAUSE_POSITION);
    robot_close(&robot);
}

static void test_state_timeout(void)
{
    start_moving();
    CHECK(robot_cycle(&robot, NULL) == 0);
    CHECK(robot.status.state == PHYSAI_TRACK && robot.status.missed_states == 1);
    CHECK(robot_cycle(&robot, &robot.state) == 0); /* the same state again is no new one */
    usleep(25000);
    CHECK(robot_cycle(&robot, NULL) == 1 && !enabled());
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    expect_fault(PHYSAI_CAUSE_STATE_TIMEOUT, "no joint state");
}

static void test_state_lost_in_a_fault(void)
{
    start_moving();
    robot.state.dq[2] = 2.62 * 1.11;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled()); /* held by torque */
    usleep(25000);
    CHECK(robot_cycle(&robot, NULL) == 1 && !enabled()); /* nobody knows where the arm is: brakes */
    robot_run(&robot, 10);
    CHECK(!enabled()); /* and no torque when states come again */
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    expect_fault(PHYSAI_CAUSE_VELOCITY, "fr3_joint3"); /* the first cause stays */
}

static void test_a_request_is_forgotten_when_no_state_comes(void)
{
    start_moving();
    usleep(25000);
    CHECK(robot_cycle(&robot, NULL) == 1 && !enabled());
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_cycle(&robot, NULL);
    usleep(1100000);
    robot_cycle(&robot, NULL);
    robot_run(&robot, 10);
    CHECK(robot.status.state == PHYSAI_FAULT && !enabled());
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    expect_fault(PHYSAI_CAUSE_STATE_TIMEOUT, "no joint state");
}

static void test_estop(void)
{
    start_moving();
    physai_control_request(robot.control,
                           PHYSAI_REQUEST_ESTOP | PHYSAI_REQUEST_RESET | PHYSAI_REQUEST_ACTIVATE);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_ESTOP && enabled());
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_ESTOP && !enabled());
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    /* A fault does not hide an emergency stop; an emergency stop outranks a fault. */
    robot.state.dq[0] = 10;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT);
    physai_control_request(robot.control, PHYSAI_REQUEST_ESTOP);
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_ESTOP);
    robot_close(&robot);
}

static void test_repositioned(void)
{
    start_moving();
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
    start_moving();
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

/* Nobody brings an arm to life whose own emergency stop or gate is shut, and a stop that holds it ends there.
 */
static void test_the_robots_own_stops(void)
{
    const uint32_t flags[] = {PHYSAI_STATE_ESTOP, PHYSAI_STATE_GATE_LATCHED, PHYSAI_STATE_CONTRADICTED};
    const uint32_t states[] = {PHYSAI_ESTOP, PHYSAI_FAULT, PHYSAI_FAULT},
                   causes[] = {PHYSAI_CAUSE_ESTOP_HARDWARE, PHYSAI_CAUSE_GATE,
                               PHYSAI_CAUSE_STATE_CONTRADICTED};
    for (int k = 0; k < 3; k++) {
        robot_open(&robot);
        robot.state.flags = flags[k];
        robot_run(&robot, 5);
        CHECK(robot.status.state == PHYSAI_INACTIVE);
        physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
        for (int tick = 0; tick < 100; tick++) {
            robot_run(&robot, 1);
            CHECK(!enabled());
        }
        CHECK(robot.status.state == states[k] && robot.status.cause == causes[k]);
        physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
        robot_run(&robot, 2);
        CHECK(robot.status.state == states[k]);
        robot.state.flags = 0;
        physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
        robot_run(&robot, 2);
        CHECK(robot.status.state == PHYSAI_HOLD && enabled());
        robot_close(&robot);

        start_moving();
        carry_away(3, -0.4);
        robot_run(&robot, 600);
        CHECK(robot.status.state == PHYSAI_FAULT && enabled());
        robot.state.flags = flags[k];
        robot_run(&robot, 100);
        CHECK(robot.status.state == states[k] && !enabled());
        robot.state.flags = 0;
        physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
        robot_run(&robot, 2);
        CHECK(robot.status.state == PHYSAI_HOLD && enabled());
        robot_close(&robot);
    }
}

/* A robot that carries itself gets no weight from us, and is not taken for one that something pulls at. */
static void test_states_come_too_seldom(void)
{
    robot_open(&robot);
    robot.state.flags = PHYSAI_STATE_SLOW;
    physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
    for (int tick = 0; tick < 100; tick++) {
        robot_run(&robot, 1);
        CHECK(!enabled());
    }
    CHECK(robot.status.state == PHYSAI_INACTIVE && robot.status.cause == PHYSAI_CAUSE_STATE_SLOW);
    CHECK(strstr(robot.status.cause_text, "too seldom"));
    robot.state.flags = 0;
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    robot.state.flags = PHYSAI_STATE_SLOW;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT && robot.status.cause == PHYSAI_CAUSE_STATE_SLOW);
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_FAULT);
    robot.state.flags = 0;
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_HOLD);
    robot_close(&robot);
}

static void test_nobody_receives_the_commands(void)
{
    robot_open(&robot);
    robot.state.flags = PHYSAI_STATE_UNHEARD;
    physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
    for (int tick = 0; tick < 100; tick++) {
        robot_run(&robot, 1);
        CHECK(!enabled());
    }
    CHECK(robot.status.state == PHYSAI_INACTIVE && robot.status.cause == PHYSAI_CAUSE_UNHEARD);
    CHECK(strstr(robot.status.cause_text, "nobody receives"));
    robot.state.flags = 0; /* somebody came in time */
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_HOLD && enabled());
    robot.state.flags = PHYSAI_STATE_UNHEARD; /* and went away */
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT && robot.status.cause == PHYSAI_CAUSE_UNHEARD);
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_FAULT);
    robot.state.flags = 0;
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 2);
    CHECK(robot.status.state == PHYSAI_HOLD);
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
    start_moving();
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

/* In a fault the arm is held; one that cannot be held gets the brakes. */
static void test_runaway_in_a_fault(void)
{
    start_moving();
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled());
    robot.state.dq[5] = 1.5;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT && !enabled());
    robot_close(&robot);
}

/* The arm sinks, slowly, whatever it is asked; the number of cycles until the core does something. */
static int sink(double speed, int most)
{
    double q = robot.state.q[1];
    uint32_t before = robot.status.state;
    int tick = 0;
    for (; tick < most && robot.status.state == before && enabled(); tick++) {
        q += speed * 1e-3;
        robot.state.q[1] = q;
        robot.state.dq[1] = speed;
        robot_run(&robot, 1);
    }
    return tick;
}

/* A held arm that does not come to rest, or sags out of a fence, gets the brakes as well. */
static void test_a_fault_that_does_not_hold(void)
{
    start_moving();
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled());
    int ticks = sink(0.25, 300);
    CHECK(ticks > 150 && ticks < 250);
    CHECK(robot.status.cause == PHYSAI_CAUSE_TRACKING && !enabled());
    robot_close(&robot);

    start_moving();
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    robot.control->config.fences[0].low[2] = robot.control->dynamics.tool_position[2] + 0.018;
    robot_run(&robot, 10);
    CHECK(enabled()); /* within the margin */
    robot.control->config.fences[0].low[2] += 0.2;
    robot_run(&robot, 1);
    CHECK(robot.status.cause == PHYSAI_CAUSE_TRACKING && !enabled());
    robot_close(&robot);
}

/* An arm in hold may stand outside a fence where it was switched on, but not go further out. */
static void test_sinking_out_of_a_fence_in_hold(void)
{
    robot_open(&robot);
    robot_activate(&robot);
    robot_run(&robot, 600);
    robot.control->config.fences[0].low[2] = robot.control->dynamics.tool_position[2] - 0.001;
    CHECK(sink(0.05, 1500) < 1500);
    CHECK(robot.status.cause == PHYSAI_CAUSE_GEOFENCE && enabled());
    robot_close(&robot);

    robot_open(&robot);
    robot.control->config.fences[0].low[2] = 2;
    robot_activate(&robot);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_HOLD);
    CHECK(sink(0.05, 1500) < 1500);
    CHECK(robot.status.cause == PHYSAI_CAUSE_GEOFENCE);
    robot_close(&robot);

    robot_open(&robot); /* outside one fence is no excuse at another */
    struct physai_control_config *config = &robot.control->config;
    config->fences[1] = (struct physai_fence){
        .kind = PHYSAI_FENCE_PLANE, .points = PHYSAI_FENCE_TOOL, .normal = {0, 1, 0}, .offset = 0.3};
    config->n_fences = 2;
    robot_activate(&robot);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_HOLD);
    config->fences[0].low[2] = robot.control->dynamics.tool_position[2] - 0.001;
    CHECK(sink(0.05, 1500) < 1500);
    CHECK(robot.status.cause == PHYSAI_CAUSE_GEOFENCE && robot.status.cause_value < 0.03);
    robot_close(&robot);
}

/* While the gains rise, an arm that gives way has another weight than the model: back to the brakes. */
static void test_an_arm_that_sinks_when_it_is_switched_on(void)
{
    for (int law = 0; law < 2; law++) {
        robot_open(&robot);
        robot.control->settings.law = law ? PHYSAI_LAW_CARTESIAN : PHYSAI_LAW_JOINT;
        physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
        robot_run(&robot, 1);
        CHECK(sink(0.4, 400) < 400);
        CHECK(robot.status.cause == (law ? PHYSAI_CAUSE_POSE_TRACKING : PHYSAI_CAUSE_TRACKING));
        CHECK(!enabled());
        robot_close(&robot);
    }
}

/* A joint beyond its speed limit is braked with the torque rate of a stop. */
static void test_torque_rate_of_a_joint_that_is_too_fast(void)
{
    for (int fast = 0; fast < 2; fast++) {
        start_moving();
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
    start_moving();
    double last = robot.command.q[0], speed = robot.command.dq[0];
    CHECK(fabs(speed) > 0.05);
    robot.control->settings.reduced = 1;
    robot_run(&robot, 1);
    CHECK_NEAR(robot.command.q[0] - last, speed * 1e-3, 2e-5);
    robot_close(&robot);
}

/* Also while it is still being stopped, and when the state by which it is held contradicts itself. */
static void test_a_fault_holds_only_by_what_can_be_believed(void)
{
    start_moving();
    carry_away(3, -0.4);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled());
    robot_run(&robot, 1);
    double speed = 0;
    for (int i = 0; i < JOINTS; i++)
        speed = fmax(speed, fabs(robot.state.dq[i]));
    robot.state.dq[1] = speed + 1.1;
    robot_run(&robot, 1);
    CHECK(robot.status.cause == PHYSAI_CAUSE_TRACKING && !enabled());
    robot_close(&robot);

    start_moving();
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled());
    for (int k = 0; k < 20 && enabled(); k++) {
        robot.state.dq[1] = 0.9; /* but it does not move */
        robot_run(&robot, 1);
    }
    CHECK(robot.status.cause == PHYSAI_CAUSE_TRACKING && !enabled());
    robot_close(&robot);
}

/* One absurd torque reading ends in a fault and is forgotten with the reset. */
static void test_reset_forgets_what_was_measured(void)
{
    start_moving();
    robot.control->config.joints[2].contact_torque = 40;
    robot.state.tau[2] = 1e200;
    robot_run(&robot, 1);
    CHECK(robot.status.state == PHYSAI_FAULT);
    robot_run(&robot, 800);
    physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    robot_run(&robot, 100);
    CHECK(robot.status.state == PHYSAI_HOLD);
    robot_close(&robot);
}

/* Numbers and stamps go on, the values do not, and the reference leaves them behind. */
static void test_frozen_state(void)
{
    start_moving();
    struct physai_state frozen = robot.state;
    int ticks = 0;
    for (; ticks < 100 && robot.status.state == PHYSAI_TRACK; ticks++) {
        frozen.seq = robot.state.seq;
        frozen.time_ns = robot.state.time_ns;
        robot.state = frozen;
        robot_run(&robot, 1);
    }
    CHECK(robot.status.state == PHYSAI_FAULT && !enabled() && ticks < 60);
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    robot_close(&robot);

    robot_open(&robot); /* an arm that is asked for nothing may well stand still */
    robot_activate(&robot);
    robot_run(&robot, 2000);
    CHECK(robot.status.state == PHYSAI_HOLD);
    robot_close(&robot);
}

/* Whatever the arm does, the torque keeps to its bounds. */
static void test_torque_bounds_hold_under_noise(void)
{
    double last[JOINTS];
    start_moving();
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
    CHECK_NEAR(robot.command.gripper_width, 0.08, 1e-12);
    struct physai_chunk chunk = robot_chunk(&robot, 0.0);
    for (uint32_t k = 0; k < chunk.n_steps; k++)
        chunk.gripper_width[k] = k < 4 ? 0.08 : 0.0;
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    robot_run(&robot, 190);
    CHECK_NEAR(robot.command.gripper_width, 0.08, 1e-12);
    double last = 0.08;
    for (int tick = 0; tick < 1000; tick++) {
        robot_run(&robot, 1);
        CHECK(last - robot.command.gripper_width <= 0.15e-3 + 1e-12);
        last = robot.command.gripper_width;
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
    snprintf(config.tool_frame, sizeof config.tool_frame, "nowhere");
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
    test_faults();
    test_activation_says_that_states_are_not_finite();
    test_position_fault();
    test_state_timeout();
    test_state_lost_in_a_fault();
    test_a_request_is_forgotten_when_no_state_comes();
    test_estop();
    test_repositioned();
    test_repositioned_while_leaving();
    test_runaway_in_a_fault();
    test_the_robots_own_stops();
    test_nobody_receives_the_commands();
    test_states_come_too_seldom();
    test_a_robot_that_adds_its_weight();
    test_a_stop_by_setpoints();
    test_a_fault_that_does_not_hold();
    test_sinking_out_of_a_fence_in_hold();
    test_an_arm_that_sinks_when_it_is_switched_on();
    test_torque_rate_of_a_joint_that_is_too_fast();
    test_reduced_mode_starts_without_a_step();
    test_a_fault_holds_only_by_what_can_be_believed();
    test_reset_forgets_what_was_measured();
    test_frozen_state();
    test_torque_bounds_hold_under_noise();
    test_gripper();
    test_refused_configurations();
    return 0;
}
