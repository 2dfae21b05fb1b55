/* See physai_inject.h. */
#include "physai_inject.h"

#include "physai_control.h"
#include "physai_trial.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY 64 /* steps that a delay may take */

struct physai_inject {
    struct physai_inject_config config;
    uint64_t random;
    struct physai_state measured[HISTORY];
    struct physai_command commands[HISTORY];
    bool answered[HISTORY];
    uint64_t steps;
    uint64_t newest; /* number of the newest state that was passed on */
    uint64_t withheld;
    struct physai_state passed; /* to the controller, last */
    struct physai_state held;   /* back by a reordering */
    bool holding;
    struct physai_state frozen;
    bool freezing;
    struct physai_status status;
    uint64_t samples;
    struct physai_inject_sample log[PHYSAI_INJECT_LOG_SIZE];
};

struct physai_inject *physai_inject_create(const struct physai_inject_config *config)
{
    if (config->n_events > PHYSAI_INJECT_EVENTS || config->n_watched > PHYSAI_INJECT_WATCHED ||
        !config->cycle || !config->read_status)
        return NULL;
    struct physai_inject *inject = calloc(1, sizeof *inject);
    if (inject) {
        inject->config = *config;
        inject->random = config->seed;
    }
    return inject;
}

void physai_inject_destroy(struct physai_inject *inject)
{
    free(inject);
}

int physai_inject_add(struct physai_inject *inject, const struct physai_inject_event *event)
{
    if (inject->config.n_events == PHYSAI_INJECT_EVENTS)
        return -1;
    inject->config.events[inject->config.n_events++] = *event;
    return 0;
}

int physai_inject_repeats(void)
{
    return physai_trial_enter != NULL;
}

/* ---- random numbers: splitmix64, so that a seed means the same everywhere ---- */

static uint64_t next(struct physai_inject *inject)
{
    uint64_t z = (inject->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(struct physai_inject *inject) /* in [0, 1) */
{
    return (double)(next(inject) >> 11) * 0x1p-53;
}

static double normal(struct physai_inject *inject) /* Box and Muller */
{
    double radius = sqrt(-2 * log(1 - uniform(inject)));
    return radius * cos(6.283185307179586 * uniform(inject));
}

/* ---- values ---- */

static double corrupt(struct physai_inject *inject, const struct physai_inject_event *event, double value)
{
    uint64_t bits;
    switch (event->kind) {
    case PHYSAI_INJECT_OFFSET:
        return value + event->magnitude;
    case PHYSAI_INJECT_NOISE:
        return value + event->magnitude * normal(inject);
    case PHYSAI_INJECT_SCALE:
        return value * event->magnitude;
    case PHYSAI_INJECT_VALUE:
        return event->magnitude;
    case PHYSAI_INJECT_BIT_FLIP:
        memcpy(&bits, &value, sizeof bits);
        bits ^= (uint64_t)1 << ((unsigned)event->magnitude & 63u);
        memcpy(&value, &bits, sizeof bits);
        return value;
    default:
        return value;
    }
}

static void corrupt_values(struct physai_inject *inject, const struct physai_inject_event *event,
                           struct physai_state *state)
{
    double *fields[] = {state->q, state->dq, state->tau, state->opening};
    double *values = fields[event->field & 3u];
    uint32_t n = event->field == PHYSAI_INJECT_GRIPPER ? PHYSAI_MAX_TOOLS : state->n_joints;
    for (uint32_t i = 0; i < n; i++)
        if (event->joint < 0 || (uint32_t)event->joint == i)
            values[i] = corrupt(inject, event, values[i]);
}

static void freeze(struct physai_inject *inject, struct physai_state *state)
{
    if (!inject->freezing)
        inject->frozen = *state;
    inject->freezing = true;
    memcpy(state->q, inject->frozen.q, sizeof state->q);
    memcpy(state->dq, inject->frozen.dq, sizeof state->dq);
    memcpy(state->tau, inject->frozen.tau, sizeof state->tau);
    memcpy(state->opening, inject->frozen.opening, sizeof state->opening);
}

/* ---- the channel ---- */

static bool acts(const struct physai_inject_event *event, double time_s)
{
    return time_s >= event->start_s - 1e-9 && time_s < event->start_s + event->duration_s - 1e-9;
}

/* What reaches the controller of this step's state; false: nothing does. */
static bool deliver(struct physai_inject *inject, double time_s, struct physai_state *state)
{
    bool comes = true, frozen = false, swapping = false;
    for (uint32_t k = 0; k < inject->config.n_events; k++) {
        const struct physai_inject_event *event = &inject->config.events[k];
        if (!acts(event, time_s))
            continue;
        switch (event->kind) {
        case PHYSAI_INJECT_FREEZE:
            freeze(inject, state);
            frozen = true;
            break;
        case PHYSAI_INJECT_FLAG:
            state->flags |= (uint32_t)event->magnitude;
            break;
        case PHYSAI_INJECT_CLOCK:
            state->time_ns += (int64_t)(event->magnitude * 1e9);
            break;
        case PHYSAI_INJECT_STATE_LOSS:
            comes = uniform(inject) >= event->magnitude && comes;
            break;
        case PHYSAI_INJECT_STATE_REPEAT:
            if (uniform(inject) < event->magnitude && inject->passed.seq)
                *state = inject->passed;
            break;
        case PHYSAI_INJECT_STATE_DELAY: {
            uint64_t late = (uint64_t)event->magnitude;
            comes = late < HISTORY && inject->steps >= late && comes;
            if (comes)
                *state = inject->measured[(inject->steps - late) % HISTORY];
            break;
        }
        case PHYSAI_INJECT_STATE_REORDER:
            swapping = inject->holding || uniform(inject) < event->magnitude;
            break;
        default:
            corrupt_values(inject, event, state);
        }
    }
    inject->freezing = frozen;
    if (swapping && !inject->holding) { /* this one goes after the next */
        inject->held = *state;
        inject->holding = true;
        return false;
    }
    return comes;
}

static int pass(struct physai_inject *inject, const struct physai_state *state, int64_t time_ns,
                struct physai_command *command, uint32_t *allocations)
{
    if (state && state->seq > inject->newest)
        inject->newest = state->seq;
    else
        inject->withheld++;
    if (physai_trial_enter)
        physai_trial_enter(time_ns);
    int answer = inject->config.cycle(inject->config.controller, state, command);
    if (physai_trial_leave)
        *allocations += (uint32_t)physai_trial_leave();
    return answer;
}

/* The answer of this step, or of an earlier one that the channel has kept back. */
static int answer_with(struct physai_inject *inject, double time_s, int answer,
                       struct physai_command *command)
{
    uint64_t step = inject->steps;
    inject->commands[step % HISTORY] = *command;
    inject->answered[step % HISTORY] = answer == 1;
    for (uint32_t k = 0; k < inject->config.n_events; k++) {
        const struct physai_inject_event *event = &inject->config.events[k];
        if (!acts(event, time_s))
            continue;
        for (uint32_t i = 0; event->kind == PHYSAI_INJECT_COMMAND_VALUE && i < command->n_joints; i++)
            if (event->joint < 0 || (uint32_t)event->joint == i)
                command->tau[i] = command->q[i] = event->magnitude;
        if (event->kind == PHYSAI_INJECT_COMMAND_LOSS && uniform(inject) < event->magnitude)
            return 0;
        if (event->kind == PHYSAI_INJECT_COMMAND_DELAY) {
            uint64_t late = (uint64_t)event->magnitude;
            if (late >= HISTORY || step < late || !inject->answered[(step - late) % HISTORY])
                return 0;
            *command = inject->commands[(step - late) % HISTORY];
            return 1;
        }
    }
    return answer;
}

static void record(struct physai_inject *inject, double time_s, uint32_t allocations)
{
    struct physai_inject_sample *sample = &inject->log[inject->samples++ % PHYSAI_INJECT_LOG_SIZE];
    struct physai_status *status = &inject->status;
    inject->config.read_status(inject->config.controller, status);
    sample->time_s = time_s;
    sample->state = status->state;
    sample->cause = status->cause;
    sample->cause_joint = status->cause_joint;
    sample->allocations = allocations;
    sample->cause_cycle = status->cause_cycle;
    sample->cycles = status->cycles;
    sample->missed_states = status->missed_states;
    sample->withheld = inject->withheld;
    sample->active_sequence = status->active_sequence;
    sample->space = status->space;
    sample->residual_active = status->residual_active;
    memcpy(sample->reference, status->reference, sizeof sample->reference);
    for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
        memcpy(sample->tool_reference[t], status->tools[t].reference, sizeof sample->tool_reference[t]);
    for (uint32_t i = 0; i < inject->config.n_watched; i++)
        sample->watched[i] = *inject->config.watched[i];
}

int physai_inject_cycle(void *handle, const struct physai_state *truth, struct physai_command *command)
{
    struct physai_inject *inject = handle;
    struct physai_state state = *truth;
    double time_s = (double)truth->time_ns * 1e-9;
    uint32_t allocations = 0;
    inject->measured[inject->steps % HISTORY] = *truth;
    bool comes = deliver(inject, time_s, &state);
    memset(command, 0, sizeof *command);
    int answer = pass(inject, comes ? &state : NULL, truth->time_ns, command, &allocations);
    if (comes && inject->holding) { /* the one that was overtaken */
        struct physai_command late;
        inject->holding = false;
        pass(inject, &inject->held, truth->time_ns, &late, &allocations);
    }
    if (comes)
        inject->passed = state;
    answer = answer_with(inject, time_s, answer, command);
    inject->steps++;
    record(inject, time_s, allocations);
    return answer;
}

int physai_inject_log(const struct physai_inject *inject, struct physai_inject_sample *samples, int size)
{
    uint64_t kept = inject->samples < PHYSAI_INJECT_LOG_SIZE ? inject->samples : PHYSAI_INJECT_LOG_SIZE;
    uint64_t count = kept < (uint64_t)size ? kept : (uint64_t)size;
    for (uint64_t i = 0; i < count; i++)
        samples[i] = inject->log[(inject->samples - count + i) % PHYSAI_INJECT_LOG_SIZE];
    return (int)count;
}
