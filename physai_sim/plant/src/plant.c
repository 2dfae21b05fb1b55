/* See physai_plant.h. */
#include "clock.h"
#include "physai_plant.h"
#include "physai_shm.h"

#include <math.h>
#include <mujoco/mujoco.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS              1000000000LL
#define MISSING_WAIT_NS 1000000  /* while commands are missing, each is waited for this long */
#define ALIVE_CHECK_NS  5000000  /* a waiting plant asks this often whether the controller lives */
#define STALL_NS        10000000 /* behind schedule by more: time that was lost is not made up */
#define DAMPING         25.0     /* Nms/rad, while the gate damps */
#define BRAKE_SHARE     3.0      /* of a joint's torque limit, that its closed brake holds */
#define BRAKE_TIME_S    0.002    /* within which a closed brake stops the joint: two steps */
#define BRAKE_IMPEDANCE 0.9999   /* of a constraint in MuJoCo's sense: what holds is all but rigid */
#define FINGER_GAP      0.1875 /* of a finger's way: so far from where it is wanted it takes its full force */
#define FINGER_TIME_S   0.03   /* its damping over its stiffness */
#define STIFFEST        0.1    /* of a finger's inertia over the step squared: what the integrator bears, */
#define MOST_DAMPED     0.5    /* and of its inertia over the step */
#define FARTHEST        10.0   /* m or rad that no gripper opens by */

struct physai_plant {
    mjModel *model;
    mjData *data;
    struct physai_plant_config config;
    struct physai_shm shm;
    physai_cycle cycle;
    void *controller;
    uint64_t seq;
    uint32_t steps; /* since the controller's last cycle */
    enum physai_gate gate;
    uint32_t missed;
    double gate_time_s; /* when the gate latched */
    bool repositioned;
    bool armed;                           /* a controller has driven the arm */
    bool braked;                          /* the brakes are in the model's friction */
    double target[PHYSAI_MAX_JOINTS];     /* commanded: Nm, or rad where servos follow */
    double torque[PHYSAI_MAX_JOINTS];     /* commanded, the servos' or the gate's */
    double own[PHYSAI_MAX_JOINTS];        /* that the robot adds to a command of its own */
    double seen[PHYSAI_MAX_JOINTS];       /* rad and rad/s of the last state, of a robot that measures */
    double seen_speed[PHYSAI_MAX_JOINTS]; /* positions alone */
    double seen_s;
    uint64_t commands; /* since the arm was enabled */
    double delayed[PHYSAI_PLANT_DELAYS][PHYSAI_MAX_JOINTS];
    double opening[PHYSAI_MAX_TOOLS], grip_force[PHYSAI_MAX_TOOLS]; /* wanted; at most */
    struct dry_friction {
        mjtNum loss, reference[mjNREF], impedance[mjNIMP];
    } joint_friction[PHYSAI_MAX_JOINTS]; /* of the model, without brakes */
    double joint_damping[PHYSAI_MAX_JOINTS];
    struct finger {
        double share; /* of the gripper's force, N or Nm for each N or Nm of it */
        double stiffness, damping;
    } fingers[PHYSAI_MAX_TOOLS][PHYSAI_MAX_FINGERS];
    int64_t deadline_ns;
    _Atomic int interrupted;
    uint64_t samples;
    struct physai_plant_sample log[PHYSAI_PLANT_LOG_SIZE];
};

uint32_t physai_plant_abi_version(void)
{
    return PHYSAI_PLANT_ABI;
}

static struct dry_friction get_friction(const mjModel *m, int dof)
{
    struct dry_friction friction = {.loss = m->dof_frictionloss[dof]};
    memcpy(friction.reference, m->dof_solref + mjNREF * dof, sizeof friction.reference);
    memcpy(friction.impedance, m->dof_solimp + mjNIMP * dof, sizeof friction.impedance);
    return friction;
}

static void set_friction(mjModel *m, int dof, const struct dry_friction *friction)
{
    m->dof_frictionloss[dof] = friction->loss;
    memcpy(m->dof_solref + mjNREF * dof, friction->reference, sizeof friction->reference);
    memcpy(m->dof_solimp + mjNIMP * dof, friction->impedance, sizeof friction->impedance);
}

static bool fingers_fit(const struct physai_plant_config *config)
{
    for (uint32_t t = 0; t < config->n_tools; t++) {
        if (config->grippers[t].n_fingers > PHYSAI_MAX_FINGERS)
            return false;
        for (uint32_t f = 0; f < config->grippers[t].n_fingers; f++)
            if (physai_finger_ratio(&config->grippers[t], f) == 0)
                return false;
    }
    return true;
}

/* The mean of what the fingers say. Without fingers, as of suction, it is what was commanded. */
static double measure_opening(const struct physai_plant *p, uint32_t tool)
{
    const struct physai_gripper *gripper = &p->config.grippers[tool];
    double sum = 0;
    for (uint32_t f = 0; f < gripper->n_fingers; f++)
        sum += physai_finger_opening(gripper, f, p->data->qpos[p->config.finger_qpos[tool][f]]);
    return gripper->n_fingers ? sum / gripper->n_fingers : p->opening[tool];
}

/*
 * A gripper's force is that of its two pads together, of a hinge that of the joint. By virtual work a finger
 * takes a part of it that is the smaller the further it moves while the gripper opens.
 */
static struct finger make_finger(const struct physai_plant *p, uint32_t tool, uint32_t f)
{
    const struct physai_gripper *gripper = &p->config.grippers[tool];
    double ratio = fabs(physai_finger_ratio(gripper, f)),
           pads = gripper->kind == PHYSAI_GRIPPER_HINGE ? 1 : 2;
    double way = fabs(gripper->fingers[f].open - gripper->fingers[f].closed);
    double share = 1 / (pads * ratio * gripper->n_fingers), step = p->model->opt.timestep;
    double inertia = p->model->dof_M0[p->config.finger_dof[tool][f]];
    double stiffness = gripper->force * share / (FINGER_GAP * way);
    return (struct finger){.share = share,
                           .stiffness = fmin(stiffness, STIFFEST * inertia / (step * step)),
                           .damping = fmin(FINGER_TIME_S * stiffness, MOST_DAMPED * inertia / step)};
}

/* What the joints of the present model are without brakes, damping and grip. */
static void adopt_model(struct physai_plant *p)
{
    const struct physai_plant_config *config = &p->config;
    p->model->opt.disableflags |= mjDSBL_AUTORESET; /* it would hide that physics diverged */
    for (uint32_t i = 0; i < config->n_joints; i++) {
        p->joint_damping[i] = p->model->dof_damping[config->dof[i]];
        p->joint_friction[i] = get_friction(p->model, config->dof[i]);
    }
    for (uint32_t t = 0; t < config->n_tools; t++)
        for (uint32_t f = 0; f < config->grippers[t].n_fingers; f++)
            p->fingers[t][f] = make_finger(p, t, f);
    p->braked = false;
}

/* The model may get another plant. */
static void leave_model(struct physai_plant *p)
{
    for (uint32_t i = 0; i < p->config.n_joints; i++) {
        p->model->dof_damping[p->config.dof[i]] = p->joint_damping[i];
        set_friction(p->model, p->config.dof[i], &p->joint_friction[i]);
    }
}

int physai_plant_create(void *model, void *data, const struct physai_plant_config *config,
                        struct physai_plant **plant, char *text, size_t text_size)
{
    if (!model || !data || config->abi != PHYSAI_PLANT_ABI || config->n_joints < 1 ||
        config->n_joints > PHYSAI_MAX_JOINTS || config->n_tools > PHYSAI_MAX_TOOLS || !fingers_fit(config) ||
        config->command_delay_steps >= PHYSAI_PLANT_DELAYS || config->cycle_steps < 1) {
        snprintf(text, text_size, "wrong plant configuration");
        return -1;
    }
    if (mj_version() != mjVERSION_HEADER) {
        snprintf(text, text_size, "libmujoco is version %d, this library was built for %d; rebuild it",
                 mj_version(), mjVERSION_HEADER);
        return -1;
    }
    struct physai_plant *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    p->model = model;
    p->data = data;
    p->config = *config;
    p->shm.file = -1;
    adopt_model(p);
    for (uint32_t t = 0; t < config->n_tools; t++) {
        p->opening[t] = config->grippers[t].opening_max;
        p->opening[t] = measure_opening(p, t);
        p->grip_force[t] = config->grippers[t].force;
    }
    if (config->shm_name[0] &&
        physai_shm_create(&p->shm, config->shm_name, config->n_joints,
                          (const char (*)[PHYSAI_NAME_SIZE])config->joint_names, text, text_size) != 0) {
        free(p);
        return -1;
    }
    *plant = p;
    return 0;
}

void physai_plant_destroy(struct physai_plant *p)
{
    if (!p)
        return;
    leave_model(p);
    physai_shm_close(&p->shm);
    free(p);
}

void physai_plant_move(struct physai_plant *p, void *model, void *data,
                       const struct physai_plant_config *config)
{
    leave_model(p);
    p->model = model;
    p->data = data;
    memcpy(p->config.qpos, config->qpos, sizeof p->config.qpos);
    memcpy(p->config.dof, config->dof, sizeof p->config.dof);
    memcpy(p->config.finger_qpos, config->finger_qpos, sizeof p->config.finger_qpos);
    memcpy(p->config.finger_dof, config->finger_dof, sizeof p->config.finger_dof);
    adopt_model(p);
}

void physai_plant_set_controller(struct physai_plant *p, physai_cycle cycle, void *controller)
{
    p->cycle = cycle;
    p->controller = controller;
}

void physai_plant_interrupt(struct physai_plant *p)
{
    atomic_store(&p->interrupted, 1);
}

uint32_t physai_plant_gate(const struct physai_plant *p)
{
    return p->gate;
}

void physai_plant_reset(struct physai_plant *p)
{
    p->gate = PHYSAI_GATE_BRAKED;
    p->armed = false;
    p->missed = 0;
    p->steps = 0;
    p->repositioned = true;
    for (uint32_t t = 0; t < p->config.n_tools; t++) {
        p->opening[t] = p->config.grippers[t].opening_max; /* nothing is held where there are no fingers */
        p->opening[t] = measure_opening(p, t);
    }
}

static bool latched(const struct physai_plant *p)
{
    return p->gate == PHYSAI_GATE_DAMPING || p->gate == PHYSAI_GATE_LATCHED;
}

/* ---- the controller's answer to one state ---- */

/* Its interface makes velocities of them, and says so. */
static void measure_positions_alone(struct physai_plant *p, struct physai_state *state)
{
    double step_s = p->data->time - p->seen_s;
    bool first = state->seq == 1 || p->repositioned || !(step_s > 0);
    for (uint32_t i = 0; i < p->config.n_joints; i++) {
        p->seen_speed[i] = first ? 0 : physai_speed_of(p->seen_speed[i], p->seen[i], state->q[i], step_s);
        p->seen[i] = state->q[i];
        state->dq[i] = p->seen_speed[i];
        state->tau[i] = 0;
    }
    p->seen_s = p->data->time;
    state->flags |= PHYSAI_STATE_NO_VELOCITY | PHYSAI_STATE_NO_TORQUE;
}

static void measure(struct physai_plant *p, struct physai_state *state)
{
    const mjData *d = p->data;
    memset(state, 0, sizeof *state);
    state->seq = ++p->seq;
    state->time_ns = llround(d->time * 1e9);
    state->published_ns = physai_clock_ns();
    state->n_joints = p->config.n_joints;
    if (latched(p))
        state->flags |= PHYSAI_STATE_GATE_LATCHED;
    if (p->repositioned)
        state->flags |= PHYSAI_STATE_REPOSITIONED;
    for (uint32_t i = 0; i < p->config.n_joints; i++) {
        state->q[i] = d->qpos[p->config.qpos[i]];
        state->dq[i] = d->qvel[p->config.dof[i]];
        state->tau[i] = p->torque[i] + p->own[i];
    }
    for (uint32_t t = 0; t < p->config.n_tools; t++)
        state->opening[t] = measure_opening(p, t);
    if (p->config.takes_positions)
        measure_positions_alone(p, state);
}

/*
 * Wait for the command that answers `seq`. A living controller may be slow: simulated time waits for it up
 * to grace_s. A dead one is found at once, and once commands are missing none is waited for any longer.
 */
static bool await_command(struct physai_plant *p, uint64_t seq, struct physai_command *command, bool *dead)
{
    struct physai_shm_segment *segment = p->shm.segment;
    int64_t now_ns = physai_clock_ns();
    int64_t end_ns = now_ns + (p->missed ? MISSING_WAIT_NS : (int64_t)(p->config.grace_s * 1e9));
    while (now_ns < end_ns && !atomic_load(&p->interrupted)) {
        int64_t slice_ns = now_ns + ALIVE_CHECK_NS < end_ns ? now_ns + ALIVE_CHECK_NS : end_ns;
        if (physai_shm_wait_for(&segment->command.word, (uint32_t)seq, slice_ns))
            return physai_shm_read(&segment->command, command, sizeof *command) && command->seq == seq;
        if (!atomic_load_explicit(&segment->attached, memory_order_acquire))
            return false;
        if (!physai_shm_peer_alive(&p->shm)) {
            *dead = true;
            return false;
        }
        now_ns = physai_clock_ns();
    }
    return false;
}

static bool attached(struct physai_plant *p)
{
    if (p->cycle)
        return true;
    return p->shm.segment && atomic_load_explicit(&p->shm.segment->attached, memory_order_acquire);
}

static bool exchange(struct physai_plant *p, struct physai_command *command, bool *dead)
{
    struct physai_state state;
    measure(p, &state);
    p->repositioned = false;
    if (p->cycle)
        return p->cycle(p->controller, &state, command) == 1 && command->seq == state.seq;
    struct physai_shm_segment *segment = p->shm.segment;
    if (!segment)
        return false;
    atomic_store_explicit(&segment->published_ns, state.published_ns, memory_order_relaxed);
    physai_shm_write(&segment->state, &state, sizeof state, state.seq);
    return attached(p) && await_command(p, state.seq, command, dead);
}

/* Finite and within the limits; written so that NaN fails. */
static bool credible(const struct physai_plant *p, const struct physai_command *command)
{
    for (uint32_t i = 0; i < p->config.n_joints; i++)
        if (p->config.takes_positions ? !(fabs(command->q[i]) <= FARTHEST)
                                      : !(fabs(command->tau[i]) <= p->config.torque_limit[i] * 1.001))
            return false;
    for (uint32_t t = 0; t < p->config.n_tools; t++)
        if (!(fabs(command->opening[t]) <= FARTHEST && command->grip_force[t] >= 0))
            return false;
    return true;
}

/* ---- the gate ---- */

static void latch(struct physai_plant *p)
{
    p->gate = PHYSAI_GATE_DAMPING;
    p->gate_time_s = p->data->time;
}

/* Take a command now or, in a slow drive, the one of some commands ago: the first until there are more. */
static void take_target(struct physai_plant *p, const double *target)
{
    uint64_t delay = p->config.command_delay_steps;
    p->commands = p->armed ? p->commands + 1 : 0;
    memcpy(p->delayed[p->commands % PHYSAI_PLANT_DELAYS], target, sizeof p->target);
    uint64_t due = p->commands < delay ? 0 : p->commands - delay;
    memcpy(p->target, p->delayed[due % PHYSAI_PLANT_DELAYS], sizeof p->target);
}

static void accept(struct physai_plant *p, const struct physai_command *command)
{
    p->missed = 0;
    if (!(command->flags & PHYSAI_COMMAND_ENABLE)) {
        p->gate = PHYSAI_GATE_BRAKED;
        p->armed = false;
        return;
    }
    take_target(p, p->config.takes_positions ? command->q : command->tau);
    p->gate = PHYSAI_GATE_DRIVEN;
    p->armed = true;
    for (uint32_t t = 0; t < p->config.n_tools; t++) {
        p->opening[t] = command->opening[t];
        p->grip_force[t] = fmin(command->grip_force[t], p->config.grippers[t].force);
    }
}

static double cycle_s(const struct physai_plant *p)
{
    return p->config.cycle_steps * p->model->opt.timestep;
}

static void update_gate(struct physai_plant *p)
{
    struct physai_command command;
    bool dead = false;
    bool came = exchange(p, &command, &dead) && credible(p, &command);
    if (latched(p)) {
        if (p->gate == PHYSAI_GATE_DAMPING && p->data->time - p->gate_time_s >= p->config.damping_s)
            p->gate = PHYSAI_GATE_LATCHED;
    } else if (came) {
        accept(p, &command);
    } else if (!p->armed || !attached(p)) {
        p->gate = PHYSAI_GATE_BRAKED;
        p->armed = false;
    } else {
        p->gate = PHYSAI_GATE_MISSING;
        p->missed++;
        if (dead || p->missed * cycle_s(p) >= p->config.gate_s)
            latch(p);
    }
}

/* Nm that carry what hangs on a hinge. */
static double weight(const struct physai_plant *p, int dof)
{
    const mjModel *m = p->model;
    int joint = m->dof_jntid[dof], body = m->jnt_bodyid[joint];
    mjtNum arm[3], pull[3], moment[3];
    mju_sub3(arm, p->data->subtree_com + 3 * body, p->data->xanchor + 3 * joint);
    mju_scl3(pull, m->opt.gravity, -m->body_subtreemass[body]);
    mju_cross(moment, arm, pull);
    return mju_dot3(moment, p->data->xaxis + 3 * joint);
}

/* Nm of a joint's drive, of which the arm's weight is a part where the robot carries it. */
static double drive(const struct physai_plant *p, uint32_t i, int dof)
{
    const struct physai_plant_config *config = &p->config;
    if (!config->takes_positions)
        return p->target[i];
    double carries = config->adds_gravity ? p->own[i] : p->data->qfrc_bias[dof];
    double gap = p->target[i] - p->data->qpos[config->qpos[i]];
    double speed = config->servo_stiffness[i] / config->servo_damping[i] * gap;
    speed = fmax(-config->servo_speed[i], fmin(config->servo_speed[i], speed));
    double torque = config->servo_damping[i] * (speed - p->data->qvel[dof]);
    double all = fmax(-config->torque_limit[i], fmin(config->torque_limit[i], torque + carries));
    return all - p->own[i];
}

/* A closed brake is dry friction: it holds what it can and slips beyond, in contact as well as free. */
static void set_brakes(struct physai_plant *p, bool closed)
{
    if (closed == p->braked)
        return;
    p->braked = closed;
    for (uint32_t i = 0; i < p->config.n_joints; i++) {
        const struct dry_friction brake = {
            .loss = BRAKE_SHARE * p->config.torque_limit[i],
            .reference = {BRAKE_TIME_S, 1},
            .impedance = {BRAKE_IMPEDANCE, BRAKE_IMPEDANCE, 0.001, 0.5, 2},
        };
        set_friction(p->model, p->config.dof[i], closed ? &brake : &p->joint_friction[i]);
    }
    mj_step1(p->model, p->data); /* this step's constraints were made without them */
}

/* Each finger is driven to where the opening wants it. */
static void drive_fingers(struct physai_plant *p, uint32_t tool)
{
    const struct physai_gripper *gripper = &p->config.grippers[tool];
    mjData *d = p->data;
    for (uint32_t f = 0; f < gripper->n_fingers; f++) {
        int qpos = p->config.finger_qpos[tool][f], dof = p->config.finger_dof[tool][f];
        const struct finger *finger = &p->fingers[tool][f];
        double limit = p->grip_force[tool] * finger->share;
        double gap = physai_finger_position(gripper, f, p->opening[tool]) - d->qpos[qpos];
        double force = finger->stiffness * gap - finger->damping * d->qvel[dof];
        d->qfrc_applied[dof] = fmax(-limit, fmin(limit, force));
    }
}

static void apply(struct physai_plant *p)
{
    mjData *d = p->data;
    const struct physai_plant_config *config = &p->config;
    bool driven = p->gate == PHYSAI_GATE_DRIVEN || p->gate == PHYSAI_GATE_MISSING;
    set_brakes(p, !driven && p->gate != PHYSAI_GATE_DAMPING);
    for (uint32_t i = 0; i < config->n_joints; i++) {
        int dof = config->dof[i];
        /* Damping through the model is integrated implicitly. */
        p->model->dof_damping[dof] = p->joint_damping[i] + (p->gate == PHYSAI_GATE_DAMPING ? DAMPING : 0);
        p->own[i] = driven && config->adds_gravity ? weight(p, dof) : 0;
        p->torque[i] = driven ? drive(p, i, dof) : d->qfrc_bias[dof];
        d->qfrc_applied[dof] = p->torque[i] + p->own[i];
    }
    for (uint32_t t = 0; t < config->n_tools; t++)
        drive_fingers(p, t);
}

static void record(struct physai_plant *p)
{
    struct physai_plant_sample *sample = &p->log[p->samples++ % PHYSAI_PLANT_LOG_SIZE];
    sample->time_s = p->data->time;
    sample->gate = p->gate;
    sample->missed = p->missed;
    for (uint32_t i = 0; i < p->config.n_joints; i++) {
        sample->q[i] = p->data->qpos[p->config.qpos[i]];
        sample->dq[i] = p->data->qvel[p->config.dof[i]];
        sample->tau[i] = p->torque[i] + p->own[i];
    }
}

int physai_plant_log(const struct physai_plant *p, struct physai_plant_sample *samples, int size)
{
    uint64_t kept = p->samples < PHYSAI_PLANT_LOG_SIZE ? p->samples : PHYSAI_PLANT_LOG_SIZE;
    uint64_t count = kept < (uint64_t)size ? kept : (uint64_t)size;
    for (uint64_t i = 0; i < count; i++)
        samples[i] = p->log[(p->samples - count + i) % PHYSAI_PLANT_LOG_SIZE];
    return (int)count;
}

/* ---- pace ---- */

static void keep_pace(struct physai_plant *p)
{
    if (!(p->config.real_time_factor > 0))
        return;
    int64_t now_ns = physai_clock_ns();
    p->deadline_ns += (int64_t)(p->model->opt.timestep / p->config.real_time_factor * 1e9);
    if (now_ns - p->deadline_ns > STALL_NS)
        p->deadline_ns = now_ns;
    struct timespec until = {.tv_sec = p->deadline_ns / NS, .tv_nsec = p->deadline_ns % NS};
    if (p->deadline_ns > now_ns)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

int physai_plant_run(struct physai_plant *p, int n)
{
    if (p->shm.segment)
        atomic_store_explicit(&p->shm.segment->phase, PHYSAI_SHM_RUNNING, memory_order_release);
    int done = 0;
    while (done < n && !atomic_load(&p->interrupted)) {
        /* Bias forces of the present state, for the gate's gravity compensation. */
        mj_step1(p->model, p->data);
        if (p->steps == 0)
            update_gate(p);
        p->steps = (p->steps + 1) % p->config.cycle_steps; /* between cycles the last torque is held */
        apply(p);
        mj_step2(p->model, p->data);
        record(p);
        done++;
        for (int i = 0; i < p->model->nv; i++)
            if (!isfinite(p->data->qvel[i]))
                return -1;
        keep_pace(p);
    }
    if (p->shm.segment)
        atomic_store_explicit(&p->shm.segment->phase, PHYSAI_SHM_PAUSED, memory_order_release);
    return done;
}
