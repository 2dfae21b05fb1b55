/* The real-time thread against a plant behind shared memory, while the other side posts and reads. */
#include "physai_shm.h"
#include "robot.h"

#include <time.h>
#include <unistd.h>

static struct physai_shm plant;
static _Atomic bool pause_plant, end_plant;
static _Atomic int overtaken; /* states that no command answered in time */

/* Goes exactly where it is asked to. */
static void *run_plant(void *unused)
{
    (void)unused;
    struct physai_shm_segment *segment = plant.segment;
    struct physai_state state = {.n_joints = JOINTS, .opening = {0.08}, .time_ns = 1000 * TICK};
    struct physai_command command;
    memcpy(state.q, home, sizeof home);
    while (!end_plant) {
        if (pause_plant) {
            usleep(1000);
            continue;
        }
        state.seq++;
        state.time_ns += TICK;
        state.published_ns = physai_clock_ns();
        atomic_store(&segment->published_ns, state.published_ns);
        physai_shm_write(&segment->state, &state, sizeof state, state.seq);
        if (!segment->attached) {
            usleep(1000);
            continue;
        }
        if (!physai_shm_wait_for(&segment->command.word, (uint32_t)state.seq,
                                 physai_clock_ns() + 500 * TICK) ||
            !physai_shm_read(&segment->command, &command, sizeof command) || command.seq != state.seq) {
            overtaken++;
            continue;
        }
        if (command.flags & PHYSAI_COMMAND_ENABLE) {
            memcpy(state.q, command.q, sizeof state.q);
            memcpy(state.dq, command.dq, sizeof state.dq);
        }
    }
    return NULL;
}

static struct physai_status await(struct physai_control *control, uint32_t state)
{
    struct physai_status status;
    for (int i = 0; i < 5000; i++) {
        physai_control_read_status(control, &status);
        if (status.state == state)
            return status;
        usleep(1000);
    }
    fprintf(stderr, "state is %u, not %u: %s\n", status.state, state, status.cause_text);
    CHECK(status.state == state);
    return status;
}

int main(void)
{
    char name[PHYSAI_NAME_SIZE], text[PHYSAI_TEXT_SIZE] = "";
    pthread_t thread;
    static struct robot robot;
    struct physai_control_config config = robot_config();
    struct physai_control *control;
    snprintf(name, sizeof name, "physai_thread_%d", (int)getpid());
    config.realtime = 1;
    config.state_timeout_s = 1; /* a shared machine may stand still for longer than a robot's 20 ms */
    snprintf(config.hardware_path, sizeof config.hardware_path, "%s", PHYSAI_TEST_BACKEND);
    snprintf(config.hardware_options, sizeof config.hardware_options, "name=%s\ngrace_s=1", name);
    CHECK(physai_control_create(&config, &control, text, sizeof text) == PHYSAI_OK);
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_ERROR_HARDWARE && strstr(text, name));

    CHECK(physai_shm_create(&plant, name, JOINTS, (const char (*)[PHYSAI_NAME_SIZE])config.joint_names, text,
                            sizeof text) == 0);
    plant.segment->phase = PHYSAI_SHM_RUNNING;
    CHECK(pthread_create(&thread, NULL, run_plant, NULL) == 0);
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_OK);
    CHECK(physai_control_start(control, text, sizeof text) == PHYSAI_ERROR_RUNNING);
    physai_control_request(control, PHYSAI_REQUEST_ACTIVATE);
    await(control, PHYSAI_HOLD);

    robot.control = control;
    for (int i = 0; i < 40; i++) {
        physai_control_read_status(control, &robot.status);
        robot.state.time_ns = robot.status.time_ns;
        struct physai_chunk chunk = robot_chunk(&robot, i % 2 ? 0.05 : -0.05);
        physai_control_post_chunk(control, &chunk, text, sizeof text);
        for (int k = 0; k < 20; k++) {
            physai_control_read_status(control, &robot.status);
            CHECK(robot.status.state == PHYSAI_HOLD || robot.status.state == PHYSAI_TRACK ||
                  robot.status.state == PHYSAI_STOPPING);
            usleep(500);
        }
    }
    CHECK(robot.status.chunks_accepted > 20 && robot.status.compute.total > 100 &&
          robot.status.wake.total > 100);

    /* A paused plant is no missing state, a stalled one is. */
    plant.segment->phase = PHYSAI_SHM_PAUSED;
    pause_plant = true;
    usleep(1500000);
    physai_control_read_status(control, &robot.status);
    CHECK(robot.status.state != PHYSAI_FAULT);
    plant.segment->phase = PHYSAI_SHM_RUNNING;
    struct physai_status status = await(control, PHYSAI_FAULT);
    CHECK(status.cause == PHYSAI_CAUSE_STATE_TIMEOUT);
    pause_plant = false;
    do { /* refused until the plant's states are back */
        physai_control_request(control, PHYSAI_REQUEST_RESET);
        usleep(20000);
        physai_control_read_status(control, &status);
    } while (status.state == PHYSAI_FAULT);
    await(control, PHYSAI_HOLD);

    /* The plant leaves. */
    end_plant = true;
    pthread_join(thread, NULL);
    physai_shm_close(&plant);
    status = await(control, PHYSAI_FAULT);
    CHECK(status.cause == PHYSAI_CAUSE_HARDWARE_GONE);
    physai_control_stop(control);
    await(control, PHYSAI_INACTIVE);
    physai_control_destroy(control);
    return 0;
}
