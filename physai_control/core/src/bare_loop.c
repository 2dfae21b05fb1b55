#include "physai_bare_loop.h"

#include "internal.h"
#include "realtime.h"

#include <stdlib.h>

struct physai_bare_loop {
    int64_t period_ns;
    double phase;
    struct physai_histogram wake;
    _Atomic bool quit;
    bool fifo;
    pthread_t thread;
};

static void *run(void *argument)
{
    struct physai_bare_loop *loop = argument;
    int64_t deadline_ns = physai_first_deadline(physai_clock_ns(), loop->period_ns, loop->phase);
    physai_realtime_prepare("physai-bare");
    while (!atomic_load_explicit(&loop->quit, memory_order_acquire)) {
        physai_sleep_until(deadline_ns);
        int64_t now_ns = physai_clock_ns();
        physai_histogram_add(&loop->wake, now_ns - deadline_ns);
        deadline_ns = physai_next_deadline(deadline_ns, now_ns, loop->period_ns);
    }
    return NULL;
}

int physai_bare_loop_start(double rate_hz, double phase, struct physai_bare_loop **started)
{
    *started = NULL;
    if (!(rate_hz >= 1 && rate_hz <= 1e5) || !(phase >= 0 && phase < 1))
        return PHYSAI_ERROR_ARGUMENT;
    struct physai_bare_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return PHYSAI_ERROR_MEMORY;
    loop->period_ns = (int64_t)(1 / rate_hz * 1e9); /* rounded as the control loop does */
    loop->phase = phase;
    physai_lock_memory(loop, sizeof *loop);
    if (physai_realtime_thread(&loop->thread, true, &loop->fifo, run, loop) != 0) {
        free(loop);
        return PHYSAI_ERROR_THREAD;
    }
    *started = loop;
    return PHYSAI_OK;
}

void physai_bare_loop_read(const struct physai_bare_loop *loop, struct physai_latency *wake)
{
    physai_histogram_read((struct physai_histogram *)&loop->wake, wake);
}

void physai_bare_loop_stop(struct physai_bare_loop *loop)
{
    atomic_store_explicit(&loop->quit, true, memory_order_release);
    pthread_join(loop->thread, NULL);
    free(loop);
}
