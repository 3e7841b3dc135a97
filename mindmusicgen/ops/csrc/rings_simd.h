/* Inner loops of rings.c, compiled once per instruction set: see kernels_simd.h. Vectors of keys and values lie a stride
 * apart and are float32, or the upper halves of it (bfloat16).
 */

#include "vectors_simd.h"

typedef uint16_t SIMD(halves) __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* LANES numbers from `at` on. */
INLINE VEC SIMD(numbers)(const void *from, int64_t at, int half)
{
    if (half)
        return (VEC)(__builtin_convertvector(*(const SIMD(halves) *)((const uint16_t *)from + at), IVEC) << 16);
    return LOAD((const float *)from + at);
}

/* scores[c] = scale * q . keys[c] for c from `first` to `last`, four at a time, as one waits for its own sums. */
INLINE void SIMD(score)(const float *q, const struct vectors *k, int64_t first, int64_t last, int half, float *scores)
{
    const int64_t d = k->d, whole = d / LANES * LANES;
    for (int64_t c = first; c < last; c += 4) {
        const int count = last - c < 4 ? (int)(last - c) : 4;
        VEC sums[4] = {{0}, {0}, {0}, {0}};
        int64_t at[4];
        for (int i = 0; i < 4; i++)
            at[i] = (c + (i < count ? i : 0)) * k->stride;
        for (int64_t i = 0; i < whole; i += LANES) {
            const VEC part = LOAD(q + i);
            for (int j = 0; j < 4; j++)
                sums[j] += part * SIMD(numbers)(k->keys, at[j] + i, half);
        }
        for (int j = 0; j < count; j++) {
            float total = SIMD(sum)(sums[j]);
            for (int64_t i = whole; i < d; i++)
                total += q[i] * number(k->keys, at[j] + i, half);
            scores[c + j] = total * k->scale;
        }
    }
}

INLINE void SIMD(mix_some)(const float *weights, const struct vectors *v, int64_t at, int count, int half, float factor,
                           float *out)
{
    VEC sums[4] = {{0}, {0}, {0}, {0}};
    for (int64_t c = 0; c < v->count; c++)
        for (int j = 0; j < count; j++)
            sums[j] += SIMD(numbers)(v->values, c * v->stride + at + j * LANES, half) * weights[c];
    for (int j = 0; j < count; j++)
        STORE(out + at + j * LANES, sums[j] * factor);
}

/* out[i] = factor * sum over c of weights[c] * values[c][i], for i from `first` to `last`. */
INLINE void SIMD(mix)(const float *weights, const struct vectors *v, int64_t first, int64_t last, int half, float factor,
                      float *out)
{
    int64_t i = first;
    for (; i + 4 * LANES <= last; i += 4 * LANES)
        SIMD(mix_some)(weights, v, i, 4, half, factor, out);
    for (; i + LANES <= last; i += LANES)
        SIMD(mix_some)(weights, v, i, 1, half, factor, out);
    for (; i < last; i++) {
        float total = 0;
        for (int64_t c = 0; c < v->count; c++)
            total += weights[c] * number(v->values, c * v->stride + i, half);
        out[i] = total * factor;
    }
}

/* A part of a step's scores, and after these are weights, a part of what they mix. */
TARGET static void SIMD(score_task)(const void *arguments, int64_t task)
{
    const struct step *a = arguments;
    const int64_t unit = task / a->parts, part = task % a->parts;
    const struct vectors v = vectors_of(a, unit);
    float *scores = a->scores + unit * a->padded;
    const int64_t first = v.count * part / a->parts, last = v.count * (part + 1) / a->parts;
    if (a->half)
        SIMD(score)(query_of(a, unit), &v, first, last, 1, scores);
    else
        SIMD(score)(query_of(a, unit), &v, first, last, 0, scores);
}

TARGET static void SIMD(soften_task)(const void *arguments, int64_t unit)
{
    const struct step *a = arguments;
    a->totals[unit] = SIMD(soften)(a->scores + unit * a->padded, a->count, a->padded);
}

TARGET static void SIMD(mix_task)(const void *arguments, int64_t task)
{
    const struct step *a = arguments;
    const int64_t unit = task / a->parts, part = task % a->parts, lanes = a->d / LANES;
    const struct vectors v = vectors_of(a, unit);
    const int64_t first = lanes * part / a->parts * LANES;
    const int64_t last = part == a->parts - 1 ? a->d : lanes * (part + 1) / a->parts * LANES;
    const float *weights = a->scores + unit * a->padded, factor = 1.0f / a->totals[unit];
    if (a->half)
        SIMD(mix)(weights, &v, first, last, 1, factor, a->out + unit * a->d);
    else
        SIMD(mix)(weights, &v, first, last, 0, factor, a->out + unit * a->d);
}

/* Some positions of one head of a whole sequence. */
TARGET static void SIMD(sequence_task)(const void *arguments, int64_t task)
{
    const struct whole *a = arguments;
    float scores[MOST];
    const int64_t unit = task / a->blocks, first = task % a->blocks * POSITIONS;
    const int64_t last = first + POSITIONS < a->positions ? first + POSITIONS : a->positions;
    for (int64_t position = first; position < last; position++) {
        const struct vectors v = seen_from(a, unit, position);
        float *out = a->out + (unit / a->heads * a->positions + position) * a->heads * a->d + unit % a->heads * a->d;
        const int64_t padded = (v.count + LANES - 1) / LANES * LANES;
        if (v.count == 0) {
            memset(out, 0, sizeof(float) * (size_t)a->d);
            continue;
        }
        SIMD(score)(query_at(a, unit, position), &v, 0, v.count, 0, scores);
        const float total = SIMD(soften)(scores, v.count, padded);
        SIMD(mix)(scores, &v, 0, a->d, 0, 1.0f / total, out);
    }
}

/* x = (x + bias) sigmoid(1.702 (x + bias)) of one row. */
TARGET static void SIMD(quick_gelu_task)(const void *arguments, int64_t row)
{
    const struct biased *a = arguments;
    float *x = a->x + row * a->size;
    int64_t i = 0;
    for (; i + LANES <= a->size; i += LANES) {
        const VEC v = LOAD(x + i) + LOAD(a->bias + i);
        STORE(x + i, v * SIMD(sigmoid)(v * 1.702f));
    }
    for (; i < a->size; i++) {
        const float v = x[i] + a->bias[i];
        x[i] = v / (1.0f + expf(-1.702f * v));
    }
}

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef SELECT
