/* The tasks of gradients.c, compiled once per instruction set. */

#include "vectors_simd.h"

/* One task: LINES rows of a layer norm. */
TARGET static void SIMD(norm_task)(const void *arguments, int64_t task)
{
    const struct norm *a = arguments;
    const int64_t last = (task + 1) * LINES < a->rows ? (task + 1) * LINES : a->rows, d = a->d, even = d / LANES * LANES;
    for (int64_t row = task * LINES; row < last; row++) {
        const float *x = a->x + row * d;
        float *y = a->y + row * d;
        VEC sums = {0}, squares = {0};
        float total = 0, square = 0;
        for (int64_t i = 0; i < even; i += LANES)
            sums += LOAD(x + i);
        for (int64_t i = even; i < d; i++)
            total += x[i];
        const float mean = (total + SIMD(sum)(sums)) / (float)d;
        for (int64_t i = 0; i < even; i += LANES)
            squares += (LOAD(x + i) - mean) * (LOAD(x + i) - mean);
        for (int64_t i = even; i < d; i++)
            square += (x[i] - mean) * (x[i] - mean);
        const float scale = 1 / sqrtf((square + SIMD(sum)(squares)) / (float)d + a->eps);
        for (int64_t i = 0; i < even; i += LANES)
            STORE(y + i, (LOAD(x + i) - mean) * scale * LOAD(a->weight + i) + LOAD(a->bias + i));
        for (int64_t i = even; i < d; i++)
            y[i] = (x[i] - mean) * scale * a->weight[i] + a->bias[i];
        a->stats[2 * row] = mean;
        a->stats[2 * row + 1] = scale;
    }
}

/* One task: LINES rows of the gradients; those of weight and bias as sums of the task's own. */
TARGET static void SIMD(norm_gradient_task)(const void *arguments, int64_t task)
{
    const struct norm *a = arguments;
    const int64_t last = (task + 1) * LINES < a->rows ? (task + 1) * LINES : a->rows, d = a->d, even = d / LANES * LANES;
    float *dweight = a->sums + task * 2 * d, *dbias = dweight + d;
    memset(dweight, 0, sizeof(float) * 2 * (size_t)d);
    for (int64_t row = task * LINES; row < last; row++) {
        const float *x = a->x + row * d, *dy = a->dy + row * d, mean = a->stats[2 * row], scale = a->stats[2 * row + 1];
        float *dx = a->dx + row * d, plain = 0, along = 0;
        VEC plains = {0}, alongs = {0};
        for (int64_t i = 0; i < even; i += LANES) {
            const VEC normed = (LOAD(x + i) - mean) * scale, g = LOAD(dy + i), scaled = g * LOAD(a->weight + i);
            plains += scaled;
            alongs += scaled * normed;
            STORE(dweight + i, LOAD(dweight + i) + g * normed);
            STORE(dbias + i, LOAD(dbias + i) + g);
        }
        for (int64_t i = even; i < d; i++) {
            const float normed = (x[i] - mean) * scale;
            plain += dy[i] * a->weight[i];
            along += dy[i] * a->weight[i] * normed;
            dweight[i] += dy[i] * normed;
            dbias[i] += dy[i];
        }
        plain = (plain + SIMD(sum)(plains)) / (float)d;
        along = (along + SIMD(sum)(alongs)) / (float)d;
        for (int64_t i = 0; i < even; i += LANES)
            STORE(dx + i,
                  (LOAD(dy + i) * LOAD(a->weight + i) - plain - (LOAD(x + i) - mean) * scale * along) * scale);
        for (int64_t i = even; i < d; i++)
            dx[i] = (dy[i] * a->weight[i] - plain - (x[i] - mean) * scale * along) * scale;
    }
}

/* One task: the losses of one column's codes in one row of the batch. */
TARGET static void SIMD(losses_task)(const void *arguments, int64_t task)
{
    const struct losses *a = arguments;
    const int64_t row = task / a->columns, column = task % a->columns, even = a->size / LANES * LANES;
    for (int64_t k = 0; k < a->codebooks; k++) {
        const float *x = a->logits + (task * a->codebooks + k) * a->size;
        const int64_t at = (row * a->codebooks + k) * a->columns + column;
        const int32_t label = a->labels[at];
        VEC highest = (VEC){0} - FLT_MAX, sums = {0};
        float top = -FLT_MAX, sum = 0;
        a->each[at] = 0;
        if (label < 0 || label >= a->size)
            continue;
        for (int64_t i = 0; i < even; i += LANES)
            highest = SELECT(LOAD(x + i) > highest, LOAD(x + i), highest);
        for (int i = 0; i < LANES; i++)
            top = highest[i] > top ? highest[i] : top;
        for (int64_t i = even; i < a->size; i++)
            top = x[i] > top ? x[i] : top;
        for (int64_t i = 0; i < even; i += LANES)
            sums += SIMD(exp)(LOAD(x + i) - top);
        for (int64_t i = even; i < a->size; i++)
            sum += expf(x[i] - top);
        a->each[at] = top + logf(sum + SIMD(sum)(sums)); /* its loss once the label's logit is taken off */
    }
}

/* One task: the gradients of the same. */
TARGET static void SIMD(losses_gradient_task)(const void *arguments, int64_t task)
{
    const struct losses *a = arguments;
    const int64_t row = task / a->columns, column = task % a->columns, even = a->size / LANES * LANES;
    for (int64_t k = 0; k < a->codebooks; k++) {
        const float *x = a->logits + (task * a->codebooks + k) * a->size, factor = a->factors[k];
        float *dx = a->dlogits + (task * a->codebooks + k) * a->size;
        const int64_t at = (row * a->codebooks + k) * a->columns + column;
        const int32_t label = a->labels[at];
        if (label < 0 || label >= a->size) {
            memset(dx, 0, sizeof(float) * (size_t)a->size);
            continue;
        }
        for (int64_t i = 0; i < even; i += LANES)
            STORE(dx + i, SIMD(exp)(LOAD(x + i) - a->each[at]) * factor);
        for (int64_t i = even; i < a->size; i++)
            dx[i] = expf(x[i] - a->each[at]) * factor;
        dx[label] -= factor;
    }
}

/* One task: PIECE numbers of a step of AdamW. */
TARGET static void SIMD(adam_task)(const void *arguments, int64_t task)
{
    const struct adam *a = arguments;
    const int64_t last = (task + 1) * PIECE < a->count ? (task + 1) * PIECE : a->count;
    int64_t i = task * PIECE;
    for (; i + LANES <= last; i += LANES) {
        const VEC g = LOAD(a->gradient + i) * a->scale;
        const VEC m = LOAD(a->m + i) * a->beta1 + g * (1 - a->beta1);
        const VEC v = LOAD(a->v + i) * a->beta2 + g * g * (1 - a->beta2);
        float root[LANES];
        for (int lane = 0; lane < LANES; lane++)
            root[lane] = sqrtf(v[lane]);
        STORE(a->m + i, m);
        STORE(a->v + i, v);
        STORE(a->x + i, LOAD(a->x + i) - (m / (LOAD(root) + a->eps) + LOAD(a->x + i) * a->decay) * a->rate);
    }
    for (; i < last; i++) {
        const float g = a->gradient[i] * a->scale;
        a->m[i] = a->m[i] * a->beta1 + g * (1 - a->beta1);
        a->v[i] = a->v[i] * a->beta2 + g * g * (1 - a->beta2);
        a->x[i] -= (a->m[i] / (sqrtf(a->v[i]) + a->eps) + a->x[i] * a->decay) * a->rate;
    }
}

/* One task: the sum of PIECE squares. */
TARGET static void SIMD(squares_task)(const void *arguments, int64_t task)
{
    const struct squares *a = arguments;
    const int64_t last = (task + 1) * PIECE < a->count ? (task + 1) * PIECE : a->count;
    int64_t i = task * PIECE;
    VEC sums = {0};
    for (; i + LANES <= last; i += LANES)
        sums += LOAD(a->x + i) * LOAD(a->x + i);
    double sum = SIMD(sum)(sums);
    for (; i < last; i++)
        sum += a->x[i] * a->x[i];
    a->sums[task] = sum;
}

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef SELECT
