/* Float32 matrix products on a tile unit; see product.c. */

#ifndef MINDMUSICGEN_PRODUCT_H
#define MINDMUSICGEN_PRODUCT_H

#include <stdint.h>

/* Whether this CPU has the unit and the system lets this process use it. */
int product_available(void);

/* y [rows, out] = x [rows, in] . w [out, in] transposed; non-zero when there is no memory or no unit. */
int product(const float *x, int64_t rows, int64_t in, const float *w, int64_t out, float *y);

#endif
