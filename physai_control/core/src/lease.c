/* How far each policy process has counted its chunks; under the mutex. */
#include "internal.h"

#include <string.h>

uint64_t physai_last_sequence(const struct physai_control *control, uint64_t lease)
{
    for (int i = 0; i < PHYSAI_LEASES; i++)
        if (control->leases[i].lease == lease)
            return control->leases[i].last_sequence;
    return 0;
}

/* The lease moves to the front; of too many the one that was heard of longest ago is forgotten. */
void physai_remember_sequence(struct physai_control *control, uint64_t lease, uint64_t sequence)
{
    int place = 0;
    while (place < PHYSAI_LEASES - 1 && control->leases[place].lease != lease)
        place++;
    memmove(&control->leases[1], &control->leases[0], (size_t)place * sizeof control->leases[0]);
    control->leases[0] = (struct physai_lease){.lease = lease, .last_sequence = sequence};
}
