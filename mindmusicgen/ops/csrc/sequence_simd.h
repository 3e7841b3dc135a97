/* The inner loops of sequence.c, compiled once per instruction set; SIMD, TARGET and LANES as in kernels_simd.h. */

#include "vectors_simd.h"

#define WIDE 4 /* vectors beside each other in a block of products; with 4 rows their sums fill half the registers */

/* y[r][0 .. vectors) = sum over i < n of x[r][i] * m[i][0 .. vectors), for 4 rows. */
INLINE void SIMD(block)(int vectors, const float *x, int64_t x_stride, const float *m, int64_t m_stride, int64_t n,
                        float *y, int64_t y_stride)
{
    VEC sums[4][WIDE];
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < vectors; c++)
            sums[r][c] = (VEC){0};
    for (int64_t i = 0; i < n; i++, m += m_stride) {
        VEC from[WIDE];
        for (int c = 0; c < vectors; c++)
            from[c] = LOAD(m + c * LANES);
        for (int r = 0; r < 4; r++)
            for (int c = 0; c < vectors; c++)
                sums[r][c] += from[c] * x[r * x_stride + i];
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < vectors; c++)
            STORE(y + r * y_stride + c * LANES, sums[r][c]);
}

/* y [4, columns] = x [4, n] . m [n, columns]; columns a multiple of LANES */
INLINE void SIMD(blocks)(const float *x, int64_t x_stride, const float *m, int64_t m_stride, int64_t n, float *y,
                         int64_t y_stride, int64_t columns)
{
    int64_t c = 0;
    for (; c + WIDE * LANES <= columns; c += WIDE * LANES)
        SIMD(block)(WIDE, x, x_stride, m + c, m_stride, n, y + c, y_stride);
    for (; c < columns; c += LANES)
        SIMD(block)(1, x, x_stride, m + c, m_stride, n, y + c, y_stride);
}

/* One task: one head of one row. Its keys, transposed, and its values are copied together first. */
TARGET static void SIMD(sequence_task)(const void *arguments, int64_t task)
{
    const struct sequence *a = arguments;
    const int64_t d = a->d, n = a->columns, dim = a->heads * d, stride = 3 * dim;
    const int64_t wide = (d + LANES - 1) / LANES * LANES, keys = (n + LANES - 1) / LANES * LANES;
    const float *q = a->qkv + task / a->heads * n * stride + task % a->heads * d, *k = q + dim, *v = k + dim;
    float *out = a->out + task / a->heads * n * a->out_stride + task % a->heads * d;
    float *across = a->memory + task * a->each, *values = across + d * keys, *scores = values + n * wide;
    float *queries = scores + 4 * keys, *mixed = queries + 4 * d;
    for (int64_t c = 0; c < keys; c++)
        for (int64_t i = 0; i < d; i++)
            across[i * keys + c] = c < n ? k[c * stride + i] : 0;
    for (int64_t c = 0; c < n; c++) {
        memcpy(values + c * wide, v + c * stride, sizeof(float) * (size_t)d);
        memset(values + c * wide + d, 0, sizeof(float) * (size_t)(wide - d));
        if (a->keys) {
            memcpy(a->keys + (task * a->length + c) * d, k + c * stride, sizeof(float) * (size_t)d);
            memcpy(a->values + (task * a->length + c) * d, v + c * stride, sizeof(float) * (size_t)d);
        }
    }
    for (int64_t first = 0; first < n; first += 4) {
        const int64_t count = n - first < 4 ? n - first : 4, reach = a->causal ? first + count : n;
        const int64_t columns = (reach + LANES - 1) / LANES * LANES;
        float totals[4] = {1, 1, 1, 1};
        for (int64_t r = 0; r < 4; r++)
            for (int64_t i = 0; i < d; i++)
                queries[r * d + i] = r < count ? q[(first + r) * stride + i] * a->factor : 0;
        SIMD(blocks)(queries, d, across, keys, d, scores, keys, columns);
        for (int64_t r = 0; r < count; r++)
            totals[r] = SIMD(soften)(scores + r * keys, a->causal ? first + r + 1 : n, columns);
        SIMD(blocks)(scores, keys, values, wide, reach, mixed, wide, wide);
        for (int64_t r = 0; r < count; r++)
            for (int64_t i = 0; i < d; i++)
                out[(first + r) * a->out_stride + i] = mixed[r * wide + i] / totals[r];
    }
}

/* One task: PIECE numbers. */
TARGET static void SIMD(gelu_task)(const void *arguments, int64_t task)
{
    const struct elements *a = arguments;
    const int64_t last = (task + 1) * PIECE < a->count ? (task + 1) * PIECE : a->count;
    int64_t i = task * PIECE;
    for (; i + LANES <= last; i += LANES)
        STORE(a->y + i, SIMD(gelu)(LOAD(a->x + i)));
    if (i < last) {
        float rest[LANES] = {0};
        memcpy(rest, a->x + i, sizeof(float) * (size_t)(last - i));
        STORE(rest, SIMD(gelu)(LOAD(rest)));
        memcpy(a->y + i, rest, sizeof(float) * (size_t)(last - i));
    }
}

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef SELECT
#undef WIDE
