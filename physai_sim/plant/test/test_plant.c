/* The gate, seen from the plant: a controller that answers, then does not, then answers nonsense. */
#include "check.h"
#include "physai_plant.h"

#include <mujoco/mujoco.h>
#include <stdbool.h>
#include <string.h>

static const char *const arm = "<mujoco><option timestep='0.001' integrator='implicitfast'/><worldbody>"
                               "<body name='link'><joint name='a' axis='0 1 0' armature='0.1'/>"
                               "<geom type='capsule' fromto='0 0 0 0.4 0 0' size='0.03' mass='2'/>"
                               "</body></worldbody></mujoco>";

enum mood {
    DRIVES,
    IS_SILENT,
    REPEATS,
    SAYS_NAN,
    SAYS_TOO_MUCH,
    IS_INACTIVE
};

struct controller {
    enum mood mood;
    uint64_t answered;
    uint32_t flags;                     /* of the last state */
    double said[PHYSAI_PLANT_LOG_SIZE]; /* Nm, by command */
    mjModel *model;
    mjData *data;
};

/* Holds the weight and pushes the arm to a slow speed. */
static int cycle(void *argument, const struct physai_state *state, struct physai_command *command)
{
    struct controller *c = argument;
    memset(command, 0, sizeof *command);
    c->flags = state->flags;
    CHECK(state->seq > c->answered && state->n_joints == 1);
    command->seq = state->seq;
    command->n_joints = 1;
    command->flags = c->mood == IS_INACTIVE ? 0 : PHYSAI_COMMAND_ENABLE;
    command->tau[0] = c->data->qfrc_bias[0] + 20 * (0.8 - state->dq[0]);
    if (c->mood == SAYS_NAN)
        command->tau[0] = NAN;
    if (c->mood == SAYS_TOO_MUCH)
        command->tau[0] = 90;
    c->said[state->seq % PHYSAI_PLANT_LOG_SIZE] = command->tau[0];
    if (c->mood == REPEATS)
        command->seq = c->answered;
    else
        c->answered = state->seq;
    return c->mood == IS_SILENT ? 0 : 1;
}

static struct physai_plant_sample last_sample(struct physai_plant *plant)
{
    struct physai_plant_sample sample;
    CHECK(physai_plant_log(plant, &sample, 1) == 1);
    return sample;
}

static void test_gate(struct controller *c, struct physai_plant *plant, enum mood mood)
{
    mj_resetData(c->model, c->data);
    physai_plant_reset(plant);
    c->mood = IS_INACTIVE;
    CHECK(physai_plant_run(plant, 200) == 200);
    CHECK(c->flags == 0 && physai_plant_gate(plant) == PHYSAI_GATE_BRAKED);
    CHECK(fabs(last_sample(plant).q[0]) < 1e-3); /* the brake carries the arm */

    c->mood = DRIVES;
    CHECK(physai_plant_run(plant, 300) == 300);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_DRIVEN);
    CHECK(last_sample(plant).dq[0] > 0.5);

    c->mood = mood;
    CHECK(physai_plant_run(plant, 19) == 19);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_MISSING);
    CHECK(physai_plant_run(plant, 1) == 1);
    CHECK(physai_plant_gate(plant) >= PHYSAI_GATE_DAMPING);
    CHECK(physai_plant_run(plant, 20) == 20);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_LATCHED);
    CHECK(fabs(last_sample(plant).dq[0]) < 0.01);

    /* A controller that comes back changes nothing until the gate is reset. */
    double q = last_sample(plant).q[0];
    c->mood = DRIVES;
    CHECK(physai_plant_run(plant, 500) == 500);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_LATCHED && (c->flags & PHYSAI_STATE_GATE_LATCHED));
    CHECK(fabs(last_sample(plant).q[0] - q) < 1e-3);
    physai_plant_reset(plant);
    CHECK(physai_plant_run(plant, 1) == 1);
    CHECK(c->flags == PHYSAI_STATE_REPOSITIONED && physai_plant_gate(plant) == PHYSAI_GATE_DRIVEN);
}

static void test_short_gaps_pass(struct controller *c, struct physai_plant *plant)
{
    mj_resetData(c->model, c->data);
    physai_plant_reset(plant);
    for (int round = 0; round < 5; round++) {
        c->mood = DRIVES;
        CHECK(physai_plant_run(plant, 10) == 10);
        c->mood = IS_SILENT;
        CHECK(physai_plant_run(plant, 10) == 10);
        CHECK(last_sample(plant).missed == 10);
    }
    c->mood = DRIVES;
    CHECK(physai_plant_run(plant, 1) == 1);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_DRIVEN && last_sample(plant).missed == 0);
}

/* A slow drive: each torque acts so many steps after its command, the first one until then. */
static void test_command_delay(struct controller *c, struct physai_plant_config config)
{
    struct physai_plant *plant;
    char text[256];
    config.torque_limit[0] = 1e9; /* the longest delay makes this controller swing */
    const uint32_t delays[] = {0, 1, 5, PHYSAI_PLANT_DELAYS - 1};
    for (int k = 0; k < 4; k++) {
        config.command_delay_steps = delays[k];
        mj_resetData(c->model, c->data);
        CHECK(physai_plant_create(c->model, c->data, &config, &plant, text, sizeof text) == 0);
        physai_plant_set_controller(plant, cycle, c);
        c->answered = 0;
        c->mood = DRIVES;
        for (int round = 0; round < 2; round++) {
            uint64_t first = c->answered + 1;
            for (int step = 0; step < 200; step++) {
                CHECK(physai_plant_run(plant, 1) == 1);
                uint64_t due = c->answered < first + delays[k] ? first : c->answered - delays[k];
                CHECK(last_sample(plant).tau[0] == c->said[due % PHYSAI_PLANT_LOG_SIZE]);
            }
            physai_plant_reset(plant);
        }
        physai_plant_destroy(plant);
    }
    config.command_delay_steps = PHYSAI_PLANT_DELAYS;
    CHECK(physai_plant_create(c->model, c->data, &config, &plant, text, sizeof text) != 0);
}

static void test_divergence_is_reported(struct controller *c, struct physai_plant *plant)
{
    mj_resetData(c->model, c->data);
    c->mood = DRIVES;
    CHECK(physai_plant_run(plant, 10) == 10);
    c->data->qvel[0] = NAN;
    CHECK(physai_plant_run(plant, 10) == -1);
    mj_resetData(c->model, c->data);
}

/* A controller slower than the physics: asked every so many steps, its torque held between. */
static void test_cycle_steps(struct controller *c, struct physai_plant_config config)
{
    struct physai_plant *plant;
    char text[256];
    config.cycle_steps = 4;
    mj_resetData(c->model, c->data);
    CHECK(physai_plant_create(c->model, c->data, &config, &plant, text, sizeof text) == 0);
    physai_plant_set_controller(plant, cycle, c);
    c->mood = DRIVES;
    c->answered = 0;
    double held = 0;
    for (int step = 0; step < 40; step++) {
        CHECK(physai_plant_run(plant, 1) == 1);
        CHECK(c->answered == 1 + (uint64_t)step / 4);
        CHECK(step % 4 == 0 || last_sample(plant).tau[0] == held);
        held = last_sample(plant).tau[0];
    }
    CHECK(held != 0);
    physai_plant_destroy(plant);
    config.cycle_steps = 0;
    CHECK(physai_plant_create(c->model, c->data, &config, &plant, text, sizeof text) != 0);
}

int main(void)
{
    static struct controller controller;
    char text[256] = "";
    mjVFS files;
    mj_defaultVFS(&files);
    CHECK(mj_addBufferVFS(&files, "arm.xml", arm, (int)strlen(arm)) == 0);
    controller.model = mj_loadXML("arm.xml", &files, text, sizeof text);
    if (!controller.model)
        fprintf(stderr, "%s\n", text);
    CHECK(controller.model);
    mj_deleteVFS(&files);
    controller.data = mj_makeData(controller.model);

    struct physai_plant *plant;
    struct physai_plant_config config = {.abi = PHYSAI_PLANT_ABI,
                                         .n_joints = 1,
                                         .cycle_steps = 1,
                                         .gate_s = 0.02,
                                         .damping_s = 0.01,
                                         .grace_s = 0.2};
    config.torque_limit[0] = 87;
    snprintf(config.joint_names[0], PHYSAI_NAME_SIZE, "a");
    CHECK(physai_plant_create(controller.model, controller.data, &config, &plant, text, sizeof text) == 0);
    physai_plant_set_controller(plant, cycle, &controller);
    test_gate(&controller, plant, IS_SILENT);
    test_gate(&controller, plant, SAYS_NAN);
    test_gate(&controller, plant, SAYS_TOO_MUCH);
    test_gate(&controller, plant, REPEATS);
    test_short_gaps_pass(&controller, plant);
    test_divergence_is_reported(&controller, plant);
    physai_plant_destroy(plant);
    test_command_delay(&controller, config);
    test_cycle_steps(&controller, config);
    mj_deleteData(controller.data);
    mj_deleteModel(controller.model);
    return 0;
}
