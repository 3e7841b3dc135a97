/* Float kernels for whole sequences, for MindSpore's ops.Custom(func_type="aot"):
 *
 *   SequenceAttention  qkv [B, T, 3 D] (q, k and v of all heads), heads, causal (one int32 each) -> [B, T, D]
 *   RoughAttention     the same by products of bfloat16, where there is a tile unit and there are many columns
 *   FillingAttention   the same, and k and v into caches [B, H, L, d], which stand before the output
 *   Gelu               x of any shape -> the exact GELU
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"
#include "product.h"
#include "simd.h"
#include "team.h"

#define PIECE 16384 /* elements of a task; a multiple of every LANES */
#define MOST_LANES 16
#define MANY 64 /* columns from which tiles are quicker */

struct elements {
    const float *x;
    float *y;
    int64_t count;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "sequence_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "sequence_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "sequence_simd.h"

static struct {
    task_function sequence, gelu;
} loops = {sequence_task_base, gelu_task_base};
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512) {
        loops.sequence = sequence_task_avx512;
        loops.gelu = gelu_task_avx512;
    } else if (simd_level() == SIMD_AVX2) {
        loops.sequence = sequence_task_avx2;
        loops.gelu = gelu_task_avx2;
    }
#endif
}

static int64_t padded(int64_t n)
{
    return (n + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
}

int sequence_attention(struct sequence *a)
{
    a->factor = 1.0f / sqrtf((float)a->d);
    if (a->columns >= MANY && tile_attention(a) == 0)
        return 0;
    a->each = padded(a->columns) * (a->d + padded(a->d) + 4) + 4 * a->d + 4 * padded(a->d);
    a->memory = malloc(sizeof(float) * (size_t)(a->rows * a->heads * a->each));
    if (!a->memory)
        return 1;
    pthread_once(&chosen, choose);
    team_run(loops.sequence, a, a->rows * a->heads);
    free(a->memory);
    return 0;
}

void float_gelu(float *x, int64_t count)
{
    const struct elements a = {x, x, count};
    pthread_once(&chosen, choose);
    team_run(loops.gelu, &a, (count + PIECE - 1) / PIECE);
}

static int attend(const struct parameters *p, int nparam, int rough)
{
    const int output = nparam - 1;
    if (p->ranks[0] != 3 || !is_number(p, 1, "int32") || !is_number(p, 2, "int32"))
        return 1;
    struct sequence a = {.qkv = p->data[0], .out = p->data[output], .rows = p->shapes[0][0], .columns = p->shapes[0][1],
                         .rough = rough};
    const int64_t dim = p->shapes[0][2] / 3;
    a.heads = *(const int32_t *)p->data[1];
    a.causal = *(const int32_t *)p->data[2];
    a.out_stride = dim;
    if (a.heads < 1 || dim % a.heads || !IS(p, 0, "float32", a.rows, a.columns, 3 * dim) ||
        !IS(p, output, "float32", a.rows, a.columns, dim))
        return 2;
    a.d = dim / a.heads;
    if (nparam == 6) {
        if (p->ranks[3] != 4)
            return 3;
        a.length = p->shapes[3][2];
        a.keys = p->data[3];
        a.values = p->data[4];
        for (int i = 3; i < 5; i++)
            if (!IS(p, i, "float32", a.rows, a.heads, a.length, a.d) || a.length < a.columns)
                return 4;
    }
    return sequence_attention(&a) ? 5 : 0;
}

EXPORT int SequenceAttention(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                             void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    return nparam == 4 ? attend(&p, nparam, 0) : 1;
}

EXPORT int RoughAttention(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                          void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    return nparam == 4 ? attend(&p, nparam, 1) : 1;
}

EXPORT int FillingAttention(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                            void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    return nparam == 6 ? attend(&p, nparam, 0) : 1;
}

EXPORT int Gelu(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream, void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 2 || !is(&p, 0, "float32", ndims[1], shapes[1]) || !is(&p, 1, "float32", ndims[0], shapes[0]))
        return 1;
    struct elements a = {params[0], params[1], 1};
    for (int axis = 0; axis < ndims[0]; axis++)
        a.count *= shapes[0][axis];
    pthread_once(&chosen, choose);
    team_run(loops.gelu, &a, (a.count + PIECE - 1) / PIECE);
    return 0;
}
