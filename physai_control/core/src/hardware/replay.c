/*
 * The `replay` backend: a recording drives the loop, for debugging. What the controller answers moves
 * nothing.
 *
 * The recording is a CSV file. Its first line names the columns, in any order: `time_ns` (ROS time of the
 * state), `q.<joint>` (rad), `dq.<joint>` (rad/s) and `tau.<joint>` (Nm) for every joint of the robot,
 * `opening` (of the gripper, in its unit; of several end effectors `opening.<name>` for each; recordings of
 * one may say `gripper_width`), and, if there is one, `flags` (of struct physai_state). Other columns are
 * skipped. One state a line, time_ns increasing; nan and inf are passed on, since how the controller takes
 * them may be what is asked. Gaps are replayed as gaps. The file is read when the backend is opened; the loop
 * only copies. After the last state the robot is gone.
 *
 * Commands go to the file of option `commands`, if given, through a bounded ring and a thread of its own.
 */
#include "clock.h"
#include "hardware/backend.h"
#include "physai_hardware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME            "replay"
#define BYTE_ORDER_MARK "\xef\xbb\xbf"
#define MAX_COLUMNS     256
#define MAX_BYTES       (1L << 30)
#define RING            8192u
#define DRAIN_NS        10000000

enum {
    FILE_NAME,
    SPEED,
    COMMANDS,
    OPTIONS
};

static const struct physai_option OPTION_TABLE[OPTIONS] = {
    [FILE_NAME] = {.name = "file", .initial = ""},
    [SPEED] = {.name = "speed", .initial = "1", .low = 0, .high = 100}, /* 0: as fast as the loop reads */
    [COMMANDS] = {.name = "commands", .initial = ""},
};

/* What a column holds; joint columns add the joint's number. */
enum {
    SKIPPED = 0,
    TIME,
    FLAGS,
    OPENING,
    Q = OPENING + PHYSAI_MAX_TOOLS,
    DQ = Q + PHYSAI_MAX_JOINTS,
    TAU = DQ + PHYSAI_MAX_JOINTS,
    KINDS = TAU + PHYSAI_MAX_JOINTS
};

struct replay {
    struct physai_option options[OPTIONS];
    uint32_t n;
    char joint_names[PHYSAI_MAX_JOINTS][PHYSAI_NAME_SIZE];
    uint32_t n_tools;
    char tool_names[PHYSAI_MAX_TOOLS][PHYSAI_NAME_SIZE];
    bool has_gripper[PHYSAI_MAX_TOOLS];
    struct physai_state *states;
    size_t count, next;
    int64_t start_ns; /* CLOCK_MONOTONIC of the first state */

    /* Ring of commands: the loop writes at `head`, the thread reads at `tail`. */
    struct physai_command *ring;
    _Atomic uint32_t head, tail;
    _Atomic uint64_t dropped;
    _Atomic bool quit;
    bool writing;
    FILE *file;
    pthread_t thread;
};

/* ---- the recording ---- */

static int named_column(const char *name, const char *prefix, uint32_t n,
                        const char names[][PHYSAI_NAME_SIZE], int first)
{
    size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0)
        return SKIPPED;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(name + length, names[i]) == 0)
            return first + (int)i;
    return SKIPPED;
}

static int kind_of_column(const struct replay *r, const char *name)
{
    if (strcmp(name, "time_ns") == 0)
        return TIME;
    if (r->n_tools == 1 && (strcmp(name, "opening") == 0 || strcmp(name, "gripper_width") == 0))
        return OPENING;
    if (strcmp(name, "flags") == 0)
        return FLAGS;
    int kind = named_column(name, "q.", r->n, r->joint_names, Q);
    kind = kind ? kind : named_column(name, "dq.", r->n, r->joint_names, DQ);
    kind = kind ? kind : named_column(name, "tau.", r->n, r->joint_names, TAU);
    return kind ? kind : named_column(name, "opening.", r->n_tools, r->tool_names, OPENING);
}

/* The next field of a line that ends at a NUL; NULL when there is none. */
static char *next_field(char **line)
{
    char *field = *line;
    if (!field)
        return NULL;
    char *comma = strchr(field, ',');
    if (comma)
        *comma = '\0';
    *line = comma ? comma + 1 : NULL;
    return field;
}

static int read_header(const struct replay *r, char *line, int *columns, int *count, char *text,
                       size_t text_size)
{
    bool have[KINDS] = {false};
    *count = 0;
    const char *other = strchr(line, ',') ? NULL : strpbrk(line, ";\t");
    if (other) {
        snprintf(text, text_size, "%s: the columns are separated by %s; save it with commas",
                 r->options[FILE_NAME].text, *other == ';' ? "semicolons" : "tabs");
        return -1;
    }
    for (char *name; (name = next_field(&line));) {
        int kind = kind_of_column(r, name);
        if (*count == MAX_COLUMNS || (kind && have[kind])) {
            snprintf(text, text_size, "%s: column '%.64s' is %s", r->options[FILE_NAME].text, name,
                     *count == MAX_COLUMNS ? "one too many" : "there twice");
            return -1;
        }
        have[kind] = true;
        columns[(*count)++] = kind;
    }
    static const struct {
        int kind;
        const char *prefix;
    } needed[] = {{Q, "q."}, {DQ, "dq."}, {TAU, "tau."}};
    const char *file = r->options[FILE_NAME].text;
    uint32_t missing = 0;
    while (missing < r->n_tools && (have[OPENING + missing] || !r->has_gripper[missing]))
        missing++;
    if (!have[TIME] || missing < r->n_tools) {
        const char *name = r->n_tools > 1 ? r->tool_names[missing % PHYSAI_MAX_TOOLS] : "";
        snprintf(text, text_size, "%s: the first line must name the columns; %s%s%s is missing", file,
                 have[TIME] ? "opening" : "time_ns", have[TIME] && *name ? "." : "", have[TIME] ? name : "");
        return -1;
    }
    for (size_t k = 0; k < 3; k++) {
        for (uint32_t i = 0; i < r->n; i++) {
            if (!have[needed[k].kind + (int)i]) {
                snprintf(text, text_size, "%s: column %s%s is missing", file, needed[k].prefix,
                         r->joint_names[i]);
                return -1;
            }
        }
    }
    return 0;
}

static bool read_value(struct physai_state *state, int kind, const char *field)
{
    char *end;
    errno = 0;
    if (kind == TIME || kind == FLAGS) {
        long long value = strtoll(field, &end, 10);
        if (kind == TIME)
            state->time_ns = value;
        else
            state->flags = (uint32_t)value;
    } else {
        double value = strtod(field, &end);
        if (kind >= TAU)
            state->tau[kind - TAU] = value;
        else if (kind >= DQ)
            state->dq[kind - DQ] = value;
        else if (kind >= Q)
            state->q[kind - Q] = value;
        else
            state->opening[kind - OPENING] = value;
        errno = 0; /* beyond the range of a double is infinite, and passed on */
    }
    return end != field && !*end && !errno;
}

static int read_row(struct replay *r, char *line, const int *columns, int count, size_t number, char *text,
                    size_t text_size)
{
    const char *file = r->options[FILE_NAME].text;
    struct physai_state *state = &r->states[r->count];
    memset(state, 0, sizeof *state);
    for (int i = 0; i < count; i++) {
        char *field = next_field(&line);
        if (!field) {
            snprintf(text, text_size, "%s line %zu: %d fields, the first line names %d", file, number, i,
                     count);
            return -1;
        }
        if (columns[i] && !read_value(state, columns[i], field)) {
            snprintf(text, text_size, "%s line %zu, field %d: '%.40s' is not a number", file, number, i + 1,
                     field);
            return -1;
        }
    }
    if (line || (r->count && state->time_ns <= r->states[r->count - 1].time_ns)) {
        snprintf(text, text_size, "%s line %zu: %s", file, number,
                 line ? "more fields than the first line names" : "time_ns does not increase");
        return -1;
    }
    state->n_joints = r->n;
    state->seq = ++r->count;
    return 0;
}

static int parse(struct replay *r, char *content, char *text, size_t text_size)
{
    int columns[MAX_COLUMNS], count = 0;
    size_t lines = 1, number = 0;
    for (const char *c = content; (c = strchr(c, '\n')); c++)
        lines++;
    r->states = calloc(lines, sizeof *r->states);
    if (!r->states) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    for (char *line = content, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        number++;
        if (number > 1 && !*line)
            continue;
        int error = number == 1 ? read_header(r, line, columns, &count, text, text_size)
                                : read_row(r, line, columns, count, number, text, text_size);
        if (error)
            return error;
    }
    if (!r->count) {
        snprintf(text, text_size, "%s: there is no state in it", r->options[FILE_NAME].text);
        return -1;
    }
    return 0;
}

static int load(struct replay *r, char *text, size_t text_size)
{
    const char *name = r->options[FILE_NAME].text;
    FILE *file = name[0] ? fopen(name, "rb") : NULL;
    if (!file) {
        snprintf(text, text_size, "replay option file: '%s': %s", name,
                 name[0] ? strerror(errno) : "give the CSV file of a recording");
        return -1;
    }
    char *content = NULL;
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size >= 0 && size <= MAX_BYTES && fseek(file, 0, SEEK_SET) == 0)
        content = malloc((size_t)size + 1);
    int error = -1;
    if (content && fread(content, 1, (size_t)size, file) == (size_t)size) {
        content[size] = '\0';
        bool marked = strncmp(content, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0;
        if (memchr(content, '\0', (size_t)size))
            snprintf(text, text_size, "%s: is no text in UTF-8", name);
        else
            error = parse(r, content + (marked ? strlen(BYTE_ORDER_MARK) : 0), text, text_size);
    } else {
        snprintf(text, text_size, "%s: cannot be read, or has more than %ld bytes", name, MAX_BYTES);
    }
    free(content);
    fclose(file);
    return error;
}

/* ---- the commands ---- */

static void write_header(const struct replay *r)
{
    static const char *const prefixes[] = {"tau.", "q.", "dq."};
    fprintf(r->file, "time_ns,seq,flags");
    for (size_t k = 0; k < 3; k++)
        for (uint32_t i = 0; i < r->n; i++)
            fprintf(r->file, ",%s%s", prefixes[k], r->joint_names[i]);
    for (uint32_t t = 0; t < r->n_tools; t++) {
        const char *dot = r->n_tools > 1 ? "." : "", *name = r->n_tools > 1 ? r->tool_names[t] : "";
        fprintf(r->file, ",opening%s%s,grip_force%s%s", dot, name, dot, name);
    }
    fprintf(r->file, "\n");
}

static void write_values(const struct replay *r, const double *values)
{
    for (uint32_t i = 0; i < r->n; i++)
        fprintf(r->file, ",%.17g", values[i]);
}

static void drain(struct replay *r)
{
    uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    while (tail != atomic_load_explicit(&r->head, memory_order_acquire)) {
        const struct physai_command *c = &r->ring[tail % RING];
        fprintf(r->file, "%lld,%llu,%u", (long long)c->time_ns, (unsigned long long)c->seq, c->flags);
        write_values(r, c->tau);
        write_values(r, c->q);
        write_values(r, c->dq);
        for (uint32_t t = 0; t < r->n_tools; t++)
            fprintf(r->file, ",%.17g,%.17g", c->opening[t], c->grip_force[t]);
        fprintf(r->file, "\n");
        atomic_store_explicit(&r->tail, ++tail, memory_order_release);
    }
}

static void *write_commands(void *handle)
{
    struct replay *r = handle;
    while (!atomic_load_explicit(&r->quit, memory_order_acquire)) {
        drain(r);
        physai_sleep_until(physai_clock_ns() + DRAIN_NS);
    }
    drain(r);
    return NULL;
}

static int open_commands(struct replay *r, char *text, size_t text_size)
{
    const char *name = r->options[COMMANDS].text;
    if (!name[0])
        return 0;
    r->file = fopen(name, "w");
    r->ring = calloc(RING, sizeof *r->ring);
    if (!r->file || !r->ring) {
        snprintf(text, text_size, "replay option commands: '%s': %s", name, strerror(errno));
        return -1;
    }
    write_header(r);
    int error = pthread_create(&r->thread, NULL, write_commands, r);
    if (error)
        snprintf(text, text_size, "the thread that writes commands could not be started: %s",
                 strerror(error));
    r->writing = !error;
    return error;
}

/* ---- the backend ---- */

static void replay_close(void *handle)
{
    struct replay *r = handle;
    if (r->writing) {
        atomic_store_explicit(&r->quit, true, memory_order_release);
        pthread_join(r->thread, NULL);
        uint64_t dropped = atomic_load(&r->dropped);
        if (dropped)
            fprintf(stderr, "replay: %llu commands came faster than %s could be written and are missing\n",
                    (unsigned long long)dropped, r->options[COMMANDS].text);
    }
    if (r->file)
        fclose(r->file);
    free(r->ring);
    free(r->states);
    free(r);
}

static int replay_open(const struct physai_hardware_config *config, void **handle, char *text,
                       size_t text_size)
{
    struct replay *r = calloc(1, sizeof *r);
    if (!r) {
        snprintf(text, text_size, "out of memory");
        return -1;
    }
    r->n = config->n_joints;
    memcpy(r->joint_names, config->joint_names, sizeof r->joint_names);
    r->n_tools = config->n_tools;
    memcpy(r->tool_names, config->tool_names, sizeof r->tool_names);
    for (uint32_t t = 0; t < r->n_tools; t++)
        r->has_gripper[t] = config->grippers[t].kind != PHYSAI_GRIPPER_NONE;
    memcpy(r->options, OPTION_TABLE, sizeof r->options);
    if (physai_options_read(NAME, config->options, r->options, OPTIONS, text, text_size) != 0 ||
        load(r, text, text_size) != 0 || open_commands(r, text, text_size) != 0) {
        replay_close(r);
        return -1;
    }
    *handle = r;
    return 0;
}

/* A state is due when as much time has passed as in the recording; one that is late is handed over at once.
 */
static int replay_read(void *handle, struct physai_state *state, int64_t timeout_ns)
{
    struct replay *r = handle;
    if (r->next == r->count)
        return PHYSAI_HARDWARE_GONE;
    int64_t now_ns = physai_clock_ns();
    if (!r->next)
        r->start_ns = now_ns;
    double speed = r->options[SPEED].number;
    if (speed > 0) {
        double after = (double)(r->states[r->next].time_ns - r->states[0].time_ns) / speed;
        int64_t due_ns = r->start_ns + (int64_t)after;
        if (due_ns - now_ns > timeout_ns) {
            physai_sleep_until(now_ns + timeout_ns);
            return PHYSAI_HARDWARE_TIMEOUT;
        }
        if (due_ns > now_ns)
            physai_sleep_until(due_ns);
    }
    *state = r->states[r->next++];
    state->published_ns = physai_clock_ns();
    return PHYSAI_HARDWARE_OK;
}

static int replay_write(void *handle, const struct physai_command *command)
{
    struct replay *r = handle;
    if (!r->writing)
        return PHYSAI_HARDWARE_OK;
    uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    bool as_fast_as_possible = !(r->options[SPEED].number > 0); /* then nothing is real time */
    while (head - atomic_load_explicit(&r->tail, memory_order_acquire) == RING) {
        if (!as_fast_as_possible) {
            atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
            return PHYSAI_HARDWARE_OK;
        }
        physai_sleep_until(physai_clock_ns() + DRAIN_NS / 10);
    }
    r->ring[head % RING] = *command;
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    return PHYSAI_HARDWARE_OK;
}

const struct physai_hardware *physai_hardware_entry(void)
{
    static const struct physai_hardware backend = {
        .abi = PHYSAI_HARDWARE_ABI,
        .paces = 1,
        .name = NAME,
        .open = replay_open,
        .read = replay_read,
        .write = replay_write,
        .close = replay_close,
    };
    return &backend;
}
