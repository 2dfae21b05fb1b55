/* Bounds hold for every input, NaN and infinity among them. */
#include "check.h"
#include "motion/fence.h"
#include "motion/joint_limits.h"

static const struct physai_joint_limits joint = {
    .position_min = -1,
    .position_max = 1,
    .velocity = 2,
    .torque = 87,
    .torque_rate = 500,
    .stop_torque_rate = 1000,
    .braking_decel_2a = 12,
    .braking_offset = 0.3,
};

static void test_torque_is_bounded(void)
{
    const double odd[] = {NAN, -NAN, INFINITY, -INFINITY, 1e308, -1e308, 0, 1e-320, 50, -50};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        for (int k = 0; k < 200; k++) {
            double previous = check_random(-87, 87), tau = odd[i];
            bool stopping = k % 2;
            physai_clamp_torque(&joint, 1, 0.001, stopping, &previous, &tau);
            CHECK(fabs(tau) <= 87);
            CHECK(fabs(tau - previous) <= (stopping ? 1 : 0.5) + 1e-12);
        }
    }
}

static void test_torque_within_bounds_is_untouched(void)
{
    for (int k = 0; k < 200; k++) {
        double previous = check_random(-80, 80), wanted = previous + check_random(-0.5, 0.5), tau = wanted;
        physai_clamp_torque(&joint, 1, 0.001, false, &previous, &tau);
        CHECK(tau == wanted);
    }
}

static void test_finite(void)
{
    double values[3] = {1, -1e308, 1e-320};
    CHECK(physai_all_finite(values, 3));
    const double odd[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        values[2] = odd[i];
        CHECK(!physai_all_finite(values, 3));
    }
}

static void test_braking_envelope(void)
{
    double last = joint.velocity;
    for (double q = -1.2; q <= 1.2; q += 0.001) {
        double up = physai_speed_limit_up(&joint, q);
        CHECK(up >= 0 && up <= joint.velocity && up <= last);
        CHECK_NEAR(up, physai_speed_limit_down(&joint, -q), 1e-12);
        last = up;
    }
    CHECK(physai_speed_limit_up(&joint, 1) == 0);
    CHECK(physai_speed_limit_up(&joint, 2) == 0);
    CHECK_NEAR(physai_speed_limit_up(&joint, 0.8), -0.3 + sqrt(12 * 0.2), 1e-12);
}

static void test_barrier_only_opposes_excess(void)
{
    for (int k = 0; k < 2000; k++) {
        double q = check_random(-1.1, 1.1), dq = check_random(-4, 4);
        double tau = physai_barrier_torque(&joint, q, dq, 1.5);
        double up = physai_speed_limit_up(&joint, q), down = physai_speed_limit_down(&joint, q);
        bool within = dq <= up && dq >= -down;
        if (up > 0 && down > 0)
            CHECK(within ? tau == 0 : tau * dq < 0);
    }
}

/* A spring of 7.5 mrad before the stop, which would stop there what comes at 0.3 rad/s. */
static void test_barrier_holds_a_load_before_the_stop(void)
{
    double room = 0.3 * 0.3 / 12, inertia = 1.5;
    CHECK_NEAR(physai_barrier_torque(&joint, 1 - room, 0, inertia), 0, 1e-9);
    CHECK_NEAR(physai_barrier_torque(&joint, 1 - room - 1e-6, 0, inertia), 0, 1e-9);
    double stop = physai_barrier_torque(&joint, 1, 0, inertia);
    CHECK_NEAR(stop, -inertia / 0.007 * 0.3, 1e-9);
    CHECK_NEAR(physai_barrier_torque(&joint, 1 - room / 2, 0, inertia), stop / 2, 1e-9);
    CHECK_NEAR(physai_barrier_torque(&joint, -1, 0, inertia), -stop, 1e-9);
    CHECK_NEAR(physai_barrier_torque(&joint, 1, -0.3, inertia), 0, 1e-9);
    double q = 0.9, dq = 0, load = 20;
    for (int k = 0; k < 2000; k++) {
        dq += (load + physai_barrier_torque(&joint, q, dq, inertia)) / inertia * 1e-3;
        q += dq * 1e-3;
        CHECK(q <= 1);
    }
    CHECK(q > 1 - room && fabs(dq) < 1e-3);
}

static void test_nothing_drives_a_joint_on_that_is_too_fast(void)
{
    for (int k = 0; k < 2000; k++) {
        double q = check_random(-1.1, 1.1), dq = check_random(-4, 4), tau = check_random(-20, 20);
        double bias = check_random(-5, 5), left = physai_yielding(&joint, q, dq, tau, bias);
        double limit = dq > 0 ? physai_speed_limit_up(&joint, q) : physai_speed_limit_down(&joint, q);
        if (fabs(dq) <= limit || limit == joint.velocity || (tau - bias) * dq <= 0)
            CHECK_NEAR(left, tau, 1e-12);
        else if (fabs(dq) > limit + 0.05)
            CHECK(left == bias);
        else
            CHECK(fabs(left - bias) < fabs(tau - bias) && (left - bias) * dq >= 0);
    }
}

static void test_fences(void)
{
    struct physai_fence box = {.kind = PHYSAI_FENCE_INSIDE, .points = PHYSAI_FENCE_TOOL, .high = {1, 1, 1}};
    CHECK(physai_fence_violation(&box, (double[3]){0.5, 0, 1}) == 0);
    CHECK_NEAR(physai_fence_violation(&box, (double[3]){0.5, -0.2, 1.1}), 0.2, 1e-15);
    CHECK(physai_fence_violation(&box, (double[3]){0.5, NAN, 0.5}) == INFINITY);

    struct physai_fence obstacle = box;
    obstacle.kind = PHYSAI_FENCE_OUTSIDE;
    CHECK(physai_fence_violation(&obstacle, (double[3]){0.5, -0.2, 0.5}) == 0);
    CHECK(physai_fence_violation(&obstacle, (double[3]){1, 0.5, 0.5}) == 0);
    CHECK_NEAR(physai_fence_violation(&obstacle, (double[3]){0.9, 0.5, 0.5}), 0.1, 1e-15);
    CHECK(physai_fence_violation(&obstacle, (double[3]){0.5, NAN, 0.5}) == INFINITY);

    struct physai_fence plane = {
        .kind = PHYSAI_FENCE_PLANE, .points = PHYSAI_FENCE_ELBOW, .normal = {0, 0, 1}, .offset = 0.2};
    CHECK(physai_fence_violation(&plane, (double[3]){5, 5, 0.3}) == 0);
    CHECK_NEAR(physai_fence_violation(&plane, (double[3]){5, 5, 0.1}), 0.1, 1e-15);
    CHECK(physai_fence_violation(&plane, (double[3]){5, 5, NAN}) == INFINITY);

    struct physai_control_config config = {.n_fences = 3, .fences = {box, obstacle, plane}};
    const double tool[3] = {0.95, 0.5, 0.5}, elbow[3] = {-3, 0.5, 0.1};
    physai_fence_table distance, allowed = {{0}};
    physai_fences_measure(&config, tool, elbow, distance);
    struct physai_violation worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 2 && worst.point == PHYSAI_FENCE_ELBOW); /* the boxes do not hold for the elbow */
    CHECK_NEAR(worst.distance, 0.1, 1e-15);
    allowed[2][1] = worst.distance - worst.allowed + 0.01; /* it is known to stand there: the next one */
    worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 1 && worst.point == PHYSAI_FENCE_TOOL);
    allowed[2][1] = 0;
    physai_fences_measure(&config, tool, NULL, distance);
    worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 1 && worst.point == PHYSAI_FENCE_TOOL);
    CHECK_NEAR(worst.distance, 0.05, 1e-15);
}

int main(void)
{
    test_torque_is_bounded();
    test_torque_within_bounds_is_untouched();
    test_finite();
    test_braking_envelope();
    test_barrier_only_opposes_excess();
    test_barrier_holds_a_load_before_the_stop();
    test_nothing_drives_a_joint_on_that_is_too_fast();
    test_fences();
    return 0;
}
