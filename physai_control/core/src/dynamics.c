/*
 * The recursions of R. Featherstone, Rigid Body Dynamics Algorithms (Springer 2008), in base coordinates: all
 * vectors are about the origin and along the axes of the base frame ("equations in ground coordinates",
 * section 5.3), so that inertias and forces of a subtree are plain sums and nothing is carried from frame to
 * frame. What does not depend on another link is computed for all links in one loop, component by component,
 * which the compiler turns into vector instructions; only the sums along the tree go link by link.
 */
#include "spatial.h"

#include <math.h>
#include <string.h>

#define N     PHYSAI_MAX_JOINTS
#define LANES 2 /* loops over links run over a multiple of so many */

/* The vector, or symmetric matrix, of link i. */
#define VEC(v, i) ((struct vec){(v)[0][i], (v)[1][i], (v)[2][i]})
#define SYM(s, i) ((struct sym){(s)[0][i], (s)[1][i], (s)[2][i], (s)[3][i], (s)[4][i], (s)[5][i]})

/* All links at one instant. */
struct tree {
    double x[3][N], y[3][N], z[3][N]; /* axes; z is the joint's */
    double origin[3][N];              /* m, where the joint is */
    double turn[3][N],
        shift[3][N];     /* S: motion about the origin by unit joint velocity, angular and linear */
    double centre[3][N]; /* m, of mass */
    double second[6][N]; /* kg m^2, about the centre */
};

static inline void set(double v[3][N], int i, struct vec value)
{
    v[0][i] = value.x, v[1][i] = value.y, v[2][i] = value.z;
}

static inline void add(double v[3][N], int to, int from)
{
    for (int axis = 0; axis < 3; axis++)
        v[axis][to] += v[axis][from];
}

/* ---- set-up: what the arm carries ---- */

/* A link's frame in its parent's. */
static struct physai_pose link_pose(const struct physai_link *link, double displacement)
{
    struct physai_pose moved = {{1, 0, 0, 0, 1, 0, 0, 0, 1}, {0, 0, 0}};
    if (link->slides) {
        moved.position[2] = displacement;
    } else {
        moved.rotation[0] = moved.rotation[4] = cos(displacement);
        moved.rotation[3] = sin(displacement);
        moved.rotation[1] = -moved.rotation[3];
    }
    return compose(&link->at_zero, &moved);
}

/* The gripper does not move as far as the arm's inertia is concerned: it is open as wide as it is. */
static struct physai_pose finger_pose(const struct physai_dynamics *d, int link)
{
    const struct physai_link *finger = &d->model->links[link];
    return link_pose(finger, d->opening[link - N] - finger->zero);
}

/* A frame on the gripper is one on the link of the arm that carries it. */
static struct physai_frame on_arm(const struct physai_dynamics *d, struct physai_frame frame)
{
    while (frame.link >= N) {
        struct physai_pose pose = finger_pose(d, frame.link);
        frame.pose = compose(&pose, &frame.pose);
        frame.link = d->model->links[frame.link].parent;
    }
    return frame;
}

static void mark_movers(const struct physai_model *model, int link, double *moves)
{
    memset(moves, 0, N * sizeof *moves);
    for (; link >= 0; link = model->links[link].parent)
        moves[link] = 1;
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

/* Adds the gripper's links as they stand now to the links of the arm that carry them. */
static void carry_gripper(struct physai_dynamics *d)
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
    if (model->tool.link >= N)
        d->tool = on_arm(d, model->tool);
    if (model->elbow.link >= N)
        d->elbow = on_arm(d, model->elbow);
}

static void set_width(struct physai_dynamics *d, double width)
{
    d->gripper_width = width;
    for (uint32_t i = 0; i < d->model->n_fingers; i++)
        d->opening[i] = width / d->model->n_fingers;
    carry_gripper(d);
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
        set(d->zero_x, (int)i, column(link->at_zero.rotation, 0));
        set(d->zero_y, (int)i, column(link->at_zero.rotation, 1));
        set(d->zero_z, (int)i, column(link->at_zero.rotation, 2));
        set(d->zero_origin, (int)i, vec_of(link->at_zero.position));
    }
    for (int i = 0; i < PHYSAI_MAX_LINKS; i++)
        d->carried[i] = model->links[i].inertia;
    for (uint32_t i = 0; i < model->n_fingers; i++)
        d->opening[i] = model->links[N + i].zero;
    d->gripper_width = NAN; /* not measured yet */
    d->tool = on_arm(d, model->tool);
    d->elbow = model->elbow.link < 0 ? model->elbow : on_arm(d, model->elbow);
    mark_movers(model, d->tool.link, d->tool_moves);
    mark_movers(model, d->elbow.link, d->elbow_moves);
    for (uint32_t i = 0; i < model->n_joints; i++)
        set_inertia(d, (int)i, &d->carried[i]);
    carry_gripper(d);
    return PHYSAI_OK;
}

void physai_dynamics_fini(struct physai_dynamics *d)
{
    memset(d, 0, sizeof *d);
}

void physai_dynamics_set_payload(struct physai_dynamics *d, double mass, const double com[3],
                                 const double inertia[6])
{
    const struct physai_frame *tool = &d->model->tool;
    struct physai_inertia payload = rigid_body(mass, vec_of(com), sym_of(inertia));
    d->carried[tool->link] = d->model->links[tool->link].inertia;
    add_body(&d->carried[tool->link], &tool->pose, &payload);
    if (tool->link < N)
        set_inertia(d, tool->link, &d->carried[tool->link]);
    carry_gripper(d);
}

/* ---- kinematics ---- */

/* Poses of all links: section 4.1, with each joint's turn about, or shift along, its own z. */
static void place_links(const struct physai_dynamics *d, const double *q, struct tree *t)
{
    const struct physai_model *model = d->model;
    const int n = d->padded;
    double c[N], s[N], shift[N], x[3][N], y[3][N], z[3][N], origin[3][N];
    for (int i = 0; i < n; i++) {
        double displacement = i < (int)model->n_joints ? q[i] - d->zero[i] : 0;
        c[i] = cos(d->turns[i] * displacement);
        s[i] = sin(d->turns[i] * displacement);
        shift[i] = d->slides[i] * displacement;
    }
    for (int i = 0; i < n; i++) { /* in the parent's frame */
        struct vec x0 = VEC(d->zero_x, i), y0 = VEC(d->zero_y, i), z0 = VEC(d->zero_z, i);
        set(x, i, plus(scaled(c[i], x0), scaled(s[i], y0)));
        set(y, i, minus(scaled(c[i], y0), scaled(s[i], x0)));
        set(z, i, z0);
        set(origin, i, plus(VEC(d->zero_origin, i), scaled(shift[i], z0)));
    }
    for (int i = (int)model->n_joints; i < n; i++) { /* what pads the lanes stays zero */
        struct vec none = {0, 0, 0};
        set(t->x, i, none);
        set(t->y, i, none);
        set(t->z, i, none);
        set(t->origin, i, none);
    }
    for (uint32_t k = 0; k < model->n_joints; k++) { /* in the base frame */
        int i = model->order[k], parent = model->links[i].parent;
        struct vec xi = VEC(x, i), yi = VEC(y, i), zi = VEC(z, i), oi = VEC(origin, i);
        if (parent >= 0) {
            struct vec px = VEC(t->x, parent), py = VEC(t->y, parent), pz = VEC(t->z, parent);
            xi = along(px, py, pz, xi);
            yi = along(px, py, pz, yi);
            zi = along(px, py, pz, zi);
            oi = plus(VEC(t->origin, parent), along(px, py, pz, oi));
        }
        set(t->x, i, xi);
        set(t->y, i, yi);
        set(t->z, i, zi);
        set(t->origin, i, oi);
    }
}

/* S of each joint: section 3.5, about the base frame's origin. */
static void find_motions(const struct physai_dynamics *d, struct tree *t)
{
    const int n = d->padded;
    for (int i = 0; i < n; i++) {
        struct vec z = VEC(t->z, i);
        set(t->turn, i, scaled(d->turns[i], z));
        set(t->shift, i, plus(scaled(d->turns[i], cross(VEC(t->origin, i), z)), scaled(d->slides[i], z)));
    }
}

static struct vec point_on(const struct tree *t, int link, const double point[3])
{
    return plus(VEC(t->origin, link),
                along(VEC(t->x, link), VEC(t->y, link), VEC(t->z, link), vec_of(point)));
}

static void find_frames(struct physai_dynamics *d, const struct tree *t)
{
    const struct physai_frame *tool = &d->tool;
    struct vec x = VEC(t->x, tool->link), y = VEC(t->y, tool->link), z = VEC(t->z, tool->link);
    for (int j = 0; j < 3; j++) {
        struct vec axis = along(x, y, z, column(tool->pose.rotation, j));
        d->tool_rotation[j] = axis.x;
        d->tool_rotation[j + 3] = axis.y;
        d->tool_rotation[j + 6] = axis.z;
    }
    vec_to(d->tool_position, point_on(t, tool->link, tool->pose.position));
    if (d->elbow.link >= 0)
        vec_to(d->elbow_position, point_on(t, d->elbow.link, d->elbow.pose.position));
}

/* Velocity of the tool and the elbow by unit velocity of each joint that moves them. */
static void find_jacobians(struct physai_dynamics *d, const struct tree *t)
{
    const int n = d->padded;
    struct vec tool = vec_of(d->tool_position), elbow = vec_of(d->elbow_position);
    for (int i = 0; i < n; i++) {
        struct vec turn = VEC(t->turn, i), shift = VEC(t->shift, i);
        set(d->tool_jacobian, i, scaled(d->tool_moves[i], plus(shift, cross(turn, tool))));
        set(d->tool_jacobian + 3, i, scaled(d->tool_moves[i], turn));
    }
    if (d->elbow.link < 0)
        return;
    for (int i = 0; i < n; i++) {
        struct vec turn = VEC(t->turn, i), shift = VEC(t->shift, i);
        set(d->elbow_jacobian, i, scaled(d->elbow_moves[i], plus(shift, cross(turn, elbow))));
    }
}

void physai_dynamics_tool(struct physai_dynamics *d, const double *q)
{
    struct tree t;
    place_links(d, q, &t);
    find_frames(d, &t);
}

void physai_dynamics_kinematics(struct physai_dynamics *d, const double *q)
{
    struct tree t;
    place_links(d, q, &t);
    find_motions(d, &t);
    find_frames(d, &t);
    find_jacobians(d, &t);
}

/* ---- dynamics ---- */

static void turn_inertias(const struct physai_dynamics *d, struct tree *t)
{
    const int n = d->padded;
    for (int i = 0; i < n; i++) {
        struct vec x = VEC(t->x, i), y = VEC(t->y, i), z = VEC(t->z, i), centre = VEC(d->centre, i);
        struct sym s = turned(x, y, z, SYM(d->second, i));
        set(t->centre, i, plus(VEC(t->origin, i), along(x, y, z, centre)));
        t->second[0][i] = s.xx, t->second[1][i] = s.yy, t->second[2][i] = s.zz;
        t->second[3][i] = s.xy, t->second[4][i] = s.xz, t->second[5][i] = s.yz;
    }
}

/*
 * Composite rigid bodies, section 6.2: the inertia of the subtree on each joint, then M_ij = S_i . I_j S_j
 * for all i that carry j. Gravity comes out of the same subtrees: it pulls at their centre of mass.
 */
static void composite_bodies(struct physai_dynamics *d, const struct tree *t)
{
    const struct physai_model *model = d->model;
    const int n = d->padded;
    double mass[N], moment[3][N], second[6][N], force[3][N], torque[3][N];
    for (int i = 0; i < n; i++) {
        struct vec c = VEC(t->centre, i);
        struct sym s = sym_plus(SYM(t->second, i), parallel(d->mass[i], c));
        mass[i] = d->mass[i];
        set(moment, i, scaled(d->mass[i], c));
        second[0][i] = s.xx, second[1][i] = s.yy, second[2][i] = s.zz;
        second[3][i] = s.xy, second[4][i] = s.xz, second[5][i] = s.yz;
    }
    for (uint32_t k = model->n_joints; k-- > 0;) {
        int i = model->order[k], parent = model->links[i].parent;
        if (parent < 0)
            continue;
        mass[parent] += mass[i];
        add(moment, parent, i);
        for (int part = 0; part < 6; part++)
            second[part][parent] += second[part][i];
    }
    struct vec pull = vec_of(model->gravity);
    for (int i = 0; i < n; i++) {
        struct vec turn = VEC(t->turn, i), shift = VEC(t->shift, i), h = VEC(moment, i);
        set(force, i, plus(scaled(mass[i], shift), cross(turn, h)));
        set(torque, i, plus(times(SYM(second, i), turn), cross(h, shift)));
        d->gravity[i] = -mass[i] * dot(shift, pull) - dot(turn, cross(h, pull));
    }
    for (uint32_t j = 0; j < model->n_joints; j++) {
        struct vec f = VEC(force, j), m = VEC(torque, j);
        for (int i = (int)j; i >= 0; i = model->links[i].parent)
            d->inertia[i][j] = d->inertia[j][i] = dot(VEC(t->shift, i), f) + dot(VEC(t->turn, i), m);
        d->inertia[j][j] += model->armature[j];
    }
}

/*
 * Recursive Newton-Euler, section 5.3, without joint acceleration and gravity: velocities and accelerations
 * from the root on, the force that each link needs, then the sum of forces that each joint passes on.
 */
static void newton_euler(struct physai_dynamics *d, const struct tree *t, const double *dq)
{
    const struct physai_model *model = d->model;
    const int n = d->padded;
    double rate[N], w[3][N], v[3][N], dw[3][N], dv[3][N], force[3][N], torque[3][N];
    for (int i = 0; i < n; i++)
        rate[i] = i < (int)model->n_joints ? dq[i] : 0;
    for (int i = 0; i < n; i++) {
        set(w, i, scaled(rate[i], VEC(t->turn, i)));
        set(v, i, scaled(rate[i], VEC(t->shift, i)));
    }
    for (uint32_t k = 0; k < model->n_joints; k++) {
        int i = model->order[k], parent = model->links[i].parent;
        if (parent >= 0) {
            add(w, i, parent);
            add(v, i, parent);
        }
    }
    for (int i = 0; i < n; i++) { /* dS/dt = v x S */
        struct vec wi = VEC(w, i), vi = VEC(v, i), turn = VEC(t->turn, i), shift = VEC(t->shift, i);
        set(dw, i, scaled(rate[i], cross(wi, turn)));
        set(dv, i, scaled(rate[i], plus(cross(wi, shift), cross(vi, turn))));
    }
    for (uint32_t k = 0; k < model->n_joints; k++) {
        int i = model->order[k], parent = model->links[i].parent;
        if (parent >= 0) {
            add(dw, i, parent);
            add(dv, i, parent);
        }
    }
    for (int i = 0; i < n; i++) { /* Newton and Euler, about the centre of mass */
        struct vec wi = VEC(w, i), dwi = VEC(dw, i), c = VEC(t->centre, i);
        struct sym second = SYM(t->second, i);
        struct vec velocity = plus(VEC(v, i), cross(wi, c));
        struct vec acceleration = plus(plus(VEC(dv, i), cross(dwi, c)), cross(wi, velocity));
        struct vec f = scaled(d->mass[i], acceleration);
        struct vec m = plus(times(second, dwi), cross(wi, times(second, wi)));
        set(force, i, f);
        set(torque, i, plus(m, cross(c, f)));
    }
    for (uint32_t k = model->n_joints; k-- > 0;) {
        int i = model->order[k], parent = model->links[i].parent;
        if (parent >= 0) {
            add(force, parent, i);
            add(torque, parent, i);
        }
    }
    for (int i = 0; i < n; i++)
        d->bias[i] =
            d->gravity[i] + dot(VEC(t->shift, i), VEC(force, i)) + dot(VEC(t->turn, i), VEC(torque, i));

    /* The tool is a point of its link: classical acceleration from the spatial one (section 2.11). */
    int link = d->tool.link;
    struct vec wi = VEC(w, link), dwi = VEC(dw, link), tool = vec_of(d->tool_position);
    struct vec velocity = plus(VEC(v, link), cross(wi, tool));
    vec_to(d->tool_drift, plus(plus(VEC(dv, link), cross(dwi, tool)), cross(wi, velocity)));
    vec_to(d->tool_drift + 3, dwi);
}

static bool finite_results(const struct physai_dynamics *d)
{
    double sum = 0;
    for (int i = 0; i < d->padded; i++)
        sum += fabs(d->bias[i]) + fabs(d->inertia[i][i]);
    return isfinite(sum);
}

bool physai_dynamics_update(struct physai_dynamics *d, const double *q, const double *dq,
                            double gripper_width)
{
    struct tree t;
    if (!(gripper_width == d->gripper_width))
        set_width(d, gripper_width);
    place_links(d, q, &t);
    find_motions(d, &t);
    find_frames(d, &t);
    find_jacobians(d, &t);
    turn_inertias(d, &t);
    composite_bodies(d, &t);
    newton_euler(d, &t, dq);
    return finite_results(d);
}

/* ---- use of the inertia and the Jacobian ---- */

/* Cholesky, a row of L after the other; the check is written so that NaN fails it. */
bool physai_dynamics_factor(struct physai_dynamics *d)
{
    const int n = (int)d->model->n_joints;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double rest = d->inertia[i][j];
            for (int k = 0; k < j; k++)
                rest -= d->factor[i][k] * d->factor[j][k];
            if (j < i)
                d->factor[i][j] = rest * d->factor[j][j];
            else if (rest > 0 && rest < INFINITY)
                d->factor[i][i] = 1 / sqrt(rest);
            else
                return false;
        }
    }
    return true;
}

void physai_dynamics_solve(const struct physai_dynamics *d, const double *rhs, double *x)
{
    const int n = (int)d->model->n_joints;
    for (int i = 0; i < n; i++) {
        double rest = rhs[i];
        for (int k = 0; k < i; k++)
            rest -= d->factor[i][k] * x[k];
        x[i] = rest * d->factor[i][i];
    }
    for (int i = n; i-- > 0;) {
        double rest = x[i];
        for (int k = i + 1; k < n; k++)
            rest -= d->factor[k][i] * x[k];
        x[i] = rest * d->factor[i][i];
    }
}

void physai_dynamics_wrench(const struct physai_dynamics *d, const double *tau, double wrench[6])
{
    /* Damping keeps the estimate bounded near singular poses; 1e-3 costs below 1 % elsewhere. */
    const double damping = 1e-3;
    const int n = (int)d->model->n_joints;
    double l[6][6], x[6]; /* J J^T + damping = L L^T, with the diagonal of L inverted */
    for (int a = 0; a < 6; a++) {
        x[a] = 0;
        for (int i = 0; i < n; i++)
            x[a] += d->tool_jacobian[a][i] * tau[i];
        for (int b = 0; b <= a; b++) {
            double rest = a == b ? damping : 0;
            for (int i = 0; i < n; i++)
                rest += d->tool_jacobian[a][i] * d->tool_jacobian[b][i];
            for (int k = 0; k < b; k++)
                rest -= l[a][k] * l[b][k];
            l[a][b] = a == b ? 1 / sqrt(rest) : rest * l[b][b];
        }
        for (int k = 0; k < a; k++)
            x[a] -= l[a][k] * x[k];
        x[a] *= l[a][a];
    }
    for (int a = 6; a-- > 0;) {
        for (int k = a + 1; k < 6; k++)
            x[a] -= l[k][a] * x[k];
        x[a] *= l[a][a];
    }
    memcpy(wrench, x, sizeof x);
}
