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
        /* Behind a row's end comes what is read next, which is not the row below: that one is read now. */
        const float *ahead = w + i + PREFETCH + (i + PREFETCH < n ? 0 : (outs - 1) * n); /* past the last: harmless */
        for (int o = 0; o < outs; o++) {
            const VEC wv = LOAD(w + o * n + i);
            __builtin_prefetch(ahead + o * n);
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

INLINE VEC SIMD(tanh)(VEC x)
{
    return SIMD(sigmoid)(x + x) * 2.0f - 1.0f;
}

/* The new c and h of `count` units of one row from their gates' sums over h; what stands behind them is padding. */
INLINE void SIMD(lstm_units)(const struct lstm *a, int64_t row, int64_t first, int64_t count, float (*sums)[UNITS])
{
    const float *gates = a->gates + row * a->gates_stride + first;
    float c[UNITS] = {0}, h[UNITS];
    for (int g = 0; g < 4; g++)
        for (int64_t i = 0; i < count; i++)
            sums[g][i] += gates[g * a->size + i];
    memcpy(c, a->c + row * a->size + first, sizeof(float) * (size_t)count);
    for (int64_t i = 0; i < count; i += LANES) {
        const VEC in = SIMD(sigmoid)(LOAD(sums[0] + i)), forget = SIMD(sigmoid)(LOAD(sums[1] + i));
        const VEC cell = forget * LOAD(c + i) + in * SIMD(tanh)(LOAD(sums[2] + i));
        STORE(c + i, cell);
        STORE(h + i, SIMD(sigmoid)(LOAD(sums[3] + i)) * SIMD(tanh)(cell));
    }
    memcpy(a->c + row * a->size + first, c, sizeof(float) * (size_t)count);
    memcpy(a->y + row * a->y_stride + first, h, sizeof(float) * (size_t)count);
}

typedef int16_t SIMD(codes) __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* One task of rounding an LSTM's weights: CODE_ROWS rows to 16 bits, the largest of each to 32767. A row that is not
 * finite has a scale that is not, and so has what comes of it. */
TARGET static void SIMD(round_task)(const void *arguments, int64_t task)
{
    const struct lstm *a = arguments;
    const int64_t n = a->size, first = task * CODE_ROWS, end = first + CODE_ROWS < 4 * n ? first + CODE_ROWS : 4 * n;
    for (int64_t row = first; row < end; row++) {
        const float *w = a->weight + row * n;
        int16_t *codes = a->codes + row * n;
        VEC largest = {0}, nothing = {0}; /* the latter NaN where a weight is not finite */
        int64_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            const VEC x = LOAD(w + i), size = (VEC)((IVEC)x & INT32_MAX);
            largest = SELECT(size > largest, size, largest);
            nothing += x * 0.0f;
        }
        float most = 0, bad = SIMD(sum)(nothing), lane[LANES];
        memcpy(lane, &largest, sizeof lane);
        for (int j = 0; j < LANES; j++)
            most = lane[j] > most ? lane[j] : most;
        for (; i < n; i++) {
            most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
            bad += w[i] * 0.0f;
        }
        const float factor = most > 0 && bad == 0 ? 32767.0f / most : 0;
        a->scale[row] = most / 32767.0f + bad;
        i = 0;
        for (; i + LANES <= n; i += LANES) {
            const VEC x = LOAD(w + i) * factor, half = (VEC)(((IVEC)x & INT32_MIN) | (IVEC)((VEC){0} + 0.5f));
            *(SIMD(codes) *)(codes + i) =
                __builtin_convertvector(__builtin_convertvector(x + half, IVEC), SIMD(codes));
        }
        for (; i < n; i++)
            codes[i] = (int16_t)lrintf(w[i] * factor);
    }
}

/* y[r][o] = x[r] . the codes of row o, times its scale; `dots` otherwise. */
INLINE void SIMD(rough_dots)(int rows, int outs, const float *x, int64_t n, const int16_t *w, const float *scale,
                             float *y, int64_t y_stride)
{
    VEC acc[MAX_ROWS][MAX_OUTS];
    int64_t i = 0;
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outs; o++)
            acc[r][o] = (VEC){0};
    for (; i + LANES <= n; i += LANES) {
        const int16_t *ahead = w + i + PREFETCH + (i + PREFETCH < n ? 0 : (outs - 1) * n);
        for (int o = 0; o < outs; o++) {
            const SIMD(codes) codes = *(const SIMD(codes) *)(w + o * n + i);
            const VEC wv = __builtin_convertvector(__builtin_convertvector(codes, IVEC), VEC);
            if (i % 32 == 0)
                __builtin_prefetch(ahead + o * n);
            for (int r = 0; r < rows; r++)
                acc[r][o] += wv * LOAD(x + r * n + i);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < outs; o++) {
            float total = SIMD(sum)(acc[r][o]);
            for (int64_t j = i; j < n; j++)
                total += x[r * n + j] * (float)w[o * n + j];
            y[r * y_stride + o] = total * scale[o];
        }
}

/* `outs` sums of a gate for some rows, from weight row `row` on. */
INLINE void SIMD(gate_sums)(const struct lstm *a, int rough, int rows, int outs, const float *h, int64_t row, float *sums)
{
    if (rough)
        SIMD(rough_dots)(rows, outs, h, a->size, a->codes + row * a->size, a->scale + row, sums, 4 * UNITS);
    else
        SIMD(dots)(rows, outs, h, a->size, a->weight + row * a->size, sums, 4 * UNITS);
}

/* UNITS units of all rows of an LSTM's step, so that each weight comes from memory once. */
INLINE void SIMD(lstm_step)(const struct lstm *a, int64_t task, int rough)
{
    const int64_t first = task * UNITS, n = a->size, count = n - first < UNITS ? n - first : UNITS;
    for (int64_t row = 0; row < a->rows; row += MAX_ROWS) {
        const int64_t rows = a->rows - row < MAX_ROWS ? a->rows - row : MAX_ROWS;
        float sums[MAX_ROWS][4][UNITS] = {0};
        const float *h = a->h + row * n;
        for (int g = 0; g < 4; g++) {
            int64_t i = 0;
            for (; i + MAX_OUTS <= count; i += MAX_OUTS) {
                const int64_t at = g * n + first + i;
                switch (rows) {
                case 1: SIMD(gate_sums)(a, rough, 1, MAX_OUTS, h, at, sums[0][g] + i); break;
                case 2: SIMD(gate_sums)(a, rough, 2, MAX_OUTS, h, at, sums[0][g] + i); break;
                case 3: SIMD(gate_sums)(a, rough, 3, MAX_OUTS, h, at, sums[0][g] + i); break;
                default: SIMD(gate_sums)(a, rough, 4, MAX_OUTS, h, at, sums[0][g] + i); break;
                }
            }
            for (; i < count; i++)
                for (int64_t r = 0; r < rows; r++)
                    SIMD(gate_sums)(a, rough, 1, 1, h + r * n, g * n + first + i, sums[r][g] + i);
        }
        for (int64_t r = 0; r < rows; r++)
            SIMD(lstm_units)(a, row + r, first, count, sums[r]);
    }
}

TARGET static void SIMD(lstm_task)(const void *arguments, int64_t task)
{
    SIMD(lstm_step)(arguments, task, 0);
}

TARGET static void SIMD(rough_lstm_task)(const void *arguments, int64_t task)
{
    SIMD(lstm_step)(arguments, task, 1);
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
#undef SELECT
