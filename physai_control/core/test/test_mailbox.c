/* No torn, repeated or reordered value passes a mailbox while both sides run at full speed. */
#include "check.h"
#include "mailbox.h"

#include <pthread.h>
#include <stdint.h>

#define ROUNDS 400000
#define WORDS  32

static struct physai_mailbox box;
static uint64_t slots[3][WORDS];

static void *write_all(void *unused)
{
    (void)unused;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < WORDS; i++)
            slots[box.back][i] = round;
        physai_mailbox_publish(&box);
    }
    return NULL;
}

int main(void)
{
    pthread_t writer;
    uint64_t last = 0;
    physai_mailbox_init(&box);
    CHECK(!physai_mailbox_take(&box));
    CHECK(pthread_create(&writer, NULL, write_all, NULL) == 0);
    while (last < ROUNDS) {
        if (!physai_mailbox_take(&box))
            continue;
        const uint64_t *value = slots[box.front];
        for (int i = 1; i < WORDS; i++)
            CHECK(value[i] == value[0]);
        CHECK(value[0] > last);
        last = value[0];
    }
    pthread_join(writer, NULL);
    CHECK(!physai_mailbox_take(&box));
    return 0;
}
