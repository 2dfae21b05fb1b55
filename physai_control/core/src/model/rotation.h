/* Rotations as unit quaternions (w, x, y, z) and as rotation vectors (axis times angle). */
#ifndef PHYSAI_ROTATION_H
#define PHYSAI_ROTATION_H

void physai_quat_multiply(const double a[4], const double b[4], double product[4]);
void physai_quat_rotate(const double q[4], const double v[3], double rotated[3]);

/* From a rotation matrix, row by row; w >= 0. */
void physai_quat_from_matrix(const double matrix[9], double q[4]);

/* The way back, of any length. */
void physai_quat_matrix(const double q[4], double matrix[9]);

void physai_quat_exp(const double r[3], double q[4]);

/* The rotation vector of the shorter way: its length is at most pi. */
void physai_quat_log(const double q[4], double r[3]);

/* log(a^-1 b): what turns a into b, in the frame of a. */
void physai_quat_difference(const double a[4], const double b[4], double r[3]);

/* Angular velocity in the turning frame while the rotation vector r changes at the rate dr (the right
 * Jacobian of SO(3); Sola et al., A micro Lie theory for state estimation in robotics, 2018, eq. 143). */
void physai_rotation_rate(const double r[3], const double dr[3], double w[3]);

#endif
