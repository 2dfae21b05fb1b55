/* The timer's grid, and the threads on it: the control loop on the loopback robot and the bare loop. */
#include "physai_bare_loop.h"
#include "realtime.h"
#include "robot.h"

#include <unistd.h>

static void test_grid(void)
{
    for (int round = 0; round < 100000; round++) {
        int64_t period = (int64_t)check_random(1e5, 1e7), now = (int64_t)check_random(0, 1e15);
        double phase = check_random(0, 1);
        int64_t first = physai_first_deadline(now, period, phase);
        CHECK(first > now && first <= now + 2 * period);
        CHECK((first - (int64_t)(phase * (double)period)) % period == 0);

        /* On time, a little late, very late: the next one is ahead, on the grid, and the nearest such. */
        int64_t late = (int64_t)(check_random(-1, 1) * (double)period * (round % 3 ? 1 : 50));
        int64_t next = physai_next_deadline(first, first + late, period);
        CHECK(next > first + late && (next - first) % period == 0 && next >= first + period);
        CHECK(next == first + period || next <= first + late + period);
    }
    CHECK(physai_next_deadline(1000, 1000, 10) == 1010);
    CHECK(physai_next_deadline(1000, 1010, 10) == 1020);
    CHECK(physai_next_deadline(1000, 1035, 10) == 1040);
}

static struct physai_control_config loopback_config(const char *options)
{
    struct physai_control_config config = robot_config();
    config.realtime = 1;
    config.state_timeout_s = 1; /* a shared machine may stand still for longer than a robot's 20 ms */
    snprintf(config.hardware_path, sizeof config.hardware_path, "%s", PHYSAI_TEST_LOOPBACK);
    snprintf(config.hardware_options, sizeof config.hardware_options, "%s", options);
    return config;
}

static void refused(const char *options, const char *word)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_control *control;
    struct physai_control_config config = loopback_config(options);
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_OK);
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_ERROR_HARDWARE && strstr(text, word));
    physai_control_destroy(control);
}

static void test_core(void)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_control *control;
    struct physai_control_config config = loopback_config("start=0 -0.6 0 -2.4 0 1.8 0.7854");
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_OK);
    const char *wrong[] = {"1023", "-1", "first", "99999"};
    for (int i = 0; i < 4; i++) {
        setenv(PHYSAI_LOOP_CPU, wrong[i], 1);
        CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_ERROR_THREAD);
        CHECK(strstr(text, PHYSAI_LOOP_CPU) && strstr(text, wrong[i]));
    }
    setenv(PHYSAI_LOOP_CPU, "0", 1);
    struct physai_status status = {0};
    physai_control_request(control, PHYSAI_REQUEST_ESTOP); /* while it is still being set up */
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_OK);
    for (int i = 0; i < 20000 && status.state != PHYSAI_ESTOP; i++) {
        usleep(500);
        physai_control_read_status(control, &status);
    }
    CHECK(status.state == PHYSAI_ESTOP);
    CHECK(physai_control_stop(control) == PHYSAI_OK);
    unsetenv(PHYSAI_LOOP_CPU);
    physai_control_destroy(control);
}

/* Whether the state is reached; a fault comes first only where the machine stood still in the meantime. */
static bool reaches(struct robot *robot, uint32_t state)
{
    for (int i = 0; i < 20000; i++) {
        physai_control_read_status(robot->control, &robot->status);
        if (robot->status.state == state)
            return true;
        if (robot->status.state == PHYSAI_FAULT) {
            fprintf(stderr, "%s\n", robot->status.cause_text);
            CHECK(robot->status.gaps > 0);
            return false;
        }
        usleep(500);
    }
    fprintf(stderr, "state is %u, not %u: %s\n", robot->status.state, state, robot->status.cause_text);
    CHECK(robot->status.state == state);
    return false;
}

/* From where the arm is, by `offset`; whether it arrives. */
static bool moves(struct robot *robot, double offset)
{
    double start[JOINTS];
    physai_control_request(robot->control, PHYSAI_REQUEST_RESET | PHYSAI_REQUEST_ACTIVATE);
    usleep(20000);
    if (!reaches(robot, PHYSAI_HOLD))
        return false;
    memcpy(start, robot->status.q, sizeof start);
    robot->state.time_ns = robot->status.time_ns;
    struct physai_chunk chunk = robot_chunk(robot, offset);
    if (robot_post(robot, &chunk) != PHYSAI_OK || !reaches(robot, PHYSAI_TRACK) ||
        !reaches(robot, PHYSAI_HOLD))
        return false;
    for (int i = 0; i < JOINTS; i++)
        CHECK_NEAR(robot->status.q[i], start[i] + offset, 2e-3);
    return true;
}

static void test_loops(void)
{
    static struct robot robot;
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_bare_loop *bare;
    struct physai_latency wake;
    struct physai_control_config config = loopback_config("start=0 -0.6 0 -2.4, 0 1.8 0.7854\nopening=0.08");
    CHECK(physai_control_create(&config, &robot.control, text, sizeof text) == PHYSAI_OK);
    CHECK(physai_bare_loop_start(0, 0, &bare) == PHYSAI_ERROR_ARGUMENT && !bare);
    CHECK(physai_bare_loop_start(1000, 1, &bare) == PHYSAI_ERROR_ARGUMENT && !bare);
    CHECK(physai_bare_loop_start(1000, 0.25, &bare) == PHYSAI_OK);
    int error = physai_control_start(robot.control, text, sizeof text);
    if (error)
        fprintf(stderr, "%s\n", text);
    CHECK(error == PHYSAI_OK);
    physai_control_request(robot.control, PHYSAI_REQUEST_ACTIVATE);
    while (!reaches(&robot, PHYSAI_HOLD))
        physai_control_request(robot.control, PHYSAI_REQUEST_RESET);
    for (int i = 0; i < JOINTS; i++)
        CHECK_NEAR(robot.status.q[i], home[i], 1e-9);
    int attempts = 0;
    while (!moves(&robot, 0.1))
        CHECK(++attempts < 20);
    CHECK(robot.status.wake.total >= robot.status.cycles - 1 && robot.status.compute.total > 100);
    physai_bare_loop_read(bare, &wake);
    CHECK(wake.total > 100 && wake.max_ns > 0);
    physai_bare_loop_stop(bare);
    physai_control_destroy(robot.control);
}

int main(void)
{
    test_grid();
    refused("", "start must be 7");
    refused("start=0 -0.6 0 -2.4 0 1.8", "start must be 7");
    refused("start=0 -0.6 0 -2.4 0 1.8\n0.7", "no option '0.7'");
    refused("begin=0 -0.6 0 -2.4 0 1.8 0.7", "no option 'begin'");
    refused("start=0 -0.6 0 -2.4 0 1.8 0.7 1", "start must be 7");
    refused("start=0 -0.6 0 nan 0 1.8 0.7", "nan");
    refused("start=0 -0.6 0 -2.4 0 1.8 0.7\nopening=wide", "opening");
    test_core();
    test_loops();
    return 0;
}
