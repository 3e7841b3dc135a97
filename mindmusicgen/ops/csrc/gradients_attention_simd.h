/* The tasks of gradients_attention.c, compiled once per instruction set. */

#include "vectors_simd.h"

#include "gemm_simd.h"

INLINE int64_t SIMD(panelled)(int64_t n)
{
    return (n + NR - 1) / NR * NR;
}

/* All panels of b [k, n]. */
INLINE void SIMD(pack_all)(const float *b, int64_t b_row, int64_t b_column, int64_t k, int64_t n, float *panels)
{
    for (int64_t c = 0; c < n; c += NR)
        SIMD(pack)(b + c * b_column, b_row, b_column, k, n - c, panels + c * k);
}

/* c [m, n] = or += a [m, k] . the first k rows of panels, which have `depth`. */
INLINE void SIMD(product)(const float *a, int64_t a_row, int64_t a_column, int64_t m, int64_t n, int64_t k,
                          const float *panels, int64_t depth, float *c, int64_t c_row, int add)
{
    for (int64_t first = 0; first < k; first += DEPTH) {
        const struct SIMD(finish) f = {c, add || first ? c : NULL, NULL, c_row, 0};
        SIMD(multiply)(a + first * a_column, a_row, a_column, m, n, k - first < DEPTH ? k - first : DEPTH,
                       panels + first * NR, NR * depth, &f);
    }
}

/* What is added to scores of `columns` keys, from a mask or to what is behind the last that may be seen. */
INLINE void SIMD(scale_scores)(const struct attend *a, const float *mask, float *scores, int64_t seen, int64_t columns)
{
    for (int64_t c = 0; c < columns; c += LANES)
        STORE(scores + c, LOAD(scores + c) * a->factor);
    for (int64_t c = 0; mask && c < seen; c++)
        scores[c] += mask[c];
    for (int64_t c = seen; c < columns; c++)
        scores[c] = -INFINITY;
}

/* One task: the attention of one head of one row. */
TARGET static void SIMD(attend_task)(const void *arguments, int64_t task)
{
    const struct attend *a = arguments;
    const int64_t n = a->keys, d = a->d, wide = SIMD(panelled)(n), row = task / a->heads, head = task % a->heads;
    const float *q = a->q + row * a->queries * a->q_row + head * d, *k = a->k + row * n * a->k_row + head * d;
    const float *v = a->v + row * n * a->k_row + head * d, *mask = a->mask ? a->mask + row * n : NULL;
    float *out = a->out + (row * a->queries * a->heads + head) * d, *stats = a->stats + task * a->queries * 2;
    int slot;
    float *keys = take_slot(a, &slot), *values = keys + d * wide, *scores = values + n * SIMD(panelled)(d);
    SIMD(pack_all)(k, 1, a->k_row, d, n, keys);
    SIMD(pack_all)(v, a->k_row, 1, n, d, values);
    for (int64_t first = 0; first < a->queries; first += BLOCK) {
        const int64_t count = a->queries - first < BLOCK ? a->queries - first : BLOCK;
        const int64_t reach = a->causal ? first + count : n, columns = SIMD(panelled)(reach);
        SIMD(product)(q + first * a->q_row, a->q_row, 1, count, columns, d, keys, d, scores, wide, 0);
        for (int64_t r = 0; r < count; r++) {
            float *line = scores + r * wide, *kept = stats + 2 * (first + r), top = -FLT_MAX;
            const int64_t seen = a->causal ? first + r + 1 : n;
            VEC highest = (VEC){0} - FLT_MAX, sums = {0};
            SIMD(scale_scores)(a, mask, line, seen, columns);
            for (int64_t c = 0; c < columns; c += LANES)
                highest = SELECT(LOAD(line + c) > highest, LOAD(line + c), highest);
            for (int i = 0; i < LANES; i++)
                top = highest[i] > top ? highest[i] : top;
            for (int64_t c = 0; c < columns; c += LANES) {
                const VEC e = SIMD(exp)(LOAD(line + c) - top);
                STORE(line + c, e);
                sums += e;
            }
            kept[0] = top;
            kept[1] = 1 / SIMD(sum)(sums);
        }
        float *to = out + first * a->heads * d;
        SIMD(product)(scores, wide, 1, count, d, reach, values, n, to, a->heads * d, 0);
        for (int64_t r = 0; r < count; r++)
            for (int64_t i = 0; i < d; i++)
                to[r * a->heads * d + i] *= stats[2 * (first + r) + 1];
    }
    give_slot(a, slot);
}

/* scores to weights, and the gradients of weights to those of scores. */
INLINE void SIMD(soften_again)(const struct attend *a, const float *mask, const float *kept, float delta, float *line,
                               float *gradient, int64_t seen, int64_t columns)
{
    SIMD(scale_scores)(a, mask, line, seen, columns);
    for (int64_t c = 0; c < columns; c += LANES) {
        const VEC weight = SIMD(exp)(LOAD(line + c) - kept[0]) * kept[1];
        STORE(line + c, weight);
        STORE(gradient + c, weight * (LOAD(gradient + c) - delta) * a->factor);
    }
}

/* One task: the gradients of one head of one row. */
TARGET static void SIMD(attend_gradient_task)(const void *arguments, int64_t task)
{
    const struct attend *a = arguments;
    const int64_t n = a->keys, d = a->d, wide = SIMD(panelled)(n), full = SIMD(panelled)(d), dim = a->heads * d;
    const int64_t row = task / a->heads, head = task % a->heads, from = row * a->queries * a->q_row + head * d;
    const int64_t at = row * n * a->k_row + head * d, there = row * a->queries * dim + head * d;
    const float *q = a->q + from, *k = a->k + at, *v = a->v + at, *mask = a->mask ? a->mask + row * n : NULL;
    const float *out = a->out + there, *dout = a->dout + there, *stats = a->stats + task * a->queries * 2;
    float *dq = a->dq + from, *dk = a->dk + at, *dv = a->dv + at;
    int slot;
    float *keys = take_slot(a, &slot), *values = keys + d * wide, *across = values + d * wide;
    float *scores = across + n * full, *gradients = scores + BLOCK * wide, *panels = gradients + BLOCK * wide;
    SIMD(pack_all)(k, 1, a->k_row, d, n, keys);
    SIMD(pack_all)(v, 1, a->k_row, d, n, values);
    SIMD(pack_all)(k, a->k_row, 1, n, d, across);
    for (int64_t c = 0; c < n; c++) {
        memset(dk + c * a->k_row, 0, sizeof(float) * (size_t)d);
        memset(dv + c * a->k_row, 0, sizeof(float) * (size_t)d);
    }
    for (int64_t first = 0; first < a->queries; first += BLOCK) {
        const int64_t count = a->queries - first < BLOCK ? a->queries - first : BLOCK;
        const int64_t reach = a->causal ? first + count : n, columns = SIMD(panelled)(reach);
        const float *queries = q + first * a->q_row, *dy = dout + first * dim;
        SIMD(product)(queries, a->q_row, 1, count, columns, d, keys, d, scores, wide, 0);
        SIMD(product)(dy, dim, 1, count, columns, d, values, d, gradients, wide, 0);
        for (int64_t r = 0; r < count; r++) {
            float delta = 0;
            for (int64_t i = 0; i < d; i++)
                delta += dy[r * dim + i] * out[(first + r) * dim + i];
            SIMD(soften_again)(a, mask, stats + 2 * (first + r), delta, scores + r * wide, gradients + r * wide,
                               a->causal ? first + r + 1 : n, columns);
        }
        SIMD(product)(gradients, wide, 1, count, d, reach, across, n, dq + first * a->q_row, a->q_row, 0);
        SIMD(pack_all)(dy, dim, 1, count, d, panels);
        SIMD(product)(scores, 1, wide, reach, d, count, panels, count, dv, a->k_row, 1);
        SIMD(pack_all)(queries, a->q_row, 1, count, d, panels);
        SIMD(product)(gradients, 1, wide, reach, d, count, panels, count, dk, a->k_row, 1);
    }
    give_slot(a, slot);
}

#include "gemm_undo.h"
