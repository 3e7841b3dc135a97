/* The inner loops of pictures.c, compiled once per instruction set; SIMD, TARGET and LANES as in kernels_simd.h. */

#include "vectors_simd.h"

/* Where a task begins, and how many entries it has. */
INLINE int64_t SIMD(range)(const struct norm *a, int64_t task, int64_t *count)
{
    const int64_t first = task % a->pieces * PIECE;
    *count = a->entries - first < PIECE ? a->entries - first : PIECE;
    return (task / a->pieces * a->entries + first) * a->channels;
}

/* One task: sums over its entries, for each channel. */
TARGET static void SIMD(sum_task)(const void *arguments, int64_t task)
{
    const struct norm *a = arguments;
    int64_t count;
    const float *x = a->x + SIMD(range)(a, task, &count);
    float *sums = a->sums + task * a->channels;
    memset(sums, 0, sizeof(float) * (size_t)a->channels);
    for (int64_t entry = 0; entry < count; entry++, x += a->channels)
        for (int64_t c = 0; c < a->channels; c++)
            sums[c] += x[c];
}

/* One task: the same of squared distances from the mean. */
TARGET static void SIMD(squares_task)(const void *arguments, int64_t task)
{
    const struct norm *a = arguments;
    int64_t count;
    const float *x = a->x + SIMD(range)(a, task, &count), *mean = a->mean + task / a->pieces * a->channels;
    float *sums = a->sums + task * a->channels;
    memset(sums, 0, sizeof(float) * (size_t)a->channels);
    for (int64_t entry = 0; entry < count; entry++, x += a->channels)
        for (int64_t c = 0; c < a->channels; c++)
            sums[c] += (x[c] - mean[c]) * (x[c] - mean[c]);
}

/* One task: its entries normalised, and SiLU of them. */
TARGET static void SIMD(apply_task)(const void *arguments, int64_t task)
{
    const struct norm *a = arguments;
    int64_t count;
    const int64_t at = SIMD(range)(a, task, &count), row = task / a->pieces * a->channels;
    const float *x = a->x + at, *mean = a->mean + row, *scale = a->scale + row;
    float *y = a->y + at;
    for (int64_t entry = 0; entry < count; entry++, x += a->channels, y += a->channels) {
        for (int64_t c = 0; c < a->channels; c++)
            y[c] = (x[c] - mean[c]) * scale[c] + a->bias[c];
        int64_t c = 0;
        for (; a->silu && c + LANES <= a->channels; c += LANES)
            STORE(y + c, LOAD(y + c) * SIMD(sigmoid)(LOAD(y + c)));
        for (; a->silu && c < a->channels; c++)
            y[c] /= 1.0f + expf(-y[c]);
    }
}

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef SELECT
