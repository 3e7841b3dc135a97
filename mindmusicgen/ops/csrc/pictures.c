/* Kernels for pictures whose channels lie together, for MindSpore's ops.Custom(func_type="aot"), float32:
 *
 *   Conv3x3    x [B, H, W, C], weight [O, 9 C] (line, column, channel), bias [O] -> [B, H', W', O], where H' and W' are H
 *              and W, or half of them, rounded up: the stride; needs a tile unit
 *   ConvTime   x [B, N, C], weight [O, k C] (tap, channel), bias [O], dilation (one int32) -> [B, N, O], k odd, zeros at
 *              both ends; needs a tile unit
 *   Product    x [rows, in], weight [out, in] -> [rows, out]; needs a tile unit
 *
 * The weights of these three are float32, or bfloat16 as the bits of uint16, to which x is then rounded.
 *
 *   GroupNorm  x [B, N, C], weight and bias [C], groups (one int32), epsilon (one number), silu (one int32) -> [B, N, C]
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "product.h"
#include "simd.h"
#include "team.h"

#define PIECE 64 /* of the N entries, in a task */

/* Parts of the weight, argument 1, as product.h counts them; 0 when it has not this shape. */
static int parts_of(const struct parameters *p, int64_t out, int64_t in)
{
    return IS(p, 1, "float32", out, in) ? 3 : IS(p, 1, "uint16", out, in) ? 1 : 0;
}

struct norm {
    const float *x, *weight, *bias, *mean, *scale; /* mean and scale: [B, C] */
    float *y, *sums;                               /* sums: [B, tasks of one, C] */
    int64_t entries, channels, pieces;
    int silu;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "pictures_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "pictures_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "pictures_simd.h"

static struct {
    task_function sum, squares, apply;
} loops = {sum_task_base, squares_task_base, apply_task_base};
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    static const typeof(loops) avx2 = {sum_task_avx2, squares_task_avx2, apply_task_avx2};
    static const typeof(loops) avx512 = {sum_task_avx512, squares_task_avx512, apply_task_avx512};
    if (simd_level() != SIMD_BASE)
        loops = simd_level() == SIMD_AVX2 ? avx2 : avx512;
#endif
}

/* The mean over a group of what the tasks have summed up, for each channel of each picture. */
static void of_groups(const struct norm *a, int64_t rows, int64_t groups, double *group, float *result)
{
    const int64_t size = a->channels / groups;
    for (int64_t row = 0; row < rows; row++) {
        memset(group, 0, sizeof(double) * (size_t)groups);
        for (int64_t piece = 0; piece < a->pieces; piece++)
            for (int64_t c = 0; c < a->channels; c++)
                group[c / size] += a->sums[(row * a->pieces + piece) * a->channels + c];
        for (int64_t c = 0; c < a->channels; c++)
            result[row * a->channels + c] = (float)(group[c / size] / (double)(size * a->entries));
    }
}

static int group_norm(struct norm *a, int64_t rows, int64_t groups, float epsilon)
{
    const int64_t each = rows * a->channels;
    float *memory = malloc(sizeof(float) * (size_t)(each * (2 + a->pieces)));
    double *group = malloc(sizeof(double) * (size_t)groups);
    if (memory && group) {
        float *mean = memory, *scale = memory + each;
        a->mean = mean;
        a->scale = scale;
        a->sums = memory + 2 * each;
        pthread_once(&chosen, choose);
        team_run(loops.sum, a, rows * a->pieces);
        of_groups(a, rows, groups, group, mean);
        team_run(loops.squares, a, rows * a->pieces);
        of_groups(a, rows, groups, group, scale);
        for (int64_t i = 0; i < each; i++)
            scale[i] = a->weight[i % a->channels] / sqrtf(scale[i] + epsilon);
        team_run(loops.apply, a, rows * a->pieces);
    }
    const int failed = !memory || !group;
    free(memory);
    free(group);
    return failed;
}

EXPORT int GroupNorm(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                     void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 7 || ndims[0] != 3 || !is_number(&p, 3, "int32") || !is_number(&p, 4, "float32") ||
        !is_number(&p, 5, "int32"))
        return 1;
    const int64_t rows = shapes[0][0], groups = *(const int32_t *)params[3];
    struct norm a = {.x = params[0], .weight = params[1], .bias = params[2], .y = params[6], .entries = shapes[0][1]};
    a.channels = shapes[0][2];
    a.pieces = (a.entries + PIECE - 1) / PIECE;
    a.silu = *(const int32_t *)params[5];
    if (groups < 1 || a.channels % groups || !IS(&p, 0, "float32", rows, a.entries, a.channels) ||
        !IS(&p, 1, "float32", a.channels) || !IS(&p, 2, "float32", a.channels) ||
        !IS(&p, 6, "float32", rows, a.entries, a.channels))
        return 2;
    return group_norm(&a, rows, groups, *(const float *)params[4]) ? 3 : 0;
}

EXPORT int Conv3x3(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                   void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 4 || ndims[0] != 4 || ndims[3] != 4)
        return 1;
    struct picture a = {shapes[0][0], shapes[0][1], shapes[0][2], shapes[0][3], 1, shapes[3][1], shapes[3][2], 3, 3, 1};
    const int64_t out = shapes[3][3];
    if (a.out_height != a.height || a.out_width != a.width) {
        a.stride = 2;
        if (a.out_height != (a.height + 1) / 2 || a.out_width != (a.width + 1) / 2)
            return 2;
    }
    const int parts = parts_of(&p, out, 9 * a.channels);
    if (!IS(&p, 0, "float32", a.pictures, a.height, a.width, a.channels) || !parts || !IS(&p, 2, "float32", out) ||
        !IS(&p, 3, "float32", a.pictures, a.out_height, a.out_width, out))
        return 3;
    return product_available() && convolve(&a, params[0], params[1], parts, params[2], out, params[3]) == 0 ? 0 : 4;
}

EXPORT int ConvTime(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                    void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 5 || ndims[0] != 3 || ndims[1] != 2 || ndims[4] != 3 || !is_number(&p, 3, "int32"))
        return 1;
    const int64_t length = shapes[0][1], channels = shapes[0][2], out = shapes[4][2];
    const int64_t taps = channels ? shapes[1][1] / channels : 0, dilation = *(const int32_t *)params[3];
    const struct picture a = {shapes[0][0], 1, length, channels, 1, 1, length, 1, taps, dilation};
    const int parts = parts_of(&p, out, taps * channels);
    if (taps % 2 == 0 || dilation < 1 || !IS(&p, 0, "float32", a.pictures, length, channels) || !parts ||
        !IS(&p, 2, "float32", out) ||
        !IS(&p, 4, "float32", a.pictures, length, out))
        return 2;
    return product_available() && convolve(&a, params[0], params[1], parts, params[2], out, params[4]) == 0 ? 0 : 3;
}

EXPORT int Product(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                   void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 3 || ndims[0] != 2 || ndims[2] != 2)
        return 1;
    const int64_t rows = shapes[0][0], in = shapes[0][1], out = shapes[2][1];
    const int parts = parts_of(&p, out, in);
    if (!parts || !IS(&p, 0, "float32", rows, in) || !IS(&p, 2, "float32", rows, out))
        return 2;
    return product_available() && product(params[0], rows, in, params[1], parts, out, params[2]) == 0 ? 0 : 3;
}
