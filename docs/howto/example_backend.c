/* A hardware backend to start from: a robot that sends its states in UDP datagrams and takes commands the
 * same way. cc -shared -fPIC -I physai_control/core/include docs/howto/example_backend.c -o
 * lib/libphysai_hardware_udp.so PHYSAI_LIB_DIR=lib, and in the robot's file  hardware: {backend: udp,
 * gravity: robot, options: {port: 5005}} */
#include "physai_hardware.h"
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct link {
    int socket;
    struct sockaddr_in robot; /* who sent the last state gets the command */
    uint64_t seq;
};

static int udp_open(const struct physai_hardware_config *config, void **handle, char *error, size_t size)
{
    int port = 0, file = socket(AF_INET, SOCK_DGRAM, 0);
    int given = sscanf(config->options, "port=%d", &port);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct link *link = calloc(1, sizeof *link); /* all that the loop needs is allocated here */
    if (!link || given != 1 || bind(file, (struct sockaddr *)&here, sizeof here) != 0) {
        snprintf(error, size, "udp: give the option port, a free one; got '%.80s'", config->options);
        close(file);
        free(link);
        return -1;
    }
    link->socket = file;
    *handle = link;
    return 0;
}

/* Waits for the next state, which paces the loop. The core itself refuses numbers that are not finite. */
static int udp_read(void *handle, struct physai_state *state, int64_t timeout_ns)
{
    struct link *link = handle;
    struct pollfd ready = {.fd = link->socket, .events = POLLIN};
    socklen_t size = sizeof link->robot;
    if (poll(&ready, 1, (int)(timeout_ns / 1000000)) != 1 ||
        recvfrom(link->socket, state, sizeof *state, 0, (void *)&link->robot, &size) != sizeof *state ||
        state->seq <= link->seq) /* nothing, not a state, or one that came late */
        return PHYSAI_HARDWARE_TIMEOUT;
    link->seq = state->seq;
    state->published_ns = 0; /* the robot's clock is not ours */
    return PHYSAI_HARDWARE_OK;
}

/* The robot shall brake on a command without PHYSAI_COMMAND_ENABLE, and after 20 ms without any. */
static int udp_write(void *handle, const struct physai_command *command)
{
    struct link *link = handle;
    sendto(link->socket, command, sizeof *command, 0, (void *)&link->robot, sizeof link->robot);
    return PHYSAI_HARDWARE_OK;
}

static void udp_close(void *handle)
{
    close(((struct link *)handle)->socket);
    free(handle);
}

const struct physai_hardware *physai_hardware_entry(void)
{
    static const struct physai_hardware backend = {PHYSAI_HARDWARE_ABI, 1,        "udp", udp_open, udp_read,
                                                   udp_write,           udp_close};
    return &backend;
}
