/* What hardware backends share: their options, threads, and a word to sleep on. */
#ifndef PHYSAI_BACKEND_H
#define PHYSAI_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHYSAI_OPTION_SIZE    256
#define PHYSAI_OPTION_CHOICES 4
#define PHYSAI_FIFO_PRIORITY  79 /* one below the control thread's */

/* One option: text, a number where `low` < `high`, or one of `choices`. A table of them is the documentation.
 */
struct physai_option {
    const char *name;
    const char *initial;                        /* value of an option that is not given */
    double low, high;                           /* a number within */
    const char *choices[PHYSAI_OPTION_CHOICES]; /* NULL after the last */
    char text[PHYSAI_OPTION_SIZE];
    double number;
    int choice; /* index in `choices` */
};

/*
 * Read lines of "key=value" into the table. Returns 0, or -1 with a text that names the option, what was
 * given and what is allowed.
 */
int physai_options_read(const char *backend, const char *lines, struct physai_option *table, size_t count,
                        char *text, size_t text_size);

/* Sleep while `word` is `seen`, at most until deadline_ns (CLOCK_MONOTONIC). May return early. */
void physai_word_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns);

/* Change `word` and wake whoever sleeps on it in this process. Wait-free. */
void physai_word_bump(_Atomic uint32_t *word);

/* A thread at SCHED_FIFO where that is permitted, else at the ordinary policy. Returns 0 or an errno. */
int physai_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/*
 * Between the two calls the calling thread runs at SCHED_FIFO where that is permitted, and so does, for good,
 * every thread that a library starts for it meanwhile.
 */
struct physai_schedule {
    int policy, priority;
};
struct physai_schedule physai_schedule_raise(void);
void physai_schedule_restore(struct physai_schedule before);

#endif
