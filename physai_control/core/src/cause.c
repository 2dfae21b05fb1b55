#include "internal.h"

#include <math.h>
#include <stdio.h>

#define TURN      6.283185307179586
#define NEAR_TURN 0.3  /* rad */
#define UNITS     12.0 /* rad, beyond which a position is hardly in radians */

/* Whether a joint that jumped by so much came round. */
static bool turned(double way)
{
    return fabs(fabs(way) - TURN) < NEAR_TURN;
}

/* What explains a position that the joint cannot have; empty for one that it nearly has. */
static const char *unlikely(const struct physai_control_config *config, int joint, double position)
{
    if (joint < 0)
        return "";
    const struct physai_joint_limits *limits = &config->joints[joint];
    double back = position - copysign(TURN, position);
    if (back >= limits->position_min && back <= limits->position_max)
        return "; one turn less would be within";
    return fabs(position) > UNITS ? "; are these radians, not degrees or a servo's steps?" : "";
}

void physai_describe_cause(const struct physai_control_config *config, const struct physai_status *status,
                           char *text, size_t text_size)
{
    const int at = status->cause_joint;
    bool angular = at % 2 == 1; /* causes about tools: 2 t for translation, 2 t + 1 for rotation */
    const char *joint = at >= 0 ? config->joint_names[at] : "?";
    char point[2 * PHYSAI_NAME_SIZE] = "?", tool[2 * PHYSAI_NAME_SIZE] = "?";
    uint32_t pair[2] = {0, 0};
    if (at >= 0 && at < PHYSAI_MAX_POINTS) {
        physai_fence_name(config, (uint32_t)at, point, sizeof point);
        physai_fence_name(config, (uint32_t)at / 2 * 2, tool, sizeof tool);
        physai_fence_pair((uint32_t)at, pair);
    }
    double value = status->cause_value, limit = status->cause_limit;
    unsigned long long chunk = status->cause_sequence;
    char what[PHYSAI_TEXT_SIZE - 40] = "";
    switch ((enum physai_cause)status->cause) {
    case PHYSAI_CAUSE_LET_GO:
        snprintf(
            what, sizeof what,
            "joint states, or our answers to them, stalled (%.0f ms between two): the hardware backend let "
            "go of the robot",
            value * 1e3);
        break;
    case PHYSAI_CAUSE_NONE:
        text[0] = '\0';
        return;
    case PHYSAI_CAUSE_ACTIVATED:
        snprintf(what, sizeof what, "activated");
        break;
    case PHYSAI_CAUSE_RESET:
        snprintf(what, sizeof what, "reset");
        break;
    case PHYSAI_CAUSE_REPOSITIONED:
        snprintf(what, sizeof what, "the robot was repositioned");
        break;
    case PHYSAI_CAUSE_CHUNK_EXPIRED:
        snprintf(what, sizeof what, "chunk expired: no newer one came before the end of chunk %llu", chunk);
        break;
    case PHYSAI_CAUSE_STOP_REQUESTED:
        snprintf(what, sizeof what, "stop requested");
        break;
    case PHYSAI_CAUSE_DEACTIVATED:
        snprintf(what, sizeof what, "deactivated");
        break;
    case PHYSAI_CAUSE_RESUMED:
        snprintf(what, sizeof what, "resumed");
        break;
    case PHYSAI_CAUSE_LAW_CHANGED:
        snprintf(what, sizeof what, "the joint law cannot follow a tool pose");
        break;
    case PHYSAI_CAUSE_CHUNK_ENDED:
        snprintf(what, sizeof what, "the policy ended chunk %llu", chunk);
        break;
    case PHYSAI_CAUSE_STATE_NOT_FINITE:
        snprintf(what, sizeof what, "the joint state is not finite: NaN or infinity among its numbers");
        break;
    case PHYSAI_CAUSE_STATE_TIMEOUT:
        snprintf(what, sizeof what, "no joint state for %.1f ms, %.1f ms are allowed", value * 1e3,
                 limit * 1e3);
        break;
    case PHYSAI_CAUSE_HARDWARE_GONE:
        snprintf(what, sizeof what, "the hardware is gone");
        break;
    case PHYSAI_CAUSE_TORQUE_NOT_FINITE:
        snprintf(what, sizeof what, "the computed torque of %s is not finite", joint);
        break;
    case PHYSAI_CAUSE_VELOCITY:
        snprintf(what, sizeof what, "%s moves at %.3g rad/s, beyond %.3g", joint, value, limit);
        break;
    case PHYSAI_CAUSE_POSITION:
        snprintf(what, sizeof what, "%s is at %.4g rad, beyond %.4g%s", joint, value, limit,
                 unlikely(config, at, value));
        break;
    case PHYSAI_CAUSE_TRACKING:
        snprintf(what, sizeof what, "%s is %.3g rad from its reference, beyond %.3g", joint, value, limit);
        break;
    case PHYSAI_CAUSE_GEOFENCE:
        snprintf(what, sizeof what, "the %s is %.3f m beyond a geofence", point, value);
        break;
    case PHYSAI_CAUSE_GATE:
        snprintf(what, sizeof what, "the robot's own gate has stopped it");
        break;
    case PHYSAI_CAUSE_DYNAMICS:
        snprintf(what, sizeof what, "the dynamics could not be computed");
        break;
    case PHYSAI_CAUSE_POSE_TRACKING:
        snprintf(what, sizeof what, "the %s is %.3g %s from its reference, beyond %.3g", tool, value,
                 angular ? "rad" : "m", limit);
        break;
    case PHYSAI_CAUSE_STATE_GAP:
        snprintf(what, sizeof what, "the robot skipped %.1f ms of its states, %.1f ms are allowed",
                 value * 1e3, limit * 1e3);
        break;
    case PHYSAI_CAUSE_STATE_JUMPED:
        snprintf(what, sizeof what, "%s jumps by %.3g rad from one state to the next, beyond %.3g%s", joint,
                 value, limit, turned(value) ? ": a full turn" : "");
        break;
    case PHYSAI_CAUSE_STATE_INCONSISTENT:
        snprintf(what, sizeof what,
                 "position and velocity of %s contradict each other by %.3g rad, beyond %.3g", joint, value,
                 limit);
        break;
    case PHYSAI_CAUSE_STATE_FROZEN:
        snprintf(what, sizeof what,
                 "the joint state repeats itself to the last bit while %s moves or its torque changes (%.3g, "
                 "beyond %.3g)",
                 joint, value, limit);
        break;
    case PHYSAI_CAUSE_CONTACT:
        snprintf(what, sizeof what, "contact: %.3g Nm from outside at %s, beyond %.3g", value, joint, limit);
        break;
    case PHYSAI_CAUSE_CONTACT_WRENCH:
        snprintf(what, sizeof what, "contact: %.3g %s on the %s, beyond %.3g", value, angular ? "Nm" : "N",
                 tool, limit);
        break;
    case PHYSAI_CAUSE_INSTABILITY:
        snprintf(what, sizeof what, "the torque of %s shakes: the loop is unstable", joint);
        break;
    case PHYSAI_CAUSE_UNHEARD:
        snprintf(what, sizeof what,
                 "nobody receives the commands: the robot's driver or controller does not subscribe to them, "
                 "or with another type or quality of service");
        break;
    case PHYSAI_CAUSE_STATE_SLOW:
        snprintf(what, sizeof what,
                 "the joint states come too seldom for torques, which need 300 Hz; the log says how often");
        break;
    case PHYSAI_CAUSE_ESTOP_REQUESTED:
        snprintf(what, sizeof what, "emergency stop requested");
        break;
    case PHYSAI_CAUSE_STATE_CONTRADICTED:
        snprintf(
            what, sizeof what,
            "publishers of the joint states contradict each other; the log names the joint and who they are");
        break;
    case PHYSAI_CAUSE_ARMS_DISTANCE:
        snprintf(what, sizeof what, "the arms of %s and %s are %.3f m apart, %.3f m are required",
                 config->tools[pair[0]].name, config->tools[pair[1]].name, config->arms_distance - value,
                 config->arms_distance - limit);
        break;
    case PHYSAI_CAUSE_ESTOP_HARDWARE:
        snprintf(what, sizeof what, "emergency stop pressed on the robot");
        break;
    }
    snprintf(text, text_size, "%s (cycle %llu)", what, (unsigned long long)status->cause_cycle);
}
