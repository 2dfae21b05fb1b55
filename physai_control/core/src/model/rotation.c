#include "model/rotation.h"

#include <math.h>
#include <string.h>

#define SMALL 1e-6 /* rad: below, series are exact to the last digit */

static void cross(const double a[3], const double b[3], double c[3])
{
    c[0] = a[1] * b[2] - a[2] * b[1];
    c[1] = a[2] * b[0] - a[0] * b[2];
    c[2] = a[0] * b[1] - a[1] * b[0];
}

void physai_quat_multiply(const double a[4], const double b[4], double product[4])
{
    double w = a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3];
    double x = a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2];
    double y = a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1];
    double z = a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0];
    product[0] = w, product[1] = x, product[2] = y, product[3] = z;
}

void physai_quat_rotate(const double q[4], const double v[3], double rotated[3])
{
    double t[3], u[3];
    cross(q + 1, v, t);
    cross(q + 1, t, u);
    for (int i = 0; i < 3; i++)
        rotated[i] = v[i] + 2 * (q[0] * t[i] + u[i]);
}

void physai_quat_from_matrix(const double m[9], double q[4])
{
    /* Shepperd's method: divide by the largest component. */
    double trace = m[0] + m[4] + m[8];
    if (trace > 0) {
        double s = 2 * sqrt(1 + trace);
        q[0] = s / 4, q[1] = (m[7] - m[5]) / s, q[2] = (m[2] - m[6]) / s, q[3] = (m[3] - m[1]) / s;
        return;
    }
    int i = m[4] > m[0] ? 1 : 0;
    if (m[8] > m[4 * i])
        i = 2;
    int j = (i + 1) % 3, k = (i + 2) % 3;
    double s = 2 * sqrt(fmax(0, 1 + m[4 * i] - m[4 * j] - m[4 * k]));
    q[0] = (m[3 * k + j] - m[3 * j + k]) / s;
    q[1 + i] = s / 4;
    q[1 + j] = (m[3 * j + i] + m[3 * i + j]) / s;
    q[1 + k] = (m[3 * k + i] + m[3 * i + k]) / s;
    if (q[0] < 0)
        for (int c = 0; c < 4; c++)
            q[c] = -q[c];
}

void physai_quat_matrix(const double q[4], double matrix[9])
{
    double scale = 1 / sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    double w = q[0] * scale, x = q[1] * scale, y = q[2] * scale, z = q[3] * scale;
    const double m[9] = {1 - 2 * (y * y + z * z), 2 * (x * y - w * z),     2 * (x * z + w * y),
                         2 * (x * y + w * z),     1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                         2 * (x * z - w * y),     2 * (y * z + w * x),     1 - 2 * (x * x + y * y)};
    memcpy(matrix, m, sizeof m);
}

void physai_quat_exp(const double r[3], double q[4])
{
    double angle = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    double scale = angle < SMALL ? 0.5 : sin(angle / 2) / angle;
    q[0] = cos(angle / 2);
    for (int i = 0; i < 3; i++)
        q[1 + i] = scale * r[i];
}

void physai_quat_log(const double q[4], double r[3])
{
    double sine = sqrt(q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    double sign = q[0] < 0 ? -1 : 1;
    double scale = sine < SMALL ? 2 * sign : 2 * sign * atan2(sine, sign * q[0]) / sine;
    for (int i = 0; i < 3; i++)
        r[i] = scale * q[1 + i];
}

void physai_quat_difference(const double a[4], const double b[4], double r[3])
{
    const double inverse[4] = {a[0], -a[1], -a[2], -a[3]};
    double q[4];
    physai_quat_multiply(inverse, b, q);
    physai_quat_log(q, r);
}

void physai_rotation_rate(const double r[3], const double dr[3], double w[3])
{
    double square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2], angle = sqrt(square);
    double a = angle < 1e-4 ? 0.5 : (1 - cos(angle)) / square;
    double b = angle < 1e-4 ? 1.0 / 6 : (angle - sin(angle)) / (square * angle);
    double once[3], twice[3];
    cross(r, dr, once);
    cross(r, once, twice);
    for (int i = 0; i < 3; i++)
        w[i] = dr[i] - a * once[i] + b * twice[i];
}
