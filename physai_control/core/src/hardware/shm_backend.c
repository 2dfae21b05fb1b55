/*
 * The `shm` backend: the embedded simulator in lock step.
 *
 * Simulated time stands still while the plant waits, computes or is paused, so a slow plant is no missing
 * state: until `grace_s` of wall time the read reports a pause. A plant that is gone is reported as such.
 *
 * Options: name=<segment>, grace_s=<seconds, default 1>.
 */
#include "clock.h"
#include "hardware/backend.h"
#include "physai_shm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct connection {
    struct physai_shm shm;
    uint32_t seen; /* low half of the last state's number */
    int64_t grace_ns;
};

static int shm_backend_open(const struct physai_hardware_config *config, void **handle, char *text,
                            size_t text_size)
{
    struct physai_option options[] = {
        {.name = "name", .initial = ""},
        {.name = "grace_s", .initial = "1", .low = 1e-3, .high = 1e6},
    };
    if (physai_options_read("shm", config->options, options, sizeof options / sizeof *options, text,
                            text_size) != 0)
        return -1;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    if (physai_shm_attach(&connection->shm, options[0].text, config->n_joints, config->joint_names, text,
                          text_size) != 0) {
        free(connection);
        return -1;
    }
    connection->grace_ns = (int64_t)(options[1].number * 1e9);
    *handle = connection;
    return 0;
}

static int shm_backend_read(void *handle, struct physai_state *state, int64_t timeout_ns)
{
    struct connection *connection = handle;
    struct physai_shm_segment *segment = connection->shm.segment;
    if (physai_shm_wait(&segment->state.word, connection->seen, timeout_ns) &&
        physai_shm_read(&segment->state, state, sizeof *state)) {
        connection->seen = (uint32_t)state->seq;
        return PHYSAI_HARDWARE_OK;
    }
    uint32_t phase = atomic_load_explicit(&segment->phase, memory_order_acquire);
    if (phase == PHYSAI_SHM_CLOSED || !physai_shm_peer_alive(&connection->shm))
        return PHYSAI_HARDWARE_GONE;
    int64_t published_ns = atomic_load_explicit(&segment->published_ns, memory_order_relaxed);
    if (phase == PHYSAI_SHM_PAUSED || physai_clock_ns() - published_ns < connection->grace_ns)
        return PHYSAI_HARDWARE_PAUSED;
    return PHYSAI_HARDWARE_TIMEOUT;
}

static int shm_backend_write(void *handle, const struct physai_command *command)
{
    struct connection *connection = handle;
    physai_shm_write(&connection->shm.segment->command, command, sizeof *command, command->seq);
    return PHYSAI_HARDWARE_OK;
}

static void shm_backend_close(void *handle)
{
    struct connection *connection = handle;
    physai_shm_close(&connection->shm);
    free(connection);
}

const struct physai_hardware *physai_hardware_entry(void)
{
    static const struct physai_hardware backend = {
        .abi = PHYSAI_HARDWARE_ABI,
        .paces = 1,
        .name = "shm",
        .open = shm_backend_open,
        .read = shm_backend_read,
        .write = shm_backend_write,
        .close = shm_backend_close,
    };
    return &backend;
}
