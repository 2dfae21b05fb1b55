/*
 * Every interleaving of a writer and a reader of a mailbox, by exhaustive search over the code of mailbox.h.
 *
 * The writer's steps touch shared memory once each: write the first word of its slot, write the second,
 * publish. So the search runs the reader's own code and lets it, before each of its accesses to shared
 * memory, be overtaken by any number of writer's steps; all such choices together are all interleavings. In
 * every one: no slot is ever owned by both, no value is torn, a value taken is the newest at that instant,
 * none is taken twice or missed, and no call takes more than its fixed number of steps whatever the other
 * side does.
 *
 * Interleaving is about atomicity alone. That the exchanges also order the slots' contents (acquire and
 * release) shows under ThreadSanitizer, which sees test_mailbox.c with relaxed order as a race.
 */
#include "check.h"

#include <setjmp.h>
#include <stdatomic.h>
#include <string.h>

static unsigned model_exchange(_Atomic unsigned *object, unsigned value);
static unsigned model_load(_Atomic unsigned *object);

#undef atomic_exchange_explicit
#undef atomic_load_explicit
#define atomic_exchange_explicit(object, value, order) model_exchange(object, value)
#define atomic_load_explicit(object, order)            model_load(object)
#include "mailbox.h"

#define CHOICES 64 /* points of choice in one execution: four for each take */

static unsigned publishes = 4, takes = 5; /* of one execution; 5 and 6 take half a minute */

struct algorithm {
    const char *name;
    void (*init)(struct physai_mailbox *);
    void (*publish)(struct physai_mailbox *);
    bool (*take)(struct physai_mailbox *);
};

/* One execution. */
static const struct algorithm *algorithm;
static struct physai_mailbox box;
static unsigned slots[3][2];
static unsigned written;   /* writer's steps so far */
static unsigned published; /* values so far; value k consists of k twice */
static bool writing;       /* whose step it is */
static unsigned accesses;  /* to the mailbox in the present call */

/* The search: which choice was made at each point of it, out of how many. */
static unsigned choice[CHOICES], choices[CHOICES], depth;
static unsigned long executions;
static jmp_buf caught;

#define LAW(condition)                                                                                       \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            longjmp(caught, __LINE__);                                                                       \
    } while (0)

static unsigned choose(unsigned n)
{
    LAW(depth < CHOICES);
    if (choices[depth] == 0)
        choices[depth] = n, choice[depth] = 0;
    return choice[depth++];
}

/* Moves to the next execution; false when all are done. */
static bool next_execution(void)
{
    while (depth > 0 && choice[depth - 1] + 1 == choices[depth - 1])
        choices[--depth] = 0;
    if (depth == 0)
        return false;
    choice[depth - 1]++;
    depth = 0;
    return true;
}

static void no_slot_is_shared(void)
{
    unsigned middle = box.middle & 3u;
    LAW(box.back < 3 && box.front < 3 && middle < 3);
    LAW(box.back != box.front && box.back != middle && box.front != middle);
}

static void write_step(void)
{
    unsigned part = written++ % 3;
    writing = true;
    if (part < 2) {
        slots[box.back][part] = published + 1;
    } else {
        accesses = 0;
        published++;
        algorithm->publish(&box);
        LAW(accesses == 1);
    }
    writing = false;
    no_slot_is_shared();
}

/* The reader is about to touch shared memory: the writer may be faster. */
static void be_overtaken(void)
{
    unsigned kept = accesses;
    for (unsigned steps = choose(3 * publishes - written + 1); steps > 0; steps--)
        write_step();
    accesses = kept;
}

static unsigned model_exchange(_Atomic unsigned *object, unsigned value)
{
    if (!writing)
        be_overtaken();
    unsigned before = *object;
    *object = value;
    accesses++;
    return before;
}

static unsigned model_load(_Atomic unsigned *object)
{
    if (!writing)
        be_overtaken();
    accesses++;
    return *object;
}

static void execute(void)
{
    unsigned last = 0;
    memset(slots, 0, sizeof slots);
    written = published = 0;
    algorithm->init(&box);
    no_slot_is_shared();
    for (unsigned take = 1; take <= takes; take++) {
        if (take == takes) /* at last the writer is through: nothing may have got lost */
            while (written < 3 * publishes)
                write_step();
        accesses = 0;
        bool fresh = algorithm->take(&box);
        unsigned newest = published; /* no step lies between the mailbox's exchange and here */
        LAW(accesses <= 2 && fresh == (newest > last));
        no_slot_is_shared();
        if (!fresh)
            continue;
        be_overtaken();
        unsigned first = slots[box.front][0];
        be_overtaken();
        LAW(slots[box.front][1] == first && first == newest);
        last = first;
    }
    LAW(last == publishes);
}

/* The line of the law that is broken in some interleaving, 0 if all hold in all. */
static int search(const struct algorithm *searched)
{
    algorithm = searched;
    executions = 0;
    depth = 0;
    writing = false;
    memset(choices, 0, sizeof choices);
    int line = setjmp(caught);
    if (line)
        return line;
    do {
        executions++;
        execute();
    } while (next_execution());
    return 0;
}

/* What a hand might slip to. */

static void init_with_two_slots(struct physai_mailbox *mailbox)
{
    physai_mailbox_init(mailbox);
    mailbox->back = mailbox->front;
}

static void publish_without_mark(struct physai_mailbox *mailbox)
{
    mailbox->back = atomic_exchange_explicit(&mailbox->middle, mailbox->back, memory_order_acq_rel) & 3u;
}

static void publish_and_keep_slot(struct physai_mailbox *mailbox)
{
    atomic_exchange_explicit(&mailbox->middle, mailbox->back | PHYSAI_MAILBOX_FRESH, memory_order_acq_rel);
}

static bool take_without_looking(struct physai_mailbox *mailbox)
{
    mailbox->front = atomic_exchange_explicit(&mailbox->middle, mailbox->front, memory_order_acq_rel) & 3u;
    return true;
}

static bool take_by_two_accesses(struct physai_mailbox *mailbox)
{
    unsigned seen = atomic_load_explicit(&mailbox->middle, memory_order_acquire);
    if (!(seen & PHYSAI_MAILBOX_FRESH))
        return false;
    atomic_exchange_explicit(&mailbox->middle, mailbox->front,
                             memory_order_release); /* loses what came between */
    mailbox->front = seen & 3u;
    return true;
}

static bool take_and_leave(struct physai_mailbox *mailbox)
{
    unsigned seen = atomic_load_explicit(&mailbox->middle, memory_order_acquire);
    mailbox->front = seen & 3u;
    return (seen & PHYSAI_MAILBOX_FRESH) != 0;
}

static bool take_until_quiet(struct physai_mailbox *mailbox)
{
    bool taken = false;
    while (physai_mailbox_take(mailbox)) /* never ends while the writer is faster */
        taken = true;
    return taken;
}

/* Optional arguments: publishes and takes of one execution. */
int main(int argc, char **argv)
{
    if (argc == 3) {
        publishes = (unsigned)atoi(argv[1]);
        takes = (unsigned)atoi(argv[2]);
    }
    const struct algorithm real = {"mailbox.h", physai_mailbox_init, physai_mailbox_publish,
                                   physai_mailbox_take};
    int line = search(&real);
    printf("%s: %lu interleavings of %u publishes and %u takes\n", real.name, executions, publishes, takes);
    if (line)
        fprintf(stderr, "the law at line %d is broken\n", line);
    CHECK(line == 0 && executions > 100000);

    const struct algorithm mutants[] = {
        {"two slots", init_with_two_slots, physai_mailbox_publish, physai_mailbox_take},
        {"publish without the mark", physai_mailbox_init, publish_without_mark, physai_mailbox_take},
        {"publish and keep the slot", physai_mailbox_init, publish_and_keep_slot, physai_mailbox_take},
        {"take without looking", physai_mailbox_init, physai_mailbox_publish, take_without_looking},
        {"take by two accesses", physai_mailbox_init, physai_mailbox_publish, take_by_two_accesses},
        {"take and leave it there", physai_mailbox_init, physai_mailbox_publish, take_and_leave},
        {"take until it is quiet", physai_mailbox_init, physai_mailbox_publish, take_until_quiet},
    };
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        line = search(&mutants[i]);
        printf("%s: caught by line %d after %lu interleavings\n", mutants[i].name, line, executions);
        CHECK(line != 0);
    }
    return 0;
}
