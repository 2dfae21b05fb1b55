/* Laws of the spline, the blend and the stop. */
#include "check.h"
#include "motion/reference.h"

#include <string.h>

#define N    3
#define TICK 1000000LL

static const struct physai_joint_limits joints[N] = {
    {.position_min = -2, .position_max = 2, .velocity = 2, .acceleration = 10, .jerk = 5000},
    {.position_min = -2, .position_max = 2, .velocity = 3, .acceleration = 10, .jerk = 5000},
    {.position_min = -2, .position_max = 2, .velocity = 4, .acceleration = 10, .jerk = 5000},
};

static struct physai_plan make_plan(int64_t start_ns, uint32_t steps, double centre)
{
    static struct physai_chunk chunk;
    static struct physai_plan plan;
    memset(&chunk, 0, sizeof chunk);
    chunk.n_values = N;
    chunk.n_steps = steps;
    chunk.start_ns = start_ns;
    chunk.dt_ns = 50 * TICK;
    chunk.expiry_ns = start_ns + steps * chunk.dt_ns;
    for (uint32_t i = 0; i < N; i++) {
        double phase = check_random(0, 6);
        for (uint32_t k = 0; k < steps; k++)
            chunk.values[k][i] = centre + 0.1 * sin(phase + 0.15 * k);
    }
    physai_plan_fit(&plan, &chunk);
    return plan;
}

static void test_spline(void)
{
    for (uint32_t steps = 1; steps <= PHYSAI_MAX_STEPS; steps += steps < 6 ? 1 : 30) {
        struct physai_plan plan = make_plan(7 * TICK, steps, 0);
        struct physai_motion a, b, c;
        for (uint32_t k = 0; k < steps; k++) {
            physai_plan_evaluate(&plan, plan.start_ns + k * plan.dt_ns, &a);
            for (int i = 0; i < N; i++)
                CHECK_NEAR(a.q[i], plan.q[k][i], 1e-12);
        }
        /* Velocity and acceleration are the derivatives, and have no step anywhere. */
        for (int64_t t = plan.start_ns + TICK; t < plan.start_ns + (steps - 1) * plan.dt_ns - TICK;
             t += TICK) {
            physai_plan_evaluate(&plan, t - TICK, &a);
            physai_plan_evaluate(&plan, t, &b);
            physai_plan_evaluate(&plan, t + TICK, &c);
            for (int i = 0; i < N; i++) {
                CHECK_NEAR((c.q[i] - a.q[i]) / 2e-3, b.dq[i], 1e-4);
                CHECK_NEAR((c.dq[i] - a.dq[i]) / 2e-3, b.ddq[i], 0.1);
                CHECK(fabs(c.ddq[i] - b.ddq[i]) < 0.2);
            }
        }
        CHECK(a.ddq[0] == a.ddq[0]);
    }
}

/* Switching at a random time to a random plan moves neither position, velocity nor acceleration. */
static void test_switches_are_c2(void)
{
    struct physai_reference reference;
    const double zero[N] = {0};
    int64_t t = 0;
    physai_reference_seed(&reference, N, t, zero);
    for (int round = 0; round < 300; round++) {
        struct physai_motion before;
        physai_reference_evaluate(&reference, t);
        before = reference.now;
        if (round % 7 == 6) {
            physai_reference_stop(&reference, t, 5, joints);
        } else {
            struct physai_plan plan =
                make_plan(t - (int64_t)check_random(0, 200) * TICK, 16, check_random(-0.1, 0.1));
            physai_reference_follow(&reference, t, &plan, 0.15, joints);
        }
        physai_reference_evaluate(&reference, t);
        for (int i = 0; i < N; i++) {
            CHECK_NEAR(reference.now.q[i], before.q[i], 1e-12);
            CHECK_NEAR(reference.now.dq[i], before.dq[i], 1e-10);
            CHECK_NEAR(reference.now.ddq[i], before.ddq[i], 1e-8);
        }
        /* And along the way the reference moves continuously, with bounded acceleration. */
        int64_t end = t + (int64_t)check_random(20, 700) * TICK;
        for (; t < end; t += TICK) {
            struct physai_motion last = reference.now;
            physai_reference_evaluate(&reference, t + TICK);
            for (int i = 0; i < N; i++) {
                CHECK_NEAR(reference.now.q[i] - last.q[i], last.dq[i] * 1e-3, 2e-5);
                CHECK(fabs(reference.now.ddq[i]) < 16);
                CHECK(fabs(reference.now.ddq[i] - last.ddq[i]) < 1.0);
            }
        }
    }
}

static void test_offset_is_gone_after_the_blend(void)
{
    struct physai_reference reference;
    const double start[N] = {0.05, -0.02, 0.01};
    physai_reference_seed(&reference, N, 0, start);
    struct physai_plan plan = make_plan(0, 60, 0);
    physai_reference_follow(&reference, 0, &plan, 0.15, joints);
    for (int64_t t = reference.offset_end_ns; t < plan.end_ns; t += TICK) {
        struct physai_motion base;
        physai_reference_evaluate(&reference, t);
        physai_plan_evaluate(&plan, t, &base);
        for (int i = 0; i < N; i++)
            CHECK(base.q[i] == reference.now.q[i] && base.dq[i] == reference.now.dq[i]);
    }
    CHECK(reference.offset_end_ns >= 150 * TICK && reference.offset_end_ns <= 1000 * TICK);
}

static void test_stop_is_bounded_and_ends_at_rest(void)
{
    for (int round = 0; round < 500; round++) {
        struct physai_reference reference;
        const double start[N] = {check_random(-1, 1), check_random(-1, 1), check_random(-1, 1)};
        physai_reference_seed(&reference, N, 0, start);
        double allowed = 0;
        for (int i = 0; i < N; i++) {
            reference.now.dq[i] = check_random(-1, 1);
            reference.now.ddq[i] = check_random(-8, 8);
            allowed = fmax(allowed, fmax(fabs(reference.now.ddq[i]), 5 + fabs(reference.now.ddq[i]) / 3));
        }
        double T = physai_reference_stop_time(&reference, 5);
        physai_reference_stop(&reference, 0, 5, joints);
        CHECK(T < 1.0);
        for (int64_t t = 0; t < reference.offset_end_ns; t += TICK) {
            CHECK(!physai_reference_rests(&reference, t));
            physai_reference_evaluate(&reference, t);
            for (int i = 0; i < N; i++)
                CHECK(fabs(reference.now.ddq[i]) <= allowed + 1e-9);
        }
        int64_t end = reference.offset_end_ns;
        physai_reference_evaluate(&reference, end - 1000);
        struct physai_motion last = reference.now;
        physai_reference_evaluate(&reference, end);
        CHECK(physai_reference_rests(&reference, end));
        for (int i = 0; i < N; i++) {
            CHECK(reference.now.dq[i] == 0 && reference.now.ddq[i] == 0);
            CHECK(reference.now.q[i] == reference.hold[i]);
            CHECK_NEAR(last.q[i], reference.hold[i], 1e-9);
            CHECK_NEAR(last.dq[i], 0, 1e-6);
        }
    }
}

static void test_stop_ends_within_the_position_limits(void)
{
    struct physai_reference reference;
    const double start[N] = {1.99, -1.99, 0};
    physai_reference_seed(&reference, N, 0, start);
    reference.now.dq[0] = 1;
    reference.now.dq[1] = -1;
    physai_reference_stop(&reference, 0, 5, joints);
    CHECK(reference.hold[0] == 2 && reference.hold[1] == -2);
}

int main(void)
{
    test_spline();
    test_switches_are_c2();
    test_offset_is_gone_after_the_blend();
    test_stop_is_bounded_and_ends_at_rest();
    test_stop_ends_within_the_position_limits();
    return 0;
}
