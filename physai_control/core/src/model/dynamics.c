/*
 * The recursions of R. Featherstone, Rigid Body Dynamics Algorithms (Springer 2008), in base coordinates: all
 * vectors are about the origin and along the axes of the base frame ("equations in ground coordinates",
 * section 5.3), so that inertias and forces of a subtree are plain sums and nothing is carried from frame to
 * frame. What goes along the tree is computed link by link. The sines and the bodies of the links, which are
 * most of the work and do not depend on one another, are computed component by component in one loop over all
 * links, which the compiler turns into vector instructions.
 */
#include "model/linear.h"
#include "model/spatial.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define N     PHYSAI_MAX_JOINTS
#define LANES 2 /* loops over links run over a multiple of so many */

/* The vector, or symmetric matrix, of link i. */
#define VEC(v, i) ((struct vec){(v)[0][i], (v)[1][i], (v)[2][i]})
#define SYM(s, i) ((struct sym){(s)[0][i], (s)[1][i], (s)[2][i], (s)[3][i], (s)[4][i], (s)[5][i]})

/* One link at one instant. Motions are of the body, about the base frame's origin: angular, then linear. */
struct moving {
    double frame[3][4];     /* axes and origin, row by row; the third axis is the joint's */
    struct vec turn, shift; /* S: motion by unit joint velocity */
    struct vec w, v;        /* velocity */
    struct vec dw, dv;      /* its rate at constant joint velocities */
};

/* The same of all links, component by component. */
struct spread {
    double x[3][N], y[3][N], z[3][N], origin[3][N];
    double w[3][N], v[3][N], dw[3][N], dv[3][N];
};

/* What the subtree on each joint adds up to, about the base frame's origin, component by component. */
struct subtrees {
    double mass[N];
    double moment[3][N];              /* mass times centre of mass */
    double second[6][N];              /* inertia */
    double force[3][N], torque[3][N]; /* that keep it at constant joint velocities, without gravity */
};

static inline struct vec frame_column(const struct moving *link, int i)
{
    return (struct vec){link->frame[0][i], link->frame[1][i], link->frame[2][i]};
}

static inline void set(double v[3][N], int i, struct vec value)
{
    v[0][i] = value.x, v[1][i] = value.y, v[2][i] = value.z;
}

/* ---- set-up: what the arm carries ---- */

/* A link's frame in its parent's. */
static struct physai_pose link_pose(const struct physai_link *link, double displacement)
{
    if (link->slides) {
        struct physai_pose pose = link->at_zero;
        struct vec axis = column(pose.rotation, 2);
        vec_to(pose.position, plus(vec_of(pose.position), scaled(displacement, axis)));
        return pose;
    }
    double s = sin(displacement), c = cos(displacement);
    struct physai_pose turn = {{c, -s, 0, s, c, 0, 0, 0, 1}, {0, 0, 0}};
    return compose(&link->at_zero, &turn);
}

/* A gripper does not move as far as the arm's inertia is concerned: it is open as wide as it is. */
static struct physai_pose finger_pose(const struct physai_dynamics *d, int link)
{
    const struct physai_link *finger = &d->model->links[link];
    return link_pose(finger, d->finger[link - N] - finger->zero);
}

/* A frame on a gripper is one on the link of the arm that carries it. */
static struct physai_frame on_arm(const struct physai_dynamics *d, struct physai_frame frame)
{
    while (frame.link >= N) {
        struct physai_pose pose = finger_pose(d, frame.link);
        frame.pose = compose(&pose, &frame.pose);
        frame.link = d->model->links[frame.link].parent;
    }
    return frame;
}

static void set_inertia(struct physai_dynamics *d, int link, const struct physai_inertia *inertia)
{
    struct vec centre;
    struct sym second;
    about_centre(inertia, &centre, &second);
    d->mass[link] = inertia->mass;
    set(d->centre, link, centre);
    const double s[6] = {second.xx, second.yy, second.zz, second.xy, second.xz, second.yz};
    for (int k = 0; k < 6; k++)
        d->second[k][link] = s[k];
}

/* Adds the grippers' links as they stand now to the links of the arm that carry them. */
static void carry_grippers(struct physai_dynamics *d)
{
    const struct physai_model *model = d->model;
    struct physai_inertia sum[PHYSAI_MAX_LINKS];
    for (uint32_t i = 0; i < model->n_joints; i++)
        if (model->carries_finger[i])
            sum[i] = d->carried[i];
    for (uint32_t i = 0; i < model->n_fingers; i++)
        sum[N + i] = d->carried[N + i];
    for (uint32_t k = model->n_fingers; k-- > 0;) {
        int finger = model->finger_order[k], parent = model->links[finger].parent;
        struct physai_pose pose = finger_pose(d, finger);
        if (parent >= 0)
            add_body(&sum[parent], &pose, &sum[finger]);
    }
    for (uint32_t i = 0; i < model->n_joints; i++)
        if (model->carries_finger[i])
            set_inertia(d, (int)i, &sum[i]);
    for (uint32_t t = 0; t < model->n_tools; t++) {
        d->tools[t].frame = on_arm(d, model->tools[t]);
        d->tools[t].elbow = on_arm(d, model->elbows[t]);
    }
}

static bool opens_as(const struct physai_dynamics *d, const double *opening)
{
    bool same = true;
    for (uint32_t t = 0; t < d->model->n_tools; t++)
        same = same && opening[t] == d->opening[t];
    return same;
}

static void set_opening(struct physai_dynamics *d, const double *opening)
{
    memcpy(d->opening, opening, d->model->n_tools * sizeof *opening);
    for (uint32_t i = 0; i < d->model->n_fingers; i++) {
        const struct physai_finger_map *finger = &d->model->fingers[i];
        d->finger[i] = finger->closed + finger->ratio * opening[finger->tool];
    }
    carry_grippers(d);
}

/* What each link carries of its own and of payloads. */
static void carry_payloads(struct physai_dynamics *d)
{
    for (int i = 0; i < PHYSAI_MAX_LINKS; i++)
        d->carried[i] = d->model->links[i].inertia;
    for (uint32_t t = 0; t < d->model->n_tools; t++)
        add_body(&d->carried[d->model->tools[t].link], &d->model->tools[t].pose, &d->payload[t]);
    for (uint32_t i = 0; i < d->model->n_joints; i++)
        set_inertia(d, (int)i, &d->carried[i]);
    carry_grippers(d);
}

int physai_dynamics_init(struct physai_dynamics *d, const struct physai_model *model)
{
    memset(d, 0, sizeof *d);
    d->model = model;
    d->padded = ((int)model->n_joints + LANES - 1) / LANES * LANES;
    for (uint32_t i = 0; i < model->n_joints; i++) {
        const struct physai_link *link = &model->links[i];
        d->turns[i] = link->slides ? 0 : 1;
        d->slides[i] = link->slides ? 1 : 0;
        d->zero[i] = link->zero;
        for (int row = 0; row < 3; row++) {
            memcpy(d->zero_frame[i][row], link->at_zero.rotation + 3 * row, 3 * sizeof(double));
            d->zero_frame[i][row][3] = link->at_zero.position[row];
        }
    }
    for (uint32_t i = 0; i < model->n_fingers; i++)
        d->finger[i] = model->links[N + i].zero;
    for (int t = 0; t < PHYSAI_MAX_TOOLS; t++)
        d->opening[t] = NAN; /* not measured yet */
    carry_payloads(d);
    return PHYSAI_OK;
}

void physai_dynamics_fini(struct physai_dynamics *d)
{
    memset(d, 0, sizeof *d);
}

void physai_dynamics_set_payload(struct physai_dynamics *d, uint32_t tool, double mass, const double com[3],
                                 const double inertia[6])
{
    d->payload[tool] = rigid_body(mass, vec_of(com), sym_of(inertia));
    carry_payloads(d);
}

/* ---- kinematics ---- */

/*
 * Sine and cosine of all angles at once and without branches, which libm's are not: the angle less the
 * nearest multiple k of pi/2, in three parts so that none of it is lost (Cody and Waite), the polynomials of
 * fdlibm, and the two exchanged and negated as the last bits of k say. Within 2^-52 of libm. Angles that no
 * joint has go to libm.
 */
static void sines(int n, const double *angle, double *sine, double *cosine)
{
    const double round = 0x1.8p52; /* to the nearest integer, whose last bits are then those of the sum */
    for (int i = 0; i < n; i++) {
        double sum = angle[i] * M_2_PI + round, k = sum - round;
        double x = ((angle[i] - k * 0x1.921fb544p+0) - k * 0x1.0b4611a6p-34) - k * 0x1.3198a2e037073p-69;
        double y = x * x;
        double s = 1.58969099521155010221e-10;
        s = s * y - 2.50507602534068634195e-08;
        s = s * y + 2.75573137070700676789e-06;
        s = s * y - 1.98412698298579493134e-04;
        s = s * y + 8.33333333332248946124e-03;
        s = s * y - 1.66666666666666324348e-01;
        s = s * y * x + x;
        double c = -1.13596475577881948265e-11;
        c = c * y + 2.08757232129817482790e-09;
        c = c * y - 2.75573143513906633035e-07;
        c = c * y + 2.48015872894767294178e-05;
        c = c * y - 1.38888888888741095749e-03;
        c = c * y + 4.16666666666666019037e-02;
        c = c * y * y - 0.5 * y + 1;
        uint64_t quadrant, first, second;
        memcpy(&quadrant, &sum, sizeof quadrant);
        memcpy(&first, &s, sizeof first);
        memcpy(&second, &c, sizeof second);
        uint64_t exchange = (first ^ second) & (0 - (quadrant & 1));
        first ^= exchange ^ (quadrant & 2) << 62;
        second ^= exchange ^ ((quadrant + 1) & 2) << 62;
        memcpy(&sine[i], &first, sizeof first);
        memcpy(&cosine[i], &second, sizeof second);
    }
    for (int i = 0; i < n; i++) {
        if (!(fabs(angle[i]) < 1e5)) {
            sine[i] = sin(angle[i]);
            cosine[i] = cos(angle[i]);
        }
    }
}

/* Poses of all links: section 4.1, with each joint's turn about, or shift along, its own z. */
static void place_links(const struct physai_dynamics *d, const double *q, struct moving *links)
{
    const struct physai_model *model = d->model;
    const int n = (int)model->n_joints;
    static const double base[3][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}};
    double angle[N], s[N], c[N], shift[N];
    for (int i = n; i < d->padded; i++)
        angle[i] = 0;
    for (int i = 0; i < n; i++) {
        angle[i] = d->turns[i] * (q[i] - d->zero[i]);
        shift[i] = d->slides[i] * (q[i] - d->zero[i]);
    }
    sines(d->padded, angle, s, c);
    for (int k = 0; k < n; k++) {
        int i = model->order[k], parent = model->links[i].parent;
        const double (*outer)[4] = parent < 0 ? base : links[parent].frame;
        const double (*zero)[4] = d->zero_frame[i];
        for (int row = 0; row < 3; row++) {
            double at_zero[4], *frame = links[i].frame[row];
            for (int col = 0; col < 4; col++)
                at_zero[col] = outer[row][0] * zero[0][col] + outer[row][1] * zero[1][col] +
                               outer[row][2] * zero[2][col];
            frame[0] = c[i] * at_zero[0] + s[i] * at_zero[1];
            frame[1] = c[i] * at_zero[1] - s[i] * at_zero[0];
            frame[2] = at_zero[2];
            frame[3] = at_zero[3] + shift[i] * at_zero[2] + outer[row][3];
        }
    }
}

/* S of each joint: section 3.5. */
static void find_motions(const struct physai_dynamics *d, struct moving *links)
{
    for (int i = 0; i < (int)d->model->n_joints; i++) {
        struct moving *link = &links[i];
        struct vec axis = frame_column(link, 2), origin = frame_column(link, 3);
        struct vec none = {0, 0, 0};
        bool slides = d->model->links[i].slides;
        link->turn = slides ? none : axis;
        link->shift = slides ? axis : cross(origin, axis);
    }
}

static void point_on(const struct moving *link, const double point[3], double base[3])
{
    for (int row = 0; row < 3; row++)
        base[row] = dot(vec_of(link->frame[row]), vec_of(point)) + link->frame[row][3];
}

static void find_frames(struct physai_dynamics *d, const struct moving *links)
{
    for (uint32_t t = 0; t < d->model->n_tools; t++) {
        struct physai_tool_motion *tool = &d->tools[t];
        const struct moving *link = &links[tool->frame.link];
        point_on(link, tool->frame.pose.position, tool->position);
        for (int row = 0; row < 3; row++)
            for (int j = 0; j < 3; j++)
                tool->rotation[3 * row + j] =
                    dot(vec_of(link->frame[row]), column(tool->frame.pose.rotation, j));
        if (tool->elbow.link >= 0)
            point_on(&links[tool->elbow.link], tool->elbow.pose.position, tool->elbow_position);
    }
}

/* Velocity of the tools and elbows by unit velocity of each joint that moves them. */
static void find_jacobians(struct physai_dynamics *d, const struct moving *links)
{
    for (uint32_t t = 0; t < d->model->n_tools; t++) {
        struct physai_tool_motion *tool = &d->tools[t];
        struct vec at = vec_of(tool->position), elbow = vec_of(tool->elbow_position);
        for (int i = tool->frame.link; i >= 0; i = d->model->links[i].parent) {
            set(tool->jacobian, i, plus(links[i].shift, cross(links[i].turn, at)));
            set(tool->jacobian + 3, i, links[i].turn);
        }
        for (int i = tool->elbow.link; i >= 0; i = d->model->links[i].parent)
            set(tool->elbow_jacobian, i, plus(links[i].shift, cross(links[i].turn, elbow)));
    }
}

void physai_dynamics_poses(struct physai_dynamics *d, const double *q)
{
    struct moving links[N];
    place_links(d, q, links);
    find_frames(d, links);
}

void physai_dynamics_kinematics(struct physai_dynamics *d, const double *q)
{
    struct moving links[N];
    place_links(d, q, links);
    find_motions(d, links);
    find_frames(d, links);
    find_jacobians(d, links);
}

/* ---- dynamics ---- */

/* Velocities, and accelerations while no joint accelerates: dS/dt = v x S. Section 5.3. */
static void find_velocities(const struct physai_dynamics *d, const double *dq, struct moving *links)
{
    for (int k = 0; k < (int)d->model->n_joints; k++) {
        int i = d->model->order[k], parent = d->model->links[i].parent;
        struct moving *link = &links[i];
        struct vec turn = scaled(dq[i], link->turn), shift = scaled(dq[i], link->shift);
        struct vec w = turn, v = shift, dw = {0, 0, 0}, dv = {0, 0, 0};
        if (parent >= 0) {
            w = plus(links[parent].w, turn);
            v = plus(links[parent].v, shift);
            dw = plus(links[parent].dw, cross(w, turn));
            dv = plus(links[parent].dv, plus(cross(w, shift), cross(v, turn)));
        }
        link->w = w;
        link->v = v;
        link->dw = dw;
        link->dv = dv;
    }
}

/* What pads the lanes is zero. */
static void spread_links(const struct physai_dynamics *d, const struct moving *links, struct spread *s)
{
    const int n = d->padded;
    for (int i = 0; i < n; i++) {
        set(s->x, i, frame_column(&links[i], 0));
        set(s->y, i, frame_column(&links[i], 1));
        set(s->z, i, frame_column(&links[i], 2));
        set(s->origin, i, frame_column(&links[i], 3));
        set(s->w, i, links[i].w);
        set(s->v, i, links[i].v);
        set(s->dw, i, links[i].dw);
        set(s->dv, i, links[i].dv);
    }
}

/* Each link alone: its inertia, and by Newton and Euler the force on it. */
static void find_bodies(const struct physai_dynamics *d, const struct spread *s, struct subtrees *trees)
{
    const int n = d->padded;
    for (int i = 0; i < n; i++) {
        struct vec x = VEC(s->x, i), y = VEC(s->y, i), z = VEC(s->z, i);
        struct vec c = plus(VEC(s->origin, i), along(x, y, z, VEC(d->centre, i)));
        struct sym own = turned(x, y, z, SYM(d->second, i)), all = sym_plus(own, parallel(d->mass[i], c));
        trees->mass[i] = d->mass[i];
        set(trees->moment, i, scaled(d->mass[i], c));
        trees->second[0][i] = all.xx, trees->second[1][i] = all.yy, trees->second[2][i] = all.zz;
        trees->second[3][i] = all.xy, trees->second[4][i] = all.xz, trees->second[5][i] = all.yz;

        struct vec w = VEC(s->w, i), dw = VEC(s->dw, i);
        struct vec velocity = plus(VEC(s->v, i), cross(w, c));
        struct vec acceleration = plus(plus(VEC(s->dv, i), cross(dw, c)), cross(w, velocity));
        struct vec force = scaled(d->mass[i], acceleration);
        struct vec torque = plus(times(own, dw), cross(w, times(own, w)));
        set(trees->force, i, force);
        set(trees->torque, i, plus(torque, cross(c, force)));
    }
}

static inline void add(double v[3][N], int to, int from)
{
    for (int axis = 0; axis < 3; axis++)
        v[axis][to] += v[axis][from];
}

static void add_subtree(struct subtrees *trees, int to, int from)
{
    trees->mass[to] += trees->mass[from];
    add(trees->moment, to, from);
    add(trees->second, to, from);
    add(trees->second + 3, to, from);
    add(trees->force, to, from);
    add(trees->torque, to, from);
}

/*
 * From the tips to the root. The joint's torque for Coriolis forces is S . f (section 5.3). Inertia is that
 * of composite rigid bodies, M_ij = S_i . I_j S_j for all i that carry j (section 6.2), and gravity pulls at
 * the same bodies' centre of mass.
 */
static void sum_up(struct physai_dynamics *d, const struct moving *links, struct subtrees *trees)
{
    const struct physai_model *model = d->model;
    struct vec pull = vec_of(model->gravity);
    for (int k = (int)model->n_joints; k-- > 0;) {
        int j = model->order[k], parent = model->links[j].parent;
        struct vec turn = links[j].turn, shift = links[j].shift, moment = VEC(trees->moment, j);
        struct vec force = plus(scaled(trees->mass[j], shift), cross(turn, moment));
        struct vec torque = plus(times(SYM(trees->second, j), turn), cross(moment, shift));
        double weight = -dot(force, pull);
        double coriolis = dot(shift, VEC(trees->force, j)) + dot(turn, VEC(trees->torque, j));
        d->load[j] = weight + coriolis;
        d->gravity[j] = model->adds_gravity ? weight : 0;
        d->bias[j] = d->gravity[j] + coriolis;
        d->inertia[j][j] = model->armature[j] + dot(shift, force) + dot(turn, torque);
        for (int i = parent; i >= 0; i = model->links[i].parent)
            d->inertia[i][j] = d->inertia[j][i] = dot(links[i].shift, force) + dot(links[i].turn, torque);
        if (parent >= 0)
            add_subtree(trees, parent, j);
    }
}

/* A tool is a point of its link: classical acceleration from the spatial one (section 2.11). */
static void find_drift(struct physai_tool_motion *tool, const struct moving *link)
{
    struct vec at = vec_of(tool->position), velocity = plus(link->v, cross(link->w, at));
    vec_to(tool->drift, plus(plus(link->dv, cross(link->dw, at)), cross(link->w, velocity)));
    vec_to(tool->drift + 3, link->dw);
}

static bool finite_results(const struct physai_dynamics *d)
{
    double sum = 0;
    for (int i = 0; i < d->padded; i++)
        sum += fabs(d->load[i]) + fabs(d->inertia[i][i]);
    return isfinite(sum);
}

bool physai_dynamics_update(struct physai_dynamics *d, const double *q, const double *dq,
                            const double *opening)
{
    struct moving links[N];
    struct spread spread;
    struct subtrees trees;
    for (int i = (int)d->model->n_joints; i < d->padded; i++)
        links[i] = (struct moving){0};
    if (!opens_as(d, opening))
        set_opening(d, opening);
    place_links(d, q, links);
    find_motions(d, links);
    find_frames(d, links);
    find_jacobians(d, links);
    find_velocities(d, dq, links);
    spread_links(d, links, &spread);
    find_bodies(d, &spread, &trees);
    sum_up(d, links, &trees);
    for (uint32_t t = 0; t < d->model->n_tools; t++)
        find_drift(&d->tools[t], &links[d->tools[t].frame.link]);
    return finite_results(d);
}

/* ---- use of the inertia and the Jacobian ---- */

void physai_dynamics_inertial(const struct physai_dynamics *d, const double *ddq, double *torque)
{
    memset(torque, 0, d->model->n_joints * sizeof *torque);
    for (int j = 0; j < (int)d->model->n_joints; j++)
        for (int i = 0; i < (int)d->model->n_joints; i++)
            torque[i] += d->inertia[j][i] * ddq[j];
}

bool physai_dynamics_factor(struct physai_dynamics *d)
{
    for (int i = 0; i < d->padded; i++)
        memcpy(d->factor[i], d->inertia[i], (size_t)d->padded * sizeof d->factor[i][0]);
    return physai_factor((int)d->model->n_joints, N, &d->factor[0][0]);
}

void physai_dynamics_solve(const struct physai_dynamics *d, const double *rhs, double *x)
{
    if (x != rhs)
        memcpy(x, rhs, d->model->n_joints * sizeof *x);
    physai_solve((int)d->model->n_joints, N, &d->factor[0][0], 1, x);
}

void physai_dynamics_weigh_tool(const struct physai_dynamics *d, uint32_t tool, double weighted[N][6])
{
    for (int i = 0; i < (int)d->model->n_joints; i++)
        for (int a = 0; a < 6; a++)
            weighted[i][a] = d->tools[tool].jacobian[a][i];
    physai_solve((int)d->model->n_joints, N, &d->factor[0][0], 6, &weighted[0][0]);
}

void physai_dynamics_wrench(const struct physai_dynamics *d, uint32_t tool, const double *tau,
                            double wrench[6])
{
    /* Damping keeps the estimate bounded near singular poses; 1e-3 costs below 1 % elsewhere. */
    const double damping = 1e-3;
    const int n = (int)d->model->n_joints;
    const double (*jacobian)[N] = d->tools[tool].jacobian;
    double square[6][6]; /* J J^T + damping */
    for (int a = 0; a < 6; a++) {
        wrench[a] = 0;
        for (int i = 0; i < n; i++)
            wrench[a] += jacobian[a][i] * tau[i];
        for (int b = 0; b <= a; b++) {
            double even = a == b ? damping : 0, odd = 0; /* two sums, for vector instructions */
            for (int i = 0; i < d->padded; i += 2) {
                even += jacobian[a][i] * jacobian[b][i];
                odd += jacobian[a][i + 1] * jacobian[b][i + 1];
            }
            square[a][b] = square[b][a] = even + odd;
        }
    }
    if (physai_factor(6, 6, &square[0][0]))
        physai_solve(6, 6, &square[0][0], 1, wrench);
    else /* the Jacobian is not finite */
        memset(wrench, 0, 6 * sizeof *wrench);
}
