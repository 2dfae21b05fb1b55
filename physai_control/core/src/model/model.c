/* From the robot's MJCF or URDF, as MuJoCo reads it, to the flat tree of links of dynamics.h. */
#include "model/spatial.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_LINK   (-1) /* fixed to the world */
#define TOLERANCE 1e-9 /* relative, between our dynamics and MuJoCo's */

static const struct physai_pose identity = {{1, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 0, 0}};

/*
 * MuJoCo ends the process on an error unless mju_user_error is set. Ours jumps back to the caller when one
 * loads a model, and else ends the process as well, after the handler that was there before.
 */
struct loading {
    jmp_buf back;
    const char *path;
    char *text;
    size_t text_size;
    char warning[256]; /* the last one */
};
/* A pointer alone: programs that load many libraries have little room for what each thread has of its own. */
static _Thread_local struct loading *loading;
static void (*previous_handler)(const char *);
static void (*previous_warnings)(const char *);

static void on_error(const char *message)
{
    if (loading) {
        snprintf(loading->text, loading->text_size, "%s: MuJoCo error: %s", loading->path, message);
        longjmp(loading->back, 1);
    }
    if (previous_handler)
        previous_handler(message);
    fprintf(stderr, "physai: MuJoCo error: %s\n", message);
    abort(); /* MuJoCo's state is undefined after an error, so nothing may go on with it */
}

/* Without a handler MuJoCo writes them to a file where the process happens to be. */
static void on_warning(const char *message)
{
    if (loading)
        snprintf(loading->warning, sizeof loading->warning, "%s", message);
    else if (previous_warnings)
        previous_warnings(message);
    else
        fprintf(stderr, "physai: MuJoCo warning: %s\n", message);
}

static void install_handlers(void)
{
    if (mju_user_warning != on_warning) {
        previous_warnings = mju_user_warning;
        mju_user_warning = on_warning;
    }
    if (mju_user_error != on_error) {
        previous_handler = mju_user_error;
        mju_user_error = on_error;
    }
}

static int find(const mjModel *mj, int type, const char *kind, const char *name, const char *path, char *text,
                size_t text_size)
{
    int id = mj_name2id(mj, type, name);
    if (id < 0)
        snprintf(text, text_size, "%s has no %s named '%s'", path, kind, name);
    return id;
}

/* ---- the tree ---- */

static struct physai_pose pose_of(const mjtNum position[3], const mjtNum quaternion[4])
{
    struct physai_pose pose;
    memcpy(pose.position, position, sizeof pose.position);
    mju_quat2Mat(pose.rotation, quaternion);
    return pose;
}

/* The frame of a joint in its body's, with the joint's axis as z. */
static struct physai_pose joint_frame(const mjModel *mj, int joint)
{
    mjtNum quaternion[4];
    mju_quatZ2Vec(quaternion, mj->jnt_axis + 3 * joint);
    return pose_of(mj->jnt_pos + 3 * joint, quaternion);
}

/* The link that a joint of MuJoCo moves, or NO_LINK if it is none of ours. */
static int link_of(const int *joints, int joint)
{
    for (int link = 0; link < PHYSAI_MAX_LINKS; link++)
        if (joints[link] == joint)
            return link;
    return NO_LINK;
}

/*
 * Goes through the bodies from the root on and finds for each the link that carries it and its pose on that
 * link. MuJoCo's bodies may have several joints: all links but the last of such a body have no mass.
 */
static void build_links(struct physai_model *model, const int *joints)
{
    const mjModel *mj = model->mj;
    struct physai_frame *bodies = model->bodies;
    bodies[0] = (struct physai_frame){NO_LINK, identity};
    for (int b = 1; b < mj->nbody; b++) {
        struct physai_pose at_parent = pose_of(mj->body_pos + 3 * b, mj->body_quat + 4 * b);
        struct physai_frame body = bodies[mj->body_parentid[b]];
        body.pose = compose(&body.pose, &at_parent);
        for (int j = mj->body_jntadr[b]; j < mj->body_jntadr[b] + mj->body_jntnum[b]; j++) {
            int index = link_of(joints, j);
            if (index == NO_LINK)
                continue; /* stays at its initial position */
            struct physai_pose in_body = joint_frame(mj, j);
            model->links[index] = (struct physai_link){.parent = body.link,
                                                       .slides = mj->jnt_type[j] == mjJNT_SLIDE,
                                                       .zero = mj->qpos0[mj->jnt_qposadr[j]],
                                                       .at_zero = compose(&body.pose, &in_body)};
            body = (struct physai_frame){index, inverse(&in_body)};
        }
        bodies[b] = body;
        if (body.link == NO_LINK)
            continue;
        struct physai_pose principal = pose_of(mj->body_ipos + 3 * b, mj->body_iquat + 4 * b);
        const mjtNum *moments = mj->body_inertia + 3 * b;
        struct physai_inertia inertia = rigid_body(mj->body_mass[b], (struct vec){0, 0, 0},
                                                   (struct sym){moments[0], moments[1], moments[2], 0, 0, 0});
        struct physai_pose on_link = compose(&body.pose, &principal);
        add_body(&model->links[body.link].inertia, &on_link, &inertia);
    }
}

/* MuJoCo numbers degrees of freedom from the root on, so that parents come first. */
static void order_links(const struct physai_model *model, const int *joints, int first, int count, int *order)
{
    for (int i = 0; i < count; i++) {
        int at = i;
        for (; at > 0 &&
               model->mj->jnt_dofadr[joints[order[at - 1]]] > model->mj->jnt_dofadr[joints[first + i]];
             at--)
            order[at] = order[at - 1];
        order[at] = first + i;
    }
}

/* The joint of MuJoCo's that a link gets its motion from. */
static int find_joint(const struct physai_model *model, const char *path, const char *name, int *joints,
                      int link, char *text, size_t text_size)
{
    const mjModel *mj = model->mj;
    int id = find(mj, mjOBJ_JOINT, "joint", name, path, text, text_size);
    if (id < 0)
        return PHYSAI_ERROR_MODEL;
    if (mj->jnt_type[id] != mjJNT_HINGE && mj->jnt_type[id] != mjJNT_SLIDE) {
        snprintf(text, text_size, "%s: joint '%s' must be a hinge or a slide", path, name);
        return PHYSAI_ERROR_MODEL;
    }
    if (link_of(joints, id) != NO_LINK) {
        snprintf(text, text_size, "joint '%s' is named twice", name);
        return PHYSAI_ERROR_MODEL;
    }
    joints[link] = id;
    return PHYSAI_OK;
}

static int find_joints(struct physai_model *model, const struct physai_control_config *config, int *joints,
                       char *text, size_t text_size)
{
    const mjModel *mj = model->mj;
    int error;
    for (int link = 0; link < PHYSAI_MAX_LINKS; link++)
        joints[link] = -1;
    for (uint32_t i = 0; i < config->n_joints; i++) {
        if ((error = find_joint(model, config->model_path, config->joint_names[i], joints, (int)i, text,
                                text_size)))
            return error;
        model->v_address[i] = mj->jnt_dofadr[joints[i]];
        model->armature[i] = mj->dof_armature[model->v_address[i]];
    }
    for (uint32_t t = 0; t < config->n_tools; t++) {
        const struct physai_gripper *gripper = &config->tools[t].gripper;
        for (uint32_t f = 0; f < gripper->n_fingers; f++) {
            int link = PHYSAI_MAX_JOINTS + (int)model->n_fingers;
            if ((error = find_joint(model, config->model_path, gripper->fingers[f].joint, joints, link, text,
                                    text_size)))
                return error;
            double ratio = physai_finger_ratio(gripper, f);
            model->fingers[model->n_fingers++] = (struct physai_finger_map){
                .tool = (int)t,
                .address = mj->jnt_qposadr[joints[link]],
                .closed = gripper->fingers[f].closed - ratio * gripper->opening_min,
                .ratio = ratio};
        }
    }
    return PHYSAI_OK;
}

/* The link of the arm that carries a link of a gripper; a link of the arm carries itself. */
static int arm_link(const struct physai_model *model, int link)
{
    while (link >= PHYSAI_MAX_JOINTS)
        link = model->links[link].parent;
    return link;
}

static int check_links(struct physai_model *model, const struct physai_control_config *config, char *text,
                       size_t text_size)
{
    for (uint32_t i = 0; i < config->n_joints; i++) {
        if (model->links[i].parent >= PHYSAI_MAX_JOINTS) {
            const struct physai_finger_map *finger =
                &model->fingers[model->links[i].parent - PHYSAI_MAX_JOINTS];
            int id = 0;
            while (model->mj->jnt_qposadr[id] != finger->address)
                id++;
            snprintf(text, text_size,
                     "joint '%s' hangs on the gripper's joint '%s'; name it among the gripper's fingers",
                     config->joint_names[i], mj_id2name(model->mj, mjOBJ_JOINT, id));
            return PHYSAI_ERROR_MODEL;
        }
    }
    for (uint32_t i = 0; i < model->n_fingers; i++) {
        int link = arm_link(model, PHYSAI_MAX_JOINTS + (int)i);
        if (link != NO_LINK)
            model->carries_finger[link] = true;
    }
    return PHYSAI_OK;
}

/* From MuJoCo's world into the base frame. */
static int set_base(struct physai_model *model, const char *name, char *text, size_t text_size)
{
    const mjModel *mj = model->mj;
    int body = mj_name2id(mj, mjOBJ_BODY, name);
    if (body < 0) {
        snprintf(text, text_size, "the model has no body named '%s'", name);
        return PHYSAI_ERROR_MODEL;
    }
    const struct physai_frame *base = &model->bodies[body];
    if (base->link != NO_LINK) {
        snprintf(text, text_size, "the base frame '%s' must not be moved by the arm or its gripper", name);
        return PHYSAI_ERROR_MODEL;
    }
    model->base = base->pose;
    struct physai_pose from_world = inverse(&model->base);
    for (int link = 0; link < PHYSAI_MAX_LINKS; link++)
        if (model->links[link].parent == NO_LINK)
            model->links[link].at_zero = compose(&from_world, &model->links[link].at_zero);
    if (!(mj->opt.disableflags & mjDSBL_GRAVITY))
        vec_to(model->gravity, rotate(from_world.rotation, vec_of(mj->opt.gravity)));
    return PHYSAI_OK;
}

/* Where a site or body sits on its link. */
static int find_frame(const struct physai_model *model, const char *name, struct physai_frame *frame,
                      char *text, size_t text_size)
{
    const mjModel *mj = model->mj;
    int site = mj_name2id(mj, mjOBJ_SITE, name), body = mj_name2id(mj, mjOBJ_BODY, name);
    if (site < 0 && body < 0) {
        snprintf(text, text_size, "the model has no site or body named '%s'", name);
        return PHYSAI_ERROR_MODEL;
    }
    *frame = model->bodies[site >= 0 ? mj->site_bodyid[site] : body];
    if (site >= 0) {
        struct physai_pose on_body = pose_of(mj->site_pos + 3 * site, mj->site_quat + 4 * site);
        frame->pose = compose(&frame->pose, &on_body);
    }
    if (arm_link(model, frame->link) == NO_LINK) {
        snprintf(text, text_size, "'%s' is moved by none of the arm's joints", name);
        return PHYSAI_ERROR_MODEL;
    }
    return PHYSAI_OK;
}

static bool moves(const struct physai_model *model, int link, int tool)
{
    int at = arm_link(model, model->tools[tool].link);
    while (at >= 0 && at != link)
        at = model->links[at].parent;
    return at == link;
}

static int set_tools(struct physai_model *model, const struct physai_control_config *config, char *text,
                     size_t text_size)
{
    int error;
    for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
        model->elbows[t].link = model->tools[t].link = NO_LINK;
    for (uint32_t t = 0; t < config->n_tools; t++) {
        const struct physai_tool *tool = &config->tools[t];
        if ((error = find_frame(model, tool->frame, &model->tools[t], text, text_size)) ||
            (tool->elbow_frame[0] &&
             (error = find_frame(model, tool->elbow_frame, &model->elbows[t], text, text_size))))
            return error;
    }
    model->shared = -1;
    for (int link = 0; link < (int)model->n_joints; link++) {
        int moved = 0;
        for (uint32_t t = 0; t < config->n_tools; t++)
            moved += moves(model, link, (int)t);
        if (moved > 1)
            model->shared = link;
    }
    return PHYSAI_OK;
}

/* ---- the check ---- */

static bool near(double ours, double theirs, double scale)
{
    return fabs(ours - theirs) <= TOLERANCE * (1 + scale);
}

/* At one state, arbitrary but for being the same every time. */
static bool agrees_with_mujoco(struct physai_dynamics *dynamics, mjData *d, mjtNum *full, int state)
{
    const struct physai_model *model = dynamics->model;
    const mjModel *mj = model->mj;
    double q[PHYSAI_MAX_JOINTS], dq[PHYSAI_MAX_JOINTS], opening[PHYSAI_MAX_TOOLS], scale = 0;
    for (uint32_t i = 0; i < model->n_joints; i++) {
        int dof = model->v_address[i];
        q[i] = model->links[i].zero + sin(3.0 * state + 1.7 * i);
        dq[i] = cos(2.0 * state + 2.3 * i);
        d->qpos[mj->jnt_qposadr[mj->dof_jntid[dof]]] = q[i];
        d->qvel[dof] = dq[i];
    }
    for (uint32_t t = 0; t < model->n_tools; t++)
        opening[t] = 0.04;
    for (uint32_t i = 0; i < model->n_fingers; i++)
        d->qpos[model->fingers[i].address] = model->fingers[i].closed + 0.04 * model->fingers[i].ratio;
    mj_kinematics(mj, d);
    mj_comPos(mj, d);
    mj_tendon(mj, d);
    mj_makeM(mj, d);
    mj_fullM(mj, full, d->qM);
    mj_comVel(mj, d);
    mj_rne(mj, d, 0, d->qfrc_bias);
    if (!physai_dynamics_update(dynamics, q, dq, opening))
        return false;
    for (uint32_t i = 0; i < model->n_joints; i++)
        scale = fmax(scale, fmax(dynamics->inertia[i][i], fabs(dynamics->load[i])));
    for (uint32_t i = 0; i < model->n_joints; i++) {
        if (!near(dynamics->load[i], d->qfrc_bias[model->v_address[i]], scale))
            return false;
        for (uint32_t j = 0; j < model->n_joints; j++)
            if (!near(dynamics->inertia[i][j], full[model->v_address[i] * mj->nv + model->v_address[j]],
                      scale))
                return false;
    }
    return true;
}

/* A model may use what our recursion does not know of, say inertia of tendons: better found now. */
static int check_against_mujoco(const struct physai_model *model, const char *path, char *text,
                                size_t text_size)
{
    struct physai_dynamics dynamics;
    int error = PHYSAI_OK;
    mjData *d = mj_makeData(model->mj);
    mjtNum *full = malloc((size_t)model->mj->nv * (size_t)model->mj->nv * sizeof(mjtNum));
    physai_dynamics_init(&dynamics, model);
    if (!d || !full)
        error = PHYSAI_ERROR_MEMORY;
    for (int state = 0; !error && state < 3; state++) {
        if (!agrees_with_mujoco(&dynamics, d, full, state)) {
            snprintf(text, text_size,
                     "%s: the arm's inertia or bias is not what MuJoCo computes; only hinges and slides with "
                     "armature are known here, not inertia of tendons",
                     path);
            error = PHYSAI_ERROR_MODEL;
        }
    }
    mj_deleteData(d);
    free(full);
    return error;
}

/* ---- loading ---- */

static mjModel *read_model(const char *path, char *reason, int size)
{
    const char *end = strrchr(path, '.');
    if (!end || strcmp(end, ".mjb") != 0)
        return mj_loadXML(path, NULL, reason, size);
    bool readable = access(path, R_OK) == 0;
    snprintf(reason, (size_t)size, "%s", strerror(errno));
    mjModel *mj = readable ? mj_loadModel(path, NULL) : NULL;
    if (readable && !mj)
        snprintf(reason, (size_t)size, "%s; write it again with this version of MuJoCo", loading->warning);
    return mj;
}

static int load(struct physai_model *model, const struct physai_control_config *config, char *text,
                size_t text_size)
{
    char reason[512] = "";
    int joints[PHYSAI_MAX_LINKS], error;
    model->mj = read_model(config->model_path, reason, sizeof reason);
    if (!model->mj) {
        snprintf(text, text_size, "%s: MuJoCo refuses the model: %s", config->model_path, reason);
        return PHYSAI_ERROR_MODEL;
    }
    model->bodies = malloc((size_t)model->mj->nbody * sizeof *model->bodies);
    if (!model->bodies)
        return PHYSAI_ERROR_MEMORY;
    model->adds_gravity = config->adds_gravity;
    model->n_joints = config->n_joints;
    model->n_tools = config->n_tools;
    if ((error = find_joints(model, config, joints, text, text_size)))
        return error;
    build_links(model, joints);
    order_links(model, joints, 0, (int)model->n_joints, model->order);
    order_links(model, joints, PHYSAI_MAX_JOINTS, (int)model->n_fingers, model->finger_order);
    if ((error = check_links(model, config, text, text_size)) ||
        (error = set_base(model, config->base_frame, text, text_size)) ||
        (error = set_tools(model, config, text, text_size)))
        return error;
    return check_against_mujoco(model, config->model_path, text, text_size);
}

int physai_model_load(struct physai_model *model, const struct physai_control_config *config, char *text,
                      size_t text_size)
{
    struct loading here = {.path = config->model_path, .text = text, .text_size = text_size};
    memset(model, 0, sizeof *model);
    if (mj_version() != mjVERSION_HEADER) {
        snprintf(text, text_size, "libmujoco is version %d, this library was built for %d; rebuild it",
                 mj_version(), mjVERSION_HEADER);
        return PHYSAI_ERROR_MODEL;
    }
    install_handlers();
    if (setjmp(here.back)) {
        loading = NULL;
        return PHYSAI_ERROR_MODEL;
    }
    loading = &here;
    int error = load(model, config, text, text_size);
    loading = NULL;
    return error;
}

void physai_model_free(struct physai_model *model)
{
    mj_deleteModel(model->mj);
    free(model->bodies);
    model->mj = NULL;
    model->bodies = NULL;
}
