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
        double room = joint.braking_offset * joint.braking_offset / joint.braking_decel_2a;
        double distance = tau > bias ? joint.position_max - q : q - joint.position_min;
        if (distance < room) /* within the last room before a stop the drive into it fades */
            CHECK((left - bias) * (tau - bias) >= 0 &&
                  fabs(left - bias) <= fabs(tau - bias) * fmax(0, distance) / room + 1e-12);
        else if (fabs(dq) <= limit || limit == joint.velocity || (tau - bias) * dq <= 0)
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

    struct physai_control_config config = {.n_tools = 1, .n_fences = 3, .fences = {box, obstacle, plane}};
    const double tool[3] = {0.95, 0.5, 0.5}, elbow[3] = {-3, 0.5, 0.1};
    struct physai_places places = {.tools = {tool}, .elbows = {elbow}};
    physai_fence_table distance, allowed = {{0}};
    physai_fences_measure(&config, &places, distance);
    struct physai_violation worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 2 && worst.point == 1); /* the boxes do not hold for the elbow */
    CHECK_NEAR(worst.distance, 0.1, 1e-15);
    allowed[2][1] = worst.distance - worst.allowed + 0.01; /* it is known to stand there: the next one */
    worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 1 && worst.point == 0);
    allowed[2][1] = 0;
    places.elbows[0] = NULL;
    physai_fences_measure(&config, &places, distance);
    worst = physai_fences_worst(&config, distance, allowed);
    CHECK(worst.fence == 1 && worst.point == 0);
    CHECK_NEAR(worst.distance, 0.05, 1e-15);
}

/* Against a dense search over both lines, which may be points, parallel or crossing. */
static void test_distance_between_lines(void)
{
    for (int trial = 0; trial < 500; trial++) {
        double a[3], b[3], c[3], d[3], nearest = INFINITY;
        for (int i = 0; i < 3; i++) {
            a[i] = check_random(-1, 1);
            b[i] = trial % 5 == 1 ? a[i] : check_random(-1, 1);
            c[i] = check_random(-1, 1);
            d[i] = trial % 5 == 2 ? c[i] : trial % 5 == 3 ? c[i] + 0.7 * (b[i] - a[i]) : check_random(-1, 1);
        }
        for (int s = 0; s <= 100; s++) {
            for (int t = 0; t <= 100; t++) {
                double square = 0;
                for (int i = 0; i < 3; i++) {
                    double apart = a[i] + 0.01 * s * (b[i] - a[i]) - c[i] - 0.01 * t * (d[i] - c[i]);
                    square += apart * apart;
                }
                nearest = fmin(nearest, sqrt(square));
            }
        }
        double distance = physai_segment_distance(a, b, c, d);
        CHECK(distance <= nearest + 1e-12 && distance >= nearest - 0.05);
        CHECK_NEAR(distance, physai_segment_distance(d, c, a, b), 1e-9);
    }
    const double o[3] = {0}, x[3] = {1, 0, 0}, up[3] = {0, 0, 2}, far[3] = {1, 0, 2};
    CHECK_NEAR(physai_segment_distance(o, x, up, far), 2, 1e-15);
    CHECK_NEAR(physai_segment_distance(o, up, x, far), 1, 1e-15);
    CHECK(physai_segment_distance(o, far, x, up) < 1e-15);
    CHECK(!(physai_segment_distance(o, x, (double[3]){NAN, 0, 0}, up) < 1));
}

/* Three arms, each a point: every pair has its own length, by which it is nearer than allowed. */
static void test_pairs_of_arms(void)
{
    struct physai_control_config config = {.n_tools = 3, .arms_distance = 0.5};
    const double points[3][3] = {{0, 0, 0}, {0.2, 0, 0}, {0, 0.4, 0}};
    struct physai_places places = {.tools = {points[0], points[1], points[2]}};
    physai_fence_table distance, none = {{0}};
    physai_fences_measure(&config, &places, distance);
    CHECK_NEAR(distance[PHYSAI_ARMS][0], 0.3, 1e-15);
    CHECK_NEAR(distance[PHYSAI_ARMS][1], 0.1, 1e-15);
    CHECK_NEAR(distance[PHYSAI_ARMS][2], 0.5 - sqrt(0.2), 1e-15);
    struct physai_violation worst = physai_fences_worst(&config, distance, none);
    CHECK(worst.fence == PHYSAI_ARMS && worst.point == 0);
    uint32_t pair[2], expected[6][2] = {{0, 1}, {0, 2}, {1, 2}, {0, 3}, {1, 3}, {2, 3}};
    for (uint32_t k = 0; k < 6; k++) {
        physai_fence_pair(k, pair);
        CHECK(pair[0] == expected[k][0] && pair[1] == expected[k][1]);
    }
}

int main(void)
{
    test_distance_between_lines();
    test_pairs_of_arms();
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
