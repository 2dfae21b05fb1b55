/*
 * physai_shm.h: the shared memory between a simulated robot (the plant) and the `shm` hardware backend.
 *
 * Lock step: the plant publishes state n and waits for the command that answers n before it advances.
 * Each side writes its own block under a sequence lock, then stores the number's low half in a futex word.
 *
 * Life: the plant creates the segment and holds a lock on byte 0 of it, the controller one on byte 1. The
 * kernel drops them when a process dies, however it dies, so neither side trusts a process number.
 */
#ifndef PHYSAI_SHM_H
#define PHYSAI_SHM_H

#include "physai_hardware.h"

#include <stdatomic.h>
#include <stdbool.h>

#define PHYSAI_SHM_MAGIC   0x70687961u
#define PHYSAI_SHM_VERSION 2u
#define PHYSAI_SHM_WORDS   112 /* 8-byte words of a block */

enum physai_shm_phase {
    PHYSAI_SHM_PAUSED = 0,  /* the plant lives but its time stands still on purpose */
    PHYSAI_SHM_RUNNING = 1, /* the plant is stepping */
    PHYSAI_SHM_CLOSED = 2,  /* the plant has left */
};

/* A block of data that one side writes and the other may read at any time. */
struct physai_shm_block {
    _Alignas(64) _Atomic uint32_t version; /* odd while it is being written */
    _Atomic uint32_t word;                 /* futex: low half of the newest sequence number */
    _Atomic uint64_t data[PHYSAI_SHM_WORDS];
};

struct physai_shm_segment {
    _Atomic uint32_t magic; /* written last */
    uint32_t version;
    uint32_t size;
    uint32_t n_joints;
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    _Atomic uint32_t phase;
    _Atomic uint32_t attached;     /* a controller attached and has not detached */
    _Atomic int64_t published_ns;  /* CLOCK_MONOTONIC of the last state */
    struct physai_shm_block state; /* struct physai_state, written by the plant */
    struct physai_shm_block command;
};

struct physai_shm {
    struct physai_shm_segment *segment;
    int file;
    int owns_byte; /* which lock this side holds */
    char path[PHYSAI_NAME_SIZE + 16];
};

/* Plant: create the segment, replacing one that a dead plant left. Fails when a live plant owns the name. */
int physai_shm_create(struct physai_shm *shm, const char *name, uint32_t n_joints,
                      const char joint_names[][PHYSAI_NAME_SIZE], char *text, size_t text_size);

/* Controller: attach to a live plant. Fails, with the reason, on anything that does not match. */
int physai_shm_attach(struct physai_shm *shm, const char *name, uint32_t n_joints,
                      const char joint_names[][PHYSAI_NAME_SIZE], char *text, size_t text_size);

/* Leave. The plant, or the controller of a dead plant, removes the segment. */
void physai_shm_close(struct physai_shm *shm);

/* Does a live process hold the other side's lock? A system call. */
bool physai_shm_peer_alive(const struct physai_shm *shm);

/* Hand over `size` bytes with a sequence number and wake the other side. Wait-free. */
void physai_shm_write(struct physai_shm_block *block, const void *data, size_t size, uint64_t seq);

/* Copy a consistent value; false if the other side kept writing. */
bool physai_shm_read(struct physai_shm_block *block, void *data, size_t size);

/* Sleep until `word` differs from `seen`, at most timeout_ns; true if it does. */
bool physai_shm_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);

/* Sleep until `word` is `wanted`, at most until deadline_ns (CLOCK_MONOTONIC); true if it is. */
bool physai_shm_wait_for(_Atomic uint32_t *word, uint32_t wanted, int64_t deadline_ns);

#endif
