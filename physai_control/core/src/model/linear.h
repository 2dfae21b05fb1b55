/* Linear algebra of small symmetric positive definite matrices, rows of a fixed width. */
#ifndef PHYSAI_LINEAR_H
#define PHYSAI_LINEAR_H

#include <math.h>
#include <stdbool.h>

/* y <- y + s x, n elements. In pairs, for which every 64-bit processor has an instruction. */
static inline void physai_add_scaled(int n, double s, const double *x, double *y)
{
    typedef double pair __attribute__((vector_size(16), aligned(8), may_alias));
    int i = 0;
    for (; i + 1 < n; i += 2)
        *(pair *)(y + i) += s * *(const pair *)(x + i);
    if (i < n)
        y[i] += s * x[i];
}

/*
 * A symmetric positive definite n x n matrix, of which both triangles are read, as L D L^T in place: L below
 * the diagonal, where it is 1, and the inverse of D on the diagonal. False when the matrix is not positive
 * definite or holds a number that is not one.
 */
static inline bool physai_factor(int n, int width, double *a)
{
    for (int j = 0; j < n; j++) {
        double *row = a + j * width;
        if (!(row[j] > 0 && row[j] < INFINITY))
            return false;
        double inverse = row[j] = 1 / row[j];
        for (int i = j + 1; i < n; i++) {
            double *below = a + i * width, l = below[j] * inverse;
            physai_add_scaled(n - 1 - j, -l, row + j + 1, below + j + 1);
            below[j] = l;
        }
    }
    return true;
}

/* In what follows x has n rows of so many columns, which are right-hand sides beside one another. */

/* x <- L^-1 x. */
static inline void physai_forward(int n, int width, const double *l, int columns, double *x)
{
    for (int i = 1; i < n; i++)
        for (int k = 0; k < i; k++)
            physai_add_scaled(columns, -l[i * width + k], x + k * columns, x + i * columns);
}

/* x <- L^-T x. */
static inline void physai_backward(int n, int width, const double *l, int columns, double *x)
{
    for (int i = n; i-- > 0;)
        for (int k = i + 1; k < n; k++)
            physai_add_scaled(columns, -l[k * width + i], x + k * columns, x + i * columns);
}

/* x <- (L D L^T)^-1 x. */
static inline void physai_solve(int n, int width, const double *l, int columns, double *x)
{
    physai_forward(n, width, l, columns, x);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < columns; c++)
            x[i * columns + c] *= l[i * width + i];
    physai_backward(n, width, l, columns, x);
}

#endif
