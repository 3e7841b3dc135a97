/* A GPT with float32 weights and cache, for MindSpore's ops.Custom(func_type="aot"):
 *
 *   FloatGptDecode  steps of it, arguments listed in gpt.h; the logits' matrix [V, D]; for every layer a norm's weight and
 *                   bias [D], qkv [3 D, D], out [D, D], a norm, fc1 [F, D], fc2 [D, F], keys and values [B, H, L, d]
 *
 * It returns 0, or non-zero when shapes or dtypes are not those. As one operator, nothing stands between the matrices,
 * which memory sends as fast as it can; a step of MindSpore's is 150 operators, and their starts cost half as much again.
 */

#include <stdlib.h>
#include <string.h>

#include "gpt.h"
#include "parts.h"

enum { LAYERS = LOGITS + 1 };
enum { SELF_WEIGHT, SELF_BIAS, IN_QKV, OUT, FEED_WEIGHT, FEED_BIAS, WIDEN, NARROW, KEYS, VALUES, EACH }; /* of a layer */

static int layer_fits(const struct parameters *p, const struct gpt *n, int at, int64_t inner)
{
    const int64_t dim = n->dim, length = p->ranks[at + KEYS] == 4 ? p->shapes[at + KEYS][2] : 0;
    for (int i = at + SELF_WEIGHT; i <= at + FEED_BIAS; i += i == at + SELF_BIAS ? FEED_WEIGHT - SELF_BIAS : 1)
        if (!IS(p, i, "float32", dim))
            return 0;
    for (int i = at + KEYS; i <= at + VALUES; i++)
        if (!IS(p, i, "float32", n->rows, n->heads, length, dim / n->heads) || length < n->positions)
            return 0;
    return IS(p, at + IN_QKV, "float32", 3 * dim, dim) && IS(p, at + OUT, "float32", dim, dim) &&
           IS(p, at + WIDEN, "float32", inner, dim) && IS(p, at + NARROW, "float32", dim, inner);
}

static void add(float *x, const float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        x[i] += y[i];
}

static int through_layers(const struct parameters *p, const struct gpt *n, float *x, int32_t position, float *memory)
{
    const int64_t rows = n->rows, dim = n->dim, inner = p->shapes[LAYERS + WIDEN][0];
    float *normed = memory, *qkv = normed + rows * dim, *mixed = qkv + 3 * rows * dim, *wide = mixed + rows * dim;
    for (int64_t layer = 0; layer < n->layers; layer++) {
        void **data = p->data + LAYERS + EACH * layer;
        gpt_normalise(x, rows, dim, data[SELF_WEIGHT], data[SELF_BIAS], normed);
        int failed = float_linear(normed, rows, dim, data[IN_QKV], qkv, 3 * dim);
        float_cached_attention(qkv, rows, n->heads, dim / n->heads, p->shapes[LAYERS + EACH * layer + KEYS][2],
                               position, data[KEYS], data[VALUES], mixed);
        failed |= float_linear(mixed, rows, dim, data[OUT], normed, dim);
        add(x, normed, rows * dim);
        gpt_normalise(x, rows, dim, data[FEED_WEIGHT], data[FEED_BIAS], normed);
        failed |= float_linear(normed, rows, dim, data[WIDEN], wide, inner);
        float_gelu(wide, rows * inner);
        failed |= float_linear(wide, rows, inner, data[NARROW], normed, dim);
        add(x, normed, rows * dim);
        if (failed)
            return 1;
    }
    return 0;
}

static int some_logits(const struct parameters *p, const struct gpt *n, const float *x, int64_t first, float *wide,
                       float *y)
{
    (void)wide;
    if (first < 0 || first + n->chosen > n->logits)
        return 1;
    return float_linear(x, n->rows, n->dim, (const float *)p->data[LOGITS] + first * n->dim, y, n->chosen);
}

EXPORT int FloatGptDecode(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                          void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct gpt n = {.through_layers = through_layers, .some_logits = some_logits};
    (void)stream;
    (void)extra;
    if (nparam < LAYERS + EACH + 3 || (nparam - 3 - LAYERS) % EACH || ndims[LOGITS] != 2 ||
        ndims[LAYERS + WIDEN] != 2 || !gpt_fits(&p, nparam, &n))
        return 1;
    const int64_t inner = shapes[LAYERS + WIDEN][0];
    n.logits = shapes[LOGITS][0];
    n.layers = (n.outputs - LAYERS) / EACH;
    n.memory = n.rows * (5 * n.dim + inner);
    if (!IS(&p, LOGITS, "float32", n.logits, n.dim))
        return 2;
    for (int64_t layer = 0; layer < n.layers; layer++)
        if (!layer_fits(&p, &n, LAYERS + EACH * (int)layer, inner))
            return 3;
    return gpt_decode(&p, &n) != 0 ? 4 : 0;
}
