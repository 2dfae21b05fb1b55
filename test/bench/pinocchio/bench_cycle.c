/*
 * Times one cycle of the control core, our dynamics alone, and the same terms by Pinocchio, on the same
 * recorded states. Driven by test/bench/bench_cycle.py.
 */
#define _GNU_SOURCE /* dlsym's RTLD_DEFAULT */
#include "model/dynamics.h"
#include "terms.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

_Static_assert(TERMS_JOINTS == PHYSAI_MAX_JOINTS, "arrays are of one width");

/* What is timed. */
enum {
    PINOCCHIO,      /* its terms */
    PINOCCHIO_TOOL, /* these, the inertia at the tool and the null space's projector */
    DYNAMICS,
    CYCLE,
    SIDES
};

typedef int (*cycle_function)(void *, const struct physai_state *, struct physai_command *);
typedef long (*count_function)(void);

struct recorded {
    struct physai_state state;
    struct physai_command command;
};

struct bench {
    struct terms_pinocchio *pinocchio;
    struct physai_model model;
    struct physai_dynamics dynamics;
    cycle_function cycle;
    void *control;
    struct recorded *recorded;
    long count, room;
    count_function count_allocations, count_locks; /* NULL where nothing counts them */
    long allocations[SIDES], locks[SIDES];
    double replay_difference; /* Nm, between the torques recorded and those of a replay */
};

static long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Not-a-number stays. */
static void keep_worst(double *worst, const double *ours, const double *theirs, int count, double scale)
{
    for (int i = 0; i < count; i++) {
        double difference = fabs(ours[i] - theirs[i]) / scale;
        if (!(difference <= *worst))
            *worst = difference;
    }
}

PHYSAI_API struct bench *bench_open(const struct terms_arm *arm, const struct physai_control_config *config,
                                    char *text, size_t text_size)
{
    struct bench *b = calloc(1, sizeof *b);
    if (!b || physai_model_load(&b->model, config, text, text_size))
        return NULL;
    physai_dynamics_init(&b->dynamics, &b->model);
    b->pinocchio = terms_open(arm);
    *(void **)&b->count_allocations = dlsym(RTLD_DEFAULT, "physai_malloc_count");
    *(void **)&b->count_locks = dlsym(RTLD_DEFAULT, "physai_lock_count");
    return b;
}

/* The core that is recorded or timed from now on. */
PHYSAI_API void bench_use(struct bench *b, cycle_function cycle, void *control)
{
    b->cycle = cycle;
    b->control = control;
}

/* In the core's place while the cell runs. */
PHYSAI_API int bench_record(struct bench *b, const struct physai_state *state, struct physai_command *command)
{
    int sent = b->cycle(b->control, state, command);
    if (!state)
        return sent;
    if (b->count == b->room) {
        b->room = 2 * b->room + 1024;
        b->recorded = realloc(b->recorded, (size_t)b->room * sizeof *b->recorded);
        if (!b->recorded)
            abort();
    }
    b->recorded[b->count++] = (struct recorded){*state, *command};
    return sent;
}

PHYSAI_API long bench_recorded(const struct bench *b)
{
    return b->count;
}

/* How far their inertia at the tool is from the inverse of our J M^-1 J^T, and their projector from ours. */
static void compare_tool(struct bench *b, const struct terms *theirs, double *worst)
{
    struct physai_dynamics *ours = &b->dynamics;
    double weighted[PHYSAI_MAX_JOINTS][6], mobility[6][6], unit[6][6], back[6];
    int n = (int)b->model.n_joints;
    physai_dynamics_factor(ours);
    physai_dynamics_weigh_tool(ours, 0, weighted);
    for (int a = 0; a < 6; a++) {
        for (int c = 0; c < 6; c++) {
            mobility[a][c] = 0;
            for (int i = 0; i < n; i++)
                mobility[a][c] += ours->tools[0].jacobian[a][i] * weighted[i][c];
        }
    }
    for (int a = 0; a < 6; a++) {
        for (int c = 0; c < 6; c++) {
            unit[a][c] = a == c ? -1 : 0;
            for (int k = 0; k < 6; k++)
                unit[a][c] += theirs->tool_inertia[a][k] * mobility[k][c];
            keep_worst(worst, &unit[a][c], &(double){0}, 1, 1);
        }
    }
    for (int j = 0; j < n; j++) { /* 1 - J^T L J M^-1, column by column */
        for (int a = 0; a < 6; a++) {
            back[a] = 0;
            for (int c = 0; c < 6; c++)
                back[a] += theirs->tool_inertia[a][c] * weighted[j][c];
        }
        for (int i = 0; i < n; i++) {
            double projector = i == j ? 1 : 0;
            for (int a = 0; a < 6; a++)
                projector -= ours->tools[0].jacobian[a][i] * back[a];
            keep_worst(worst, &projector, &theirs->null_space[i][j], 1, 1);
        }
    }
}

/*
 * The largest relative difference between Pinocchio's terms and ours over the recorded states, with the
 * gripper open by `width` m on both sides.
 */
PHYSAI_API double bench_agreement(struct bench *b, double width)
{
    double worst = 0;
    static struct terms theirs;
    const struct physai_dynamics *ours = &b->dynamics;
    int n = (int)b->model.n_joints;
    for (long k = 0; k < b->count; k++) {
        const struct physai_state *state = &b->recorded[k].state;
        terms_update(b->pinocchio, state->q, state->dq);
        terms_update_tool(b->pinocchio);
        terms_read(b->pinocchio, &theirs);
        physai_dynamics_update(&b->dynamics, state->q, state->dq, &width);
        double torque = 1, motion = 1;
        for (int i = 0; i < n; i++)
            torque = fmax(torque, fabs(theirs.bias[i]));
        for (int a = 0; a < 6; a++)
            motion = fmax(motion, fabs(theirs.drift[a]));
        keep_worst(&worst, ours->bias, theirs.bias, n, torque);
        keep_worst(&worst, ours->gravity, theirs.gravity, n, torque);
        for (int i = 0; i < n; i++)
            keep_worst(&worst, ours->inertia[i], theirs.inertia[i], n, 1);
        for (int a = 0; a < 6; a++)
            keep_worst(&worst, ours->tools[0].jacobian[a], theirs.jacobian[a], n, 1);
        keep_worst(&worst, ours->tools[0].position, theirs.position, 3, 1);
        keep_worst(&worst, ours->tools[0].rotation, theirs.rotation, 9, 1);
        keep_worst(&worst, ours->tools[0].drift, theirs.drift, 6, motion);
        compare_tool(b, &theirs, &worst);
    }
    return worst;
}

/*
 * Gives the recorded states [first, last) to one side. The ns of each call but the first `skip`, which warm
 * the caches up, go to `times`. Returns how many those are.
 */
PHYSAI_API long bench_block(struct bench *b, int side, long first, long last, long skip, double *times)
{
    long timed = 0;
    struct physai_command command;
    for (long k = first; k < last; k++) {
        const struct physai_state *state = &b->recorded[k].state;
        long allocations = b->count_allocations ? b->count_allocations() : 0;
        long locks = b->count_locks ? b->count_locks() : 0;
        long begin = now_ns();
        if (side == PINOCCHIO || side == PINOCCHIO_TOOL)
            terms_update(b->pinocchio, state->q, state->dq);
        if (side == PINOCCHIO_TOOL)
            terms_update_tool(b->pinocchio);
        if (side == DYNAMICS)
            physai_dynamics_update(&b->dynamics, state->q, state->dq, state->opening);
        if (side == CYCLE)
            b->cycle(b->control, state, &command);
        long end = now_ns();
        b->allocations[side] += b->count_allocations ? b->count_allocations() - allocations : 0;
        b->locks[side] += b->count_locks ? b->count_locks() - locks : 0;
        if (side == CYCLE)
            keep_worst(&b->replay_difference, command.tau, b->recorded[k].command.tau, (int)state->n_joints,
                       1);
        if (k >= first + skip)
            times[timed++] = (double)(end - begin);
    }
    return timed;
}

static int compare(const void *a, const void *b)
{
    long left = *(const long *)a, right = *(const long *)b;
    return (left > right) - (left < right);
}

/* Median ns between two readings of the clock; it is in every time above. */
PHYSAI_API double bench_clock_ns(void)
{
    enum {
        READINGS = 10001
    };
    static long between[READINGS];
    for (int k = 0; k < READINGS; k++) {
        long begin = now_ns();
        between[k] = now_ns() - begin;
    }
    qsort(between, READINGS, sizeof *between, compare);
    return (double)between[READINGS / 2];
}

/* Calls of malloc, free and their like by one side; -1 where nothing counts them. */
PHYSAI_API long bench_allocations(const struct bench *b, int side)
{
    return b->count_allocations ? b->allocations[side] : -1;
}

/* Likewise of what takes a lock. */
PHYSAI_API long bench_locks(const struct bench *b, int side)
{
    return b->count_locks ? b->locks[side] : -1;
}

PHYSAI_API double bench_replay_difference(const struct bench *b)
{
    return b->replay_difference;
}
