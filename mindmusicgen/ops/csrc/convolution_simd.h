/* Inner loops of convolution.c, compiled once per instruction set: see kernels_simd.h. */

#include "vectors_simd.h"

#define ROWS (LANES == 16 ? 14 : 6) /* of the result at once, each WIDE columns; their sums stay in registers */
#define WIDE (2 * LANES)

/* ELU: x, or exp(x) - 1 below 0; NaN stays. */
INLINE VEC SIMD(elu)(VEC x)
{
    const IVEC negative = x < 0.0f;
    return SELECT(negative, SIMD(exp)(SELECT(negative, x, (VEC){0})) - 1.0f, x);
}

/* y = x, or its ELU. */
INLINE void SIMD(enter)(const float *x, int64_t count, int elu, float *y)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const VEC v = LOAD(x + i);
        STORE(y + i, elu ? SIMD(elu)(v) : v);
    }
    if (i < count) {
        float rest[LANES] = {0};
        memcpy(rest, x + i, sizeof(float) * (size_t)(count - i));
        if (elu)
            STORE(rest, SIMD(elu)(LOAD(rest)));
        memcpy(y + i, rest, sizeof(float) * (size_t)(count - i));
    }
}

/* What a block of rows reads, time last: near[channel][row] of `count` rows from `first` on; behind them zeros. */
INLINE void SIMD(lay_out_rows)(const struct convolution *a, int64_t clip, int64_t first, int64_t count, float *near)
{
    float lines[LINES][STRETCH];
    for (int64_t row = 0; row < a->near_row; row += LINES) {
        const int64_t rows = least(LINES, a->near_row - row);
        for (int64_t from = 0; from < a->depth; from += STRETCH) {
            const int64_t channels = least(STRETCH, a->depth - from);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = from, run; c < from + channels; c += run) {
                    const int64_t index = (first + row + r) * a->stride + c / a->channels;
                    const float *source = row + r < count ? sample(a, clip, index) : NULL;
                    run = least(a->channels - c % a->channels, from + channels - c);
                    if (source)
                        SIMD(enter)(source + c % a->channels, run, a->elu, lines[r] + (c - from));
                    else
                        memset(lines[r] + (c - from), 0, sizeof(float) * (size_t)run);
                }
            turn(&lines[0][0], channels, near + from * a->near_row + row, a->near_row);
        }
    }
}

/* One panel of the matrix: panel[k][column], PANEL columns from `column` on, zeros beyond the last. */
TARGET static void SIMD(pack)(const struct convolution *a, int64_t column, float *panel)
{
    const int64_t columns = least(PANEL, a->out - column);
    if (columns < PANEL)
        memset(panel, 0, sizeof(float) * (size_t)(a->taps * a->depth * PANEL));
    for (int64_t tap = 0; tap < a->taps; tap++) {
        const float *w = a->weight + tap * a->tap_stride + column * a->row_stride;
        for (int64_t from = 0; from < a->depth; from += LINES) {
            const int64_t last = least(from + LINES, a->depth);
            for (int64_t o = 0; o < columns; o++)
                for (int64_t c = from; c < last; c++)
                    panel[(tap * a->depth + c) * PANEL + o] = w[o * a->row_stride + c];
        }
    }
}

/* sums[row][0 .. WIDE) of ROWS rows, added to what is there unless they are the first. */
INLINE void SIMD(multiply)(const float *near, int64_t near_row, const float *panel, int64_t depth, int first, float *sums)
{
    VEC left[ROWS], right[ROWS];
    _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; r++)
    {
        left[r] = right[r] = (VEC){0};
        if (!first) {
            left[r] = LOAD(sums + r * PANEL);
            right[r] = LOAD(sums + r * PANEL + LANES);
        }
    }
    for (int64_t k = 0; k < depth; k++, near += near_row, panel += PANEL) {
        const VEC w = LOAD(panel), v = LOAD(panel + LANES);
        _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; r++)
        {
            left[r] += w * near[r];
            right[r] += v * near[r];
        }
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; r++)
    {
        STORE(sums + r * PANEL, left[r]);
        STORE(sums + r * PANEL + LANES, right[r]);
    }
}

/* The result of a block and a panel from its sums: bias and what else is added, cut to what there is of y. */
INLINE void SIMD(leave)(const struct convolution *a, int64_t clip, int64_t first, int64_t rows, int64_t column,
                        const float *sums)
{
    float bias[PANEL];
    const int64_t columns = least(PANEL, a->out - column), whole = a->length * a->width;
    for (int64_t i = 0; i < columns; i++)
        bias[i] = a->bias[(column + i) % a->width];
    for (int64_t r = 0; r < rows; r++, sums += PANEL) {
        const int64_t at = (first + r) * a->out + column - a->trim * a->width;
        const int64_t begin = at < 0 ? -at : 0, end = least(columns, whole - at);
        float *y = a->y + clip * whole + at;
        const float *other = a->other ? a->other + clip * whole + at : NULL;
        if (begin == 0 && end == PANEL) {
            for (int64_t i = 0; i < PANEL; i += LANES) {
                const VEC made = LOAD(sums + i) + LOAD(bias + i);
                STORE(y + i, other ? made + LOAD(other + i) : made);
            }
            continue;
        }
        for (int64_t i = begin; i < end; i++)
            y[i] = sums[i] + bias[i] + (other ? other[i] : 0.0f);
    }
}

/* All that a panel gives for a block of rows. */
INLINE void SIMD(block_and_panel)(const struct convolution *a, int64_t clip, int64_t first, int64_t rows,
                                  const float *near, int64_t column, const float *panel, float *sums)
{
    for (int64_t tap = 0; tap < a->taps; tap++)
        for (int64_t from = 0; from < a->depth; from += DEPTH) {
            const int64_t depth = least(DEPTH, a->depth - from);
            const float *x = near + from * a->near_row + a->first_tap + tap * a->tap_step;
            const float *w = panel + (tap * a->depth + from) * PANEL;
            for (int64_t row = 0; row < rows; row += ROWS)
                for (int64_t i = 0; i < PANEL; i += WIDE)
                    SIMD(multiply)(x + row, a->near_row, w + i, depth, tap == 0 && from == 0, sums + row * PANEL + i);
        }
    SIMD(leave)(a, clip, first, rows, column, sums);
}

/* One task of the many rows' way: a block of rows, with all panels. */
INLINE void SIMD(block)(const struct convolution *a, int64_t block, float *memory)
{
    const int64_t clip = block / a->blocks, first = block % a->blocks * a->block_rows;
    const int64_t rows = least(a->block_rows, a->rows - first);
    float *near = memory + a->block_rows * PANEL + ROWS * PANEL;
    SIMD(lay_out_rows)(a, clip, first, rows + a->halo, near);
    for (int64_t column = 0; column < a->out; column += PANEL)
        SIMD(block_and_panel)(a, clip, first, rows, near, column, a->packed + column * a->taps * a->depth, memory);
}

TARGET static void SIMD(pack_task)(const void *arguments, int64_t task)
{
    const struct convolution *a = arguments;
    SIMD(pack)(a, task * PANEL, a->packed + task * PANEL * a->taps * a->depth);
}

/* A thread's share: block after block until there are none. */
TARGET static void SIMD(blocks_task)(const void *arguments, int64_t task)
{
    const struct convolution *a = arguments;
    for (int64_t next; (next = atomic_fetch_add(a->next, 1)) < a->clips * a->blocks;)
        SIMD(block)(a, next, a->memory + task * a->each);
}

/* The other way: all rows are laid out, and a thread packs one panel after the other. */
TARGET static void SIMD(near_task)(const void *arguments, int64_t task)
{
    const struct convolution *a = arguments;
    const int64_t clip = task / a->blocks, first = task % a->blocks * a->block_rows;
    SIMD(lay_out_rows)(a, clip, first, least(a->block_rows, a->rows - first) + a->halo,
                       a->near + task * a->depth * a->near_row);
}

TARGET static void SIMD(panels_task)(const void *arguments, int64_t task)
{
    const struct convolution *a = arguments;
    float *sums = a->memory + task * a->each, *panel = sums + a->block_rows * PANEL + ROWS * PANEL;
    for (int64_t next; (next = atomic_fetch_add(a->next, 1)) * PANEL < a->out;) {
        SIMD(pack)(a, next * PANEL, panel);
        for (int64_t block = 0; block < a->clips * a->blocks; block++) {
            const int64_t first = block % a->blocks * a->block_rows;
            SIMD(block_and_panel)(a, block / a->blocks, first, least(a->block_rows, a->rows - first),
                                  a->near + block * a->depth * a->near_row, next * PANEL, panel, sums);
        }
    }
}

/* One row's sums for a handful of columns, whose weights lie as x does. */
INLINE void SIMD(narrow_row)(const float *near, const float *w, int64_t size, int64_t width, float *sums)
{
    for (int64_t o = 0; o < width; o++, w += size) {
        VEC four[4] = {{0}, {0}, {0}, {0}};
        int64_t i = 0;
        for (; i + 4 * LANES <= size; i += 4 * LANES)
            for (int j = 0; j < 4; j++)
                four[j] += LOAD(near + i + j * LANES) * LOAD(w + i + j * LANES);
        sums[o] = SIMD(sum)((four[0] + four[1]) + (four[2] + four[3]));
        for (; i < size; i++)
            sums[o] += near[i] * w[i];
    }
}

/* A task where there are few columns: rows stay as they are, and meet a row of weights. */
TARGET static void SIMD(narrow_task)(const void *arguments, int64_t task)
{
    const struct convolution *a = arguments;
    for (int64_t next; (next = atomic_fetch_add(a->next, 1)) < a->clips * a->blocks;) {
        const int64_t clip = next / a->blocks, first = next % a->blocks * a->block_rows;
        const int64_t rows = least(a->block_rows, a->rows - first), size = a->taps * a->depth;
        float *near = a->memory + task * a->each, sums[NARROW];
        for (int64_t r = 0; r < rows + a->halo; r++) {
            const float *source = sample(a, clip, first + r);
            if (source)
                SIMD(enter)(source, a->depth, a->elu, near + r * a->depth);
            else
                memset(near + r * a->depth, 0, sizeof(float) * (size_t)a->depth);
        }
        for (int64_t r = 0; r < rows; r++) {
            SIMD(narrow_row)(near + r * a->depth, a->packed, size, a->out, sums);
            const int64_t at = (clip * a->length + first + r) * a->out;
            for (int64_t o = 0; o < a->out; o++)
                a->y[at + o] = sums[o] + a->bias[o] + (a->other ? a->other[at + o] : 0.0f);
        }
    }
}

#undef ROWS
#undef WIDE
#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef SELECT
#undef INLINE
