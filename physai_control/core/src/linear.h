/* Linear algebra of small symmetric positive definite matrices, rows of a fixed width. */
#ifndef PHYSAI_LINEAR_H
#define PHYSAI_LINEAR_H

#include <math.h>
#include <stdbool.h>

/*
 * A symmetric positive definite n x n matrix, of which the lower triangle is read, as L D L^T in place: L
 * below the diagonal, where it is 1, and the inverse of D on the diagonal. False when the matrix is not
 * positive definite or holds a number that is not one.
 */
static inline bool physai_factor(int n, int width, double *a)
{
    for (int j = 0; j < n; j++) {
        double pivot = a[j * width + j];
        if (!(pivot > 0 && pivot < INFINITY))
            return false;
        double inverse = a[j * width + j] = 1 / pivot;
        for (int i = j + 1; i < n; i++) {
            double l = a[i * width + j] * inverse;
            for (int k = j + 1; k <= i; k++)
                a[i * width + k] -= l * a[k * width + j];
        }
        for (int i = j + 1; i < n; i++)
            a[i * width + j] *= inverse;
    }
    return true;
}

/* In what follows x has n rows of so many columns, which are right-hand sides beside one another. */

/* x <- L^-1 x. */
static inline void physai_forward(int n, int width, const double *l, int columns, double *x)
{
    for (int i = 1; i < n; i++)
        for (int k = 0; k < i; k++)
            for (int c = 0; c < columns; c++)
                x[i * columns + c] -= l[i * width + k] * x[k * columns + c];
}

/* x <- L^-T x. */
static inline void physai_backward(int n, int width, const double *l, int columns, double *x)
{
    for (int i = n; i-- > 0;)
        for (int k = i + 1; k < n; k++)
            for (int c = 0; c < columns; c++)
                x[i * columns + c] -= l[k * width + i] * x[k * columns + c];
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
