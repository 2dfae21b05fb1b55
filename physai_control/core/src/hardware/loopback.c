/*
 * The `loopback` backend: a robot that is always exactly where it was asked to be, for use without one.
 *
 * It has no physics. The loop is paced by its timer and the core does all of its work, so this is what
 * `physai rt-check` runs on, and what a policy or a user interface can be tried against.
 *
 * Options: start=<angle of every joint, rad, separated by spaces>, opening=<of every gripper, likewise, in
 * its unit; without it they are closed>.
 */
#include "hardware/backend.h"
#include "physai_hardware.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct robot {
    struct physai_state state;
    int64_t ros_minus_monotonic_ns; /* taken once: a step of the wall clock changes nothing */
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Reads `n` finite numbers that fill the line. */
static int numbers(const char *text, uint32_t n, double *values)
{
    for (uint32_t i = 0; i < n; i++) {
        size_t blanks = strspn(text, " ,\t");
        char *end;
        if (text[blanks] == '\n')
            return 0;
        values[i] = strtod(text + blanks, &end);
        if (end == text + blanks || !isfinite(values[i]))
            return 0;
        text = end;
    }
    text += strspn(text, " ");
    return *text == '\n' || *text == '\0';
}

static int loopback_open(const struct physai_hardware_config *config, void **handle, char *text,
                         size_t text_size)
{
    struct physai_state state = {.n_joints = config->n_joints};
    struct physai_option options[] = {
        {.name = "start", .initial = ""},
        {.name = "opening", .initial = ""},
    };
    if (physai_options_read("loopback", config->options, options, sizeof options / sizeof *options, text,
                            text_size) != 0)
        return -1;
    if (!numbers(options[0].text, config->n_joints, state.q)) {
        snprintf(text, text_size, "loopback option start must be %u finite angles in rad, got '%s'",
                 config->n_joints, options[0].text);
        return -1;
    }
    for (uint32_t t = 0; t < config->n_tools; t++)
        state.opening[t] = config->grippers[t].opening_min;
    if (options[1].text[0] && !numbers(options[1].text, config->n_tools, state.opening)) {
        snprintf(text, text_size, "loopback option opening must be %u finite numbers, got '%s'",
                 config->n_tools, options[1].text);
        return -1;
    }
    struct robot *robot = calloc(1, sizeof *robot);
    if (!robot) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    robot->state = state;
    robot->ros_minus_monotonic_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
    *handle = robot;
    return 0;
}

static int loopback_read(void *handle, struct physai_state *state, int64_t timeout_ns)
{
    struct robot *robot = handle;
    (void)timeout_ns;
    robot->state.seq++;
    robot->state.published_ns = clock_ns(CLOCK_MONOTONIC);
    robot->state.time_ns = robot->state.published_ns + robot->ros_minus_monotonic_ns;
    *state = robot->state;
    return PHYSAI_HARDWARE_OK;
}

static int loopback_write(void *handle, const struct physai_command *command)
{
    struct physai_state *state = &((struct robot *)handle)->state;
    memcpy(state->opening, command->opening, sizeof state->opening);
    if (command->flags & PHYSAI_COMMAND_ENABLE) {
        memcpy(state->q, command->q, sizeof state->q);
        memcpy(state->dq, command->dq, sizeof state->dq);
        memcpy(state->tau, command->tau, sizeof state->tau);
    } else { /* on its brakes */
        memset(state->dq, 0, sizeof state->dq);
        memset(state->tau, 0, sizeof state->tau);
    }
    return PHYSAI_HARDWARE_OK;
}

static void loopback_close(void *handle)
{
    free(handle);
}

const struct physai_hardware *physai_hardware_entry(void)
{
    static const struct physai_hardware backend = {
        .abi = PHYSAI_HARDWARE_ABI,
        .paces = 0,
        .name = "loopback",
        .open = loopback_open,
        .read = loopback_read,
        .write = loopback_write,
        .close = loopback_close,
    };
    return &backend;
}
