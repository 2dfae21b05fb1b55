#include "hardware/topic_output.h"

#include <rosidl_runtime_c/primitives_sequence_functions.h>
#include <rosidl_runtime_c/string_functions.h>
#include <stdio.h>
#include <string.h>

/* All names, and only the array that is meant: Isaac Sim takes an array of another length as "no data". */
static bool prepare_joint_state(struct physai_topic_output *output, enum physai_link_command command,
                                const char names[][PHYSAI_NAME_SIZE])
{
    sensor_msgs__msg__JointState *joints = &output->joints;
    bool good = rosidl_runtime_c__String__Sequence__init(&joints->name, output->n);
    for (uint32_t i = 0; i < output->n && good; i++)
        good = rosidl_runtime_c__String__assign(&joints->name.data[i], names[i]);
    output->meant = command == LINK_EFFORT     ? &joints->effort
                    : command == LINK_POSITION ? &joints->position
                                               : &joints->velocity;
    return good && rosidl_runtime_c__double__Sequence__init(output->meant, output->n);
}

static bool prepare(struct physai_topic_output *output, enum physai_link_command command,
                    const char names[][PHYSAI_NAME_SIZE])
{
    if (!std_msgs__msg__Float64MultiArray__init(&output->array) ||
        !sensor_msgs__msg__JointState__init(&output->joints))
        return false;
    if (output->format == LINK_JOINT_STATE)
        return prepare_joint_state(output, command, names);
    return rosidl_runtime_c__double__Sequence__init(&output->array.data, output->n);
}

static const rosidl_message_type_support_t *type_of(enum physai_link_format format)
{
    switch (format) {
    case LINK_JOINT_STATE:
        return ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState);
    case LINK_FLOAT64:
        return ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Float64);
    default:
        return ROSIDL_GET_MSG_TYPE_SUPPORT(std_msgs, msg, Float64MultiArray);
    }
}

int physai_topic_output_open(struct physai_topic_output *output, struct physai_link *link,
                             enum physai_link_format format, enum physai_link_command command,
                             const char *topic, uint32_t n, const char names[][PHYSAI_NAME_SIZE], char *text,
                             size_t text_size)
{
    memset(output, 0, sizeof *output);
    output->format = format;
    output->n = n;
    if (!prepare(output, command, names)) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    uint32_t count = format == LINK_FLOAT64 ? n : 1;
    for (uint32_t i = 0; i < count; i++) {
        char name[2 * PHYSAI_OPTION_SIZE];
        if (physai_link_joint_topic(name, sizeof name, topic, names[i]) != 0) {
            snprintf(text, text_size, "topic '%.80s...' is too long", topic);
            return -1;
        }
        if (physai_link_advertise(link, &output->publishers[i], type_of(format), name, LINK_COMMAND_QOS, text,
                                  text_size) != 0)
            return -1;
        output->publisher_count++;
    }
    return 0;
}

bool physai_topic_output_send(struct physai_topic_output *output, const double *values, int64_t stamp_ns)
{
    size_t size = output->n * sizeof *values;
    if (output->format == LINK_MULTIARRAY) {
        memcpy(output->array.data.data, values, size);
        return physai_link_publish(&output->publishers[0], &output->array);
    }
    if (output->format == LINK_JOINT_STATE) {
        output->joints.header.stamp.sec = (int32_t)(stamp_ns / 1000000000);
        output->joints.header.stamp.nanosec = (uint32_t)(stamp_ns % 1000000000);
        memcpy(output->meant->data, values, size);
        return physai_link_publish(&output->publishers[0], &output->joints);
    }
    bool taken = true;
    for (uint32_t i = 0; i < output->n; i++) {
        std_msgs__msg__Float64 message = {.data = values[i]};
        taken = physai_link_publish(&output->publishers[i], &message) && taken;
    }
    return taken;
}

void physai_topic_output_close(struct physai_topic_output *output, struct physai_link *link)
{
    for (uint32_t i = 0; i < output->publisher_count; i++)
        physai_link_unadvertise(link, &output->publishers[i]);
    output->publisher_count = 0;
    std_msgs__msg__Float64MultiArray__fini(&output->array);
    sensor_msgs__msg__JointState__fini(&output->joints);
}
