/* The shared memory's protocol and life, with processes that die. */
#include "check.h"
#include "physai_shm.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char name[PHYSAI_NAME_SIZE];
static char path[PHYSAI_NAME_SIZE + 1];
static char text[256];
static const char joints[2][PHYSAI_NAME_SIZE] = {"a", "b"};
static const char others[2][PHYSAI_NAME_SIZE] = {"a", "c"};

static bool exists(void)
{
    int file = shm_open(path, O_RDWR, 0);
    if (file >= 0)
        close(file);
    return file >= 0;
}

static void test_attach_is_refused(void)
{
    struct physai_shm plant, second, controller, other;
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) != 0 &&
          strstr(text, "simulator"));
    CHECK(physai_shm_create(&plant, "with/slash", 2, joints, text, sizeof text) != 0);
    CHECK(physai_shm_create(&plant, name, 2, joints, text, sizeof text) == 0);
    CHECK(physai_shm_create(&second, name, 2, joints, text, sizeof text) != 0 && strstr(text, "another"));
    CHECK(physai_shm_attach(&controller, name, 1, joints, text, sizeof text) != 0 && strstr(text, "joints"));
    CHECK(physai_shm_attach(&controller, name, 2, others, text, sizeof text) != 0 && strstr(text, "'c'"));
    plant.segment->version++;
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) != 0 && strstr(text, "version"));
    plant.segment->version--;
    CHECK(!plant.segment->attached);
    CHECK(!physai_shm_peer_alive(&plant));
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) == 0);
    CHECK(physai_shm_peer_alive(&plant) && physai_shm_peer_alive(&controller) && plant.segment->attached);
    CHECK(physai_shm_attach(&other, name, 2, joints, text, sizeof text) != 0 && strstr(text, "another"));
    physai_shm_close(&controller);
    CHECK(!physai_shm_peer_alive(&plant) && !plant.segment->attached && exists());
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) == 0);
    physai_shm_close(&plant);
    CHECK(!exists() && !physai_shm_peer_alive(&controller));
    CHECK(controller.segment->phase == PHYSAI_SHM_CLOSED);
    physai_shm_close(&controller);
}

static pid_t in_child(bool as_plant, bool *ready)
{
    int pipe_ends[2];
    char byte;
    CHECK(pipe(pipe_ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct physai_shm shm;
        int error = as_plant ? physai_shm_create(&shm, name, 2, joints, text, sizeof text)
                             : physai_shm_attach(&shm, name, 2, joints, text, sizeof text);
        byte = error == 0;
        if (write(pipe_ends[1], &byte, 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    *ready = read(pipe_ends[0], &byte, 1) == 1 && byte;
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return child;
}

static void test_death_is_noticed(void)
{
    struct physai_shm plant, controller;
    bool ready;
    CHECK(physai_shm_create(&plant, name, 2, joints, text, sizeof text) == 0);
    pid_t child = in_child(false, &ready);
    CHECK(ready && physai_shm_peer_alive(&plant));
    kill(child, SIGSTOP);
    CHECK(physai_shm_peer_alive(&plant));
    kill(child, SIGKILL);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0); /* a zombie now */
    CHECK(!physai_shm_peer_alive(&plant) && plant.segment->attached);
    waitpid(child, NULL, 0);
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) == 0);
    physai_shm_close(&controller);
    physai_shm_close(&plant);
    CHECK(!exists());

    /* What a killed plant leaves is refused by controllers, and replaced by the next plant. */
    child = in_child(true, &ready);
    CHECK(ready);
    CHECK(physai_shm_create(&plant, name, 2, joints, text, sizeof text) != 0);
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) == 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(!physai_shm_peer_alive(&controller) && exists());
    physai_shm_close(&controller); /* the last one tidies up */
    CHECK(!exists());

    child = in_child(true, &ready);
    CHECK(ready);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) != 0 && strstr(text, "dead"));
    CHECK(physai_shm_create(&plant, name, 2, joints, text, sizeof text) == 0);
    CHECK(physai_shm_attach(&controller, name, 2, joints, text, sizeof text) == 0);
    physai_shm_close(&controller);
    physai_shm_close(&plant);
    CHECK(!exists());
}

/* States and commands alternate in lock step; none is torn or lost. */
static void test_lock_step(void)
{
    const int rounds = 5000;
    struct physai_shm plant;
    CHECK(physai_shm_create(&plant, name, 2, joints, text, sizeof text) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct physai_shm shm;
        CHECK(physai_shm_attach(&shm, name, 2, joints, text, sizeof text) == 0);
        uint32_t seen = 0;
        for (int i = 0; i < rounds; i++) {
            struct physai_state state;
            struct physai_command command = {0};
            CHECK(physai_shm_wait(&shm.segment->state.word, seen, 5000000000));
            CHECK(physai_shm_read(&shm.segment->state, &state, sizeof state));
            CHECK((uint32_t)state.seq == seen + 1 && state.q[0] == (double)state.seq &&
                  state.tau[15] == -state.q[0]);
            seen = (uint32_t)state.seq;
            command.seq = state.seq;
            command.tau[3] = 2 * state.q[0];
            physai_shm_write(&shm.segment->command, &command, sizeof command, command.seq);
        }
        _exit(0); /* without a goodbye */
    }
    while (!plant.segment->attached)
        usleep(1000);
    for (int i = 1; i <= rounds; i++) {
        struct physai_state state = {.seq = (uint64_t)i, .q = {i}};
        struct physai_command command;
        struct timespec now;
        state.tau[15] = -i;
        physai_shm_write(&plant.segment->state, &state, sizeof state, state.seq);
        clock_gettime(CLOCK_MONOTONIC, &now);
        CHECK(
            physai_shm_wait_for(&plant.segment->command.word, (uint32_t)i, (now.tv_sec + 5) * 1000000000LL));
        CHECK(physai_shm_read(&plant.segment->command, &command, sizeof command));
        CHECK(command.seq == (uint64_t)i && command.tau[3] == 2 * i);
    }
    int result;
    waitpid(child, &result, 0);
    CHECK(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    physai_shm_close(&plant);
}

int main(void)
{
    snprintf(name, sizeof name, "physai_test_%d", (int)getpid());
    snprintf(path, sizeof path, "/%s", name);
    test_attach_is_refused();
    test_death_is_noticed();
    test_lock_step();
    return 0;
}
