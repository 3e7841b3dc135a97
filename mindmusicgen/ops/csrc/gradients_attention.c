/* Attention for training, for MindSpore's ops.Custom(func_type="aot"), float32:
 *
 *   SelfAttend           qkv [B, T, 3 D], heads [1] int32 -> causal attention [B, T, D], stats [B, H, T, 2]
 *   SelfAttendGradient   qkv, heads, the two results, dy [B, T, D] -> dqkv
 *   CrossAttend          q [B, T, D], kv [B, S, 2 D], mask [B, S], heads -> [B, T, D], stats
 *   CrossAttendGradient  q, kv, mask, heads, the two results, dy -> dq, dkv
 *
 * stats holds the highest score of a query and one over its weights' sum: from these the weights are made again on the
 * way back, so that no scores are stored. Each returns 0, or non-zero when shapes or dtypes are not those.
 *
 * "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (Dao et al., 2022), with whole rows of
 * scores, since a block of them fits into the second cache.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "product.h"
#include "simd.h"
#include "team.h"

#define DEPTH 256 /* of a product at once */
#define BLOCK 48  /* queries at once: a multiple of every MR */
#define SLOTS 65  /* more than the team has threads */
#define WIDEST 32 /* floats of a panel at most */

struct attend {
    const float *q, *k, *v, *mask, *dout;
    float *out, *stats, *dq, *dk, *dv;
    int64_t rows, heads, d, queries, keys, q_row, k_row;
    int causal;
    float factor;
    float *memory; /* SLOTS times `each` floats, of which those are touched that threads take */
    int64_t each;
    atomic_flag *taken;
};

static float *take_slot(const struct attend *a, int *slot)
{
    for (*slot = 0;; *slot = (*slot + 1) % SLOTS)
        if (!atomic_flag_test_and_set(&a->taken[*slot]))
            return a->memory + *slot * a->each;
}

static void give_slot(const struct attend *a, int slot)
{
    atomic_flag_clear(&a->taken[slot]);
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "gradients_attention_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "gradients_attention_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "gradients_attention_simd.h"

static task_function forward = attend_task_base, backward = attend_gradient_task_base;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512) {
        forward = attend_task_avx512;
        backward = attend_gradient_task_avx512;
    } else if (simd_level() == SIMD_AVX2) {
        forward = attend_task_avx2;
        backward = attend_gradient_task_avx2;
    }
#endif
}

static int64_t padded(int64_t n)
{
    return (n + WIDEST - 1) / WIDEST * WIDEST;
}

static int run(struct attend *a, int gradient)
{
    atomic_flag taken[SLOTS];
    int own;
    for (int i = 0; i < SLOTS; i++)
        atomic_flag_clear(&taken[i]);
    a->taken = taken;
    a->factor = 1.0f / sqrtf((float)a->d);
    a->each = padded(a->keys) * (2 * a->d + 2 * BLOCK) + (a->keys + BLOCK) * padded(a->d);
    const int64_t tasks = a->rows * a->heads;
    a->memory = (float *)take_tiles((tasks < SLOTS ? tasks : SLOTS) * a->each * (int64_t)sizeof(float), &own);
    if (a->memory) {
        pthread_once(&chosen, choose);
        team_run(gradient ? backward : forward, a, tasks);
    }
    give_tiles((char *)a->memory, own);
    return a->memory ? 0 : 9;
}

/* Sizes from q's and kv's shapes; whether they and the results' fit. */
static int fits(const struct parameters *p, struct attend *a, int q, int kv, int heads, int out)
{
    const int alone = q == kv;
    if (p->ranks[q] != 3 || p->ranks[kv] != 3 || !is_number(p, heads, "int32"))
        return 0;
    a->heads = *(const int32_t *)p->data[heads];
    a->rows = p->shapes[q][0];
    a->queries = p->shapes[q][1];
    a->keys = p->shapes[kv][1];
    a->q_row = p->shapes[q][2];
    a->k_row = p->shapes[kv][2];
    a->causal = alone;
    const int64_t dim = a->k_row / (alone ? 3 : 2);
    if (a->heads < 1 || dim < 1 || dim % a->heads)
        return 0;
    a->d = dim / a->heads;
    a->q = p->data[q];
    a->k = (const float *)p->data[kv] + (alone ? dim : 0);
    a->v = a->k + dim;
    a->out = p->data[out];
    a->stats = p->data[out + 1];
    return IS(p, q, "float32", a->rows, a->queries, alone ? 3 * dim : dim) &&
           IS(p, kv, "float32", a->rows, a->keys, alone ? 3 * dim : 2 * dim) &&
           IS(p, out, "float32", a->rows, a->queries, dim) &&
           IS(p, out + 1, "float32", a->rows, a->heads, a->queries, 2);
}

static int same(const struct parameters *p, int i, int other)
{
    return is(p, i, "float32", p->ranks[other], p->shapes[other]);
}

#define ENTRY(name)                                                                                                    \
    EXPORT int name(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,        \
                    void *extra)

ENTRY(SelfAttend)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct attend a = {0};
    (void)stream, (void)extra;
    return nparam == 4 && fits(&p, &a, 0, 0, 1, 2) ? run(&a, 0) : 1;
}

ENTRY(SelfAttendGradient)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct attend a = {0};
    (void)stream, (void)extra;
    if (nparam != 6 || !fits(&p, &a, 0, 0, 1, 2) || !same(&p, 4, 2) || !same(&p, 5, 0))
        return 1;
    a.dout = params[4];
    a.dq = params[5];
    a.dk = a.dq + a.heads * a.d;
    a.dv = a.dk + a.heads * a.d;
    return run(&a, 1);
}

ENTRY(CrossAttend)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct attend a = {0};
    (void)stream, (void)extra;
    if (nparam != 6 || !fits(&p, &a, 0, 1, 3, 4) || !IS(&p, 2, "float32", a.rows, a.keys))
        return 1;
    a.mask = params[2];
    return run(&a, 0);
}

ENTRY(CrossAttendGradient)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct attend a = {0};
    (void)stream, (void)extra;
    if (nparam != 9 || !fits(&p, &a, 0, 1, 3, 4) || !IS(&p, 2, "float32", a.rows, a.keys) || !same(&p, 6, 4) ||
        !same(&p, 7, 0) || !same(&p, 8, 1))
        return 1;
    a.mask = params[2];
    a.dout = params[6];
    a.dq = params[7];
    a.dk = params[8];
    a.dv = a.dk + a.heads * a.d;
    return run(&a, 1);
}
