/* No torn, repeated or reordered value passes a mailbox while both sides run at full speed. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#ifdef PHYSAI_MAILBOX_RELAXED /* for ThreadSanitizer to find: exchanges that do not order what is in the     \
                                 slots */
#define memory_order_acq_rel memory_order_relaxed
#endif
#include "mailbox.h"

#define WORDS 8

static uint64_t rounds = 400000;
static struct physai_mailbox box;
static uint64_t slots[3][WORDS];

static void *write_all(void *unused)
{
    (void)unused;
    for (uint64_t round = 1; round <= rounds; round++) {
        for (int i = 0; i < WORDS; i++)
            slots[box.back][i] = round;
        physai_mailbox_publish(&box);
    }
    return NULL;
}

/* Optional argument: how many values are written. */
int main(int argc, char **argv)
{
    pthread_t writer;
    uint64_t last = 0, taken = 0;
    if (argc > 1)
        rounds = strtoull(argv[1], NULL, 10);
    physai_mailbox_init(&box);
    CHECK(!physai_mailbox_take(&box));
    CHECK(pthread_create(&writer, NULL, write_all, NULL) == 0);
    while (last < rounds) {
        if (!physai_mailbox_take(&box))
            continue;
        const uint64_t *value = slots[box.front];
        for (int i = 1; i < WORDS; i++)
            CHECK(value[i] == value[0]);
        CHECK(value[0] > last);
        last = value[0];
        taken++;
    }
    pthread_join(writer, NULL);
    CHECK(!physai_mailbox_take(&box));
    printf("%llu values written, %llu taken, none torn\n", (unsigned long long)rounds,
           (unsigned long long)taken);
    return 0;
}
