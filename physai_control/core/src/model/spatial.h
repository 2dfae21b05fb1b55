/* Vectors of space, rigid poses and rigid-body inertia, for model.c and dynamics.c. */
#ifndef PHYSAI_SPATIAL_H
#define PHYSAI_SPATIAL_H

#include "model/dynamics.h"

struct vec {
    double x, y, z;
};

/* Symmetric 3 x 3. */
struct sym {
    double xx, yy, zz, xy, xz, yz;
};

static inline struct vec vec_of(const double v[3])
{
    return (struct vec){v[0], v[1], v[2]};
}

static inline void vec_to(double to[3], struct vec v)
{
    to[0] = v.x, to[1] = v.y, to[2] = v.z;
}

static inline struct sym sym_of(const double s[6])
{
    return (struct sym){s[0], s[1], s[2], s[3], s[4], s[5]};
}

static inline void sym_to(double to[6], struct sym s)
{
    to[0] = s.xx, to[1] = s.yy, to[2] = s.zz, to[3] = s.xy, to[4] = s.xz, to[5] = s.yz;
}

static inline struct vec plus(struct vec a, struct vec b)
{
    return (struct vec){a.x + b.x, a.y + b.y, a.z + b.z};
}

static inline struct vec minus(struct vec a, struct vec b)
{
    return (struct vec){a.x - b.x, a.y - b.y, a.z - b.z};
}

static inline struct vec scaled(double s, struct vec v)
{
    return (struct vec){s * v.x, s * v.y, s * v.z};
}

static inline double dot(struct vec a, struct vec b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

static inline struct vec cross(struct vec a, struct vec b)
{
    return (struct vec){a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

static inline struct vec times(struct sym s, struct vec v)
{
    return (struct vec){s.xx * v.x + s.xy * v.y + s.xz * v.z, s.xy * v.x + s.yy * v.y + s.yz * v.z,
                        s.xz * v.x + s.yz * v.y + s.zz * v.z};
}

static inline struct sym sym_plus(struct sym a, struct sym b)
{
    return (struct sym){a.xx + b.xx, a.yy + b.yy, a.zz + b.zz, a.xy + b.xy, a.xz + b.xz, a.yz + b.yz};
}

/* Second moment of a mass at r: the inertia about the origin beyond that about r (parallel axes). */
static inline struct sym parallel(double mass, struct vec r)
{
    struct vec h = scaled(mass, r);
    return (struct sym){h.y * r.y + h.z * r.z,
                        h.x * r.x + h.z * r.z,
                        h.x * r.x + h.y * r.y,
                        -h.x * r.y,
                        -h.x * r.z,
                        -h.y * r.z};
}

/* R S R^T, with the columns x, y, z of R. */
static inline struct sym turned(struct vec x, struct vec y, struct vec z, struct sym s)
{
    /* The columns of R S. */
    struct vec a = plus(plus(scaled(s.xx, x), scaled(s.xy, y)), scaled(s.xz, z));
    struct vec b = plus(plus(scaled(s.xy, x), scaled(s.yy, y)), scaled(s.yz, z));
    struct vec c = plus(plus(scaled(s.xz, x), scaled(s.yz, y)), scaled(s.zz, z));
    return (struct sym){a.x * x.x + b.x * y.x + c.x * z.x, a.y * x.y + b.y * y.y + c.y * z.y,
                        a.z * x.z + b.z * y.z + c.z * z.z, a.x * x.y + b.x * y.y + c.x * z.y,
                        a.x * x.z + b.x * y.z + c.x * z.z, a.y * x.z + b.y * y.z + c.y * z.z};
}

/* v, whose components are along x, y and z. */
static inline struct vec along(struct vec x, struct vec y, struct vec z, struct vec v)
{
    return plus(plus(scaled(v.x, x), scaled(v.y, y)), scaled(v.z, z));
}

static inline struct vec rotate(const double r[9], struct vec v)
{
    return (struct vec){r[0] * v.x + r[1] * v.y + r[2] * v.z, r[3] * v.x + r[4] * v.y + r[5] * v.z,
                        r[6] * v.x + r[7] * v.y + r[8] * v.z};
}

static inline struct vec rotate_back(const double r[9], struct vec v)
{
    return (struct vec){r[0] * v.x + r[3] * v.y + r[6] * v.z, r[1] * v.x + r[4] * v.y + r[7] * v.z,
                        r[2] * v.x + r[5] * v.y + r[8] * v.z};
}

static inline struct vec column(const double r[9], int i)
{
    return (struct vec){r[i], r[i + 3], r[i + 6]};
}

/* The pose b, which is given in a, in the frame that a is given in. */
static inline struct physai_pose compose(const struct physai_pose *a, const struct physai_pose *b)
{
    struct physai_pose c;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            c.rotation[3 * i + j] = dot(vec_of(a->rotation + 3 * i), column(b->rotation, j));
    vec_to(c.position, plus(vec_of(a->position), rotate(a->rotation, vec_of(b->position))));
    return c;
}

static inline struct physai_pose inverse(const struct physai_pose *a)
{
    struct physai_pose b;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            b.rotation[3 * i + j] = a->rotation[3 * j + i];
    vec_to(b.position, scaled(-1, rotate(b.rotation, vec_of(a->position))));
    return b;
}

/* A body with its centre of mass at c and the inertia s about it. */
static inline struct physai_inertia rigid_body(double mass, struct vec c, struct sym s)
{
    struct physai_inertia body = {.mass = mass};
    vec_to(body.moment, scaled(mass, c));
    sym_to(body.second, sym_plus(s, parallel(mass, c)));
    return body;
}

/* The way back; bodies without mass have their centre in the origin. */
static inline void about_centre(const struct physai_inertia *body, struct vec *c, struct sym *s)
{
    *c = scaled(body->mass > 0 ? 1 / body->mass : 0, vec_of(body->moment));
    *s = sym_plus(sym_of(body->second), parallel(-body->mass, *c));
}

/* Adds a body that is given in a frame at `pose` to one that the pose is given in. */
static inline void add_body(struct physai_inertia *sum, const struct physai_pose *pose,
                            const struct physai_inertia *body)
{
    const double *r = pose->rotation;
    struct vec c;
    struct sym s;
    about_centre(body, &c, &s);
    struct physai_inertia moved = rigid_body(body->mass, plus(vec_of(pose->position), rotate(r, c)),
                                             turned(column(r, 0), column(r, 1), column(r, 2), s));
    sum->mass += moved.mass;
    vec_to(sum->moment, plus(vec_of(sum->moment), vec_of(moved.moment)));
    sym_to(sum->second, sym_plus(sym_of(sum->second), sym_of(moved.second)));
}

#endif
