/* A good chunk passes; every way of being bad is refused, with its own code and a text, and changes nothing.
 */
#include "robot.h"

static struct robot robot;

static void refused(struct physai_chunk chunk, int error, const char *word)
{
    robot_run(&robot, 1);
    struct physai_status before = robot.status;
    chunk.sequence = chunk.sequence ? robot.sequence + 1 : 0;
    int got = robot_post(&robot, &chunk);
    if (got != error)
        fprintf(stderr, "%s: expected %d, got %d\n", word, error, got);
    CHECK(got == error);
    CHECK(strcmp(physai_control_strerror(got), "unknown error") != 0);
    robot_run(&robot, 1);
    if (!strstr(robot.status.last_rejection, word))
        fprintf(stderr, "%s is not in: %s\n", word, robot.status.last_rejection);
    CHECK(strstr(robot.status.last_rejection, word));
    CHECK(robot.status.state == before.state);
    CHECK(robot.status.chunks_accepted == before.chunks_accepted);
    CHECK(robot.status.chunks_rejected == before.chunks_rejected + 1);
    CHECK(robot.status.active_sequence == before.active_sequence);
}

static void test_numbers(void)
{
    const double odd[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        struct physai_chunk chunk = robot_chunk(&robot, 0.05);
        chunk.values[(5 * i) % 16][i] = odd[i];
        refused(chunk, PHYSAI_REFUSED_NOT_FINITE, "not finite");
        chunk = robot_chunk(&robot, 0.05);
        chunk.opening[15 - i][0] = odd[i];
        refused(chunk, PHYSAI_REFUSED_NOT_FINITE, "gripper");
    }
    struct physai_chunk chunk = robot_chunk(&robot, 0.05);
    chunk.values[3][2] = 1e308;
    refused(chunk, PHYSAI_REFUSED_POSITION, "fr3_joint3");
    chunk = robot_chunk(&robot, 0.05);
    chunk.opening[3][0] = 0.1;
    refused(chunk, PHYSAI_REFUSED_GRIPPER, "gripper");
}

static void test_shape(void)
{
    struct physai_chunk chunk = robot_chunk(&robot, 0.05);
    chunk.n_values = 6;
    refused(chunk, PHYSAI_REFUSED_SHAPE, "6 joints");
    for (uint32_t bad = 0; bad <= PHYSAI_MAX_STEPS + 1; bad += PHYSAI_MAX_STEPS + 1) {
        chunk = robot_chunk(&robot, 0.05);
        chunk.n_steps = bad;
        refused(chunk, PHYSAI_REFUSED_SHAPE, "steps");
    }
    chunk = robot_chunk(&robot, 0.05);
    chunk.dt_ns = 0;
    refused(chunk, PHYSAI_REFUSED_SHAPE, "dt");
    chunk.dt_ns = -50 * TICK;
    refused(chunk, PHYSAI_REFUSED_SHAPE, "dt");
}

static void test_time_and_order(void)
{
    struct physai_chunk chunk = robot_chunk(&robot, 0.05);
    chunk.sequence = 0;
    refused(chunk, PHYSAI_REFUSED_SEQUENCE, "sequence 0");
    chunk = robot_chunk(&robot, 0.05);
    chunk.expiry_ns = robot.state.time_ns - TICK;
    refused(chunk, PHYSAI_REFUSED_TIME, "expired");
    chunk = robot_chunk(&robot, 0.05);
    chunk.start_ns -= 10000 * TICK;
    refused(chunk, PHYSAI_REFUSED_TIME, "last step");
    chunk = robot_chunk(&robot, 0.05);
    chunk.start_ns += 300 * TICK;
    refused(chunk, PHYSAI_REFUSED_TIME, "future");
    chunk = robot_chunk(&robot, 0.05);
    chunk.n_steps = 1; /* would be followed, whoever sent it, for a minute */
    chunk.expiry_ns = chunk.start_ns + 60000 * TICK;
    refused(chunk, PHYSAI_REFUSED_TIME, "it expires 60 s after its last step");
    chunk = robot_chunk(&robot, 0.05);
    chunk.start_ns = INT64_MAX - 5;
    refused(chunk, PHYSAI_REFUSED_TIME, "not a time");
}

/* While one policy's chunk is followed nobody else's is; when it has ended, anybody's. */
static void test_lease(void)
{
    struct physai_chunk first = robot_chunk(&robot, 0.05);
    first.lease = 0;
    refused(first, PHYSAI_REFUSED_LEASE, "lease is 0");
    first = robot_chunk(&robot, 0.05);
    first.lease = 7;
    CHECK(robot_post(&robot, &first) == PHYSAI_OK);
    robot_run(&robot, 10);
    CHECK(robot.status.state == PHYSAI_TRACK && robot.status.active_lease == 7);
    struct physai_chunk other = robot_chunk(&robot, 0.05);
    other.lease = 8;
    refused(other, PHYSAI_REFUSED_LEASE, "lease 0000000000000008");
    CHECK(strstr(robot.status.last_rejection, "lease 0000000000000007; end that one"));
    /* One that was checked just before the first began. */
    static struct physai_plan plan;
    physai_plan_fit(&plan, &other);
    uint64_t dropped = robot.status.chunks_dropped;
    robot.control->pending = &plan;
    robot_run(&robot, 2);
    CHECK(robot.status.active_lease == 7 && robot.status.chunks_dropped == dropped + 1);
    struct physai_chunk next = robot_chunk(&robot, 0.05);
    next.lease = 7;
    CHECK(robot_post(&robot, &next) == PHYSAI_OK);
    robot_run(&robot, 760); /* the arm comes to rest at the end */
    CHECK(robot.status.state != PHYSAI_TRACK);
    other = robot_chunk(&robot, 0.05);
    other.lease = 8;
    CHECK(robot_post(&robot, &other) == PHYSAI_OK);
    robot_run(&robot, 5);
    CHECK(robot.status.state == PHYSAI_TRACK && robot.status.active_lease == 8);
    robot_run(&robot, 3000);
}

/* A policy that another one has moved after counts from 1, and the first goes on where it was: neither
 * repeats. */
static void test_each_lease_counts_for_itself(void)
{
    static const uint64_t lease[] = {21, 22, 21, 22}, sequence[] = {900, 1, 901, 2}, old[] = {900, 1, 900, 1};
    for (int turn = 0; turn < 4; turn++) {
        struct physai_chunk chunk = robot_chunk(&robot, 0.02);
        chunk.lease = lease[turn], chunk.sequence = sequence[turn];
        CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
        chunk.sequence = old[turn];
        CHECK(robot_post(&robot, &chunk) == PHYSAI_REFUSED_SEQUENCE);
        robot_run(&robot, 5);
        CHECK(robot.status.active_lease == lease[turn] && robot.status.active_sequence == sequence[turn]);
        robot_run(&robot, 3000);
        CHECK(robot.status.state == PHYSAI_HOLD);
    }
    /* So many others that the first is forgotten; the latest ones are not. */
    for (uint64_t other = 100; other < 100 + PHYSAI_LEASES; other++) {
        struct physai_chunk chunk = robot_chunk(&robot, 0.02);
        chunk.lease = other, chunk.sequence = 1;
        CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
        robot_run(&robot, 3000);
    }
    CHECK(physai_last_sequence(robot.control, 21) == 0);
    CHECK(physai_last_sequence(robot.control, 100) == 1);
}

static void test_motion(void)
{
    struct physai_chunk chunk = robot_chunk(&robot, 0.05);
    for (int k = 0; k < 16; k++)
        chunk.values[k][1] += 0.4;
    refused(chunk, PHYSAI_REFUSED_JUMP, "fr3_joint2");
    chunk = robot_chunk(&robot, 0.0);
    for (int k = 0; k < 16; k++)
        chunk.values[k][0] += 0.05 * 2.7 * k;
    refused(chunk, PHYSAI_REFUSED_VELOCITY, "fr3_joint1");
    chunk = robot_chunk(&robot, 0.0);
    chunk.values[7][4] += 0.03;
    refused(chunk, PHYSAI_REFUSED_ACCELERATION, "fr3_joint5");
    /* Degrees for radians. */
    chunk = robot_chunk(&robot, 0.05);
    for (int k = 0; k < 16; k++)
        chunk.values[k][5] *= 180 / M_PI;
    refused(chunk, PHYSAI_REFUSED_POSITION, "fr3_joint6");
}

static void test_fence(void)
{
    /* Lower the shoulder slowly until the tool is below the table. */
    struct physai_chunk chunk = robot_chunk(&robot, 0.0);
    chunk.n_steps = 80;
    chunk.expiry_ns += 80 * chunk.dt_ns;
    for (int k = 0; k < 80; k++) {
        memcpy(chunk.values[k], chunk.values[0], sizeof chunk.values[0]);
        chunk.values[k][1] += 0.8 * (1 - cos(M_PI * k / 79.0));
        chunk.opening[k][0] = 0.08;
    }
    refused(chunk, PHYSAI_REFUSED_GEOFENCE, "geofence");
}

/* The arm rests at `q`, without having gone there. */
static void rest_at(const double q[JOINTS])
{
    robot_run(&robot, 3000); /* what was posted has ended */
    memcpy(robot.state.q, q, JOINTS * sizeof *q);
    memset(robot.state.dq, 0, sizeof robot.state.dq);
    robot.state.flags = PHYSAI_STATE_REPOSITIONED;
    robot_run(&robot, 1);
    robot.state.flags = 0;
    robot_run(&robot, 600);
    CHECK(robot.status.state == PHYSAI_HOLD);
    CHECK_NEAR(robot.status.reference[0], q[0], 1e-3);
}

static struct physai_chunk turn_of_joint_1(double to, double dt_s)
{
    struct physai_chunk chunk = robot_chunk(&robot, 0.0);
    chunk.n_steps = 2;
    chunk.dt_ns = (int64_t)(dt_s * 1e9);
    chunk.expiry_ns = chunk.start_ns + 2 * chunk.dt_ns;
    chunk.values[1][0] = to;
    return chunk;
}

/* Both setpoints are on this side of a wall, the arc of the tool from one to the other is not. */
static void test_fence_between_setpoints(void)
{
    double q[JOINTS], *wall = &robot.control->config.fences[0].high[0], no_wall = *wall;
    memcpy(q, home, sizeof q);
    rest_at(q);
    double straight_ahead = robot.status.tools[0].pose[0];
    q[0] = -0.15;
    rest_at(q);
    *wall = 0.5 * (straight_ahead + robot.status.tools[0].pose[0]);
    CHECK(straight_ahead > *wall + 0.002 && robot.status.tools[0].pose[0] < *wall - 0.002);
    refused(turn_of_joint_1(0.15, 0.4), PHYSAI_REFUSED_GEOFENCE, "geofence 0");
    *wall = straight_ahead + 0.001;
    struct physai_chunk chunk = turn_of_joint_1(0.15, 0.4);
    CHECK(robot_post(&robot, &chunk) == PHYSAI_OK);
    rest_at(home);
    *wall = no_wall;
}

/* A hump close to a joint's stop: slow enough at its setpoints is not slow enough on the way. */
static void test_speed_between_setpoints(void)
{
    const int joint = 3;
    const struct physai_joint_limits *limits = &robot.control->config.joints[joint];
    int passed = 0, too_fast = 0;
    for (int round = 0; round < 300; round++) {
        double q[JOINTS], dt_s = check_random(0.1, 0.6), rise = check_random(0.05, 0.6);
        memcpy(q, home, sizeof q);
        q[joint] = limits->position_max - rise - check_random(0.005, 0.1);
        if (round % 50 == 0)
            rest_at(q);
        struct physai_chunk chunk = robot_chunk(&robot, 0.0);
        double start = robot.status.reference[joint], top = limits->position_max - check_random(0.005, 0.1);
        chunk.n_steps = 4;
        chunk.dt_ns = (int64_t)(dt_s * 1e9);
        chunk.expiry_ns = chunk.start_ns + 4 * chunk.dt_ns;
        for (int k = 1; k < 4; k++)
            chunk.values[k][joint] = k < 3 ? top : start;
        int error = robot_post(&robot, &chunk);
        too_fast += error == PHYSAI_REFUSED_VELOCITY;
        if (error)
            continue;
        passed++;
        struct physai_plan plan;
        struct physai_motion motion;
        physai_plan_fit(&plan, &chunk);
        for (int64_t t = plan.start_ns; t <= plan.end_ns; t += TICK) {
            physai_plan_evaluate(&plan, t, &motion);
            double speed = motion.dq[joint];
            CHECK(speed <= physai_speed_limit_up(limits, motion.q[joint]) + 0.02);
            CHECK(-speed <= physai_speed_limit_down(limits, motion.q[joint]) + 0.02);
        }
    }
    CHECK(passed > 20 && too_fast > 20);
    rest_at(home);
}

static void test_states(void)
{
    physai_control_request(robot.control, PHYSAI_REQUEST_STOP);
    robot_run(&robot, 500);
    refused(robot_chunk(&robot, 0.05), PHYSAI_REFUSED_STATE, "resume");
    physai_control_request(robot.control, PHYSAI_REQUEST_RESUME);
    robot_run(&robot, 2);
    physai_control_request(robot.control, PHYSAI_REQUEST_ESTOP);
    robot_run(&robot, 2);
    refused(robot_chunk(&robot, 0.05), PHYSAI_REFUSED_STATE, "estop");
}

/* Mutations of good chunks: whatever is let through stays within the limits. */
static void test_what_passes_is_within_limits(void)
{
    const struct physai_control_config *config = &robot.control->config;
    int passed = 0;
    for (int round = 0; round < 400; round++) {
        struct physai_chunk chunk = robot_chunk(&robot, check_random(-0.6, 0.6));
        double noise = round % 4 ? 0.001 * (round % 4) : 0;
        for (uint32_t k = 0; k < chunk.n_steps; k++)
            for (int i = 0; i < JOINTS; i++)
                chunk.values[k][i] += check_random(-noise, noise);
        if (robot_post(&robot, &chunk) != PHYSAI_OK)
            continue;
        passed++;
        struct physai_plan plan;
        struct physai_motion motion;
        physai_plan_fit(&plan, &chunk);
        for (int64_t t = plan.start_ns; t <= plan.end_ns; t += TICK / 2) {
            physai_plan_evaluate(&plan, t, &motion);
            for (int i = 0; i < JOINTS; i++) {
                const struct physai_joint_limits *joint = &config->joints[i];
                CHECK(motion.q[i] >= joint->position_min - 1e-5 && motion.q[i] <= joint->position_max + 1e-5);
                CHECK(fabs(motion.dq[i]) <= joint->velocity + 1e-5);
                CHECK(fabs(motion.ddq[i]) <= joint->acceleration + 1e-5);
            }
        }
    }
    CHECK(passed > 50);
}

int main(void)
{
    robot_open(&robot);
    robot_run(&robot, 2);
    refused(robot_chunk(&robot, 0.05), PHYSAI_REFUSED_STATE, "activate");
    robot_activate(&robot);
    test_numbers();
    test_shape();
    test_time_and_order();
    test_lease();
    test_each_lease_counts_for_itself();
    test_motion();
    test_fence();
    test_fence_between_setpoints();
    test_speed_between_setpoints();
    test_what_passes_is_within_limits();
    robot_run(&robot, 3000);
    test_states();
    robot_close(&robot);
    return 0;
}
