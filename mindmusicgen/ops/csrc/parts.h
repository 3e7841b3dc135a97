/* Parts of kernels that the decoder of quantized_decoder.c is made of. */

#ifndef MINDMUSICGEN_PARTS_H
#define MINDMUSICGEN_PARTS_H

#include <stdint.h>

#include "arguments.h"

/* A matrix [out, in] of 8-bit weights: its codes and scales. */
struct weight {
    const uint8_t *codes;
    const float *scale;
};

/* Whether arguments i and i + 1 are the codes and scales of a matrix. */
int is_weight(const struct parameters *p, int i, int64_t out, int64_t in);

/* y [rows, out] = x [rows, in] . the sum of `count` matrices transposed; non-zero when there is no memory. */
int quantized_linear(const float *x, int64_t rows, int64_t in, const struct weight *parts, int count, float *y,
                     int64_t out);

/* The choice of codes from logits [R, K, V]; see sampling.c. */
struct choice {
    const float *logits, *uniforms;
    const int32_t *forced;
    int32_t *codes;
    float *memory; /* 2 V for each choice */
    int64_t rows, size, guided; /* rows: B K; guided: distance of the null rows, or 0 */
    int64_t top_k;
    float scale, temperature, top_p;
};

void choose_codes(const struct choice *choice);

/* Arguments of a layer of 8-bit weights, by number; a weight is two arguments, codes and scales. */
enum {
    X,                          /* [R, D] */
    POSITION,                   /* [1] int32 */
    SELF_NORM,                  /* weight and bias [D] */
    QKV = SELF_NORM + 2,        /* D -> 3 D */
    SELF_OUT = QKV + 2,         /* D -> D */
    CROSS_NORM = SELF_OUT + 2,
    CROSS_Q = CROSS_NORM + 2,   /* D -> D */
    CROSS_OUT = CROSS_Q + 2,    /* D -> D */
    FINAL_NORM = CROSS_OUT + 2,
    FC1 = FINAL_NORM + 2,       /* D -> F */
    FC2 = FC1 + 2,              /* F -> D */
    CACHE = FC2 + 2,            /* keys, their scales, values, their scales; written to at the position */
    CROSS_K = CACHE + 4,        /* [R, H, S, d] */
    CROSS_V,                    /* [R, H, S, d] */
    MASK,                       /* [R, 1, 1, S], added to the scores */
    Y,                          /* [R, D] */
    ARGUMENTS
};

enum { NO_ACTIVATION, GELU, RELU };

/* y = x + self-attention + cross-attention + feed-forward, each after its norm, for one column; non-zero when the
 * arguments do not fit. */
int quantized_layer(const struct parameters *p, int activation);

#endif
