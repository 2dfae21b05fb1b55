#include "hardware/backend.h"

#include "clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NS 1000000000LL

/* ---- options ---- */

static struct physai_option *find(struct physai_option *table, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(table[i].name) == length && strncmp(table[i].name, name, length) == 0)
            return &table[i];
    return NULL;
}

/* "one, two, three", cut where there is no more room. */
static void join(char *list, size_t size, const char *word)
{
    size_t length = strlen(list);
    snprintf(list + length, size - length, "%s%s", length ? ", " : "", word);
}

static int take_line(const char *backend, const char *line, size_t length, struct physai_option *table,
                     size_t count, char *text, size_t text_size)
{
    const char *equals = memchr(line, '=', length);
    struct physai_option *option = equals ? find(table, count, line, (size_t)(equals - line)) : NULL;
    if (!option) {
        char known[512] = "";
        for (size_t i = 0; i < count; i++)
            join(known, sizeof known, table[i].name);
        snprintf(text, text_size, "%s backend: there is no option '%.*s'; there are: %s", backend,
                 (int)(equals ? equals - line : (ptrdiff_t)length), line, known);
        return -1;
    }
    size_t value_length = length - (size_t)(equals + 1 - line);
    if (value_length >= sizeof option->text) {
        snprintf(text, text_size, "%s option %s has %zu characters, at most %zu are allowed", backend,
                 option->name, value_length, sizeof option->text - 1);
        return -1;
    }
    memcpy(option->text, equals + 1, value_length);
    option->text[value_length] = '\0';
    return 0;
}

static int convert(const char *backend, struct physai_option *option, char *text, size_t text_size)
{
    if (option->low < option->high) {
        char *end;
        option->number = strtod(option->text, &end);
        bool whole = end != option->text && !*end;
        if (whole && option->number >= option->low && option->number <= option->high)
            return 0;
        snprintf(text, text_size, "%s option %s must be a number within [%g, %g], got '%.80s'", backend,
                 option->name, option->low, option->high, option->text);
        return -1;
    }
    char allowed[256] = "";
    for (int i = 0; i < PHYSAI_OPTION_CHOICES && option->choices[i]; i++) {
        option->choice = i;
        if (strcmp(option->choices[i], option->text) == 0)
            return 0;
        join(allowed, sizeof allowed, option->choices[i]);
    }
    if (!allowed[0]) /* any text */
        return 0;
    snprintf(text, text_size, "%s option %s must be one of %s; got '%.80s'", backend, option->name, allowed,
             option->text);
    return -1;
}

int physai_options_read(const char *backend, const char *lines, struct physai_option *table, size_t count,
                        char *text, size_t text_size)
{
    for (size_t i = 0; i < count; i++)
        snprintf(table[i].text, sizeof table[i].text, "%s", table[i].initial);
    for (size_t length; lines && *lines; lines += length + (lines[length] == '\n')) {
        length = strcspn(lines, "\n");
        if (length && take_line(backend, lines, length, table, count, text, text_size) != 0)
            return -1;
    }
    for (size_t i = 0; i < count; i++)
        if (convert(backend, &table[i], text, text_size) != 0)
            return -1;
    return 0;
}

/* ---- time and threads ---- */

void physai_word_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - physai_clock_ns();
    struct timespec timeout = {.tv_sec = left_ns / NS, .tv_nsec = left_ns % NS};
    if (left_ns > 0)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &timeout, NULL, 0);
}

void physai_word_bump(_Atomic uint32_t *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_release);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

int physai_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    struct sched_param parameter = {.sched_priority = PHYSAI_FIFO_PRIORITY};
    pthread_attr_init(&attributes);
    pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
    pthread_attr_setschedparam(&attributes, &parameter);
    int error = pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return error == EPERM || error == EINVAL ? pthread_create(thread, NULL, run, argument) : error;
}

struct physai_schedule physai_schedule_raise(void)
{
    struct sched_param before = {0}, raised = {.sched_priority = PHYSAI_FIFO_PRIORITY};
    int policy = SCHED_OTHER;
    pthread_getschedparam(pthread_self(), &policy, &before);
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &raised); /* refused: all stays as it was */
    return (struct physai_schedule){.policy = policy, .priority = before.sched_priority};
}

void physai_schedule_restore(struct physai_schedule before)
{
    struct sched_param parameter = {.sched_priority = before.priority};
    pthread_setschedparam(pthread_self(), before.policy, &parameter);
}
