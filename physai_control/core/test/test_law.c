/* What the control laws promise, checked against their definitions at random states of the arm. */
#include "check.h"
#include "internal.h"
#include "model/linear.h"
#include "model/rotation.h"
#include "robot.h"

#define W PHYSAI_MAX_JOINTS

static struct physai_control_config config;
static struct physai_model model;
static struct physai_dynamics dynamics;
static struct physai_friction_curves friction;

/* One state of the arm, and what both laws take. */
struct scene {
    struct physai_settings settings;
    struct physai_law_memory memory;
    struct physai_motion reference;
    struct physai_pose_motion tool;
    struct physai_tool_status status;
    double q[W], dq[W];
    struct physai_law_input input;
};

static void set(struct scene *scene, double spread, double speed)
{
    memset(scene, 0, sizeof *scene);
    scene->settings = config.settings;
    for (int i = 0; i < JOINTS; i++) {
        scene->q[i] = home[i] + check_random(-spread, spread);
        scene->dq[i] = check_random(-speed, speed);
    }
    CHECK(physai_dynamics_update(&dynamics, scene->q, scene->dq, (double[]){0.04}));
    CHECK(physai_dynamics_factor(&dynamics));
    memcpy(scene->reference.q, scene->q, sizeof scene->q);
    memcpy(scene->tool.position, dynamics.tools[0].position, sizeof dynamics.tools[0].position);
    physai_quat_from_matrix(dynamics.tools[0].rotation, scene->tool.orientation);
    scene->input = (struct physai_law_input){.settings = &scene->settings,
                                             .config = &config,
                                             .dynamics = &dynamics,
                                             .friction = &friction,
                                             .n = JOINTS,
                                             .gain = 1,
                                             .force = 1,
                                             .q = scene->q,
                                             .dq = scene->dq,
                                             .reference = &scene->reference,
                                             .tools = &scene->tool,
                                             .status = &scene->status};
}

static void law(struct scene *scene, double *tau)
{
    CHECK(physai_cartesian_law(&scene->input, &scene->memory, tau));
}

/* The acceleration of the tool that a joint torque makes: J M^-1 tau. */
static void acceleration(const double *tau, double a[6])
{
    double ddq[W] = {0};
    physai_dynamics_solve(&dynamics, tau, ddq);
    for (int r = 0; r < 6; r++) {
        a[r] = 0;
        for (int i = 0; i < JOINTS; i++)
            a[r] += dynamics.tools[0].jacobian[r][i] * ddq[i];
    }
}

/* The force at the tool that a difference of torques stands for: (J M^-1 J^T)^-1 J M^-1 dtau. */
static void force_of(const double *more, const double *less, double force[6])
{
    double difference[W] = {0}, mobility[6][6], column[W], a[6];
    for (int i = 0; i < JOINTS; i++)
        difference[i] = more[i] - less[i];
    for (int r = 0; r < 6; r++) {
        memcpy(column, dynamics.tools[0].jacobian[r], sizeof column);
        acceleration(column, a);
        for (int k = 0; k < 6; k++)
            mobility[k][r] = a[k];
    }
    CHECK(physai_factor(6, 6, &mobility[0][0]));
    acceleration(difference, force);
    physai_solve(6, 6, &mobility[0][0], 1, force);
}

/* D (J M^-1 J^T) D = 4 zeta^2 K: every mode of the tool's inertia and stiffness is damped with zeta. */
static void test_damping_follows_the_inertia(void)
{
    for (int k = 0; k < 200; k++) {
        struct scene scene;
        double still[W], moving[W], d[6][6], da[6][6], a[6], torque[W];
        double zeta = check_random(0.3, 1.5);
        set(&scene, 0.3, 0);
        for (int r = 0; r < 6; r++)
            scene.settings.cartesian_stiffness[r] = r < 3 ? check_random(10, 2000) : check_random(1, 100);
        scene.settings.cartesian_damping_ratio[0] = scene.settings.cartesian_damping_ratio[1] = zeta;
        law(&scene, still);
        for (int r = 0; r < 6; r++) {
            memset(scene.tool.velocity, 0, sizeof scene.tool.velocity);
            scene.tool.velocity[r] = 1;
            law(&scene, moving);
            double force[6];
            force_of(moving, still, force);
            for (int i = 0; i < JOINTS; i++)
                torque[i] = moving[i] - still[i];
            acceleration(torque, a); /* column r of (J M^-1 J^T) D */
            for (int i = 0; i < 6; i++) {
                d[i][r] = force[i];
                da[i][r] = a[i];
            }
        }
        for (int i = 0; i < 6; i++) {
            for (int j = 0; j < 6; j++) {
                double product = 0;
                for (int m = 0; m < 6; m++)
                    product += d[i][m] * da[m][j];
                double wanted = i == j ? 4 * zeta * zeta * scene.settings.cartesian_stiffness[i] : 0;
                CHECK_NEAR(product, wanted, 1e-3 * 4 * zeta * zeta * 2000);
            }
        }
    }
}

/* Warm-started cycle by cycle along a fast motion, the damping is that of a cold start, to a twentieth of 1
 * Nm. */
static void test_one_sweep_is_enough(void)
{
    struct scene scene;
    double warm[W], cold[W];
    set(&scene, 0.2, 0);
    struct physai_law_memory memory = scene.memory;
    for (int tick = 0; tick < 2000; tick++) {
        for (int i = 0; i < JOINTS; i++)
            scene.q[i] += 0.002 * sin(0.003 * tick + i); /* 2 rad/s */
        CHECK(physai_dynamics_update(&dynamics, scene.q, scene.dq, (double[]){0.04}) &&
              physai_dynamics_factor(&dynamics));
        scene.tool.velocity[tick % 6] = 0.5;
        CHECK(physai_cartesian_law(&scene.input, &memory, warm));
        scene.memory.warm = false;
        law(&scene, cold);
        for (int i = 0; i < JOINTS; i++)
            CHECK_NEAR(warm[i], cold[i], 5e-2);
    }
}

static void test_force_is_stiffness_times_the_clipped_error(void)
{
    for (int k = 0; k < 200; k++) {
        struct scene scene;
        double without[W], with[W], force[6];
        set(&scene, 0.3, 0.5);
        law(&scene, without);
        for (int r = 0; r < 6; r++)
            scene.status.pose_error[r] = check_random(-1, 1);
        law(&scene, with);
        force_of(with, without, force);
        double length = sqrt(force[0] * force[0] + force[1] * force[1] + force[2] * force[2]);
        double moment = sqrt(force[3] * force[3] + force[4] * force[4] + force[5] * force[5]);
        CHECK(length <= 600 * 0.05 * (1 + 1e-9));
        CHECK(moment <= 30 * 0.4 * (1 + 1e-9));
    }
}

/* What the joints' dry friction can hold is taken off the bound, and no more than half of it. */
static void test_the_bound_counts_dry_friction(void)
{
    struct physai_friction joint[JOINTS] = {{0}};
    for (int i = 0; i < JOINTS; i++)
        joint[i].coulomb = 0.2 + 0.1 * i;
    for (int k = 0; k < 200; k++) {
        struct scene scene;
        double without[W], with[W], force[6], held = INFINITY;
        physai_friction_init(&friction, joint, JOINTS);
        set(&scene, 0.3, 0);
        law(&scene, without);
        for (int r = 0; r < 3; r++)
            scene.status.pose_error[r] = check_random(-1, 1);
        law(&scene, with);
        force_of(with, without, force);
        double size = sqrt(force[0] * force[0] + force[1] * force[1] + force[2] * force[2]);
        for (int i = 0; i < JOINTS; i++) {
            double lever = 0;
            for (int r = 0; r < 3; r++)
                lever += dynamics.tools[0].jacobian[r][i] * force[r] / size;
            held = fmin(held, joint[i].coulomb / fabs(lever));
        }
        CHECK(held > 0);
        CHECK_NEAR(size, 600 * 0.05 - held, 1e-6);
        for (int i = 0; i < JOINTS; i++) /* friction beyond all bounds */
            joint[i].coulomb *= 1000;
        physai_friction_init(&friction, joint, JOINTS);
        for (int i = 0; i < JOINTS; i++)
            joint[i].coulomb /= 1000;
        law(&scene, with);
        force_of(with, without, force);
        size = sqrt(force[0] * force[0] + force[1] * force[1] + force[2] * force[2]);
        CHECK_NEAR(size, 600 * 0.05 / 2, 1e-6);
    }
    physai_friction_init(&friction, (const struct physai_friction[JOINTS]){{0}}, JOINTS);
}

/* Led by hand, or with a wrench alone: axes may have no stiffness, one of them or all. */
static void test_no_stiffness(void)
{
    for (int k = 0; k < 200; k++) {
        struct scene scene;
        double tau[W], loose[W];
        set(&scene, 0.3, 0.5);
        for (int r = 0; r < 6; r++) {
            scene.status.pose_error[r] = check_random(-0.02, 0.02);
            scene.settings.cartesian_stiffness[r] *= k % 3 == 0 ? 0 : r != k % 6;
        }
        law(&scene, tau);
        for (int i = 0; i < JOINTS; i++)
            CHECK(fabs(tau[i]) < 200);
        scene.status.pose_error[k % 6] += 0.01; /* along an axis without stiffness nothing pulls */
        law(&scene, loose);
        for (int i = 0; i < JOINTS; i++)
            CHECK_NEAR(loose[i], tau[i], 1e-2);
    }
}

static void test_target_wrench_is_added(void)
{
    struct scene scene;
    double without[W], with[W], force[6];
    set(&scene, 0.3, 0.5);
    law(&scene, without);
    for (int r = 0; r < 6; r++)
        scene.settings.target_wrench[0][r] = r + 1;
    law(&scene, with);
    force_of(with, without, force);
    for (int r = 0; r < 6; r++)
        CHECK_NEAR(force[r], r + 1, 1e-6);
}

/* What the null space does cannot be felt at the tool. */
static void test_nullspace_does_not_move_the_tool(void)
{
    double felt = 0;
    for (int k = 0; k < 200; k++) {
        struct scene scene;
        double here[W], there[W], difference[W] = {0}, a[6], largest = 0;
        set(&scene, 0.3, 0.5);
        law(&scene, here);
        for (int i = 0; i < JOINTS; i++)
            scene.reference.q[i] += check_random(-0.5, 0.5);
        law(&scene, there);
        for (int i = 0; i < JOINTS; i++) {
            difference[i] = there[i] - here[i];
            largest = fmax(largest, fabs(difference[i]));
        }
        acceleration(difference, a);
        felt = fmax(felt, largest);
        for (int r = 0; r < 6; r++)
            CHECK_NEAR(a[r], 0, 1e-8);
    }
    CHECK(felt > 0.5);
}

/* Stretched out and in other singular poses the torque stays finite and as bounded as elsewhere. */
static void test_singular_poses(void)
{
    const double poses[][JOINTS] = {{0, 0.3, 0, -0.1518, 0, 1.9, 0},
                                    {0, 0, 0, -1.5, 0, 1.5, 0},
                                    {0, 0, 0, -0.1518, 0, 0.5445, 0},
                                    {0, -0.6, 0, -2.4, 0, 3.14159, 0}};
    for (size_t k = 0; k < sizeof poses / sizeof *poses; k++) {
        struct scene scene;
        double tau[W];
        set(&scene, 0, 0);
        memcpy(scene.q, poses[k], sizeof poses[k]);
        memcpy(scene.reference.q, poses[k], sizeof poses[k]);
        CHECK(physai_dynamics_update(&dynamics, scene.q, scene.dq, (double[]){0.04}) &&
              physai_dynamics_factor(&dynamics));
        for (int r = 0; r < 6; r++) {
            scene.status.pose_error[r] = r < 3 ? 0.05 : 0.3;
            scene.tool.velocity[r] = r < 3 ? 0.3 : 1;
            scene.tool.acceleration[r] = r < 3 ? 1 : 5;
        }
        law(&scene, tau);
        for (int i = 0; i < JOINTS; i++)
            CHECK(fabs(tau[i] - dynamics.bias[i]) < 200);
    }
}

static void test_joint_law(void)
{
    struct scene scene;
    double tau[W];
    set(&scene, 0.2, 0);
    physai_joint_law(&scene.input, tau);
    for (int i = 0; i < JOINTS; i++)
        CHECK_NEAR(tau[i], dynamics.bias[i], 1e-12); /* at rest on its reference: nothing but the weight */
    scene.reference.q[2] += 3;                       /* clipped at 0.5 rad */
    physai_joint_law(&scene.input, tau);
    double reachable = fmin(0.5, config.joints[2].position_max - scene.q[2]);
    CHECK_NEAR(tau[2], dynamics.bias[2] + 600 * reachable, 1e-9);
}

static void test_friction(void)
{
    const struct physai_friction joint = {.coulomb = 0.54615 / 2, .slope = 5.1181, .shift = 0.039533};
    struct physai_friction_curves gaz;
    double torque, still = 0, fast = 1e300, nan = NAN;
    physai_friction_init(&gaz, &joint, 1);
    /* fp1/(1+exp(-fp2 (dq+fp3))) - fp1/(1+exp(-fp2 fp3)) with the numbers of joint 1 of Gaz et al. */
    for (double dq = -2; dq <= 2; dq += 0.1) {
        double wanted =
            0.54615 / (1 + exp(-5.1181 * (dq + 0.039533))) - 0.54615 / (1 + exp(-5.1181 * 0.039533));
        physai_friction(&gaz, &dq, &torque);
        CHECK_NEAR(torque, wanted, 1e-15);
    }
    physai_friction(&gaz, &still, &torque);
    CHECK(torque == 0);
    physai_friction(&gaz, &fast, &torque);
    CHECK_NEAR(torque, 0.54615 / 2 * (1 - tanh(5.1181 / 2 * 0.039533)), 1e-15);
    physai_friction(&gaz, &nan, &torque);
    CHECK(!(torque == torque));
}

/* Whatever torque is asked for, the arm gets no more energy than the tank holds and is filled up with. */
static void test_energy_tank(void)
{
    struct physai_settings settings = {.tank_energy = 2, .tank_power = 0.5};
    struct physai_law_memory memory = {.tank = 2};
    double given = 0, bias[W] = {0}, dq[W] = {0}, applied[W] = {0};
    for (int tick = 0; tick < 20000; tick++) {
        double tau[W];
        for (int i = 0; i < JOINTS; i++) {
            dq[i] = 0.99 * dq[i] + check_random(-0.1, 0.1);
            bias[i] = 10 * dq[i];
            given += (applied[i] - bias[i]) * dq[i] * 1e-3;
            tau[i] = bias[i] + check_random(-20, 20) + 2 * dq[i];
        }
        physai_energy_tank(&settings, &memory, JOINTS, 1e-3, bias, dq, applied, tau);
        memcpy(applied, tau, sizeof tau);
        /* What a torque gives in the next cycle depends on the speed there: it is known, and made up for. */
        CHECK(given <= 2 + 0.5e-3 * (tick + 1) + 0.05);
        CHECK(memory.tank >= -0.05 && memory.tank <= 2);
    }
    CHECK(given > 2); /* it did have work to do */
    double none[W] = {0}, braking[W] = {20}, backwards[W] = {-1};
    memory.tank = 0;
    physai_energy_tank(&settings, &memory, JOINTS, 1e-3, none, backwards, braking, braking);
    CHECK(braking[0] == 20); /* it takes energy out and is never weakened */
    CHECK_NEAR(memory.tank, 0.0205, 1e-12);
    physai_energy_tank(&settings, &memory, JOINTS, 1e-3, none, (double[W]){2000}, none, braking);
    CHECK_NEAR(braking[0] * 2000 * 1e-3, 0.021, 1e-9);
}

static void test_rotations(void)
{
    for (int k = 0; k < 2000; k++) {
        double r[3], dr[3], back[3], q[4], p[4], w[3], ahead[3], step[3];
        for (int i = 0; i < 3; i++) {
            r[i] = check_random(-1.7, 1.7) * (k % 10 ? 1 : 1e-7);
            dr[i] = check_random(-2, 2);
        }
        physai_quat_exp(r, q);
        physai_quat_log(q, back);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(back[i], r[i], 1e-9);
        /* The rate is the difference of two rotations a moment apart. */
        const double h = 1e-6;
        for (int i = 0; i < 3; i++)
            ahead[i] = r[i] + h * dr[i];
        physai_quat_exp(ahead, p);
        physai_quat_difference(q, p, step);
        physai_rotation_rate(r, dr, w);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(step[i] / h, w[i], 1e-4);
    }
    for (int axis = 0; axis < 3; axis++) { /* half turns, where the trace is -1 */
        double matrix[9] = {-1, 0, 0, 0, -1, 0, 0, 0, -1}, q[4], v[3] = {0.3, 0.5, 0.7}, rotated[3];
        matrix[4 * axis] = 1;
        physai_quat_from_matrix(matrix, q);
        physai_quat_rotate(q, v, rotated);
        for (int i = 0; i < 3; i++)
            CHECK_NEAR(rotated[i], matrix[4 * i] * v[i], 1e-12);
    }
}

int main(void)
{
    char text[PHYSAI_TEXT_SIZE];
    config = robot_config();
    CHECK(physai_model_load(&model, &config, text, sizeof text) == PHYSAI_OK);
    CHECK(physai_dynamics_init(&dynamics, &model) == PHYSAI_OK);
    physai_friction_init(&friction, config.friction, JOINTS);
    test_damping_follows_the_inertia();
    test_one_sweep_is_enough();
    test_force_is_stiffness_times_the_clipped_error();
    test_the_bound_counts_dry_friction();
    test_no_stiffness();
    test_target_wrench_is_added();
    test_nullspace_does_not_move_the_tool();
    test_singular_poses();
    test_joint_law();
    test_friction();
    test_energy_tank();
    test_rotations();
    physai_dynamics_fini(&dynamics);
    physai_model_free(&model);
    return 0;
}
