#define _GNU_SOURCE /* F_OFD_SETLK */
#include "clock.h"
#include "physai_shm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PLANT_BYTE      0
#define CONTROLLER_BYTE 1
#define READ_ATTEMPTS   16

static_assert(sizeof(struct physai_state) <= PHYSAI_SHM_WORDS * 8, "a state fits its block");
static_assert(sizeof(struct physai_command) <= PHYSAI_SHM_WORDS * 8, "a command fits its block");

/* ---- life ---- */

static struct flock byte_lock(short type, off_t byte)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static bool take_lock(int file, off_t byte)
{
    struct flock lock = byte_lock(F_WRLCK, byte);
    return fcntl(file, F_OFD_SETLK, &lock) == 0;
}

static bool is_locked(int file, off_t byte)
{
    struct flock lock = byte_lock(F_WRLCK, byte);
    return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int set_path(struct physai_shm *shm, const char *name, char *text, size_t text_size)
{
    memset(shm, 0, sizeof *shm);
    shm->file = -1;
    size_t length = strlen(name);
    if (length == 0 || length >= PHYSAI_NAME_SIZE || strchr(name, '/')) {
        snprintf(text, text_size, "shm name '%.80s' must have 1 to %d characters and no '/'", name,
                 PHYSAI_NAME_SIZE - 1);
        return -1;
    }
    snprintf(shm->path, sizeof shm->path, "/%s%s", strncmp(name, "physai_", 7) == 0 ? "" : "physai_", name);
    return 0;
}

static int map(struct physai_shm *shm, char *text, size_t text_size)
{
    void *address =
        mmap(NULL, sizeof *shm->segment, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, shm->file, 0);
    if (address == MAP_FAILED) {
        snprintf(text, text_size, "shared memory %s cannot be mapped: %s", shm->path, strerror(errno));
        return -1;
    }
    shm->segment = address;
    return 0;
}

static int give_up(struct physai_shm *shm)
{
    if (shm->file >= 0)
        close(shm->file);
    shm->file = -1;
    return -1;
}

/* Remove what a dead plant left. Fails when the plant is alive. */
static int remove_stale(struct physai_shm *shm, char *text, size_t text_size)
{
    shm->file = shm_open(shm->path, O_RDWR, 0);
    if (shm->file < 0)
        return 0;
    if (!take_lock(shm->file, PLANT_BYTE)) {
        snprintf(text, text_size,
                 "shared memory %s belongs to another running plant; stop it or choose another name",
                 shm->path);
        return give_up(shm);
    }
    struct stat file, named;
    int probe = shm_open(shm->path, O_RDWR, 0);
    bool same = probe >= 0 && fstat(probe, &named) == 0 && fstat(shm->file, &file) == 0 &&
                named.st_ino == file.st_ino;
    if (same)
        shm_unlink(shm->path);
    if (probe >= 0)
        close(probe);
    give_up(shm);
    return 0;
}

int physai_shm_create(struct physai_shm *shm, const char *name, uint32_t n_joints,
                      const char joint_names[][PHYSAI_NAME_SIZE], char *text, size_t text_size)
{
    if (set_path(shm, name, text, text_size) != 0 || remove_stale(shm, text, text_size) != 0)
        return -1;
    shm->file = shm_open(shm->path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (shm->file < 0 || !take_lock(shm->file, PLANT_BYTE) ||
        ftruncate(shm->file, sizeof *shm->segment) != 0) {
        snprintf(text, text_size, "shared memory %s cannot be created: %s", shm->path, strerror(errno));
        return give_up(shm);
    }
    if (map(shm, text, text_size) != 0) {
        shm_unlink(shm->path);
        return give_up(shm);
    }
    shm->owns_byte = PLANT_BYTE;
    struct physai_shm_segment *segment = shm->segment;
    segment->version = PHYSAI_SHM_VERSION;
    segment->size = sizeof *segment;
    segment->n_joints = n_joints;
    memcpy(segment->joint_names, joint_names, n_joints * sizeof joint_names[0]);
    atomic_store(&segment->phase, PHYSAI_SHM_PAUSED);
    atomic_store_explicit(&segment->magic, PHYSAI_SHM_MAGIC, memory_order_release);
    return 0;
}

static int check_segment(const struct physai_shm *shm, uint32_t n_joints,
                         const char joint_names[][PHYSAI_NAME_SIZE], char *text, size_t text_size)
{
    const struct physai_shm_segment *segment = shm->segment;
    if (atomic_load_explicit(&segment->magic, memory_order_acquire) != PHYSAI_SHM_MAGIC ||
        segment->version != PHYSAI_SHM_VERSION || segment->size != sizeof *segment) {
        snprintf(text, text_size,
                 "shared memory %s is of another version; rebuild the plant or the controller", shm->path);
        return -1;
    }
    if (segment->n_joints != n_joints) {
        snprintf(text, text_size, "the plant at %s has %u joints, the controller %u", shm->path,
                 segment->n_joints, n_joints);
        return -1;
    }
    for (uint32_t i = 0; i < n_joints; i++) {
        if (strncmp(segment->joint_names[i], joint_names[i], PHYSAI_NAME_SIZE) != 0) {
            snprintf(text, text_size, "joint %u of the plant at %s is '%.*s', of the controller '%.*s'", i,
                     shm->path, PHYSAI_NAME_SIZE, segment->joint_names[i], PHYSAI_NAME_SIZE, joint_names[i]);
            return -1;
        }
    }
    return 0;
}

int physai_shm_attach(struct physai_shm *shm, const char *name, uint32_t n_joints,
                      const char joint_names[][PHYSAI_NAME_SIZE], char *text, size_t text_size)
{
    struct stat file;
    if (set_path(shm, name, text, text_size) != 0)
        return -1;
    shm->file = shm_open(shm->path, O_RDWR, 0);
    if (shm->file < 0) {
        snprintf(text, text_size, "shared memory %s: %s; start the simulator first", shm->path,
                 strerror(errno));
        return -1;
    }
    if (!is_locked(shm->file, PLANT_BYTE)) {
        snprintf(text, text_size,
                 "shared memory %s was left by a plant that is dead; start the simulator first", shm->path);
        return give_up(shm);
    }
    if (fstat(shm->file, &file) != 0 || file.st_size != (off_t)sizeof *shm->segment) {
        snprintf(text, text_size,
                 "shared memory %s is of another version; rebuild the plant or the controller", shm->path);
        return give_up(shm);
    }
    if (!take_lock(shm->file, CONTROLLER_BYTE)) {
        snprintf(text, text_size, "another controller is attached to %s", shm->path);
        return give_up(shm);
    }
    if (map(shm, text, text_size) != 0)
        return give_up(shm);
    shm->owns_byte = CONTROLLER_BYTE;
    if (check_segment(shm, n_joints, joint_names, text, text_size) != 0) {
        munmap(shm->segment, sizeof *shm->segment);
        shm->segment = NULL;
        return give_up(shm);
    }
    atomic_store_explicit(&shm->segment->attached, 1, memory_order_release);
    return 0;
}

bool physai_shm_peer_alive(const struct physai_shm *shm)
{
    return is_locked(shm->file, shm->owns_byte == PLANT_BYTE ? CONTROLLER_BYTE : PLANT_BYTE);
}

static void wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void physai_shm_close(struct physai_shm *shm)
{
    if (!shm->segment)
        return;
    if (shm->owns_byte == PLANT_BYTE) {
        atomic_store_explicit(&shm->segment->phase, PHYSAI_SHM_CLOSED, memory_order_release);
        shm_unlink(shm->path);
        wake(&shm->segment->state.word);
    } else {
        atomic_store_explicit(&shm->segment->attached, 0, memory_order_release);
        wake(&shm->segment->command.word);
        char ignored[256];
        struct physai_shm other = {.file = -1};
        memcpy(other.path, shm->path, sizeof other.path);
        remove_stale(&other, ignored, sizeof ignored);
    }
    munmap(shm->segment, sizeof *shm->segment);
    shm->segment = NULL;
    give_up(shm);
}

/* ---- exchange ---- */

void physai_shm_write(struct physai_shm_block *block, const void *data, size_t size, uint64_t seq)
{
    const char *bytes = data;
    uint32_t version = atomic_load_explicit(&block->version, memory_order_relaxed) | 1u;
    atomic_store_explicit(&block->version, version, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < size / 8; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, sizeof word);
        atomic_store_explicit(&block->data[i], word, memory_order_relaxed);
    }
    atomic_store_explicit(&block->version, version + 1, memory_order_release);
    atomic_store_explicit(&block->word, (uint32_t)seq, memory_order_release);
    wake(&block->word);
}

bool physai_shm_read(struct physai_shm_block *block, void *data, size_t size)
{
    char *bytes = data;
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        uint32_t before = atomic_load_explicit(&block->version, memory_order_acquire);
        for (size_t i = 0; i < size / 8; i++) {
            uint64_t word = atomic_load_explicit(&block->data[i], memory_order_relaxed);
            memcpy(bytes + 8 * i, &word, sizeof word);
        }
        atomic_thread_fence(memory_order_acquire);
        uint32_t after = atomic_load_explicit(&block->version, memory_order_relaxed);
        if (before == after && !(before & 1u))
            return true;
    }
    return false;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

bool physai_shm_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
    int64_t deadline_ns = physai_clock_ns() + timeout_ns;
    for (;;) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen)
            return true;
        int64_t left_ns = deadline_ns - physai_clock_ns();
        if (left_ns <= 0)
            return false;
        futex_wait(word, seen, left_ns);
    }
}

bool physai_shm_wait_for(_Atomic uint32_t *word, uint32_t wanted, int64_t deadline_ns)
{
    for (;;) {
        uint32_t value = atomic_load_explicit(word, memory_order_acquire);
        if (value == wanted)
            return true;
        int64_t left_ns = deadline_ns - physai_clock_ns();
        if (left_ns <= 0)
            return false;
        futex_wait(word, value, left_ns);
    }
}
