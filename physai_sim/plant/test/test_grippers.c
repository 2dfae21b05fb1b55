/* The plant's fingers: where an opening puts them, with what force, and what is measured of them. */
#include "check.h"
#include "physai_plant.h"

#include <mujoco/mujoco.h>
#include <string.h>
#include <unistd.h>

/* Two slides and a block between their pads; a hinge that opens backwards beside one that turns the other
 * way; and a hand whose one hinge moves a pad 0.1 m from it. */
static const char *const hands =
    "<mujoco><option timestep='0.001' integrator='implicitfast' gravity='0 0 0'/><worldbody>"
    "<body name='block' pos='0 0.05 0'><geom type='box' size='0.01 0.01 0.02'/></body>"
    "<body name='link'><joint name='a' axis='0 1 0' armature='1'/><geom size='0.01' contype='0' "
    "conaffinity='0'/>"
    " <body pos='0 0.05 0'><joint name='left' type='slide' axis='0 1 0' armature='0.1'/>"
    "  <geom type='box' size='0.01 0.005 0.02' pos='0 0.005 0' mass='0.03'/></body>"
    " <body pos='0 0.05 0'><joint name='right' type='slide' axis='0 -1 0' armature='0.1'/>"
    "  <geom type='box' size='0.01 0.005 0.02' pos='0 -0.005 0' mass='0.03'/></body>"
    " <body pos='0 0 1'><joint name='jaw' axis='1 0 0' armature='0.01'/>"
    "  <geom type='box' size='0.005 0.005 0.03' mass='0.05' contype='0' conaffinity='0'/></body>"
    " <body pos='0 0 1'><joint name='thumb' axis='1 0 0' armature='0.01'/>"
    "  <geom type='box' size='0.005 0.005 0.03' mass='0.05' contype='0' conaffinity='0'/></body>"
    " <body pos='0 0 2'><joint name='knuckle' axis='1 0 0' armature='0.001'/>"
    "  <geom type='box' size='0.005 0.005 0.05' pos='0 0 0.05' mass='0.05' contype='0' "
    "conaffinity='0'/></body>"
    "</body></worldbody></mujoco>";

static const char *const names[4][2] = {{"left", "right"}, {"jaw", "thumb"}, {"knuckle", NULL}, {NULL, NULL}};

static struct {
    double opening[4], force[4], measured[4];
} said;

static int cycle(void *argument, const struct physai_state *state, struct physai_command *command)
{
    (void)argument;
    memset(command, 0, sizeof *command);
    memcpy(said.measured, state->opening, sizeof said.measured);
    command->seq = state->seq;
    command->n_joints = 1;
    command->flags = PHYSAI_COMMAND_ENABLE;
    memcpy(command->opening, said.opening, sizeof said.opening);
    memcpy(command->grip_force, said.force, sizeof said.force);
    return 1;
}

static struct physai_plant_config config_of(const mjModel *model)
{
    struct physai_plant_config config = {.abi = PHYSAI_PLANT_ABI,
                                         .n_joints = 1,
                                         .n_tools = 4,
                                         .cycle_steps = 1,
                                         .gate_s = 0.02,
                                         .damping_s = 0.01,
                                         .grace_s = 0.2};
    config.torque_limit[0] = 87;
    config.grippers[0] = (struct physai_gripper){
        .kind = PHYSAI_GRIPPER_PARALLEL, .n_fingers = 2, .opening_max = 0.08, .speed = 0.2, .force = 30};
    config.grippers[0].fingers[0].open = config.grippers[0].fingers[1].open = 0.04;
    config.grippers[1] = (struct physai_gripper){.kind = PHYSAI_GRIPPER_HINGE,
                                                 .n_fingers = 2,
                                                 .opening_min = 0.1,
                                                 .opening_max = 0.9,
                                                 .speed = 2,
                                                 .force = 2};
    config.grippers[1].fingers[0] = (struct physai_finger){.closed = 0.2, .open = -0.6};
    config.grippers[1].fingers[1] = (struct physai_finger){.closed = 0, .open = 0.4};
    config.grippers[2] = (struct physai_gripper){
        .kind = PHYSAI_GRIPPER_PARALLEL, .n_fingers = 1, .opening_max = 0.08, .speed = 0.2, .force = 20};
    config.grippers[2].fingers[0] = (struct physai_finger){.closed = 0.8, .open = 0};
    config.grippers[3] = (struct physai_gripper){.kind = PHYSAI_GRIPPER_SUCTION, .opening_max = 1};
    for (int t = 0; t < 4; t++) {
        for (uint32_t f = 0; f < config.grippers[t].n_fingers; f++) {
            int joint = mj_name2id(model, mjOBJ_JOINT, names[t][f]);
            config.finger_qpos[t][f] = model->jnt_qposadr[joint];
            config.finger_dof[t][f] = model->jnt_dofadr[joint];
        }
    }
    return config;
}

int main(void)
{
    char path[] = "/tmp/physai_hands_XXXXXX.xml", text[1024] = "";
    int file = mkstemps(path, 4);
    CHECK(file >= 0 && write(file, hands, strlen(hands)) == (ssize_t)strlen(hands) && close(file) == 0);
    mjModel *model = mj_loadXML(path, NULL, text, sizeof text);
    unlink(path);
    CHECK(model);
    mjData *data = mj_makeData(model);
    struct physai_plant_config config = config_of(model);
    struct physai_plant *plant;
    const double *q = data->qpos;
    data->qpos[config.finger_qpos[0][0]] = data->qpos[config.finger_qpos[0][1]] = 0.03;
    CHECK(physai_plant_create(model, data, &config, &plant, text, sizeof text) == 0);
    physai_plant_set_controller(plant, cycle, NULL);
    for (int t = 0; t < 4; t++)
        said.force[t] = 1e3; /* more than each has */

    /* Everything opens to where its map puts it, and that is what is measured. */
    const double open[4] = {0.07, 0.7, 0.03, 1}, closed[4] = {0, 0.1, 0.08, 0};
    memcpy(said.opening, open, sizeof open);
    CHECK(physai_plant_run(plant, 1500) == 1500);
    CHECK_NEAR(q[config.finger_qpos[0][0]], 0.035, 1e-4);
    CHECK_NEAR(q[config.finger_qpos[0][1]], 0.035, 1e-4);
    CHECK_NEAR(q[config.finger_qpos[1][0]], -0.4, 1e-3);
    CHECK_NEAR(q[config.finger_qpos[1][1]], 0.3, 1e-3);
    CHECK_NEAR(q[config.finger_qpos[2][0]], 0.5, 1e-3);
    for (int t = 0; t < 4; t++)
        CHECK_NEAR(said.measured[t], open[t], 1e-3);

    /* Closed on a block of 2 cm: half of the force on each side. */
    memcpy(said.opening, closed, sizeof closed);
    CHECK(physai_plant_run(plant, 2000) == 2000);
    CHECK_NEAR(said.measured[0], 0.02, 1e-3);
    CHECK_NEAR(data->qfrc_applied[config.finger_dof[0][0]], -15, 1e-9);
    CHECK_NEAR(data->qfrc_applied[config.finger_dof[0][1]], -15, 1e-9);
    CHECK(said.measured[3] == 0);

    /* What is asked for bounds it; and by virtual work the hinge of a hand takes force times its lever. */
    said.force[0] = 10;
    said.force[2] = 8;
    data->qpos[config.finger_qpos[2][0]] = 0.6;
    CHECK(physai_plant_run(plant, 1) == 1);
    CHECK_NEAR(data->qfrc_applied[config.finger_dof[0][0]], -5, 1e-9);
    CHECK_NEAR(fabs(data->qfrc_applied[config.finger_dof[2][0]]), 8 / 2 * (0.08 / 0.8), 1e-9);

    /* After a reset nothing is held by suction any more; nonsense counts as no command. */
    physai_plant_reset(plant);
    said.opening[1] = NAN;
    CHECK(physai_plant_run(plant, 2) == 2 && said.measured[3] == 1);
    CHECK(physai_plant_gate(plant) == PHYSAI_GATE_BRAKED);
    physai_plant_destroy(plant);
    config.grippers[1].fingers[0].open = config.grippers[1].fingers[0].closed;
    CHECK(physai_plant_create(model, data, &config, &plant, text, sizeof text) != 0);
    mj_deleteData(data);
    mj_deleteModel(model);
    return 0;
}
