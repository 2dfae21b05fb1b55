/* The learned residual: right where it is well, bounded, slow and soon gone where it is not (F21). */
#include "check.h"
#include "model/residual.h"

#include <stdint.h>
#include <string.h>

#define N    2
#define STEP 0.001
#define FADE 50 /* cycles */

static const double limit[N] = {87, 12};
static struct physai_residual_network network;
static struct physai_residual residual;
static char text[PHYSAI_TEXT_SIZE];

/* What one cycle sees; all zero is an arm that stands still on its reference. */
static struct {
    double q[N], dq[N], reference_dq[N], reference_ddq[N], error[N];
} arm;

/* A network that answers `bias` whatever it sees. */
static void constant(float first, float second)
{
    memset(&network, 0, sizeof network);
    memset(&arm, 0, sizeof arm);
    network.n_joints = N;
    network.n_hidden = 4;
    for (int k = 0; k < 3 * N; k++)
        network.input_scale[k] = 1;
    network.output_scale[0] = network.output_scale[1] = 1;
    network.b3[0] = first;
    network.b3[1] = second;
}

static void load(void)
{
    CHECK(physai_residual_load(&residual, &network, N, text, sizeof text) == PHYSAI_OK);
}

static bool cycle(double tau[N])
{
    memset(tau, 0, N * sizeof *tau);
    return physai_residual_add(&residual, arm.q, arm.dq, arm.reference_dq, arm.reference_ddq, arm.error,
                               limit, STEP, tau);
}

/* Cycles until it gives up, with its bound and its rate checked in each of them. */
static int cycles_until_off(int at_most)
{
    double last[N], tau[N];
    for (int i = 0; i < N; i++)
        last[i] = residual.share * residual.tau[i];
    for (int k = 0; k < at_most; k++) {
        bool well = cycle(tau);
        for (int i = 0; i < N; i++) {
            double bound = PHYSAI_RESIDUAL_SHARE * limit[i];
            CHECK(fabs(tau[i]) <= bound * (1 + 1e-12));
            CHECK(fabs(tau[i] - last[i]) <= bound * STEP / PHYSAI_RESIDUAL_RISE_S * (1 + 1e-9));
        }
        memcpy(last, tau, sizeof last);
        if (!well)
            return k;
    }
    return at_most;
}

/* Once it gave up it falls without a jump to exactly nothing within 50 ms and stays there until the reset. */
static void check_fades(enum physai_residual_reason reason)
{
    double last[N], tau[N];
    CHECK(residual.reason == reason);
    for (int i = 0; i < N; i++)
        last[i] = residual.share * residual.tau[i];
    for (int k = 0; k < FADE + 200; k++) {
        CHECK(!cycle(tau));
        for (int i = 0; i < N; i++) {
            CHECK(fabs(tau[i]) <= fabs(last[i]));
            CHECK(fabs(tau[i] - last[i]) <= 0.1 * limit[i] * STEP / PHYSAI_RESIDUAL_RISE_S * (1 + 1e-9));
            CHECK(k < FADE || tau[i] == 0);
        }
        memcpy(last, tau, sizeof last);
    }
    constant(1, 0.1f);
    CHECK(!cycle(tau) && tau[0] == 0 && tau[1] == 0); /* a quiet arm alone brings nothing back */
    physai_residual_reset(&residual);
    CHECK(residual.reason == PHYSAI_RESIDUAL_WELL && residual.share == 1 && residual.tau[0] == 0);
}

/* ---- a network that is well ---- */

static void test_tanh(void)
{
    double worst = 0;
    for (double x = -12; x <= 12; x += 1e-4) {
        float y = physai_residual_tanh((float)x);
        worst = fmax(worst, fabs((double)y - tanh(x)));
        CHECK(fabsf(y) <= 1.0002f);
        CHECK(y == -physai_residual_tanh(-(float)x));
    }
    CHECK(worst <= 1.2e-4);
    CHECK(isnan(physai_residual_tanh(NAN)));
    CHECK_NEAR((double)physai_residual_tanh(INFINITY), 1, 1.2e-4);
    CHECK_NEAR((double)physai_residual_tanh(-INFINITY), -1, 1.2e-4);
}

/* Against the same formula written down plainly in double precision. */
static void test_evaluates_the_network(void)
{
    for (int trial = 0; trial < 50; trial++) {
        double x[3 * N], first[4], second[4], expected[N], tau[N];
        constant(0, 0);
        for (int k = 0; k < 3 * N; k++) {
            network.input_mean[k] = (float)check_random(-0.2, 0.2);
            network.input_scale[k] = (float)check_random(1, 2);
        }
        for (int j = 0; j < 4; j++) {
            network.b1[j] = (float)check_random(-1, 1);
            network.b2[j] = (float)check_random(-1, 1);
            for (int k = 0; k < 3 * N; k++)
                network.w1[k][j] = (float)check_random(-1, 1);
            for (int k = 0; k < 4; k++)
                network.w2[k][j] = (float)check_random(-1, 1);
            for (int i = 0; i < N; i++)
                network.w3[j][i] = (float)check_random(-0.1, 0.1);
        }
        for (int i = 0; i < N; i++) {
            arm.q[i] = check_random(-3, 3);
            arm.reference_dq[i] = check_random(-3, 3);
            arm.dq[i] = arm.reference_dq[i];
            arm.reference_ddq[i] = check_random(-3, 3);
            x[i] = arm.q[i];
            x[N + i] = arm.reference_dq[i];
            x[2 * N + i] = arm.reference_ddq[i];
        }
        for (int k = 0; k < 3 * N; k++)
            x[k] = fmax(-1, fmin(1, (x[k] - (double)network.input_mean[k]) / (double)network.input_scale[k]));
        for (int j = 0; j < 4; j++) {
            first[j] = (double)network.b1[j];
            for (int k = 0; k < 3 * N; k++)
                first[j] += x[k] * (double)network.w1[k][j];
            first[j] = tanh(first[j]);
        }
        for (int j = 0; j < 4; j++) {
            second[j] = (double)network.b2[j];
            for (int k = 0; k < 4; k++)
                second[j] += first[k] * (double)network.w2[k][j];
            second[j] = tanh(second[j]);
        }
        for (int i = 0; i < N; i++) {
            expected[i] = 0;
            for (int j = 0; j < 4; j++)
                expected[i] += second[j] * (double)network.w3[j][i];
        }
        load();
        CHECK(cycles_until_off(100) == 100); /* the rate limit has long let go */
        CHECK(cycle(tau));
        for (int i = 0; i < N; i++)
            CHECK_NEAR(tau[i], expected[i], 5e-4);
    }
}

/* A hard-working residual within its bound, with reversals, on an arm that follows well, is left alone. */
static void test_no_false_alarm(void)
{
    constant(0, 0);
    for (int i = 0; i < N; i++) {
        network.w1[N + i][i] = 20; /* the sign of the reference's velocity */
        network.w2[i][i] = 20;
        network.w3[i][i] = (float)(0.09 * limit[i]);
    }
    load();
    double tau[N];
    for (int k = 0; k < 60000; k++) {
        double t = k * STEP;
        for (int i = 0; i < N; i++) {
            arm.reference_dq[i] = sin((3 + i) * t);
            arm.dq[i] = arm.reference_dq[i] + 0.05 * cos(11 * t + i) + check_random(-0.02, 0.02);
            arm.error[i] = -0.05 / 11 * sin(11 * t + i);
        }
        CHECK(cycle(tau));
    }
    CHECK(residual.reason == PHYSAI_RESIDUAL_WELL);
}

static void test_adds_to_what_is_there(void)
{
    constant(2, 0.5f);
    load();
    double tau[N] = {0};
    for (int k = 0; k < 100; k++) {
        tau[0] = 10, tau[1] = -3;
        physai_residual_add(&residual, arm.q, arm.dq, arm.reference_dq, arm.reference_ddq, arm.error, limit,
                            STEP, tau);
    }
    CHECK_NEAR(tau[0], 12, 1e-6);
    CHECK_NEAR(tau[1], -2.5, 1e-6);
}

static void test_without_a_network(void)
{
    double tau[N];
    CHECK(physai_residual_load(&residual, NULL, N, text, sizeof text) == PHYSAI_OK);
    CHECK(!cycle(tau) && tau[0] == 0 && tau[1] == 0);
}

static void refused(const char *why)
{
    CHECK(physai_residual_load(&residual, &network, N, text, sizeof text) == PHYSAI_ERROR_ARGUMENT);
    CHECK(strstr(text, why));
    CHECK(!residual.loaded);
    double tau[N];
    CHECK(!cycle(tau) && tau[0] == 0 && tau[1] == 0);
}

static void test_refuses_what_does_not_fit(void)
{
    constant(1, 1);
    network.n_joints = 7;
    refused("7 joints");
    constant(1, 1);
    network.n_hidden = PHYSAI_RESIDUAL_HIDDEN + 1; /* more operations than promised */
    refused("hidden");
    constant(1, 1);
    network.n_hidden = 0;
    refused("hidden");
    constant(1, 1);
    network.input_scale[1] = 0;
    refused("scale");
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        constant(1, odd[k]);
        refused("finite");
        constant(1, 1);
        network.w2[31][31] = odd[k];
        refused("finite");
    }
}

/* ---- F21: one that is not ---- */

/* Finite weights whose sums are not. */
static void test_infinite_and_nan(void)
{
    const float signs[] = {1, -1};
    for (int k = 0; k < 2; k++) {
        constant(1, 0.3f);
        load();
        CHECK(cycles_until_off(100) == 100);
        residual.network.b3[1] = signs[k] * 3e38f;
        residual.network.output_scale[1] = 10; /* infinite */
        CHECK(cycles_until_off(1) == 0);
        check_fades(PHYSAI_RESIDUAL_NOT_FINITE);
    }
    constant(1, 0.3f);
    load();
    CHECK(cycles_until_off(100) == 100);
    for (int j = 0; j < 3; j++) { /* the hidden layers cannot overflow, their sum can; times zero it is NaN */
        residual.network.b2[j] = 10;
        residual.network.w3[j][0] = 3e38f;
    }
    residual.network.output_scale[0] = 0;
    CHECK(cycles_until_off(1) == 0);
    check_fades(PHYSAI_RESIDUAL_NOT_FINITE);
}

static void test_inputs_that_are_not_finite(void)
{
    double *inputs[] = {arm.q, arm.dq, arm.reference_dq, arm.reference_ddq, arm.error};
    const double odd[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 15; k++) {
        constant(1, 0.3f);
        load();
        CHECK(cycles_until_off(100) == 100);
        inputs[k % 5][k / 5 % N] = odd[k / 5];
        CHECK(cycles_until_off(1) == 0);
        check_fades(PHYSAI_RESIDUAL_NOT_FINITE);
    }
}

static void test_time_that_is_not_finite(void)
{
    const double odd[] = {NAN, INFINITY, -INFINITY, 0, -1};
    for (int k = 0; k < 5; k++) {
        constant(1, 0.3f);
        load();
        CHECK(cycles_until_off(100) == 100);
        double tau[N] = {5, 5};
        CHECK(!physai_residual_add(&residual, arm.q, arm.dq, arm.reference_dq, arm.reference_ddq, arm.error,
                                   limit, odd[k], tau));
        CHECK(tau[0] >= 5 && tau[0] <= 6 && tau[1] >= 5 && tau[1] <= 5.3 + 1e-6);
        check_fades(PHYSAI_RESIDUAL_NOT_FINITE);
    }
}

static void test_huge(void)
{
    constant(1e30f, -1e30f);
    load();
    int cycles = cycles_until_off(1000);
    CHECK(cycles >= 49 && cycles <= 51); /* of a reversal's patience */
    check_fades(PHYSAI_RESIDUAL_EXCESSIVE);
}

static void test_grows(void)
{
    constant(0, 0);
    load();
    int cycles = 0;
    for (; cycles < 5000; cycles++) {
        residual.network.b3[1] = 0.1f + 0.001f * (float)cycles;
        if (cycles_until_off(1) == 0)
            break;
    }
    CHECK(cycles < 2400); /* it asked for 2.4 Nm, twice the bound, at 2300 */
    CHECK(fabs(residual.tau[1]) <= 1.2 * (1 + 1e-12));
    check_fades(PHYSAI_RESIDUAL_EXCESSIVE);
}

/* At 1 kHz, at the bound, and so on up to what a mind of its own might do. */
static void test_oscillates(void)
{
    const int periods[] = {2, 10, 50};
    for (int p = 0; p < 3; p++) {
        constant(0, 0);
        load();
        int cycles = 0;
        for (; cycles < 2000; cycles++) {
            residual.network.b3[0] = cycles % periods[p] < periods[p] / 2 ? 15 : -15;
            if (cycles_until_off(1) == 0)
                break;
        }
        CHECK(cycles < 500);
        check_fades(PHYSAI_RESIDUAL_CHATTERS);
    }
}

/*
 * Positive feedback on the position makes the smallest joint an oscillator that lives on the residual:
 * inertia 0.1 kg m^2, 50 Nm/rad, hardly damped. The limit cycle that the bound alone would leave is faded
 * out.
 */
static void test_pumps(void)
{
    constant(0, 0);
    load();
    double q = 0.002, dq = 0, tau[N], lag = 0, widest = 0;
    int off = -1;
    for (int k = 0; k < 20000; k++) {
        lag += ((dq > 0 ? 1 : -1) - lag) * 0.02; /* in phase with the velocity: it does work in each period */
        residual.network.b3[1] = (float)(1.1 * lag);
        arm.q[1] = q, arm.dq[1] = dq, arm.error[1] = -q;
        bool well = cycle(tau);
        if (!well && off < 0)
            off = k;
        dq += (tau[1] - 50 * q - 0.1 * dq) / 0.1 * STEP;
        q += dq * STEP;
        widest = fmax(widest, fabs(q));
    }
    CHECK(off > 0);
    CHECK(residual.reason == PHYSAI_RESIDUAL_PUSHES || residual.reason == PHYSAI_RESIDUAL_DEVIATES);
    CHECK(widest < 0.2);
    CHECK(fabs(q) < 1e-3 && residual.share == 0);
}

/* A joint that is far off, and a residual that holds it there. */
static void test_deviates(void)
{
    constant(6, 0);
    load();
    CHECK(cycles_until_off(100) == 100);
    arm.error[0] = 0.2; /* it helps to get back: nothing to complain about */
    CHECK(cycles_until_off(1000) == 1000);
    arm.error[0] = -0.2;
    CHECK(cycles_until_off(1000) < 300);
    check_fades(PHYSAI_RESIDUAL_DEVIATES);
}

int main(void)
{
    test_tanh();
    test_evaluates_the_network();
    test_no_false_alarm();
    test_adds_to_what_is_there();
    test_without_a_network();
    test_refuses_what_does_not_fit();
    test_infinite_and_nan();
    test_inputs_that_are_not_finite();
    test_time_that_is_not_finite();
    test_huge();
    test_grows();
    test_oscillates();
    test_pumps();
    test_deviates();
    return 0;
}
