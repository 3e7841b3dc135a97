/* Operators of training and their gradients, for MindSpore's ops.Custom(func_type="aot"), float32:
 *
 *   ProductForward    x [rows, in], w [out, in] -> x W^T [rows, out]
 *   ProductAdded      x, w, what is added [rows, out] -> their sum
 *   ProductInput      dy [rows, out], w -> dx [rows, in]
 *   ProductGated      dy, w, gate [rows, in] -> dx where the gate is above 0
 *   ProductWeight     dy, x -> dw [out, in]
 *   FeedForward       x [rows, in], w1 [wide, in], w2 [in, wide], added [rows, in] -> relu(x W1^T) W2^T + added, and
 *                     the hidden [rows, wide]
 *   LayerNorm         x [rows, D], weight, bias [D], eps [1] -> y, stats [rows, 2]: mean, one over the deviation
 *   LayerNormGradient x, weight, stats, dy -> dx, dweight, dbias
 *   CodeLosses        logits [B, T, K V], labels [B, K, T] int32 -> mean losses [K], each logarithm of a sum [B, K, T]
 *   CodeLossesGradient logits, labels, these, dlosses [K] -> dlogits
 *   EmbedCodes        table [K R, D], codes [B, K, T] int32, positions [P, D] -> sums [B, T, D]
 *   EmbedCodesGradient table, codes, dy -> dtable
 *   SumOfSquares      x -> [1]
 *   AdamW             x, m, v, gradient, rate, decay, scale of the gradient, beta1, beta2, eps ([1] each) -> [1]; the
 *                     first three are written to
 *
 * Labels and losses outside 0 to V - 1 do not count. Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "gemm.h"
#include "simd.h"
#include "team.h"

#define LINES 64    /* rows of a norm in a task */
#define PIECE 32768 /* numbers of a task; a multiple of every LANES */
#define SLICE 64    /* of an embedding's width in a task */

struct norm {
    const float *x, *weight, *bias, *dy;
    float *y, *dx, *stats, *sums;
    int64_t rows, d;
    float eps;
};

struct losses {
    const float *logits;
    const int32_t *labels;
    const float *factors; /* of the gradients, by codebook */
    float *each, *dlogits;
    int64_t columns, codebooks, size;
};

struct adam {
    float *x, *m, *v;
    const float *gradient;
    int64_t count;
    float rate, decay, scale, beta1, beta2, eps;
};

struct squares {
    const float *x;
    double *sums;
    int64_t count;
};

struct embedding {
    const float *table, *positions, *dy;
    const int32_t *codes;
    float *y, *dtable;
    int64_t batch, codebooks, columns, rows, d;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "gradients_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "gradients_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "gradients_simd.h"

static struct {
    task_function norm, norm_gradient, losses, losses_gradient, adam, squares;
} loops;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

#define CHOOSE(level)                                                                                                  \
    loops.norm = norm_task_##level, loops.norm_gradient = norm_gradient_task_##level,                                  \
    loops.losses = losses_task_##level, loops.losses_gradient = losses_gradient_task_##level,                          \
    loops.adam = adam_task_##level, loops.squares = squares_task_##level

static void choose(void)
{
    CHOOSE(base);
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512)
        CHOOSE(avx512);
    else if (simd_level() == SIMD_AVX2)
        CHOOSE(avx2);
#endif
}

static int64_t over(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

static int64_t count_of(const struct parameters *p, int i)
{
    int64_t count = 1;
    for (int axis = 0; axis < p->ranks[i]; axis++)
        count *= p->shapes[i][axis];
    return count;
}

static int same(const struct parameters *p, int i, int other)
{
    return is(p, i, "float32", p->ranks[other], p->shapes[other]);
}

#define ENTRY(name)                                                                                                    \
    EXPORT int name(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,        \
                    void *extra)
#define BEGIN                                                                                                          \
    const struct parameters p = {params, ndims, shapes, dtypes};                                                       \
    (void)stream, (void)extra;                                                                                         \
    pthread_once(&chosen, choose)

/* ---- products ---- */

/* The two matrices at the beginning, [.., n] and [.., n] if alike, and the result's shape. */
static int forward(const struct parameters *p, int nparam, int added)
{
    if (nparam != 3 + added || p->ranks[0] != 2 || p->ranks[1] != 2)
        return 1;
    const int64_t rows = p->shapes[0][0], in = p->shapes[0][1], out = p->shapes[1][0];
    if (!IS(p, 0, "float32", rows, in) || !IS(p, 1, "float32", out, in) || !IS(p, 2, "float32", rows, out) ||
        !IS(p, 2 + added, "float32", rows, out))
        return 2;
    return gemm_forward(p->data[0], p->data[1], added ? p->data[2] : NULL, 0, p->data[2 + added], rows, in, out);
}

ENTRY(ProductForward)
{
    BEGIN;
    return forward(&p, nparam, 0);
}

ENTRY(ProductAdded)
{
    BEGIN;
    return forward(&p, nparam, 1);
}

static int input(const struct parameters *p, int nparam, int gated)
{
    if (nparam != 3 + gated || p->ranks[0] != 2 || p->ranks[1] != 2)
        return 1;
    const int64_t rows = p->shapes[0][0], out = p->shapes[0][1], in = p->shapes[1][1];
    if (!IS(p, 0, "float32", rows, out) || !IS(p, 1, "float32", out, in) || !IS(p, 2, "float32", rows, in) ||
        !IS(p, 2 + gated, "float32", rows, in))
        return 2;
    return gemm_input(p->data[0], p->data[1], gated ? p->data[2] : NULL, p->data[2 + gated], rows, in, out);
}

ENTRY(ProductInput)
{
    BEGIN;
    return input(&p, nparam, 0);
}

ENTRY(ProductGated)
{
    BEGIN;
    return input(&p, nparam, 1);
}

ENTRY(ProductWeight)
{
    BEGIN;
    if (nparam != 3 || ndims[0] != 2 || ndims[1] != 2)
        return 1;
    const int64_t rows = shapes[0][0], out = shapes[0][1], in = shapes[1][1];
    if (!IS(&p, 0, "float32", rows, out) || !IS(&p, 1, "float32", rows, in) || !IS(&p, 2, "float32", out, in))
        return 2;
    return gemm_weight(params[0], params[1], params[2], rows, in, out);
}

ENTRY(FeedForward)
{
    BEGIN;
    if (nparam != 6 || ndims[0] != 2 || ndims[1] != 2)
        return 1;
    const int64_t rows = shapes[0][0], in = shapes[0][1], wide = shapes[1][0];
    if (!IS(&p, 0, "float32", rows, in) || !IS(&p, 1, "float32", wide, in) || !IS(&p, 2, "float32", in, wide) ||
        !IS(&p, 3, "float32", rows, in) || !IS(&p, 4, "float32", rows, in) || !IS(&p, 5, "float32", rows, wide))
        return 2;
    return gemm_forward(params[0], params[1], NULL, 1, params[5], rows, in, wide) ||
           gemm_forward(params[5], params[2], params[3], 0, params[4], rows, wide, in);
}

/* ---- layer norm ---- */

ENTRY(LayerNorm)
{
    BEGIN;
    if (nparam != 6 || ndims[0] != 2 || !is_number(&p, 3, "float32"))
        return 1;
    const int64_t rows = shapes[0][0], d = shapes[0][1];
    if (!IS(&p, 0, "float32", rows, d) || !IS(&p, 1, "float32", d) || !IS(&p, 2, "float32", d) || !same(&p, 4, 0) ||
        !IS(&p, 5, "float32", rows, 2))
        return 2;
    const struct norm a = {.x = params[0], .weight = params[1], .bias = params[2], .y = params[4], .stats = params[5],
                           .rows = rows, .d = d, .eps = *(const float *)params[3]};
    team_run(loops.norm, &a, over(rows, LINES));
    return 0;
}

ENTRY(LayerNormGradient)
{
    BEGIN;
    if (nparam != 7 || ndims[0] != 2)
        return 1;
    const int64_t rows = shapes[0][0], d = shapes[0][1], tasks = over(rows, LINES);
    if (!IS(&p, 0, "float32", rows, d) || !IS(&p, 1, "float32", d) || !IS(&p, 2, "float32", rows, 2) ||
        !same(&p, 3, 0) || !same(&p, 4, 0) || !IS(&p, 5, "float32", d) || !IS(&p, 6, "float32", d))
        return 2;
    struct norm a = {.x = params[0], .weight = params[1], .stats = params[2], .dy = params[3], .dx = params[4],
                     .rows = rows, .d = d, .sums = malloc(sizeof(float) * 2 * (size_t)(tasks * d))};
    float *const results[] = {params[5], params[6]};
    if (!a.sums)
        return 3;
    team_run(loops.norm_gradient, &a, tasks);
    for (int part = 0; part < 2; part++) {
        memset(results[part], 0, sizeof(float) * (size_t)d);
        for (int64_t task = 0; task < tasks; task++)
            for (int64_t i = 0; i < d; i++)
                results[part][i] += a.sums[(2 * task + part) * d + i];
    }
    free(a.sums);
    return 0;
}

/* ---- cross-entropy ---- */

static int counts(const struct losses *a, int32_t label)
{
    return label >= 0 && label < a->size;
}

/* Sizes from logits and labels, the first two arguments; whether they fit. */
static int are_losses(const struct parameters *p, struct losses *a, int64_t *batch)
{
    if (p->ranks[0] != 3 || p->ranks[1] != 3)
        return 0;
    *batch = p->shapes[1][0];
    a->codebooks = p->shapes[1][1];
    a->columns = p->shapes[1][2];
    a->size = a->codebooks > 0 ? p->shapes[0][2] / a->codebooks : 0;
    a->logits = p->data[0];
    a->labels = p->data[1];
    return a->size > 0 && IS(p, 0, "float32", *batch, a->columns, a->codebooks * a->size) &&
           IS(p, 1, "int32", *batch, a->codebooks, a->columns);
}

ENTRY(CodeLosses)
{
    BEGIN;
    struct losses a = {0};
    int64_t batch;
    if (nparam != 4 || !are_losses(&p, &a, &batch) || !IS(&p, 2, "float32", a.codebooks) ||
        !IS(&p, 3, "float32", batch, a.codebooks, a.columns))
        return 1;
    a.each = params[3];
    team_run(loops.losses, &a, batch * a.columns);
    for (int64_t k = 0; k < a.codebooks; k++) {
        double sum = 0;
        int64_t counted = 0;
        for (int64_t row = 0; row < batch; row++)
            for (int64_t column = 0; column < a.columns; column++) {
                const int64_t at = (row * a.codebooks + k) * a.columns + column;
                if (counts(&a, a.labels[at])) {
                    const float *x = a.logits + ((row * a.columns + column) * a.codebooks + k) * a.size;
                    sum += (double)a.each[at] - x[a.labels[at]];
                    counted++;
                }
            }
        ((float *)params[2])[k] = (float)(sum / (double)(counted ? counted : 1));
    }
    return 0;
}

ENTRY(CodeLossesGradient)
{
    BEGIN;
    struct losses a = {0};
    int64_t batch;
    if (nparam != 5 || !are_losses(&p, &a, &batch) || !IS(&p, 2, "float32", batch, a.codebooks, a.columns) ||
        !IS(&p, 3, "float32", a.codebooks) || !same(&p, 4, 0))
        return 1;
    float *factors = malloc(sizeof(float) * (size_t)a.codebooks);
    if (!factors)
        return 2;
    for (int64_t k = 0; k < a.codebooks; k++) {
        int64_t counted = 0;
        for (int64_t row = 0; row < batch; row++)
            for (int64_t column = 0; column < a.columns; column++)
                counted += counts(&a, a.labels[(row * a.codebooks + k) * a.columns + column]);
        factors[k] = ((const float *)params[3])[k] / (float)(counted ? counted : 1);
    }
    a.each = params[2];
    a.factors = factors;
    a.dlogits = params[4];
    team_run(loops.losses_gradient, &a, batch * a.columns);
    free(factors);
    return 0;
}

/* ---- embeddings ---- */

/* Sizes from the table and the codes, the first two arguments; whether they fit and all codes are rows of the table. */
static int are_codes(const struct parameters *p, struct embedding *a)
{
    if (p->ranks[0] != 2 || p->ranks[1] != 3 || p->shapes[1][1] < 1)
        return 0;
    a->batch = p->shapes[1][0];
    a->codebooks = p->shapes[1][1];
    a->columns = p->shapes[1][2];
    a->rows = p->shapes[0][0] / a->codebooks;
    a->d = p->shapes[0][1];
    a->table = p->data[0];
    a->codes = p->data[1];
    if (!IS(p, 0, "float32", a->codebooks * a->rows, a->d) || !IS(p, 1, "int32", a->batch, a->codebooks, a->columns))
        return 0;
    for (int64_t i = 0; i < a->batch * a->codebooks * a->columns; i++)
        if (a->codes[i] < 0 || a->codes[i] >= a->rows)
            return 0;
    return 1;
}

/* One task: the columns of a row of the batch. */
static void embed_task(const void *arguments, int64_t task)
{
    const struct embedding *a = arguments;
    for (int64_t column = 0; column < a->columns; column++) {
        float *y = a->y + (task * a->columns + column) * a->d;
        memcpy(y, a->positions + column * a->d, sizeof(float) * (size_t)a->d);
        for (int64_t k = 0; k < a->codebooks; k++) {
            const int64_t code = a->codes[(task * a->codebooks + k) * a->columns + column];
            const float *x = a->table + (k * a->rows + code) * a->d;
            for (int64_t i = 0; i < a->d; i++)
                y[i] += x[i];
        }
    }
}

/* One task: a slice of the width of a codebook's table. */
static void embed_gradient_task(const void *arguments, int64_t task)
{
    const struct embedding *a = arguments;
    const int64_t k = task % a->codebooks, first = task / a->codebooks * SLICE;
    const int64_t width = a->d - first < SLICE ? a->d - first : SLICE;
    float *table = a->dtable + k * a->rows * a->d + first;
    for (int64_t row = 0; row < a->rows; row++)
        memset(table + row * a->d, 0, sizeof(float) * (size_t)width);
    for (int64_t row = 0; row < a->batch; row++)
        for (int64_t column = 0; column < a->columns; column++) {
            const float *dy = a->dy + (row * a->columns + column) * a->d + first;
            float *x = table + a->codes[(row * a->codebooks + k) * a->columns + column] * a->d;
            for (int64_t i = 0; i < width; i++)
                x[i] += dy[i];
        }
}

ENTRY(EmbedCodes)
{
    BEGIN;
    struct embedding a = {0};
    if (nparam != 4 || !are_codes(&p, &a) || ndims[2] != 2 || shapes[2][0] < a.columns ||
        !IS(&p, 2, "float32", shapes[2][0], a.d) || !IS(&p, 3, "float32", a.batch, a.columns, a.d))
        return 1;
    a.positions = params[2];
    a.y = params[3];
    team_run(embed_task, &a, a.batch);
    return 0;
}

ENTRY(EmbedCodesGradient)
{
    BEGIN;
    struct embedding a = {0};
    if (nparam != 4 || !are_codes(&p, &a) || !IS(&p, 2, "float32", a.batch, a.columns, a.d) || !same(&p, 3, 0))
        return 1;
    a.dy = params[2];
    a.dtable = params[3];
    team_run(embed_gradient_task, &a, a.codebooks * over(a.d, SLICE));
    return 0;
}

/* ---- the optimizer ---- */

ENTRY(SumOfSquares)
{
    BEGIN;
    if (nparam != 2 || !same(&p, 0, 0) || !is_number(&p, 1, "float32"))
        return 1;
    const int64_t count = count_of(&p, 0), tasks = over(count, PIECE);
    struct squares a = {params[0], malloc(sizeof(double) * (size_t)(tasks + 1)), count};
    double sum = 0;
    if (!a.sums)
        return 2;
    team_run(loops.squares, &a, tasks);
    for (int64_t task = 0; task < tasks; task++)
        sum += a.sums[task];
    *(float *)params[1] = (float)sum;
    free(a.sums);
    return 0;
}

ENTRY(AdamW)
{
    BEGIN;
    if (nparam != 11)
        return 1;
    for (int i = 0; i < 4; i++)
        if (!same(&p, i, 0))
            return 2;
    for (int i = 4; i < 11; i++)
        if (!is_number(&p, i, "float32"))
            return 3;
    const float *const *numbers = (const float *const *)params + 4;
    const struct adam a = {params[0], params[1], params[2], params[3], count_of(&p, 0), *numbers[0], *numbers[1],
                           *numbers[2], *numbers[3], *numbers[4], *numbers[5]};
    team_run(loops.adam, &a, over(a.count, PIECE));
    *(float *)params[10] = 0;
    return 0;
}
