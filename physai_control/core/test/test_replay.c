/* The replay backend takes whatever a file holds: it opens or refuses it, and never reads beyond. */
#include "check.h"
#include "physai_hardware.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#define TRIALS 400

static const char GOOD[] = "time_ns,q.a,q.b,dq.a,dq.b,tau.a,tau.b,opening,flags\n"
                           "1,0.1,0.2,0,0,1e1,-2,0.08,0\n"
                           "2,0.1,0.2,0,0,nan,-2,0.08,0\n"
                           "3,0.1,0.2,0,0,inf,-2,0.08,2\n";

static void write_file(const char *path, const char *content, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(content, 1, size, file) == size);
    fclose(file);
}

/* Number of states that the backend hands over before the robot is gone, or -1 when it refuses the file. */
static int replay(const struct physai_hardware *backend, const struct physai_hardware_config *config)
{
    char text[256] = "";
    void *handle = NULL;
    if (backend->open(config, &handle, text, sizeof text) != 0) {
        CHECK(strlen(text) > 0);
        return -1;
    }
    struct physai_state state;
    int count = 0, result;
    while ((result = backend->read(handle, &state, 1000000)) == PHYSAI_HARDWARE_OK) {
        CHECK(state.seq == (uint64_t)++count && state.n_joints == 2);
        struct physai_command command = {.seq = state.seq, .time_ns = state.time_ns, .n_joints = 2};
        CHECK(backend->write(handle, &command) == PHYSAI_HARDWARE_OK);
    }
    CHECK(result == PHYSAI_HARDWARE_GONE);
    backend->close(handle);
    return count;
}

int main(void)
{
    void *library = dlopen(PHYSAI_TEST_REPLAY, RTLD_NOW);
    CHECK(library);
    const struct physai_hardware *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(library, "physai_hardware_entry");
    CHECK(entry && entry()->abi == PHYSAI_HARDWARE_ABI);

    char path[] = "/tmp/physai_replay_XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    close(file);
    struct physai_hardware_config config = {.n_joints = 2, .n_tools = 1, .rate_hz = 1000};
    config.grippers[0].kind = PHYSAI_GRIPPER_PARALLEL;
    strcpy(config.joint_names[0], "a");
    strcpy(config.joint_names[1], "b");
    snprintf(config.options, sizeof config.options, "file=%s\nspeed=0", path);

    write_file(path, GOOD, strlen(GOOD));
    CHECK(replay(entry(), &config) == 3);

    /* Changed, removed and cut bytes. */
    static const char alphabet[] = "0123456789.,-+enaif\n\r\t \"qdtu_\0\xff";
    int opened = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        char content[sizeof GOOD];
        memcpy(content, GOOD, sizeof GOOD);
        size_t size = strlen(GOOD);
        for (int change = (int)check_random(1, 6); change > 0; change--)
            content[(size_t)check_random(0, (double)size)] =
                alphabet[(size_t)check_random(0, (double)sizeof alphabet)];
        if (check_random(0, 1) < 0.3)
            size = (size_t)check_random(0, (double)size);
        write_file(path, content, size);
        opened += replay(entry(), &config) >= 0;
    }
    CHECK(opened > 0 && opened < TRIALS);
    unlink(path);
    dlclose(library);
    puts("replay: ok");
    return 0;
}
