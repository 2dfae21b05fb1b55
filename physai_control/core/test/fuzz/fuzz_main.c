/*
 * Runs a fuzz target without libFuzzer, with any compiler: mutates inputs and keeps those that reach new
 * code.
 *
 *   fuzz_x [-runs=N] [-max_total_time=S] [-seed=K] [-max_len=L]   writes an input that fails to ./crash-input
 *   fuzz_x FILE...                                                runs those inputs alone
 *
 * The code under test is compiled with -fsanitize-coverage=trace-pc, which calls back from every block. The
 * same seed gives the same run. With Clang, -fsanitize=fuzzer takes this file's place and knows more options.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LONGEST 4096
#define CORPUS  4096
#define SLOTS   (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_cov_trace_pc(void);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
    uint8_t *data;
    size_t size;
};

static uint8_t reached[SLOTS], ever_reached[SLOTS]; /* reached: how often, up to 255 */
static struct input corpus[CORPUS];
static size_t corpus_size;
static uint8_t now[LONGEST];
static size_t now_size;
static uint64_t state = 1;

/* Two consecutive blocks make an edge, so that paths through the same blocks differ. */
void __sanitizer_cov_trace_pc(void)
{
    static uintptr_t previous;
    uintptr_t here = (uintptr_t)__builtin_return_address(0) - (uintptr_t)&LLVMFuzzerTestOneInput;
    uint8_t *slot = &reached[(here ^ previous * 31) % SLOTS];
    *slot = (uint8_t)(*slot + (*slot < 255));
    previous = here;
}

static uint32_t rnd(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) % n);
}

static void keep_crash(void)
{
    FILE *file = fopen("crash-input", "wb");
    if (file) {
        fwrite(now, 1, now_size, file);
        fclose(file);
    }
    fprintf(stderr, "the input of %zu bytes is in ./crash-input; give its name to run it again\n", now_size);
}

static void on_abort(int unused)
{
    (void)unused;
    keep_crash();
    _exit(1);
}

/* Counts are seen in powers of two: a loop that runs once more is no news. */
static int is_new(void)
{
    int news = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!reached[i])
            continue;
        uint8_t size = (uint8_t)(1u << (31 - __builtin_clz(reached[i])));
        news |= size & ~ever_reached[i];
        ever_reached[i] |= size;
    }
    memset(reached, 0, sizeof reached);
    return news;
}

static void mutate(size_t max_len)
{
    static const uint8_t odd[] = {0, 1, 2, 15, 16, 63, 64, 127, 128, 255};
    if (corpus_size == 0 || rnd(50) == 0) {
        now_size = 1 + rnd((uint32_t)(rnd(4) ? 64 : max_len));
        for (size_t i = 0; i < now_size; i++)
            now[i] = (uint8_t)rnd(256);
        return;
    }
    const struct input *from = &corpus[rnd((uint32_t)corpus_size)];
    memcpy(now, from->data, now_size = from->size);
    for (uint32_t changes = 1 + rnd(4); changes > 0; changes--) {
        size_t at = rnd((uint32_t)now_size), length = 1 + rnd(16);
        const struct input *other = &corpus[rnd((uint32_t)corpus_size)];
        switch (rnd(6)) {
        case 0:
            now[at] = (uint8_t)rnd(256);
            break;
        case 1:
            now[at] ^= (uint8_t)(1u << rnd(8));
            break;
        case 2:
            now[at] = odd[rnd(sizeof odd)];
            break;
        case 3: /* cut */
            length = length < now_size ? length : now_size - 1;
            at = at + length <= now_size ? at : now_size - length;
            memmove(now + at, now + at + length, now_size - at - length);
            now_size -= length;
            break;
        case 4: /* insert */
            length = now_size + length <= max_len ? length : max_len - now_size;
            memmove(now + at + length, now + at, now_size - at);
            for (size_t i = 0; i < length; i++)
                now[at + i] = (uint8_t)rnd(256);
            now_size += length;
            break;
        default: /* the end of another */
            length = rnd((uint32_t)other->size);
            length = at + length <= max_len ? length : max_len - at;
            memcpy(now + at, other->data + other->size - length, length);
            now_size = at + length > 0 ? at + length : 1;
        }
    }
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    now_size = fread(now, 1, sizeof now, file);
    fclose(file);
    LLVMFuzzerTestOneInput(now, now_size);
    printf("%s: %zu bytes, no failure\n", path, now_size);
}

int main(int argc, char **argv)
{
    unsigned long runs = 10000, seconds = 0, max_len = 512, files = 0;
    for (int i = 1; i < argc; i++) {
        unsigned long value = 0;
        if (sscanf(argv[i], "-seed=%lu", &value) == 1)
            state = 0x9e3779b97f4a7c15u * (value + 1);
        else if (sscanf(argv[i], "-max_len=%lu", &value) == 1)
            max_len = value < LONGEST ? value : LONGEST;
        else if (sscanf(argv[i], "-runs=%lu", &runs) != 1 &&
                 sscanf(argv[i], "-max_total_time=%lu", &seconds) != 1 && argv[i][0] != '-') {
            run_file(argv[i]);
            files++;
        }
    }
    if (files)
        return 0;
    signal(SIGABRT, on_abort);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_crash);
    time_t end = time(NULL) + (time_t)seconds;
    unsigned long run = 0;
    for (; seconds ? time(NULL) < end : run < runs; run++) {
        mutate(max_len);
        LLVMFuzzerTestOneInput(now, now_size);
        if (is_new() && corpus_size < CORPUS) {
            struct input *kept = &corpus[corpus_size++];
            kept->data = malloc(now_size);
            if (!kept->data)
                return 2;
            memcpy(kept->data, now, kept->size = now_size);
        }
    }
    uint32_t edges = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        edges += ever_reached[i] != 0;
    printf("%lu runs without failure, %u edges reached, %zu inputs kept\n", run, edges, corpus_size);
    return edges < 100; /* nothing was instrumented: no fuzzing took place */
}
