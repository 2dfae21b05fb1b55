/* The real-time thread and the hardware that it drives. */
#include "internal.h"
#include "realtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One read: a state, nothing, or an end. `deadline_ns` is when a timer-paced loop wakes. */
static const struct physai_state *wait_for_state(struct physai_control *c, struct physai_state *state,
                                                 int64_t deadline_ns, int64_t period_ns)
{
    if (!c->hardware->paces) {
        physai_sleep_until(deadline_ns);
        c->wake_ns = physai_clock_ns() - deadline_ns;
    }
    int result = c->hardware->read(c->handle, state, c->hardware->paces ? period_ns : 0);
    if (result == PHYSAI_HARDWARE_OK) {
        if (c->hardware->paces && state->published_ns > 0)
            c->wake_ns = physai_clock_ns() - state->published_ns;
        c->standing_still = false;
        return state;
    }
    c->standing_still = result == PHYSAI_HARDWARE_PAUSED;
    if (c->standing_still) {
        c->state_arrival_ns = physai_clock_ns();
    } else if (result != PHYSAI_HARDWARE_TIMEOUT) {
        c->hardware_gone = true;
        if (c->hardware->paces)
            physai_sleep_until(physai_clock_ns() + period_ns);
    }
    return NULL;
}

static void *run(void *argument)
{
    struct physai_control *c = argument;
    struct physai_state state;
    struct physai_command command;
    int64_t period_ns = (int64_t)(c->period_s * 1e9);
    int64_t deadline_ns = physai_first_deadline(physai_clock_ns(), period_ns, PHYSAI_LOOP_PHASE);
    physai_realtime_prepare("physai-loop");
    while (!atomic_load_explicit(&c->quit, memory_order_acquire)) {
        const struct physai_state *fresh = wait_for_state(c, &state, deadline_ns, period_ns);
        if (physai_control_cycle(c, fresh, &command))
            c->hardware->write(c->handle, &command);
        deadline_ns = physai_next_deadline(deadline_ns, physai_clock_ns(), period_ns);
    }
    return NULL;
}

static int open_hardware(struct physai_control *c, char *text, size_t text_size)
{
    const char *path = c->config.hardware_path;
    c->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!c->library) {
        snprintf(text, text_size, "hardware backend: %s", dlerror());
        return PHYSAI_ERROR_HARDWARE;
    }
    const struct physai_hardware *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(c->library, "physai_hardware_entry");
    if (!entry || !(c->hardware = entry()) || c->hardware->abi != PHYSAI_HARDWARE_ABI) {
        snprintf(text, text_size, "%s is not a physai hardware backend of ABI %u", path, PHYSAI_HARDWARE_ABI);
        return PHYSAI_ERROR_HARDWARE;
    }
    struct physai_hardware_config config = {
        .n_joints = c->n, .n_tools = c->n_tools, .rate_hz = c->config.rate_hz};
    memcpy(config.joint_names, c->config.joint_names, sizeof config.joint_names);
    for (uint32_t t = 0; t < c->n_tools; t++) {
        memcpy(config.tool_names[t], c->config.tools[t].name, sizeof config.tool_names[t]);
        config.grippers[t] = c->config.tools[t].gripper;
    }
    memcpy(config.options, c->config.hardware_options, sizeof config.options);
    if (c->hardware->open(&config, &c->handle, text, text_size) != 0) {
        c->handle = NULL;
        return PHYSAI_ERROR_HARDWARE;
    }
    return PHYSAI_OK;
}

static void close_hardware(struct physai_control *c)
{
    if (c->handle)
        c->hardware->close(c->handle);
    if (c->library)
        dlclose(c->library);
    c->handle = c->library = NULL;
    c->hardware = NULL;
}

int physai_control_start(struct physai_control *c, char *text, size_t text_size)
{
    if (c->running) {
        snprintf(text, text_size, "the thread is running already");
        return PHYSAI_ERROR_RUNNING;
    }
    int error = open_hardware(c, text, text_size);
    if (error) {
        close_hardware(c);
        return error;
    }
    /* A new connection counts its states anew. */
    c->have_state = c->hardware_gone = c->standing_still = false;
    c->waiting_requests = 0;
    atomic_fetch_and_explicit(&c->requests, PHYSAI_REQUEST_ESTOP, memory_order_relaxed); /* may come early */
    atomic_store_explicit(&c->quit, false, memory_order_relaxed);
    c->locked = c->config.realtime && physai_lock_memory(c, sizeof *c);
    int failed = physai_realtime_thread(&c->thread, c->config.realtime, &c->fifo, run, c);
    if (failed) {
        const char *core = getenv(PHYSAI_LOOP_CPU);
        snprintf(text, text_size, "the real-time thread could not be started: %s%s%s", strerror(failed),
                 core ? "; " PHYSAI_LOOP_CPU " must be the number of a core, got " : "", core ? core : "");
        close_hardware(c);
        return PHYSAI_ERROR_THREAD;
    }
    c->running = true;
    return PHYSAI_OK;
}

int physai_control_stop(struct physai_control *c)
{
    if (!c->running)
        return PHYSAI_OK;
    atomic_store_explicit(&c->quit, true, memory_order_release);
    pthread_join(c->thread, NULL);
    c->running = false;
    /* Whatever drives the robot next starts from an inactive controller. */
    c->seeded = c->enabled = false;
    c->pending = NULL;
    c->status.state = PHYSAI_INACTIVE;
    c->status.cause = PHYSAI_CAUSE_DEACTIVATED;
    c->status.active_sequence = 0;
    memcpy(&c->status_slots[c->status_box.back], &c->status, offsetof(struct physai_status, compute));
    physai_mailbox_publish(&c->status_box);
    physai_blackbox_close(&c->blackbox);
    close_hardware(c);
    return PHYSAI_OK;
}
