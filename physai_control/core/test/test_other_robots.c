/* Robots that are none like the Franka: many joints, binary models, position commands at low rates. */
#include "robot.h"

#include <mujoco/mujoco.h>
#include <unistd.h>

/* A chain of so many joints, a tool at its end. */
static void write_chain(char *path, int joints)
{
    int file = mkstemps(path, 4);
    CHECK(file >= 0);
    FILE *stream = fdopen(file, "w");
    fprintf(stream, "<mujoco><compiler angle='radian'/><worldbody><body name='base'>");
    for (int i = 0; i < joints; i++)
        fprintf(stream,
                "<body pos='0 0 0.05'><joint name='j%d' axis='%d %d 0' armature='0.05'/>"
                "<geom type='capsule' size='0.01' fromto='0 0 0 0 0 0.04' mass='0.1'/>",
                i, i % 2, !(i % 2));
    fprintf(stream, "<site name='tip' pos='0 0 0.05'/>");
    for (int i = 0; i < joints; i++)
        fprintf(stream, "</body>");
    fprintf(stream, "</body></worldbody></mujoco>");
    CHECK(fclose(stream) == 0);
}

static struct physai_control_config chain_config(const char *path, int joints)
{
    struct physai_control_config config = robot_config();
    config.n_joints = (uint32_t)joints;
    config.n_fences = 0;
    snprintf(config.model_path, sizeof config.model_path, "%s", path);
    snprintf(config.base_frame, PHYSAI_NAME_SIZE, "base");
    memset(config.tools, 0, sizeof config.tools);
    snprintf(config.tools[0].frame, PHYSAI_NAME_SIZE, "tip");
    for (int i = 0; i < joints; i++) {
        snprintf(config.joint_names[i], PHYSAI_NAME_SIZE, "j%d", i);
        config.joints[i] = config.joints[0];
        config.settings.stiffness[i] = 100;
        config.settings.damping_ratio[i] = 1;
        config.settings.clip[i] = 0.5;
    }
    return config;
}

struct follower {
    struct physai_control *control;
    struct physai_state state;
    struct physai_command command;
    struct physai_status status;
    int64_t period_ns;
};

static void tick(struct follower *f, bool servo)
{
    f->state.seq++;
    f->state.time_ns += f->period_ns;
    physai_control_cycle(f->control, &f->state, &f->command);
    physai_control_read_status(f->control, &f->status);
    for (uint32_t i = 0; i < f->state.n_joints && (f->command.flags & PHYSAI_COMMAND_ENABLE); i++) {
        double last = f->state.q[i];
        /* A hobby servo: half of the way at each command, and 4096 places in a turn. */
        double wanted = servo ? last + 0.5 * (f->command.q[i] - last) : f->command.q[i];
        f->state.q[i] = servo ? round(wanted * 651.9) / 651.9 : wanted;
        f->state.dq[i] = servo ? (f->state.q[i] - last) * 1e9 / (double)f->period_ns : f->command.dq[i];
        f->state.tau[i] = servo ? 0 : f->command.tau[i];
    }
}

/* A chunk of `seconds` by `reach` on every joint, followed to its end; returns how far the worst joint is
 * off. */
static double follow(struct follower *f, double reach, double seconds, bool servo)
{
    static struct physai_chunk chunk;
    char text[PHYSAI_TEXT_SIZE];
    chunk = (struct physai_chunk){.sequence = 1, .lease = 1, .n_values = f->state.n_joints, .n_steps = 21};
    chunk.dt_ns = (int64_t)(seconds / 20 * 1e9);
    chunk.start_ns = f->state.time_ns;
    chunk.expiry_ns = chunk.start_ns + 22 * chunk.dt_ns;
    for (uint32_t k = 0; k < chunk.n_steps; k++)
        for (uint32_t i = 0; i < f->state.n_joints; i++)
            chunk.values[k][i] = f->status.reference[i] + reach * 0.5 * (1 - cos(M_PI * k / 20));
    if (physai_control_post_chunk(f->control, &chunk, text, sizeof text))
        fprintf(stderr, "%s\n", text);
    CHECK(text[0] == '\0');
    int64_t end_ns = f->state.time_ns + (int64_t)((seconds + 1) * 1e9);
    while (f->state.time_ns < end_ns)
        tick(f, servo);
    if (f->status.state != PHYSAI_HOLD)
        fprintf(stderr, "%s\n", f->status.cause_text);
    CHECK(f->status.state == PHYSAI_HOLD && f->status.cause == PHYSAI_CAUSE_CHUNK_EXPIRED);
    double worst = 0;
    for (uint32_t i = 0; i < f->state.n_joints; i++)
        worst = fmax(worst, fabs(f->state.q[i] - chunk.values[20][i]));
    return worst;
}

static void open_follower(struct follower *f, const struct physai_control_config *config)
{
    char text[PHYSAI_TEXT_SIZE] = "";
    memset(f, 0, sizeof *f);
    if (physai_control_create(config, &f->control, text, sizeof text))
        fprintf(stderr, "%s\n", text);
    CHECK(f->control);
    f->period_ns = (int64_t)(1e9 / config->rate_hz);
    f->state.n_joints = config->n_joints;
    f->state.time_ns = 5000 * TICK;
}

static void activate(struct follower *f, bool servo)
{
    tick(f, servo);
    physai_control_request(f->control, PHYSAI_REQUEST_ACTIVATE);
    for (int64_t end_ns = f->state.time_ns + 1000 * TICK; f->state.time_ns < end_ns;)
        tick(f, servo);
    CHECK(f->status.state == PHYSAI_HOLD);
}

/* As many joints as are possible, moved and held; the model's dynamics are checked when it is loaded. */
static void test_32_joints(void)
{
    char path[] = "/tmp/physai_chain_XXXXXX.xml";
    static struct follower f;
    write_chain(path, 32);
    struct physai_control_config config = chain_config(path, 32);
    open_follower(&f, &config);
    activate(&f, false);
    CHECK(follow(&f, 0.05, 1, false) < 1e-3);
    physai_control_destroy(f.control);
    config.settings.law = PHYSAI_LAW_CARTESIAN;
    open_follower(&f, &config);
    activate(&f, false);
    physai_control_destroy(f.control);
    unlink(path);
}

/* A binary model is the model; what is none is refused with the reason. */
static void test_binary_model(void)
{
    char text[PHYSAI_TEXT_SIZE] = "", error[256] = "", path[] = "/tmp/physai_model_XXXXXX.mjb";
    struct physai_control_config config = robot_config();
    struct physai_model models[2];
    static struct physai_dynamics d[2];
    double dq[JOINTS] = {0.3, -0.2, 0.1, 0.5, -1, 0.7, 0.2};
    mjModel *mj = mj_loadXML(config.model_path, NULL, error, sizeof error);
    close(mkstemps(path, 4));
    mj_saveModel(mj, path, NULL, 0);
    mj_deleteModel(mj);
    CHECK(physai_model_load(&models[0], &config, text, sizeof text) == PHYSAI_OK);
    snprintf(config.model_path, sizeof config.model_path, "%s", path);
    CHECK(physai_model_load(&models[1], &config, text, sizeof text) == PHYSAI_OK);
    for (int k = 0; k < 2; k++) {
        physai_dynamics_init(&d[k], &models[k]);
        CHECK(physai_dynamics_update(&d[k], home, dq, (double[]){0.04}));
        physai_model_free(&models[k]);
    }
    for (int i = 0; i < JOINTS; i++)
        CHECK_NEAR(d[0].load[i], d[1].load[i], 1e-12);
    FILE *file = fopen(path, "w");
    fprintf(file, "no model");
    fclose(file);
    CHECK(physai_model_load(&models[1], &config, text, sizeof text) == PHYSAI_ERROR_MODEL);
    CHECK(strstr(text, path) && strstr(text, "write it again"));
    physai_model_free(&models[1]);
    unlink(path);
    CHECK(physai_model_load(&models[1], &config, text, sizeof text) == PHYSAI_ERROR_MODEL);
    CHECK(strstr(text, "No such file"));
    physai_model_free(&models[1]);
}

/* Servos at 20 and 50 Hz that measure positions alone follow a chunk, in reduced mode too. */
static void test_hobby_servos(void)
{
    char path[] = "/tmp/physai_chain_XXXXXX.xml", text[PHYSAI_TEXT_SIZE];
    static struct follower f;
    write_chain(path, 5);
    struct physai_control_config config = chain_config(path, 5);
    config.position_commanded = 1;
    config.state_timeout_s = 0.25;
    config.contact_force = 1; /* nobody can tell, so nothing comes of it */
    for (int rate = 0; rate < 2; rate++) {
        for (int reduced = 0; reduced < 2; reduced++) {
            config.rate_hz = rate ? 50 : 20;
            open_follower(&f, &config);
            f.state.flags = PHYSAI_STATE_NO_TORQUE | PHYSAI_STATE_NO_VELOCITY;
            activate(&f, true);
            struct physai_settings settings = config.settings;
            settings.reduced = (uint32_t)reduced;
            CHECK(physai_control_post_settings(f.control, &settings, text, sizeof text) == PHYSAI_OK);
            CHECK(follow(&f, 0.5, 2, true) < (reduced ? 0.5 : 0.01));
            physai_control_destroy(f.control);
        }
    }
    unlink(path);
}

/* What guards there are without torque and velocity: a servo that stalls, and a reading that jumps. */
static void test_faults_of_hobby_servos(void)
{
    char path[] = "/tmp/physai_chain_XXXXXX.xml";
    static struct follower f;
    write_chain(path, 5);
    struct physai_control_config config = chain_config(path, 5);
    config.position_commanded = 1;
    config.rate_hz = 50;
    config.state_timeout_s = 0.1;
    open_follower(&f, &config);
    f.state.flags = PHYSAI_STATE_NO_TORQUE | PHYSAI_STATE_NO_VELOCITY;
    activate(&f, true);
    for (int cycle = 0; cycle < 40 && f.status.state == PHYSAI_HOLD; cycle++) { /* pushed off, slowly */
        f.state.q[2] = 0.02 * cycle;
        f.state.seq++;
        f.state.time_ns += f.period_ns;
        physai_control_cycle(f.control, &f.state, &f.command);
        physai_control_read_status(f.control, &f.status);
    }
    CHECK(f.status.state == PHYSAI_FAULT && f.status.cause == PHYSAI_CAUSE_TRACKING);
    physai_control_destroy(f.control);

    open_follower(&f, &config);
    f.state.flags = PHYSAI_STATE_NO_TORQUE | PHYSAI_STATE_NO_VELOCITY;
    activate(&f, true);
    f.state.q[1] = 1.5; /* faster than the joint can be */
    for (int cycle = 0; cycle < 8; cycle++) {
        f.state.seq++;
        f.state.time_ns += f.period_ns;
        physai_control_cycle(f.control, &f.state, &f.command);
    }
    physai_control_read_status(f.control, &f.status);
    CHECK(f.status.state == PHYSAI_FAULT && f.status.cause == PHYSAI_CAUSE_STATE_JUMPED);
    CHECK(!(f.command.flags & PHYSAI_COMMAND_ENABLE));
    physai_control_destroy(f.control);
    unlink(path);
}

/* A driver's usual mistakes are named: a turn too many, degrees, steps; and who let go of the arm. */
static void test_what_a_wrong_reading_may_be(void)
{
    char path[] = "/tmp/physai_chain_XXXXXX.xml", text[PHYSAI_TEXT_SIZE];
    write_chain(path, 5);
    struct physai_control_config config = chain_config(path, 5);
    const double low = config.joints[1].position_min, high = config.joints[1].position_max;
    const struct {
        enum physai_cause cause;
        double value, limit;
        const char *hint, *lack;
    } cases[] = {
        {PHYSAI_CAUSE_POSITION, (low + high) / 2 + 6.2831853, high, "one turn less", "degrees"},
        {PHYSAI_CAUSE_POSITION, -34.4, low, "not degrees or a servo's steps", "turn"},
        {PHYSAI_CAUSE_POSITION, 2048, high, "not degrees or a servo's steps", "turn"},
        {PHYSAI_CAUSE_POSITION, high + 0.1, high, "beyond", ";"},
        {PHYSAI_CAUSE_STATE_JUMPED, -6.3, 0.2, "a full turn", "velocity"},
        {PHYSAI_CAUSE_STATE_JUMPED, 0.5, 0.2, "jumps by 0.5 rad", "turn"},
        {PHYSAI_CAUSE_LET_GO, 0.152, 0, "(152 ms between two)", "own gate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct physai_status status = {.cause = cases[i].cause,
                                       .cause_joint = cases[i].cause == PHYSAI_CAUSE_LET_GO ? -1 : 1,
                                       .cause_value = cases[i].value,
                                       .cause_limit = cases[i].limit};
        physai_describe_cause(&config, &status, text, sizeof text);
        CHECK(strstr(text, cases[i].hint) && !strstr(text, cases[i].lack));
    }
    unlink(path);
}

int main(void)
{
    test_32_joints();
    test_binary_model();
    test_hobby_servos();
    test_faults_of_hobby_servos();
    test_what_a_wrong_reading_may_be();
    return 0;
}
