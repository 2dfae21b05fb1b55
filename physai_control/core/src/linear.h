/* Linear algebra of small symmetric positive definite matrices, rows of a fixed width. */
#ifndef PHYSAI_LINEAR_H
#define PHYSAI_LINEAR_H

#include <math.h>
#include <stdbool.h>

/*
 * Cholesky factor of a symmetric positive definite n x n matrix, in its lower triangle, in place. False when
 * it is not positive definite or holds a number that is not one.
 */
static inline bool physai_cholesky(int n, int width, double *a)
{
    for (int j = 0; j < n; j++) {
        double *row = a + j * width, pivot = row[j];
        for (int k = 0; k < j; k++)
            pivot -= row[k] * row[k];
        if (!(pivot > 0))
            return false;
        row[j] = sqrt(pivot);
        double inverse = 1 / row[j];
        for (int i = j + 1; i < n; i++) {
            double *below = a + i * width, sum = below[j];
            for (int k = 0; k < j; k++)
                sum -= below[k] * row[k];
            below[j] = sum * inverse;
        }
    }
    return true;
}

/* x <- L^-1 x. */
static inline void physai_forward(int n, int width, const double *l, double *x)
{
    for (int i = 0; i < n; i++) {
        double sum = x[i];
        for (int k = 0; k < i; k++)
            sum -= l[i * width + k] * x[k];
        x[i] = sum / l[i * width + i];
    }
}

/* x <- L^-T x. */
static inline void physai_backward(int n, int width, const double *l, double *x)
{
    for (int i = n; i-- > 0;) {
        double sum = x[i];
        for (int k = i + 1; k < n; k++)
            sum -= l[k * width + i] * x[k];
        x[i] = sum / l[i * width + i];
    }
}

/* x <- (L L^T)^-1 x. */
static inline void physai_solve(int n, int width, const double *l, double *x)
{
    physai_forward(n, width, l, x);
    physai_backward(n, width, l, x);
}

#endif
