/* The inner loops, written once with GCC/Clang vector types and compiled once per instruction set: kernels.c includes
 * this file several times with
 *   SIMD(name)   name of a function or type in this variant,
 *   TARGET       attribute that selects the instruction set (empty for the compiler's default),
 *   LANES        floats per vector register.
 */

#include "vectors_simd.h"

/* y[r][o] = x[r] . w[o] for `rows` x `outs` dot products of length n, each weight loaded once for all rows. */
INLINE void SIMD(dots)(int rows, int outs, const float *x, int64_t n, const float *w, float *y, int64_t y_stride)
{
    VEC acc[MAX_ROWS][MAX_OUTS];
    int64_t i = 0;
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outs; o++)
            acc[r][o] = (VEC){0};
    for (; i + LANES <= n; i += LANES) {
        for (int o = 0; o < outs; o++) {
            const VEC wv = LOAD(w + o * n + i);
            __builtin_prefetch(w + o * n + i + PREFETCH); /* past the last row: harmless */
            for (int r = 0; r < rows; r++)
                acc[r][o] += wv * LOAD(x + r * n + i);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < outs; o++) {
            float total = SIMD(sum)(acc[r][o]);
            for (int64_t j = i; j < n; j++)
                total += x[r * n + j] * w[o * n + j];
            y[r * y_stride + o] = total;
        }
    }
}

/* y[r][o] for all rows and `outs` consecutive rows of w: blocks of rows, so that w comes from memory only once. */
INLINE void SIMD(outs_block)(int outs, const struct linear *a, int64_t first)
{
    const float *w = a->w + first * a->in;
    float *y = a->y + first;
    int64_t r = 0;
    for (; r + 4 <= a->rows; r += 4)
        SIMD(dots)(4, outs, a->x + r * a->in, a->in, w, y + r * a->out, a->out);
    const float *x = a->x + r * a->in;
    y += r * a->out;
    switch (a->rows - r) {
    case 1: SIMD(dots)(1, outs, x, a->in, w, y, a->out); break;
    case 2: SIMD(dots)(2, outs, x, a->in, w, y, a->out); break;
    case 3: SIMD(dots)(3, outs, x, a->in, w, y, a->out); break;
    default: break;
    }
}

/* One task of the matrix product: a->outs_per_task output columns. */
TARGET static void SIMD(linear_task)(const void *arguments, int64_t task)
{
    const struct linear *a = arguments;
    int64_t o = task * a->outs_per_task;
    const int64_t end = o + a->outs_per_task < a->out ? o + a->outs_per_task : a->out;
    for (; o + MAX_OUTS <= end; o += MAX_OUTS)
        SIMD(outs_block)(MAX_OUTS, a, o);
    for (; o < end; o++)
        SIMD(outs_block)(1, a, o);
}

/* out[0..d) = out * keep + sum over columns of weight[c] * v[c][0..d) */
INLINE void SIMD(add_values)(int vectors, float *out, float keep, const float *weight, const float *v, int64_t columns,
                             int64_t d)
{
    VEC acc[4];
    for (int i = 0; i < vectors; i++)
        acc[i] = LOAD(out + i * LANES) * keep;
    for (int64_t c = 0; c < columns; c++)
        for (int i = 0; i < vectors; i++)
            acc[i] += LOAD(v + c * d + i * LANES) * weight[c];
    for (int i = 0; i < vectors; i++)
        STORE(out + i * LANES, acc[i]);
}

/* One task of the attention: one head. Columns come in blocks, with the running maximum of the scores subtracted and
 * what is summed so far rescaled when it grows, so that one pass over keys and values is enough for any length. */
TARGET static void SIMD(attention_task)(const void *arguments, int64_t head)
{
    const struct attention *a = arguments;
    const int64_t d = a->d, filled = a->position + 1;
    const float *q = a->q + head * d;
    float *keys = a->key_cache + head * a->length * d, *values = a->value_cache + head * a->length * d;
    float *out = a->out + head * d;
    float weight[BLOCK], highest = -FLT_MAX, total = 0; /* -FLT_MAX: scores of -inf only then give 0 / 0 = NaN */

    memcpy(keys + a->position * d, a->k + head * d, sizeof(float) * (size_t)d);
    memcpy(values + a->position * d, a->v + head * d, sizeof(float) * (size_t)d);
    memset(out, 0, sizeof(float) * (size_t)d);
    for (int64_t start = 0; start < filled; start += BLOCK) {
        const int64_t columns = filled - start < BLOCK ? filled - start : BLOCK;
        const float *k = keys + start * d, *v = values + start * d;
        int64_t c = 0, i = 0;
        for (; c + MAX_OUTS <= columns; c += MAX_OUTS)
            SIMD(dots)(1, MAX_OUTS, q, d, k + c * d, weight + c, 0);
        for (; c < columns; c++)
            SIMD(dots)(1, 1, q, d, k + c * d, weight + c, 0);
        const float before = highest;
        for (c = 0; c < columns; c++) {
            weight[c] *= a->scale;
            highest = weight[c] > highest ? weight[c] : highest;
        }
        for (; c < BLOCK; c++)
            weight[c] = -INFINITY; /* weight 0, so that the exponentials need no tail */
        VEC sums = {0};
        for (c = 0; c < columns; c += LANES) {
            const VEC e = SIMD(exp)(LOAD(weight + c) - highest);
            STORE(weight + c, e);
            sums += e;
        }
        const VEC keep = SIMD(exp)((VEC){0} + (before - highest));
        total = total * keep[0] + SIMD(sum)(sums);
        for (; i + 4 * LANES <= d; i += 4 * LANES)
            SIMD(add_values)(4, out + i, keep[0], weight, v + i, columns, d);
        for (; i + LANES <= d; i += LANES)
            SIMD(add_values)(1, out + i, keep[0], weight, v + i, columns, d);
        for (; i < d; i++) {
            out[i] *= keep[0];
            for (c = 0; c < columns; c++)
                out[i] += v[c * d + i] * weight[c];
        }
    }
    for (int64_t i = 0; i < d; i++)
        out[i] /= total;
}

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
