/* Faults, the latch, stops that do not hold and resets, cycle by cycle. */
#include "robot.h"

#include <time.h>
#include <unistd.h>

static struct robot robot;

static bool enabled(void)
{
    return robot.command.flags & PHYSAI_COMMAND_ENABLE;
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
        robot_start_moving(&robot);
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
    robot_start_moving(&robot);
    robot.state.dq[2] = 2.62 * 1.11;
    robot_run(&robot, 1);
    CHECK(enabled());
    expect_fault(PHYSAI_CAUSE_VELOCITY, "fr3_joint3");
    robot_start_moving(&robot);
    carry_away(3, -0.4);
    CHECK(fabs(robot.command.q[3] - robot.state.q[3]) < 0.01); /* no pull back to where it was to be */
    expect_fault(PHYSAI_CAUSE_TRACKING, "fr3_joint4");
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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

        robot_start_moving(&robot);
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

/* In a fault the arm is held; one that cannot be held gets the brakes. */
static void test_runaway_in_a_fault(void)
{
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_FAULT && enabled());
    int ticks = sink(0.25, 300);
    CHECK(ticks > 150 && ticks < 250);
    CHECK(robot.status.cause == PHYSAI_CAUSE_TRACKING && !enabled());
    robot_close(&robot);

    robot_start_moving(&robot);
    carry_away(3, -0.4);
    robot_run(&robot, 600);
    robot.control->config.fences[0].low[2] = robot.control->dynamics.tools[0].position[2] + 0.018;
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
    robot.control->config.fences[0].low[2] = robot.control->dynamics.tools[0].position[2] - 0.001;
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
    config->fences[0].low[2] = robot.control->dynamics.tools[0].position[2] - 0.001;
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

/* Also while it is still being stopped, and when the state by which it is held contradicts itself. */
static void test_a_fault_holds_only_by_what_can_be_believed(void)
{
    robot_start_moving(&robot);
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

    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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
    robot_start_moving(&robot);
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

int main(void)
{
    test_faults();
    test_activation_says_that_states_are_not_finite();
    test_position_fault();
    test_state_timeout();
    test_state_lost_in_a_fault();
    test_a_request_is_forgotten_when_no_state_comes();
    test_estop();
    test_runaway_in_a_fault();
    test_the_robots_own_stops();
    test_nobody_receives_the_commands();
    test_states_come_too_seldom();
    test_a_fault_that_does_not_hold();
    test_sinking_out_of_a_fence_in_hold();
    test_an_arm_that_sinks_when_it_is_switched_on();
    test_a_fault_holds_only_by_what_can_be_believed();
    test_reset_forgets_what_was_measured();
    test_frozen_state();
    return 0;
}
