/* Our recursions against MuJoCo's, on the arm and on a tree with everything that a model may have. */
#include "robot.h"

#include <unistd.h>

#define STATES    1000
#define TOLERANCE 1e-9 /* relative */

/*
 * A rotated base away from the origin, slides, a branch, two joints on one body, joints off their body's
 * origin and with a reference position, a joint that is nobody's, fingers that turn and slide, one on the
 * other, and inertias that are not along any axis.
 */
static const char *tree_xml =
    "<mujoco><compiler angle='radian'/><worldbody><body name='column' pos='1 -2 0.5' euler='0.1 0.2 0.3'>"
    " <geom size='0.1'/>"
    " <body name='base' pos='0.3 0.1 1' euler='0.7 -0.4 1.1'><geom size='0.1'/>"
    "  <body pos='0.1 0.2 0.3' euler='0.3 0 0'>"
    "   <joint name='rail' type='slide' axis='1 2 -1' armature='0.3'/>"
    "   <inertial pos='0.1 0.05 -0.1' mass='3' fullinertia='0.05 0.06 0.07 0.01 -0.005 0.002'/>"
    "   <body pos='0 0.1 0.4' euler='0 0.5 0.2'>"
    "    <joint name='pan' axis='0 0 1' pos='0.05 -0.02 0.01' ref='0.3'/>"
    "    <joint name='tilt' axis='0 1 0.2' pos='-0.03 0.02 0.1' armature='0.05'/>"
    "    <inertial pos='0 0.1 0.2' mass='2' fullinertia='0.03 0.02 0.04 0.001 0.002 -0.003'/>"
    "    <body name='bracket' pos='0.1 0 0.2' euler='0.2 0.3 0.4'>"
    "     <inertial pos='0.02 0 0' mass='0.4' diaginertia='0.001 0.002 0.0025'/>"
    "     <body pos='0.2 0 0.1' euler='1 0 0'><joint name='nobody' axis='1 1 0'/>"
    "      <inertial pos='0.1 0 0.1' mass='0.5' diaginertia='0.002 0.002 0.001'/></body>"
    "     <body pos='0 0.1 0.3' euler='0 -0.6 0'><joint name='lift' type='slide' axis='0 1 1' ref='-0.1'/>"
    "      <inertial pos='0 0.03 0.1' mass='1' fullinertia='0.01 0.02 0.015 0.003 0 0.001'/>"
    "      <body pos='0.05 0 0.2' euler='0.4 0 0.9'><joint name='wrist' axis='-1 0 0.5' armature='0.01'/>"
    "       <inertial pos='0.01 0 0.05' mass='0.7' diaginertia='0.004 0.003 0.002'/>"
    "       <site name='hand' pos='0.02 0.03 0.1' euler='0.2 0.9 -0.3'/>"
    "       <body pos='0 0.02 0.1'><joint name='thumb' axis='1 0 0' ref='0.01' armature='0.02'/>"
    "        <inertial pos='0 0.01 0.04' mass='0.2' diaginertia='0.0004 0.0003 0.0002'/>"
    "        <body pos='0 0 0.05' euler='0 0 0.4'><joint name='nail' type='slide' axis='0 0 1'/>"
    "         <inertial pos='0.01 0 0.02' mass='0.1' diaginertia='0.0001 0.0001 0.0001'/>"
    "         <site name='tip' pos='0 0.01 0.03' euler='0.3 0.2 0.1'/></body></body></body></body>"
    "     <body pos='-0.2 0.1 0' euler='0 0.2 1'><joint name='head' axis='0.3 0.2 1' armature='0.04'/>"
    "      <inertial pos='0.05 0.05 0.1' mass='1.5' fullinertia='0.01 0.012 0.014 0.001 0.002 0.003'/>"
    "      <site name='eye' pos='0.1 0 0.1'/></body>"
    "    </body></body></body></body></body></worldbody>%s</mujoco>";

/* The tree's joints, deliberately not in the model's order. */
static const char *tree_joints[] = {"head", "wrist", "rail", "tilt", "lift", "pan"};

static double random_in(double low, double high)
{
    return check_random(low, high);
}

/* ---- MuJoCo ---- */

struct oracle {
    mjModel *model;
    mjData *data;
    int site, base, elbow_body;
};

/* By principal moments, because MuJoCo finds them from a full matrix to a few digits less than this test
 * wants. */
struct payload {
    double mass, com[3], moments[3], axes[4];
};

/* xx yy zz xy xz yz */
static void payload_inertia(const struct payload *payload, double inertia[6])
{
    double r[9], full[9];
    mju_quat2Mat(r, payload->axes);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            full[3 * i + j] = r[3 * i] * payload->moments[0] * r[3 * j] +
                              r[3 * i + 1] * payload->moments[1] * r[3 * j + 1] +
                              r[3 * i + 2] * payload->moments[2] * r[3 * j + 2];
    const int at[6] = {0, 4, 8, 1, 2, 5};
    for (int k = 0; k < 6; k++)
        inertia[k] = full[at[k]];
}

static struct oracle oracle_open(const struct physai_control_config *config, const struct payload *payload)
{
    char error[256] = "";
    struct oracle oracle = {.elbow_body = -1};
    mjSpec *spec = mj_parseXML(config->model_path, NULL, error, sizeof error);
    CHECK(spec);
    if (payload) {
        mjsElement *element = mjs_findElement(spec, mjOBJ_SITE, config->tools[0].frame);
        mjsSite *site = mjs_asSite(element);
        mjsBody *body = mjs_addBody(mjs_getParent(element), NULL);
        memcpy(body->pos, site->pos, sizeof body->pos);
        memcpy(body->quat, site->quat, sizeof body->quat);
        memcpy(&body->alt, &site->alt, sizeof body->alt);
        body->mass = payload->mass;
        memcpy(body->ipos, payload->com, sizeof body->ipos);
        memcpy(body->iquat, payload->axes, sizeof body->iquat);
        memcpy(body->inertia, payload->moments, sizeof body->inertia);
        body->explicitinertial = 1;
    }
    oracle.model = mj_compile(spec, NULL);
    if (!oracle.model)
        fprintf(stderr, "%s\n", mjs_getError(spec));
    CHECK(oracle.model);
    mj_deleteSpec(spec);
    oracle.data = mj_makeData(oracle.model);
    oracle.site = mj_name2id(oracle.model, mjOBJ_SITE, config->tools[0].frame);
    oracle.base = mj_name2id(oracle.model, mjOBJ_BODY, config->base_frame);
    return oracle;
}

static void oracle_close(struct oracle *oracle)
{
    mj_deleteData(oracle->data);
    mj_deleteModel(oracle->model);
}

static int joint_id(const struct oracle *oracle, const char *name)
{
    int id = mj_name2id(oracle->model, mjOBJ_JOINT, name);
    CHECK(id >= 0);
    return id;
}

static void oracle_set(struct oracle *oracle, const struct physai_control_config *config, const double *q,
                       const double *dq, double width)
{
    for (uint32_t i = 0; i < config->n_joints; i++) {
        int joint = joint_id(oracle, config->joint_names[i]);
        oracle->data->qpos[oracle->model->jnt_qposadr[joint]] = q[i];
        oracle->data->qvel[oracle->model->jnt_dofadr[joint]] = dq[i];
    }
    const struct physai_gripper *gripper = &config->tools[0].gripper;
    for (uint32_t i = 0; i < gripper->n_fingers; i++) {
        const struct physai_finger *finger = &gripper->fingers[i];
        double share = (width - gripper->opening_min) / (gripper->opening_max - gripper->opening_min);
        oracle->data->qpos[oracle->model->jnt_qposadr[joint_id(oracle, finger->joint)]] =
            (1 - share) * finger->closed + share * finger->open;
    }
    mj_kinematics(oracle->model, oracle->data);
    mj_comPos(oracle->model, oracle->data);
    mj_makeM(oracle->model, oracle->data);
    mj_comVel(oracle->model, oracle->data);
}

/* ---- the comparison ---- */

static void check_all(const double *ours, const double *theirs, int count, const char *what)
{
    double scale = 1;
    for (int i = 0; i < count; i++)
        scale = fmax(scale, fabs(theirs[i]));
    for (int i = 0; i < count; i++) {
        if (!(fabs(ours[i] - theirs[i]) <= TOLERANCE * scale)) {
            fprintf(stderr, "%s[%d]: ours is %.15g, MuJoCo's %.15g, scale %g\n", what, i, ours[i], theirs[i],
                    scale);
            abort();
        }
    }
}

static void check_inertia_and_bias(const struct physai_dynamics *d, struct oracle *o,
                                   const struct physai_control_config *config)
{
    int nv = (int)o->model->nv, n = (int)config->n_joints, dof[PHYSAI_MAX_JOINTS];
    double ours[256], theirs[256], full[1024];
    CHECK(nv <= 32);
    for (int i = 0; i < n; i++)
        dof[i] = o->model->jnt_dofadr[joint_id(o, config->joint_names[i])];
    mj_fullM(o->model, full, o->data->qM);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            ours[i * n + j] = d->inertia[i][j];
            theirs[i * n + j] = full[dof[i] * nv + dof[j]];
        }
    }
    check_all(ours, theirs, n * n, "inertia");

    double bias[32];
    mj_rne(o->model, o->data, 0, bias);
    for (int i = 0; i < n; i++)
        theirs[i] = bias[dof[i]];
    check_all(d->load, theirs, n, "load");
    memcpy(ours, theirs, (size_t)n * sizeof *ours);

    double moving[32];
    memcpy(moving, o->data->qvel, (size_t)nv * sizeof *moving);
    memset(o->data->qvel, 0, (size_t)nv * sizeof *moving);
    mj_comVel(o->model, o->data);
    mj_rne(o->model, o->data, 0, bias);
    memcpy(o->data->qvel, moving, (size_t)nv * sizeof *moving);
    mj_comVel(o->model, o->data);
    for (int i = 0; i < n; i++) {
        theirs[i] = config->adds_gravity ? bias[dof[i]] : 0;
        ours[i] -= config->adds_gravity ? 0 : bias[dof[i]];
    }
    check_all(d->gravity, theirs, n, "gravity");
    check_all(d->bias, ours, n, "bias");
}

/* Columns of a Jacobian, or its time derivative times dq, from MuJoCo's world to the base frame. */
static void to_base(const struct oracle *o, const double world[3], double base[3])
{
    mju_mulMatTVec3(base, o->data->xmat + 9 * o->base, world);
}

static void check_frames(const struct physai_dynamics *d, const struct oracle *o,
                         const struct physai_control_config *config)
{
    int nv = (int)o->model->nv;
    const double *base = o->data->xmat + 9 * o->base, *site = o->data->site_xpos + 3 * o->site;
    double from_base[3], expected[9], half[2][3 * 32], column[3], moved[3];
    mju_sub3(from_base, site, o->data->xpos + 3 * o->base);
    to_base(o, from_base, expected);
    check_all(d->tools[0].position, expected, 3, "tool_position");
    mju_mulMatTMat(expected, base, o->data->site_xmat + 9 * o->site, 3, 3, 3);
    check_all(d->tools[0].rotation, expected, 9, "tool_rotation");

    for (int derivative = 0; derivative < 2; derivative++) {
        double drift[6] = {0};
        if (derivative)
            mj_jacDot(o->model, o->data, half[0], half[1], site, o->model->site_bodyid[o->site]);
        else
            mj_jacSite(o->model, o->data, half[0], half[1], o->site);
        for (uint32_t i = 0; i < config->n_joints; i++) {
            int dof = o->model->jnt_dofadr[joint_id(o, config->joint_names[i])];
            for (int part = 0; part < 2; part++) {
                for (int axis = 0; axis < 3; axis++)
                    column[axis] = half[part][axis * nv + dof];
                to_base(o, column, moved);
                for (int axis = 0; axis < 3; axis++) {
                    drift[3 * part + axis] += moved[axis] * o->data->qvel[dof];
                    if (!derivative)
                        CHECK_NEAR(d->tools[0].jacobian[3 * part + axis][i], moved[axis], TOLERANCE);
                }
            }
        }
        if (derivative)
            check_all(d->tools[0].drift, drift, 6, "tool_drift");
    }

    if (o->elbow_body < 0)
        return;
    const double *elbow = o->data->xpos + 3 * o->elbow_body;
    mju_sub3(from_base, elbow, o->data->xpos + 3 * o->base);
    to_base(o, from_base, expected);
    check_all(d->tools[0].elbow_position, expected, 3, "elbow_position");
    mj_jac(o->model, o->data, half[0], NULL, elbow, o->elbow_body);
    for (uint32_t i = 0; i < config->n_joints; i++) {
        int dof = o->model->jnt_dofadr[joint_id(o, config->joint_names[i])];
        for (int axis = 0; axis < 3; axis++)
            column[axis] = half[0][axis * nv + dof];
        to_base(o, column, moved);
        for (int axis = 0; axis < 3; axis++)
            CHECK_NEAR(d->tools[0].elbow_jacobian[axis][i], moved[axis], TOLERANCE);
    }
}

/* The drift is what a Jacobian changes along the motion, times dq. */
static void check_drift_by_difference(struct physai_dynamics *d, const double *q, const double *dq, int n)
{
    const double h = 1e-5;
    double before[6] = {0}, after[6] = {0}, at[PHYSAI_MAX_JOINTS], drift[6];
    memcpy(drift, d->tools[0].drift, sizeof drift);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < n; i++)
            at[i] = q[i] + (side ? h : -h) * dq[i];
        physai_dynamics_kinematics(d, at);
        for (int a = 0; a < 6; a++)
            for (int i = 0; i < n; i++)
                (side ? after : before)[a] += d->tools[0].jacobian[a][i] * dq[i];
    }
    for (int a = 0; a < 6; a++)
        CHECK_NEAR((after[a] - before[a]) / (2 * h), drift[a], 1e-6 * (1 + fabs(drift[a])));
}

/* Poses and Jacobians on their own are those of the whole. */
static void check_parts(struct physai_dynamics *d, const double *q)
{
    struct physai_dynamics whole = *d;
    memset(d->tools[0].position, 0, sizeof d->tools[0].position);
    memset(d->tools[0].rotation, 0, sizeof d->tools[0].rotation);
    memset(d->tools[0].elbow_position, 0, sizeof d->tools[0].elbow_position);
    physai_dynamics_poses(d, q);
    CHECK(memcmp(d->tools[0].position, whole.tools[0].position, sizeof d->tools[0].position) == 0);
    CHECK(memcmp(d->tools[0].rotation, whole.tools[0].rotation, sizeof d->tools[0].rotation) == 0);
    CHECK(memcmp(d->tools[0].elbow_position, whole.tools[0].elbow_position,
                 sizeof d->tools[0].elbow_position) == 0);
    memset(d->tools[0].position, 0, sizeof d->tools[0].position);
    memset(d->tools[0].jacobian, 0, sizeof d->tools[0].jacobian);
    memset(d->tools[0].elbow_jacobian, 0, sizeof d->tools[0].elbow_jacobian);
    physai_dynamics_kinematics(d, q);
    CHECK(memcmp(d->tools[0].position, whole.tools[0].position, sizeof d->tools[0].position) == 0);
    CHECK(memcmp(d->tools[0].jacobian, whole.tools[0].jacobian, sizeof d->tools[0].jacobian) == 0);
    CHECK(memcmp(d->tools[0].elbow_jacobian, whole.tools[0].elbow_jacobian,
                 sizeof d->tools[0].elbow_jacobian) == 0);
}

/* x = M^-1 rhs, so M x is rhs again; and the damped wrench solves its own equations. */
static void check_solutions(struct physai_dynamics *d, int n)
{
    double rhs[PHYSAI_MAX_JOINTS], x[PHYSAI_MAX_JOINTS], wrench[6], weighted[PHYSAI_MAX_JOINTS][6];
    for (int i = 0; i < n; i++)
        rhs[i] = random_in(-10, 10);
    CHECK(physai_dynamics_factor(d));
    physai_dynamics_solve(d, rhs, x);
    for (int i = 0; i < n; i++) {
        double back = 0;
        for (int j = 0; j < n; j++)
            back += d->inertia[i][j] * x[j];
        CHECK_NEAR(back, rhs[i], 1e-8);
    }
    physai_dynamics_weigh_tool(d, 0, weighted);
    for (int a = 0; a < 6; a++) {
        double column[PHYSAI_MAX_JOINTS];
        for (int i = 0; i < n; i++)
            column[i] = weighted[i][a];
        physai_dynamics_solve(d, d->tools[0].jacobian[a], x);
        check_all(column, x, n, "weighted");
    }
    physai_dynamics_wrench(d, 0, rhs, wrench);
    double joints[PHYSAI_MAX_JOINTS] = {0};
    for (int i = 0; i < n; i++)
        for (int a = 0; a < 6; a++)
            joints[i] += d->tools[0].jacobian[a][i] * wrench[a];
    for (int a = 0; a < 6; a++) {
        double rest = 1e-3 * wrench[a];
        for (int i = 0; i < n; i++)
            rest += d->tools[0].jacobian[a][i] * (joints[i] - rhs[i]);
        CHECK_NEAR(rest, 0, 1e-6);
    }
}

static void check_model(struct physai_control_config *config, const char *elbow,
                        const struct payload *payload)
{
    snprintf(config->tools[0].elbow_frame, PHYSAI_NAME_SIZE, "%s", elbow);
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_model model;
    struct physai_dynamics d, plain;
    struct oracle oracle = oracle_open(config, payload);
    const double other[3] = {1, 2, 3}, round[6] = {9, 9, 9, 0, 0, 0};
    double inertia[6] = {0};
    int n = (int)config->n_joints;
    if (physai_model_load(&model, config, text, sizeof text))
        fprintf(stderr, "%s\n", text);
    CHECK(text[0] == '\0');
    if (elbow[0])
        oracle.elbow_body = mj_name2id(oracle.model, mjOBJ_BODY, elbow);
    physai_dynamics_init(&d, &model);
    physai_dynamics_init(&plain, &model);
    if (payload)
        payload_inertia(payload, inertia);
    for (int state = 0; state < STATES; state++) {
        bool far = state % 10 == 0;
        double q[PHYSAI_MAX_JOINTS], dq[PHYSAI_MAX_JOINTS], width = state % 3 ? random_in(0, 0.08) : 0.05;
        for (int i = 0; i < n; i++) {
            q[i] = random_in(-3, 3);
            dq[i] = random_in(-4, 4);
            if (far && !model.links[i].slides)
                q[i] *= state % 50 ? 1e3 : 1e7; /* many turns, and more than any joint has */
        }
        oracle_set(&oracle, config, q, dq, width);
        if (payload && state % 100 == 0) { /* a payload replaces the one before, also at the same width */
            physai_dynamics_set_payload(&d, 0, 7, other, round);
            CHECK(physai_dynamics_update(&d, q, dq, &width));
            physai_dynamics_set_payload(&d, 0, payload->mass, payload->com, inertia);
        }
        CHECK(physai_dynamics_update(&d, q, dq, &width));
        check_inertia_and_bias(&d, &oracle, config);
        check_frames(&d, &oracle, config);
        check_parts(&d, q);
        check_solutions(&d, n);
        if (!far) /* where adding a small step loses no digits */
            check_drift_by_difference(&d, q, dq, n);
        if (payload) { /* the other side's dynamics are its own */
            CHECK(physai_dynamics_update(&plain, q, dq, &width));
            CHECK(plain.inertia[2][2] < d.inertia[2][2]);
        }
    }
    physai_dynamics_fini(&plain);
    physai_dynamics_fini(&d);
    physai_model_free(&model);
    oracle_close(&oracle);
}

/* ---- models ---- */

static void write_tree(char *path, const char *more)
{
    int file = mkstemps(path, 4);
    CHECK(file >= 0);
    FILE *stream = fdopen(file, "w");
    CHECK(stream && fprintf(stream, tree_xml, more) > 0 && fclose(stream) == 0);
}

static struct physai_control_config tree_config(const char *path)
{
    struct physai_control_config config = robot_config();
    config.n_joints = sizeof tree_joints / sizeof *tree_joints;
    snprintf(config.model_path, sizeof config.model_path, "%s", path);
    snprintf(config.base_frame, PHYSAI_NAME_SIZE, "base");
    snprintf(config.tools[0].frame, PHYSAI_NAME_SIZE, "hand");
    for (uint32_t i = 0; i < config.n_joints; i++)
        snprintf(config.joint_names[i], PHYSAI_NAME_SIZE, "%s", tree_joints[i]);
    struct physai_finger *fingers = config.tools[0].gripper.fingers; /* one closes as the other opens */
    fingers[0] = (struct physai_finger){.joint = "nail", .closed = -0.01, .open = 0.03};
    fingers[1] = (struct physai_finger){.joint = "thumb", .closed = 0.7, .open = -0.2};
    return config;
}

static const struct payload brick = {
    1.3, {0.02, -0.03, 0.06}, {0.004, 0.005, 0.003}, {0.5, 0.5, 0.1, 0.7} /* of length 1 */};
static const struct payload ball = {0.7, {0, 0.01, 0.05}, {1e-9, 1e-9, 1e-9}, {1, 0, 0, 0}};

static void test_against_mujoco(void)
{
    char path[] = "/tmp/physai_tree_XXXXXX.xml";
    write_tree(path, "");
    for (uint32_t gravity = 0; gravity < 2; gravity++) {
        struct physai_control_config arm = robot_config(), tree = tree_config(path);
        arm.adds_gravity = tree.adds_gravity = gravity;
        check_model(&arm, "fr3_link4", NULL);
        check_model(&arm, "", &brick);
        check_model(&tree, "bracket", NULL);
        check_model(&tree, "", &ball);
        snprintf(tree.tools[0].frame, PHYSAI_NAME_SIZE, "tip"); /* the gripper's opening moves it */
        check_model(&tree, "bracket", &brick);
        snprintf(tree.tools[0].frame, PHYSAI_NAME_SIZE, "eye"); /* on another branch than the gripper */
        check_model(&tree, "", &brick);
    }
    unlink(path);
}

/* A model that the recursions do not cover is refused, and the text says which part of it. */
static void check_refused(const struct physai_control_config *config, const char *reason)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    struct physai_model model;
    CHECK(physai_model_load(&model, config, text, sizeof text) == PHYSAI_ERROR_MODEL);
    if (!strstr(text, reason))
        fprintf(stderr, "'%s' does not say '%s'\n", text, reason);
    CHECK(strstr(text, reason));
    physai_model_free(&model);
}

static void test_refused_models(void)
{
    char path[] = "/tmp/physai_tree_XXXXXX.xml", stiff[] = "/tmp/physai_tree_XXXXXX.xml";
    struct physai_control_config config;
    write_tree(path, "");
    write_tree(stiff, "<tendon><fixed armature='0.5'><joint joint='pan' coef='1'/></fixed></tendon>");
    config = tree_config(stiff);
    check_refused(&config, "tendons");
    config = tree_config(path);
    snprintf(config.tools[0].gripper.fingers[1].joint, PHYSAI_NAME_SIZE, "rail");
    snprintf(config.joint_names[2], PHYSAI_NAME_SIZE, "thumb");
    check_refused(&config, "hangs on the gripper's joint 'rail'");
    config = tree_config(path);
    snprintf(config.tools[0].gripper.fingers[1].joint, PHYSAI_NAME_SIZE, "rail");
    check_refused(&config, "'rail' is named twice");
    config = tree_config(path);
    snprintf(config.base_frame, PHYSAI_NAME_SIZE, "bracket");
    check_refused(&config, "base frame 'bracket' must not be moved");
    config = tree_config(path);
    snprintf(config.tools[0].frame, PHYSAI_NAME_SIZE, "nowhere");
    check_refused(&config, "no site or body named 'nowhere'");
    config = tree_config(path);
    snprintf(config.tools[0].elbow_frame, PHYSAI_NAME_SIZE, "nothing");
    check_refused(&config, "no site or body named 'nothing'");
    config = tree_config(path);
    config.n_joints = 1; /* the head alone moves no hand */
    check_refused(&config, "'hand' is moved by none");
    snprintf(config.model_path, sizeof config.model_path, "/nowhere.xml");
    check_refused(&config, "/nowhere.xml");
    unlink(path);
    unlink(stiff);
}

static void test_not_finite(void)
{
    char text[PHYSAI_TEXT_SIZE];
    struct physai_control_config config = robot_config();
    struct physai_model model;
    struct physai_dynamics d;
    double q[PHYSAI_MAX_JOINTS] = {0}, dq[PHYSAI_MAX_JOINTS] = {0};
    CHECK(physai_model_load(&model, &config, text, sizeof text) == PHYSAI_OK);
    physai_dynamics_init(&d, &model);
    for (int i = 0; i < JOINTS; i++) {
        q[i] = i % 2 ? NAN : INFINITY;
        CHECK(!physai_dynamics_update(&d, q, dq, (double[]){0.04}));
        CHECK(!physai_dynamics_factor(&d) ||
              i == 0); /* the first joint turns the whole: no inertia changes */
        q[i] = 0;
        dq[i] = i % 2 ? 1e200 : NAN;
        CHECK(!physai_dynamics_update(&d, q, dq, (double[]){0.04}));
        dq[i] = 0;
    }
    CHECK(!physai_dynamics_update(&d, q, dq, (double[]){NAN}));
    CHECK(physai_dynamics_update(&d, q, dq, (double[]){0.04})); /* nothing of it stays */
    CHECK(physai_dynamics_factor(&d));
    d.inertia[3][3] = -1;
    CHECK(!physai_dynamics_factor(&d));
    physai_dynamics_fini(&d);
    physai_model_free(&model);
}

int main(void)
{
    test_against_mujoco();
    test_refused_models();
    test_not_finite();
    return 0;
}
