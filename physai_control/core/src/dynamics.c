#include "dynamics.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * MuJoCo ends the process on an error unless mju_user_error is set. Ours jumps back to the caller when one is
 * waiting, and else ends the process, after the handler that was there before.
 */
static _Thread_local jmp_buf *waiting;
static void (*previous_handler)(const char *);

static void on_error(const char *message)
{
    if (waiting)
        longjmp(*waiting, 1);
    if (previous_handler)
        previous_handler(message);
    fprintf(stderr, "physai: MuJoCo error outside a cycle: %s\n", message);
    abort(); /* MuJoCo's state is undefined after an error, so nothing may go on with it */
}

static void install_error_handler(void)
{
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

int physai_model_load(struct physai_model *model, const struct physai_control_config *config, char *text,
                      size_t text_size)
{
    char error[512] = "";
    memset(model, 0, sizeof *model);
    if (mj_version() != mjVERSION_HEADER) {
        snprintf(text, text_size, "libmujoco is version %d, this library was built for %d; rebuild it",
                 mj_version(), mjVERSION_HEADER);
        return PHYSAI_ERROR_MODEL;
    }
    install_error_handler();
    mjModel *mj = mj_loadXML(config->model_path, NULL, error, sizeof error);
    if (!mj) {
        snprintf(text, text_size, "%s: MuJoCo refuses the model: %s", config->model_path, error);
        return PHYSAI_ERROR_MODEL;
    }
    model->mj = mj;
    model->n_joints = config->n_joints;
    model->n_fingers = config->n_fingers;
    for (uint32_t i = 0; i < config->n_joints + config->n_fingers; i++) {
        bool finger = i >= config->n_joints;
        const char *name = finger ? config->finger_names[i - config->n_joints] : config->joint_names[i];
        int id = find(mj, mjOBJ_JOINT, "joint", name, config->model_path, text, text_size);
        if (id < 0)
            return PHYSAI_ERROR_MODEL;
        if (mj->jnt_type[id] != mjJNT_HINGE && mj->jnt_type[id] != mjJNT_SLIDE) {
            snprintf(text, text_size, "%s: joint '%s' must be a hinge or a slide", config->model_path, name);
            return PHYSAI_ERROR_MODEL;
        }
        if (finger) {
            model->finger_address[i - config->n_joints] = mj->jnt_qposadr[id];
        } else {
            model->q_address[i] = mj->jnt_qposadr[id];
            model->v_address[i] = mj->jnt_dofadr[id];
        }
    }
    model->tool_site = find(mj, mjOBJ_SITE, "site", config->tool_frame, config->model_path, text, text_size);
    model->base_body = find(mj, mjOBJ_BODY, "body", config->base_frame, config->model_path, text, text_size);
    if (model->tool_site < 0 || model->base_body < 0)
        return PHYSAI_ERROR_MODEL;
    if (!config->adds_gravity)
        memset(mj->opt.gravity, 0, sizeof mj->opt.gravity);
    return PHYSAI_OK;
}

void physai_model_free(struct physai_model *model)
{
    mj_deleteModel(model->mj);
    model->mj = NULL;
}

int physai_dynamics_init(struct physai_dynamics *dynamics, const struct physai_model *model)
{
    int nv = (int)model->mj->nv;
    memset(dynamics, 0, sizeof *dynamics);
    dynamics->model = model;
    dynamics->mj = mj_makeData(model->mj);
    dynamics->full = mju_malloc((size_t)(nv * nv) * sizeof(mjtNum));
    dynamics->jacobian = mju_malloc((size_t)(6 * nv) * sizeof(mjtNum));
    return dynamics->mj && dynamics->full && dynamics->jacobian ? PHYSAI_OK : PHYSAI_ERROR_MEMORY;
}

void physai_dynamics_fini(struct physai_dynamics *dynamics)
{
    mj_deleteData(dynamics->mj);
    mju_free(dynamics->full);
    mju_free(dynamics->jacobian);
    memset(dynamics, 0, sizeof *dynamics);
}

/* Into the base frame, whose body is fixed to the world. */
static void to_base(const struct physai_dynamics *dynamics, const mjtNum world[3], double base[3])
{
    mju_mulMatTVec3(base, dynamics->mj->xmat + 9 * dynamics->model->base_body, world);
}

static void tool_position(struct physai_dynamics *dynamics)
{
    const mjData *d = dynamics->mj;
    mjtNum from_base[3];
    mju_sub3(from_base, d->site_xpos + 3 * dynamics->model->tool_site,
             d->xpos + 3 * dynamics->model->base_body);
    to_base(dynamics, from_base, dynamics->tool_position);
}

void physai_dynamics_tool(struct physai_dynamics *dynamics, const double *q)
{
    const struct physai_model *model = dynamics->model;
    for (uint32_t i = 0; i < model->n_joints; i++)
        dynamics->mj->qpos[model->q_address[i]] = q[i];
    mj_kinematics(model->mj, dynamics->mj);
    tool_position(dynamics);
}

static void tool_jacobian(struct physai_dynamics *dynamics)
{
    const struct physai_model *model = dynamics->model;
    int nv = (int)model->mj->nv;
    mj_jacSite(model->mj, dynamics->mj, dynamics->jacobian, dynamics->jacobian + 3 * nv, model->tool_site);
    for (uint32_t i = 0; i < model->n_joints; i++) {
        for (int half = 0; half < 2; half++) {
            const mjtNum *column = dynamics->jacobian + 3 * half * nv + model->v_address[i];
            mjtNum world[3] = {column[0], column[nv], column[2 * nv]}, base[3];
            to_base(dynamics, world, base);
            for (int axis = 0; axis < 3; axis++)
                dynamics->tool_jacobian[3 * half + axis][i] = base[axis];
        }
    }
}

static void inertia_and_bias(struct physai_dynamics *dynamics)
{
    const struct physai_model *model = dynamics->model;
    const mjModel *m = model->mj;
    mjData *d = dynamics->mj;
    mj_makeM(m, d);
    mj_fullM(m, dynamics->full, d->qM);
    mj_comVel(m, d);
    mj_rne(m, d, 0, d->qfrc_bias);
    for (uint32_t i = 0; i < model->n_joints; i++) {
        dynamics->bias[i] = d->qfrc_bias[model->v_address[i]];
        for (uint32_t j = 0; j < model->n_joints; j++)
            dynamics->inertia[i][j] = dynamics->full[model->v_address[i] * m->nv + model->v_address[j]];
    }
    mju_zero(d->qvel, (int)m->nv);
    mj_comVel(m, d);
    mj_rne(m, d, 0, d->qfrc_bias);
    for (uint32_t i = 0; i < model->n_joints; i++)
        dynamics->gravity[i] = d->qfrc_bias[model->v_address[i]];
}

bool physai_dynamics_update(struct physai_dynamics *dynamics, const double *q, const double *dq,
                            double gripper_width)
{
    const struct physai_model *model = dynamics->model;
    mjData *d = dynamics->mj;
    jmp_buf here;
    if (setjmp(here)) {
        waiting = NULL;
        return false;
    }
    waiting = &here;
    for (uint32_t i = 0; i < model->n_fingers; i++)
        d->qpos[model->finger_address[i]] = gripper_width / model->n_fingers;
    for (uint32_t i = 0; i < model->n_joints; i++)
        d->qvel[model->v_address[i]] = dq[i];
    physai_dynamics_tool(dynamics, q);
    mj_comPos(model->mj, d);
    tool_jacobian(dynamics);
    inertia_and_bias(dynamics);
    waiting = NULL;
    return true;
}

void physai_dynamics_wrench(const struct physai_dynamics *dynamics, const double *tau, double wrench[6])
{
    /* Damping keeps the estimate bounded near singular poses; 1e-3 costs below 1 % elsewhere. */
    const double damping = 1e-3;
    uint32_t n = dynamics->model->n_joints;
    mjtNum square[36], projected[6];
    for (int a = 0; a < 6; a++) {
        projected[a] = 0;
        for (uint32_t i = 0; i < n; i++)
            projected[a] += dynamics->tool_jacobian[a][i] * tau[i];
        for (int b = 0; b < 6; b++) {
            square[6 * a + b] = a == b ? damping : 0;
            for (uint32_t i = 0; i < n; i++)
                square[6 * a + b] += dynamics->tool_jacobian[a][i] * dynamics->tool_jacobian[b][i];
        }
    }
    mju_cholFactor(square, 6, 1e-9);
    mju_cholSolve(wrench, square, projected, 6);
}
