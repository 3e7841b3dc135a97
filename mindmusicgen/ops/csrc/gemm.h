/* Float32 matrix products of any layout, for training; see gemm.c. */

#ifndef MINDMUSICGEN_GEMM_H
#define MINDMUSICGEN_GEMM_H

#include <stdint.h>

/* c [m, n] = a [m, k] . b [k, n]. An element lies row * a_row + column * a_column from a's first, and so on; of each
 * matrix one stride is 1, of c the columns'. */
struct gemm {
    const float *a, *b;
    float *c;
    const float *init; /* added to the product, laid out as c, which it may be; or NULL */
    const float *gate; /* laid out as c: where it is not above 0, the result becomes 0; or NULL */
    int64_t m, n, k, a_row, a_column, b_row, b_column, c_row;
    int relu; /* negative results become 0 */
};

/* On the team; non-zero when there is no memory. */
int gemm(const struct gemm *g);

/* y [rows, out] = x [rows, in] . w [out, in] transposed (+ init). */
int gemm_forward(const float *x, const float *w, const float *init, int relu, float *y, int64_t rows, int64_t in,
                 int64_t out);

/* dx [rows, in] = dy [rows, out] . w [out, in], 0 where gate, if there is one, is not above 0. */
int gemm_input(const float *dy, const float *w, const float *gate, float *dx, int64_t rows, int64_t in, int64_t out);

/* dw [out, in] = dy [rows, out] transposed . x [rows, in]. */
int gemm_weight(const float *dy, const float *x, float *dw, int64_t rows, int64_t in, int64_t out);

#endif
