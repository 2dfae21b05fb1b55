#include "hardware/topic_states.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TOLERANCE     0.05 /* rad: two readings of one joint at rest */
#define UNKNOWN_SPEED 3.0  /* rad/s, at most, of a joint whose velocity nobody measures; */
#define SILENCE_S     0.5  /* after so long without a position it is taken to rest */
#define MOTION        2.0  /* times the way that the joint's velocity explains */
#define MOTION_S      0.5  /* at most so long */
#define MOST_JUMPS    3    /* a joint that is nowhere twice in a row is left to the core's own checks */
#define AHEAD_NS      10000000000LL /* a stamp further ahead than that, */
#define FASTEST       1000          /* and than simulated time runs, is believed when the next confirms it */
#define ABSENT        -1
#define NOT_A_SOURCE  -1

void physai_states_init(struct physai_states *states, uint32_t n, const struct physai_link_options *options,
                        int64_t stale_ns)
{
    bool measured = options->table[LINK_TORQUE].choice == LINK_TORQUE_MEASURED;
    memset(states, 0, sizeof *states);
    states->options = options;
    states->n = n;
    states->n_fingers = options->n_fingers;
    memcpy(states->names, options->joint_names, n * sizeof states->names[0]);
    memcpy(states->names + n, options->finger_names, options->n_fingers * sizeof states->names[0]);
    states->needs_speed = options->command == LINK_EFFORT;
    states->needs_effort = options->command == LINK_EFFORT && measured;
    states->reads_effort = measured;
    states->stale_ns = stale_ns;
    for (uint32_t i = 0; i < PHYSAI_MAX_PARTS; i++)
        states->parts[i].source = NOT_A_SOURCE;
}

#define COMPLAIN(...) snprintf(states->complaint, sizeof states->complaint, __VA_ARGS__)

/* The publisher's place in the table; one that was silent the longest makes room. */
static int find_source(struct physai_states *states, const uint8_t *gid)
{
    int oldest = 0;
    for (int i = 0; i < PHYSAI_MAX_SOURCES; i++) {
        const struct physai_source *source = &states->sources[i];
        if (source->arrival_ns && memcmp(source->gid, gid, PHYSAI_GID_SIZE) == 0)
            return i;
        if (source->arrival_ns < states->sources[oldest].arrival_ns)
            oldest = i;
    }
    for (uint32_t k = 0; k < PHYSAI_MAX_PARTS; k++)
        if (states->parts[k].source == oldest)
            states->parts[k].source = NOT_A_SOURCE;
    memset(&states->sources[oldest], 0, sizeof states->sources[oldest]);
    memcpy(states->sources[oldest].gid, gid, PHYSAI_GID_SIZE);
    return oldest;
}

/* What a message names that is no joint of ours, for whoever looks for one that is missing. */
static void note_strangers(struct physai_states *states, const sensor_msgs__msg__JointState *message)
{
    size_t used = 0, size = sizeof states->strangers;
    states->strangers[0] = '\0';
    for (size_t i = 0; i < message->name.size && used + PHYSAI_NAME_SIZE < size; i++) {
        bool ours = false;
        for (uint32_t k = 0; k < states->n + states->n_fingers && !ours; k++)
            ours = strcmp(states->names[k], message->name.data[i].data) == 0;
        if (!ours)
            used += (size_t)snprintf(states->strangers + used, size - used, "%s'%.40s'",
                                     used ? ", " : "; it names ", message->name.data[i].data);
    }
    if (used)
        snprintf(states->strangers + used, size - used, ": see the options joints and fingers");
}

/* Where each part is in the message, ABSENT if it is not. False if the message cannot be used. */
static bool locate(struct physai_states *states, const sensor_msgs__msg__JointState *message, int *place)
{
    uint32_t parts = states->n + states->n_fingers;
    size_t names = message->name.size;
    bool any = false, arm = false, whole = true;
    for (uint32_t k = 0; k < parts; k++) {
        place[k] = ABSENT;
        for (size_t i = 0; i < names; i++) {
            if (strcmp(states->names[k], message->name.data[i].data) != 0)
                continue;
            if (place[k] != ABSENT) {
                COMPLAIN("joint '%s' is named twice in one message", states->names[k]);
                return false;
            }
            place[k] = (int)i;
        }
        any = any || place[k] != ABSENT;
        whole = whole && place[k] != ABSENT;
        arm = arm || (place[k] != ABSENT && k < states->n);
    }
    if (!whole)
        note_strangers(states, message);
    if (!any)
        return false; /* of other joints: no concern of ours */
    bool speeds = message->velocity.size == names || (!states->needs_speed && !message->velocity.size);
    bool efforts = message->effort.size == names || !states->needs_effort;
    if (message->position.size == names && (!arm || (speeds && efforts)))
        return true;
    bool torques = message->position.size == names && speeds;
    COMPLAIN("%zu names but %zu positions, %zu velocities and %zu efforts; each must have one%s", names,
             message->position.size, message->velocity.size, message->effort.size,
             torques               ? " (without measured torques give the option torque=commanded)"
             : states->needs_speed ? ""
                                   : ", where there are velocities or efforts at all");
    return false;
}

/* What a robot that needs not measure it says: nothing, or that it is no number. */
static bool has(const sensor_msgs__msg__JointState *message, const rosidl_runtime_c__double__Sequence *values,
                int place, bool needed)
{
    return values->size == message->name.size && (needed || !isnan(values->data[place]));
}

static struct physai_part read_part(const struct physai_states *states, uint32_t k,
                                    const sensor_msgs__msg__JointState *message, int place, int64_t stamp_ns)
{
    struct physai_part part = {.stamp_ns = stamp_ns, .q = message->position.data[place]};
    if (k < states->n) {
        part.has_speed = has(message, &message->velocity, place, states->needs_speed);
        part.has_effort = states->reads_effort && has(message, &message->effort, place, states->needs_effort);
        part.dq = part.has_speed ? message->velocity.data[place] : 0;
        part.tau = part.has_effort ? message->effort.data[place] : 0;
    }
    return part;
}

/* A velocity from positions, for a joint whose velocity nobody measures. */
static double differentiate(const struct physai_part *last, const struct physai_part *now)
{
    double step_s = (double)(now->stamp_ns - last->stamp_ns) * 1e-9;
    if (!last->arrival_ns || !(step_s < SILENCE_S))
        return 0;
    double speed = physai_speed_of(last->dq, last->q, now->q, step_s);
    return isfinite(speed) ? speed : 0;
}

/* Guards that were on must not go off unseen. */
static bool still_measures(struct physai_states *states, const struct physai_part *read, const int *place)
{
    for (uint32_t k = 0; k < states->n; k++) {
        const struct physai_part *last = &states->parts[k];
        if (place[k] == ABSENT || !last->arrival_ns)
            continue;
        bool speed = last->has_speed && !read[k].has_speed;
        if (!speed && !(last->has_effort && !read[k].has_effort))
            continue;
        COMPLAIN("joint '%s' came with %s before and does not now", states->names[k],
                 speed ? "velocities" : "efforts");
        return false;
    }
    return true;
}

/* Whether two readings may be of one joint; numbers that are not finite are for the core to judge. */
static bool agree(const struct physai_states *states, uint32_t k, const struct physai_part *a,
                  const struct physai_part *b)
{
    if (!isfinite(a->q) || !isfinite(b->q))
        return true;
    double apart_s = fabs((double)(a->stamp_ns - b->stamp_ns)) * 1e-9;
    if (k >= states->n) {
        const struct physai_link_finger *finger = &states->options->fingers[k - states->n];
        return fabs(a->q - b->q) <= finger->tolerance + finger->fastest * fmin(apart_s, MOTION_S);
    }
    double fastest = fmax(fabs(a->dq), fabs(b->dq));
    if (!b->has_speed)
        fastest = UNKNOWN_SPEED;
    double motion = isfinite(fastest) ? MOTION * fastest * fmin(apart_s, MOTION_S) : 0;
    return fabs(a->q - b->q) <= TOLERANCE + motion;
}

static void contradict(struct physai_states *states, uint32_t k, double one, double other, int first,
                       int second, int64_t now_ns)
{
    if (states->contradicted_ns == now_ns)
        return; /* of one message the first joint is told */
    states->contradicted_ns = now_ns;
    states->accused[0] = first;
    states->accused[1] = second;
    COMPLAIN("joint '%s' is said to be at %.4g and at %.4g: %s", states->names[k], one, other,
             first == second ? "one publisher says two things in turn, as where two drivers are relayed"
                             : "two publishers of it contradict each other");
}

/* A stamp that goes back is none; one that leaps ahead is believed when the next confirms it. */
static bool stamp_is_good(struct physai_states *states, struct physai_source *source, const int *place,
                          int64_t stamp_ns, int64_t now_ns)
{
    int64_t last_ns = 0, arrival_ns = 0;
    for (uint32_t k = 0; k < states->n + states->n_fingers; k++) {
        if (place[k] != ABSENT && states->parts[k].stamp_ns > last_ns) {
            last_ns = states->parts[k].stamp_ns;
            arrival_ns = states->parts[k].arrival_ns;
        }
    }
    if (stamp_ns <= 0) {
        COMPLAIN("a state without a stamp is dropped: its header says when it was measured");
        return false;
    }
    bool far =
        last_ns && stamp_ns - last_ns > AHEAD_NS && (stamp_ns - last_ns) / FASTEST > now_ns - arrival_ns;
    bool confirmed = source->ahead_ns && stamp_ns > source->ahead_ns;
    source->ahead_ns = far && !confirmed ? stamp_ns : 0;
    if (far && !confirmed) {
        COMPLAIN("a state stamped %.3f s ahead of the last is dropped", (double)(stamp_ns - last_ns) * 1e-9);
        return false;
    }
    return true;
}

/*
 * A joint cannot be elsewhere and back between two messages. A message whose joints jump is therefore not
 * believed before the next confirms it; if that is where the joints were before, the publisher contradicts
 * itself.
 */
static bool is_believed(struct physai_states *states, int index, const struct physai_part *read,
                        const int *place, int64_t now_ns)
{
    struct physai_source *source = &states->sources[index];
    bool jumps = false, confirms = source->suspected;
    uint32_t worst = 0;
    double most = 0;
    for (uint32_t k = 0; k < states->n; k++) {
        if (place[k] == ABSENT || states->parts[k].source != index || !states->parts[k].arrival_ns)
            continue;
        jumps = jumps || !agree(states, k, &read[k], &states->parts[k]);
        if (!source->suspected)
            continue;
        struct physai_part before = read[k];
        before.q = source->suspect[k];
        confirms = confirms && agree(states, k, &read[k], &before);
        double far = fabs(read[k].q - source->suspect[k]);
        if (far > most) {
            most = far;
            worst = k;
        }
    }
    if (source->suspected && !jumps && !confirms)
        contradict(states, worst, read[worst].q, source->suspect[worst], index, index, now_ns);
    bool believed = !jumps || confirms || source->jumps >= MOST_JUMPS;
    source->jumps = believed ? 0 : source->jumps + 1;
    source->suspected = !believed;
    for (uint32_t k = 0; k < states->n && !believed; k++)
        source->suspect[k] = place[k] == ABSENT ? states->parts[k].q : read[k].q;
    return believed;
}

/* Whether `index` may speak for a part; if another does, what it says is compared. */
static bool owns(struct physai_states *states, int index, uint32_t k, const struct physai_part *read,
                 int64_t now_ns)
{
    const struct physai_part *part = &states->parts[k];
    if (part->source == index || part->source == NOT_A_SOURCE)
        return true;
    if (now_ns - part->arrival_ns >
        (states->stale_ns > PHYSAI_SILENT_NS ? states->stale_ns : PHYSAI_SILENT_NS))
        return true;
    if (!agree(states, k, read, part))
        contradict(states, k, part->q, read->q, part->source, index, now_ns);
    return false;
}

/* Whether all parts are there and young; if they have not been for long, says which is missing. */
static bool is_complete(struct physai_states *states, int64_t now_ns)
{
    int64_t gripper_ns = states->stale_ns > PHYSAI_GRIPPER_NS ? states->stale_ns : PHYSAI_GRIPPER_NS;
    for (uint32_t k = 0; k < states->n + states->n_fingers; k++) {
        const struct physai_part *part = &states->parts[k];
        bool of_arm = k < states->n;
        int64_t age_ns = now_ns - part->arrival_ns;
        if (part->arrival_ns && age_ns <= (of_arm ? states->stale_ns : gripper_ns) &&
            (part->fresh || !of_arm))
            continue;
        int64_t since_ns = states->state_ns ? states->state_ns : states->began_ns;
        if (!states->complaint[0] && now_ns - since_ns > states->stale_ns) {
            if (part->arrival_ns)
                COMPLAIN("joint '%s' is missing: it came last %.0f ms ago%s", states->names[k],
                         (double)age_ns * 1e-6, states->strangers);
            else
                COMPLAIN("joint '%s' is missing in it%s", states->names[k], states->strangers);
        }
        return false;
    }
    return true;
}

static void make_state(struct physai_states *states, int64_t now_ns, struct physai_state *state)
{
    memset(state, 0, sizeof *state);
    state->seq = ++states->seq;
    state->time_ns = INT64_MAX;
    state->published_ns = now_ns;
    state->n_joints = states->n;
    for (uint32_t k = 0; k < states->n; k++) {
        struct physai_part *part = &states->parts[k];
        state->q[k] = part->q;
        state->dq[k] = part->dq;
        state->tau[k] = part->tau;
        state->flags |= (part->has_speed ? 0 : PHYSAI_STATE_NO_VELOCITY) |
                        (part->has_effort ? 0 : PHYSAI_STATE_NO_TORQUE);
        part->fresh = false;
        /* The oldest: since every part's stamps rise, so do these. */
        if (part->stamp_ns < state->time_ns)
            state->time_ns = part->stamp_ns;
    }
    double fingers[PHYSAI_LINK_FINGERS];
    for (uint32_t k = 0; k < states->n_fingers; k++)
        fingers[k] = states->parts[states->n + k].q;
    for (uint32_t t = 0; t < states->options->n_tools; t++)
        if (states->options->grippers[t].count)
            state->opening[t] = physai_link_opening(states->options, t, fingers);
    states->state_ns = now_ns;
}

bool physai_states_take(struct physai_states *states, const sensor_msgs__msg__JointState *message,
                        const uint8_t *gid, int64_t now_ns, struct physai_state *state)
{
    int place[PHYSAI_MAX_PARTS];
    struct physai_part read[PHYSAI_MAX_PARTS];
    int64_t stamp_ns = (int64_t)message->header.stamp.sec * 1000000000 + message->header.stamp.nanosec;
    uint32_t parts = states->n + states->n_fingers;
    states->complaint[0] = '\0';
    if (!states->began_ns)
        states->began_ns = now_ns;
    if (!locate(states, message, place)) {
        is_complete(states, now_ns);
        return false;
    }
    int index = find_source(states, gid);
    struct physai_source *source = &states->sources[index];
    source->arrival_ns = now_ns;
    if (!stamp_is_good(states, source, place, stamp_ns, now_ns))
        return false;
    for (uint32_t k = 0; k < parts; k++)
        if (place[k] != ABSENT)
            read[k] = read_part(states, k, message, place[k], stamp_ns);
    if (!still_measures(states, read, place) || !is_believed(states, index, read, place, now_ns))
        return false;
    bool arm = false;
    for (uint32_t k = 0; k < parts; k++) {
        struct physai_part *part = &states->parts[k];
        if (place[k] == ABSENT || !owns(states, index, k, &read[k], now_ns))
            continue;
        if (stamp_ns <= part->stamp_ns) {
            if (!states->complaint[0])
                COMPLAIN("a state stamped %.6f s came after one stamped %.6f s and is dropped; %s",
                         (double)stamp_ns * 1e-9, (double)part->stamp_ns * 1e-9,
                         stamp_ns == part->stamp_ns ? "each is to have the time of its own measurement"
                                                    : "if the simulator was reset, set control up anew");
            continue;
        }
        if (k < states->n && !read[k].has_speed)
            read[k].dq = differentiate(part, &read[k]);
        *part = read[k];
        part->source = index;
        part->arrival_ns = now_ns;
        part->fresh = true;
        arm = arm || k < states->n;
    }
    if (!arm || !is_complete(states, now_ns))
        return false;
    make_state(states, now_ns, state);
    return true;
}

bool physai_states_contradicted(const struct physai_states *states, int64_t now_ns)
{
    return states->contradicted_ns && now_ns - states->contradicted_ns <= PHYSAI_CONTRADICTED;
}
