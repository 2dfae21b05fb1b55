/* Numbers for a group of joints, published in one of the three formats of the `topic` backend. */
#ifndef PHYSAI_TOPIC_OUTPUT_H
#define PHYSAI_TOPIC_OUTPUT_H

#include "hardware/topic_link.h"

struct physai_topic_output {
    enum physai_link_format format;
    uint32_t n;
    uint32_t publisher_count;
    rcl_publisher_t publishers[PHYSAI_MAX_JOINTS]; /* one, or one a joint for float64 */
    std_msgs__msg__Float64MultiArray array;
    sensor_msgs__msg__JointState joints;
    rosidl_runtime_c__double__Sequence *meant; /* the array of `joints` that carries the numbers */
};

/* `topic` has {joint} for float64. Returns 0, or -1 with the reason in `text`; close it in either case. */
int physai_topic_output_open(struct physai_topic_output *output, struct physai_link *link,
                             enum physai_link_format format, enum physai_link_command command,
                             const char *topic, uint32_t n, const char names[][PHYSAI_NAME_SIZE], char *text,
                             size_t text_size);

/* Publish n numbers; the stamp is sent where the format has one. True if the middleware took all of them. */
bool physai_topic_output_send(struct physai_topic_output *output, const double *values, int64_t stamp_ns);
void physai_topic_output_close(struct physai_topic_output *output, struct physai_link *link);

#endif
