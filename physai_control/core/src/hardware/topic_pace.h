/* How often joint states come. */
#ifndef PHYSAI_TOPIC_PACE_H
#define PHYSAI_TOPIC_PACE_H

#include <stdint.h>

#define PHYSAI_PACE_INTERVALS 50 /* between the last states, whose median counts */

/* By their stamps: the robot's time, also where a simulator is slower than ours. */
struct physai_pace {
    double intervals_s[PHYSAI_PACE_INTERVALS];
    uint32_t count;
    int64_t stamp_ns; /* of the last state */
    int64_t good_ns;  /* stamp of the last one up to which they came often enough; 0: never did */
};

/* Takes a state's stamp; the median time between states, infinity while too few came. */
double physai_pace_measure(struct physai_pace *pace, int64_t stamp_ns);

#endif
