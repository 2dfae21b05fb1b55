/* Several arms and grippers in one core: chunks, laws, guards and errors, with MuJoCo as the arms. */
#include "two_arms.h"

static char path[] = "/tmp/physai_arms_XXXXXX.xml", torso_path[] = "/tmp/physai_torso_XXXXXX.xml";
static struct pair pair;

static double length(const double v[3])
{
    return sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
}

static void expect_text(const char *text, const char *word)
{
    if (!strstr(text, word))
        fprintf(stderr, "'%s' is not in '%s'\n", word, text);
    CHECK(strstr(text, word));
}

static void refused(const struct physai_control_config *config, int error, const char *word)
{
    struct physai_control *control;
    char text[PHYSAI_TEXT_SIZE] = "";
    CHECK(physai_control_create(config, &control, text, sizeof text) == error && !control);
    expect_text(text, word);
}

/* Both arms follow a joint chunk; the hinge goes at its speed to the opening, suction gets it at once. */
static void test_joint_chunk_and_grippers(void)
{
    struct physai_control_config config = two_arms_config(path);
    char text[PHYSAI_TEXT_SIZE];
    double goal[BOTH];
    pair_open(&pair, &config);
    pair_activate(&pair);
    for (int i = 0; i < BOTH; i++)
        goal[i] = elbowed[i % JOINTS] + (i < JOINTS ? 0.2 : -0.15);
    struct physai_chunk chunk = pair_chunk(&pair, goal);
    for (uint32_t k = 8; k < chunk.n_steps; k++)
        chunk.opening[k][1] = 0;
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_OK);
    double last = pair.command.opening[0];
    bool gripping = false;
    for (int tick = 0; tick < 1000; tick++) {
        pair_run(&pair, 1);
        CHECK(fabs(pair.command.opening[0] - last) <= 2e-3 + 1e-12);
        CHECK(pair.command.opening[1] == 0 || (pair.command.opening[1] == 1 && !gripping));
        gripping = pair.command.opening[1] == 0;
        last = pair.command.opening[0];
    }
    CHECK(gripping && pair.status.state == PHYSAI_HOLD && pair.status.tools[1].opening_target == 0);
    CHECK_NEAR(pair.command.opening[0], 0.5, 1e-12);
    CHECK(pair.command.grip_force[0] == 2 && pair.command.grip_force[1] == 0);
    pair_run(&pair, 400);
    for (int i = 0; i < BOTH; i++)
        CHECK_NEAR(pair.status.q[i], goal[i], 5e-3);
    chunk = pair_chunk(&pair, goal);
    chunk.opening[3][1] = 1.2;
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_GRIPPER);
    expect_text(text, "(right)");
    pair_close(&pair);
}

/* Fingers with an offset and a negative sign are where the gripper's opening puts them, in the dynamics too.
 */
static void test_hinged_fingers(void)
{
    struct physai_control_config config = two_arms_config(path);
    const struct physai_gripper *gripper = &config.tools[0].gripper;
    CHECK_NEAR(physai_finger_position(gripper, 0, 0.8), -0.7, 1e-15);
    CHECK_NEAR(physai_finger_position(gripper, 1, 0.2), 0.1, 1e-15);
    CHECK_NEAR(physai_finger_opening(gripper, 0, -0.3), 0.4, 1e-15);
    char text[PHYSAI_TEXT_SIZE];
    struct physai_model model;
    struct physai_dynamics d;
    double q[BOTH], dq[BOTH] = {0}, full[400];
    CHECK(physai_model_load(&model, &config, text, sizeof text) == PHYSAI_OK && model.n_fingers == 2);
    physai_dynamics_init(&d, &model);
    mjData *data = mj_makeData(model.mj);
    for (int i = 0; i < BOTH; i++)
        data->qpos[model.mj->jnt_qposadr[model.mj->dof_jntid[model.v_address[i]]]] = q[i] =
            elbowed[i % JOINTS];
    for (int step = 0; step <= 4; step++) {
        const double opening[2] = {0.2 * step, 0};
        data->qpos[model.fingers[0].address] = 0.1 - 0.2 * step;
        data->qpos[model.fingers[1].address] = 0.1 * step;
        mj_kinematics(model.mj, data);
        mj_comPos(model.mj, data);
        mj_makeM(model.mj, data);
        mj_fullM(model.mj, full, data->qM);
        CHECK(physai_dynamics_update(&d, q, dq, opening));
        for (int i = 0; i < BOTH; i++)
            for (int j = 0; j < BOTH; j++)
                CHECK_NEAR(d.inertia[i][j], full[model.v_address[i] * (int)model.mj->nv + model.v_address[j]],
                           1e-10);
    }
    mj_deleteData(data);
    physai_model_free(&model);
}

/* Both tools follow poses under the Cartesian law, each its own. */
static void test_pose_chunk_for_both(void)
{
    struct physai_control_config config = two_arms_config(path);
    const double way[2][3] = {{0.08, 0.03, -0.05}, {-0.05, -0.04, 0.06}};
    char text[PHYSAI_TEXT_SIZE];
    double start[2][7];
    config.settings.law = PHYSAI_LAW_CARTESIAN;
    pair_open(&pair, &config);
    pair_activate(&pair);
    for (int t = 0; t < 2; t++)
        memcpy(start[t], pair.status.tools[t].reference, sizeof start[t]);
    struct physai_chunk chunk = pair_poses(&pair, way);
    chunk.n_values = 7;
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_SHAPE);
    expect_text(text, "14 are needed");
    chunk.n_values = 14;
    chunk.values[4][10] = 2;
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_ROTATION);
    expect_text(text, "tool of right");
    chunk = pair_poses(&pair, way);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_OK);
    for (int tick = 0; tick < 2500; tick++) {
        pair_run(&pair, 1);
        for (int t = 0; t < 2; t++)
            CHECK(length(pair.status.tools[t].pose_error) < 0.02);
    }
    CHECK(pair.status.state == PHYSAI_HOLD);
    for (int t = 0; t < 2; t++) {
        for (int a = 0; a < 3; a++)
            CHECK_NEAR(pair.status.tools[t].pose[a], start[t][a] + way[t][a], 2e-3);
        CHECK(length(pair.status.tools[t].pose_error + 3) < 0.01);
    }
    pair_close(&pair);
}

/* Arms that share no joint do not feel each other: torques are those of each arm alone, to the last digits.
 */
static void test_law_of_both_is_that_of_each(void)
{
    char text[PHYSAI_TEXT_SIZE];
    struct physai_control_config both = two_arms_config(path);
    struct physai_model model, alone[2];
    static struct physai_dynamics d, one[2];
    struct physai_friction_curves friction;
    both.settings.nullspace_stiffness = 20;
    physai_friction_init(&friction, both.friction, BOTH);
    CHECK(physai_model_load(&model, &both, text, sizeof text) == PHYSAI_OK && model.shared < 0);
    physai_dynamics_init(&d, &model);
    struct physai_control_config single[2] = {both, both};
    for (int t = 0; t < 2; t++) {
        single[t].n_joints = JOINTS;
        single[t].n_tools = 1;
        single[t].tools[0] = both.tools[t];
        memcpy(single[t].joint_names, both.joint_names + JOINTS * t, JOINTS * sizeof both.joint_names[0]);
        memcpy(single[t].joints, both.joints + JOINTS * t, JOINTS * sizeof both.joints[0]);
        CHECK(physai_model_load(&alone[t], &single[t], text, sizeof text) == PHYSAI_OK);
        physai_dynamics_init(&one[t], &alone[t]);
    }
    for (int trial = 0; trial < 50; trial++) {
        double q[BOTH], dq[BOTH], tau[BOTH], expected[JOINTS], opening[2] = {check_random(0, 0.8), 0};
        struct physai_motion reference = {0};
        struct physai_pose_motion tools[2] = {0};
        struct physai_tool_status status[2] = {0};
        for (int i = 0; i < BOTH; i++) {
            q[i] = elbowed[i % JOINTS] + check_random(-0.3, 0.3);
            dq[i] = check_random(-1, 1);
            reference.q[i] = q[i] + check_random(-0.1, 0.1);
        }
        for (int t = 0; t < 2; t++) {
            for (int a = 0; a < 6; a++) {
                tools[t].velocity[a] = check_random(-0.5, 0.5);
                tools[t].acceleration[a] = check_random(-2, 2);
                status[t].pose_error[a] = check_random(-0.02, 0.02);
            }
            both.settings.target_wrench[t][trial % 6] = 3 + t;
        }
        CHECK(physai_dynamics_update(&d, q, dq, opening) && physai_dynamics_factor(&d));
        struct physai_law_memory memory = {0};
        struct physai_law_input input = {.settings = &both.settings,
                                         .config = &both,
                                         .dynamics = &d,
                                         .friction = &friction,
                                         .n = BOTH,
                                         .gain = 1,
                                         .force = 1,
                                         .q = q,
                                         .dq = dq,
                                         .reference = &reference,
                                         .tools = tools,
                                         .status = status};
        CHECK(physai_cartesian_law(&input, &memory, tau));
        for (int t = 0; t < 2; t++) {
            struct physai_motion own = {0};
            struct physai_law_memory fresh = {0};
            memcpy(own.q, reference.q + JOINTS * t, sizeof expected);
            single[t].settings = both.settings;
            memcpy(single[t].settings.target_wrench[0], both.settings.target_wrench[t], 6 * sizeof(double));
            CHECK(physai_dynamics_update(&one[t], q + JOINTS * t, dq + JOINTS * t, opening + t) &&
                  physai_dynamics_factor(&one[t]));
            input.settings = &single[t].settings;
            input.config = &single[t];
            input.dynamics = &one[t];
            input.n = JOINTS;
            input.q = q + JOINTS * t;
            input.dq = dq + JOINTS * t;
            input.reference = &own;
            input.tools = tools + t;
            input.status = status + t;
            CHECK(physai_cartesian_law(&input, &fresh, expected));
            for (int i = 0; i < JOINTS; i++)
                CHECK_NEAR(tau[JOINTS * t + i], expected[i], 1e-8 * (1 + fabs(expected[i])));
        }
    }
    physai_model_free(&model);
    physai_model_free(&alone[0]);
    physai_model_free(&alone[1]);
}

/* What pushes one tool is felt there, is named, and not at the other. */
static void test_contact_of_one_tool(void)
{
    struct physai_control_config config = two_arms_config(path);
    config.contact_force = 25;
    pair_open(&pair, &config);
    pair_activate(&pair);
    int body = mj_name2id(pair.model, mjOBJ_BODY, "right_link7");
    pair.data->xfrc_applied[6 * body + 1] = 15;
    pair_run(&pair, 500);
    CHECK(pair.status.state == PHYSAI_HOLD);
    CHECK_NEAR(length(pair.status.tools[1].wrench), 15, 3);
    CHECK(length(pair.status.tools[0].wrench) < 3);
    pair.data->xfrc_applied[6 * body + 1] = 60;
    pair_run(&pair, 200);
    CHECK(pair.status.state == PHYSAI_FAULT && pair.status.cause == PHYSAI_CAUSE_CONTACT_WRENCH);
    expect_text(pair.status.cause_text, "tool of right");
    pair_close(&pair);
}

static void test_fence_of_one_tool(void)
{
    struct physai_control_config config = two_arms_config(path);
    char text[PHYSAI_TEXT_SIZE];
    double goal[BOTH];
    config.n_fences = 1; /* the elbow of the right arm stays this high */
    config.fences[0] = (struct physai_fence){
        .kind = PHYSAI_FENCE_PLANE, .points = PHYSAI_FENCE_ELBOW << 2, .normal = {0, 0, 1}, .offset = 0.45};
    pair_open(&pair, &config);
    pair_activate(&pair);
    for (int side = 0; side < 2; side++) {
        memcpy(goal, pair.status.reference, sizeof goal);
        goal[JOINTS * side + 1] += 0.6; /* down */
        struct physai_chunk chunk = pair_chunk(&pair, goal);
        chunk.dt_ns *= 2;
        chunk.expiry_ns = chunk.start_ns + 20 * chunk.dt_ns;
        CHECK(pair_post(&pair, &chunk, text) == (side ? PHYSAI_REFUSED_GEOFENCE : PHYSAI_OK));
    }
    expect_text(text, "elbow of right");
    pair_close(&pair);
    config.fences[0].points = 1u << 4;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "a tool or an elbow that is not named");
}

/* Towards each other: refused before; where one is pushed there, a fault; from nearer, only apart. */
static void test_distance_between_the_arms(void)
{
    struct physai_control_config config = two_arms_config(path);
    char text[PHYSAI_TEXT_SIZE];
    double goal[BOTH];
    config.arms_distance = 0.45;
    config.tracking_trip_rad = 3;
    pair_open(&pair, &config);
    pair_activate(&pair);
    memcpy(goal, pair.status.reference, sizeof goal);
    goal[0] -= 0.6; /* the left arm to the right */
    struct physai_chunk chunk = pair_chunk(&pair, goal);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_DISTANCE);
    expect_text(text, "left and right");
    goal[0] += 1.2;
    chunk = pair_chunk(&pair, goal);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_OK);
    pair_run(&pair, 1200);
    CHECK(pair.status.state == PHYSAI_HOLD);
    double *turn = &pair.state.q[0]; /* carried by hand, as fast as may be */
    for (int tick = 0; tick < 1500 && pair.status.state == PHYSAI_HOLD; tick++) {
        pair_cycle(&pair);
        *turn -= 1e-3;
        pair.state.dq[0] = -1;
    }
    CHECK(pair.status.state == PHYSAI_FAULT && pair.status.cause == PHYSAI_CAUSE_ARMS_DISTANCE);
    expect_text(pair.status.cause_text, "left and right are 0.4");
    pair_close(&pair);

    config.arms_distance = 0.7; /* further than they stand when they are switched on */
    pair_open(&pair, &config);
    pair_activate(&pair);
    memcpy(goal, pair.status.reference, sizeof goal);
    goal[0] -= 0.05;
    chunk = pair_chunk(&pair, goal);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_DISTANCE);
    goal[0] += 0.4;
    chunk = pair_chunk(&pair, goal);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_OK);
    pair_run(&pair, 1200);
    CHECK(pair.status.state == PHYSAI_HOLD);
    pair_close(&pair);
}

/* Of tool poses the tools themselves are held apart. */
static void test_distance_between_tools_of_poses(void)
{
    struct physai_control_config config = two_arms_config(path);
    const double way[2][3] = {{0, -0.13, 0}, {0, 0.13, 0}};
    char text[PHYSAI_TEXT_SIZE];
    config.settings.law = PHYSAI_LAW_CARTESIAN;
    config.arms_distance = 0.4;
    pair_open(&pair, &config);
    pair_activate(&pair);
    struct physai_chunk chunk = pair_poses(&pair, way);
    CHECK(pair_post(&pair, &chunk, text) == PHYSAI_REFUSED_DISTANCE);
    pair_close(&pair);
}

/* A joint below both arms: joint chunks alone. */
static void test_a_joint_that_moves_both(void)
{
    struct physai_control_config config = two_arms_config(torso_path);
    struct physai_control *control;
    struct physai_status status;
    struct physai_command command;
    struct physai_state state = {.n_joints = BOTH + 1, .opening = {0, 1}};
    char text[PHYSAI_TEXT_SIZE] = "";
    config.n_joints = BOTH + 1;
    config.joints[BOTH] = config.joints[0];
    snprintf(config.joint_names[BOTH], PHYSAI_NAME_SIZE, "torso");
    config.settings.stiffness[BOTH] = 300;
    config.settings.clip[BOTH] = 0.5;
    config.settings.law = PHYSAI_LAW_CARTESIAN;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "torso moves several tools");
    config.settings.law = PHYSAI_LAW_JOINT;
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_OK);
    config.settings.law = PHYSAI_LAW_CARTESIAN;
    CHECK(physai_control_post_settings(control, &config.settings, text, sizeof text) ==
          PHYSAI_REFUSED_SETTINGS);
    expect_text(text, "torso moves several tools");
    for (int i = 0; i < BOTH; i++)
        state.q[i] = elbowed[i % JOINTS];
    for (int tick = 1; tick < 10; tick++) {
        state.seq++;
        state.time_ns += TICK;
        physai_control_request(control, PHYSAI_REQUEST_ACTIVATE);
        physai_control_cycle(control, &state, &command);
    }
    physai_control_read_status(control, &status);
    CHECK(status.state == PHYSAI_HOLD && (command.flags & PHYSAI_COMMAND_ENABLE));
    static struct physai_chunk chunk;
    chunk = (struct physai_chunk){.sequence = 1,
                                  .lease = 1,
                                  .start_ns = state.time_ns,
                                  .dt_ns = 50 * TICK,
                                  .expiry_ns = state.time_ns + 100 * TICK,
                                  .mode = PHYSAI_CHUNK_POSE,
                                  .n_values = 14,
                                  .n_steps = 1,
                                  .opening = {{0, 1}}};
    for (int t = 0; t < 2; t++)
        memcpy(chunk.values[0] + 7 * t, status.tools[t].pose, sizeof status.tools[t].pose);
    CHECK(physai_control_post_chunk(control, &chunk, text, sizeof text) == PHYSAI_REFUSED_SHAPE);
    expect_text(text, "torso moves several tools");
    chunk.mode = PHYSAI_CHUNK_JOINTS;
    chunk.n_values = BOTH + 1;
    memcpy(chunk.values[0], status.reference, sizeof chunk.values[0]);
    CHECK(physai_control_post_chunk(control, &chunk, text, sizeof text) == PHYSAI_OK);
    physai_control_destroy(control);
}

static void test_refused(void)
{
    struct physai_control_config config = two_arms_config(path);
    config.n_tools = 5;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "1 to 4");
    config = two_arms_config(path);
    config.n_joints = 33;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "33 driven joints given, 1 to 32");
    config = two_arms_config(path);
    config.tools[0].gripper.fingers[1].open = config.tools[0].gripper.fingers[1].closed;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "the gripper of the end effector 'left'");
    config = two_arms_config(path);
    config.tools[1].payload_mass = NAN;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "the payload of the end effector 'right'");
    config = two_arms_config(path);
    config.rate_hz = 50;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "torques needs 100 Hz");
    config.position_commanded = 1;
    config.state_timeout_s = 0.015;
    refused(&config, PHYSAI_ERROR_ARGUMENT, "timeout");
}

int main(void)
{
    write_two_arms(path, false);
    write_two_arms(torso_path, true);
    test_joint_chunk_and_grippers();
    test_hinged_fingers();
    test_pose_chunk_for_both();
    test_law_of_both_is_that_of_each();
    test_contact_of_one_tool();
    test_fence_of_one_tool();
    test_distance_between_the_arms();
    test_distance_between_tools_of_poses();
    test_a_joint_that_moves_both();
    test_refused();
    unlink(path);
    unlink(torso_path);
    return 0;
}
