/* Parts of kernels that the decoder of quantized_decoder.c is made of. */

#ifndef MINDMUSICGEN_PARTS_H
#define MINDMUSICGEN_PARTS_H

#include <stdint.h>

#include "arguments.h"

/* A matrix [out, in]: its codes and scales, of 8 bits or, where `four` is not 0, of 4; see quantized.c. */
struct weight {
    const uint8_t *codes;
    const void *scale;
    int four;
};

/* Whether arguments i and i + 1 are the codes and scales of a matrix, of 8 or of 4 bits. */
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

/* Arguments of a layer of 8-bit or 4-bit weights, by number; a weight is two arguments, codes and scales. */
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

/* Attention of whole sequences in float32; see sequence.c. */
struct sequence {
    const float *qkv;           /* [rows, columns, 3 heads d] */
    float *out;                 /* [rows, columns, heads d], a column out_stride after the one before it */
    float *keys, *values;       /* caches [rows, heads, length, d] that are filled on the way, or NULL */
    float *memory;              /* from here on: of sequence_attention itself */
    int64_t rows, columns, heads, d, out_stride, length, each;
    int causal, rough; /* rough: products of bfloat16, where there is a tile unit */
    float factor;
};

/* Non-zero when there is no memory. */
int sequence_attention(struct sequence *sequence);

/* y [rows, out] = x [rows, in] . w [out, in] transposed, in float32; non-zero when there is no memory. */
int float_linear(const float *x, int64_t rows, int64_t in, const float *w, float *y, int64_t out);

/* Attention of one new column, qkv [rows, 3, heads, d], at a position of caches [rows, heads, length, d] that it is
 * written into -> out [rows, heads, d]. */
void float_cached_attention(const float *qkv, int64_t rows, int64_t heads, int64_t d, int64_t length, int64_t position,
                            float *keys, float *values, float *out);

/* The exact GELU in place. */
void float_gelu(float *x, int64_t count);

enum { NO_ACTIVATION, GELU, RELU };

/* What a layer is. Without columns, x is one new column of a cache; with them, it is [pieces * columns, D], sequences of
 * their own, which are attended to in float32 and, where there is a cache, fill it from column 0 on. */
struct layer_kind {
    int activation, causal;
    int64_t heads, columns;
};

/* y = x + self-attention + cross-attention (if CROSS_K has data) + feed-forward, each after its norm; non-zero when the
 * arguments do not fit. */
int quantized_layer(const struct parameters *p, struct layer_kind kind);

#endif
