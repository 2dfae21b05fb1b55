/* Bounds hold for every input, NaN and infinity among them. */
#include "check.h"
#include "joint_limits.h"

static const struct physai_joint_limits joint = {-1, 1, 2, 10, 87, 1000, 600, 1, 12, 0.3};

static void test_torque_is_bounded(void)
{
    const double odd[] = {NAN, -NAN, INFINITY, -INFINITY, 1e308, -1e308, 0, 1e-320, 50, -50};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        for (int k = 0; k < 200; k++) {
            double previous = check_random(-87, 87), tau = odd[i];
            physai_clamp_torque(&joint, 1, 0.001, &previous, &tau);
            CHECK(fabs(tau) <= 87);
            CHECK(fabs(tau - previous) <= 1 + 1e-12);
        }
    }
}

static void test_torque_within_bounds_is_untouched(void)
{
    for (int k = 0; k < 200; k++) {
        double previous = check_random(-80, 80), wanted = previous + check_random(-1, 1), tau = wanted;
        physai_clamp_torque(&joint, 1, 0.001, &previous, &tau);
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
        bool within = dq <= physai_speed_limit_up(&joint, q) && dq >= -physai_speed_limit_down(&joint, q);
        CHECK(within ? tau == 0 : tau * dq < 0);
    }
}

static void test_outside(void)
{
    const double low[3] = {0, 0, 0}, high[3] = {1, 1, 1};
    CHECK(physai_outside((double[3]){0.5, 0, 1}, low, high) == 0);
    CHECK_NEAR(physai_outside((double[3]){0.5, -0.2, 1.1}, low, high), 0.2, 1e-15);
    CHECK(physai_outside((double[3]){0.5, NAN, 0.5}, low, high) == INFINITY);
}

int main(void)
{
    test_torque_is_bounded();
    test_torque_within_bounds_is_untouched();
    test_finite();
    test_braking_envelope();
    test_barrier_only_opposes_excess();
    test_outside();
    return 0;
}
