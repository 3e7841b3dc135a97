/* A GPT (a decoder without cross-attention) with 8-bit weights, for MindSpore's ops.Custom(func_type="aot"):
 *
 *   GptDecode    steps of it, arguments listed in gpt.h -> ids [N, B] int32, how many [1] int32, the last logits [B, C]
 *   GptSequence  x [B, T, D], heads, causal (one int32 each), then for every layer its weights and, where causal, its
 *                cache, which is filled from column 0 on -> [B, T, D]
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <stdlib.h>
#include <string.h>

#include "gpt.h"
#include "parts.h"

#define TILE 16
#define GROUP 128

enum { LAYERS = LOGITS + 4 }; /* the logits' codes and scales, and codes and scales of what these leave over */
enum { WEIGHTS = 12, CACHED = 4 }; /* of a layer: norm, qkv, out, norm, fc1, fc2 of two arguments each; the cache */

/* The arguments of `quantized_layer`, with x and y [rows, dim]. */
struct own {
    void *data[ARGUMENTS];
    int ranks[ARGUMENTS];
    int64_t *shapes[ARGUMENTS];
    const char *dtypes[ARGUMENTS];
    int64_t x_shape[2], one[1];
};

static void begin(struct own *own, float *x, int64_t rows, int64_t dim, int32_t *position)
{
    memset(own, 0, sizeof *own);
    own->x_shape[0] = rows;
    own->x_shape[1] = dim;
    own->one[0] = 1;
    for (int i = X; i <= Y; i += Y - X) {
        own->data[i] = x;
        own->ranks[i] = 2;
        own->shapes[i] = own->x_shape;
        own->dtypes[i] = "float32";
    }
    own->data[POSITION] = position;
    own->ranks[POSITION] = 1;
    own->shapes[POSITION] = own->one;
    own->dtypes[POSITION] = "int32";
}

static void copy(struct own *own, int to, const struct parameters *p, int from, int count)
{
    memcpy(own->data + to, p->data + from, sizeof *p->data * (size_t)count);
    memcpy(own->ranks + to, p->ranks + from, sizeof *p->ranks * (size_t)count);
    memcpy(own->shapes + to, p->shapes + from, sizeof *p->shapes * (size_t)count);
    memcpy(own->dtypes + to, p->dtypes + from, sizeof *p->dtypes * (size_t)count);
}

/* x through layers whose arguments begin at `first`, each `apart` from the one before it. */
static int through(const struct parameters *p, struct own *own, int first, int apart, int64_t layers,
                          struct layer_kind kind)
{
    const struct parameters parts = {own->data, own->ranks, own->shapes, own->dtypes};
    for (int64_t layer = 0; layer < layers; layer++, first += apart) {
        copy(own, SELF_NORM, p, first, 6);      /* up to SELF_OUT */
        copy(own, FINAL_NORM, p, first + 6, apart - 6); /* up to FC2, and the cache */
        if (quantized_layer(&parts, kind) != 0)
            return 1;
    }
    return 0;
}

static int through_layers(const struct parameters *p, const struct gpt *n, float *x, int32_t position, float *memory)
{
    struct own own;
    (void)memory;
    begin(&own, x, n->rows, n->dim, &position);
    return through(p, &own, LAYERS, WEIGHTS + CACHED, n->layers,
                   (struct layer_kind){.activation = GELU, .heads = n->heads});
}

/* Logits [B, C] of the ids from `first` on: whole tiles of the head, then what is wanted of them. */
static int some_logits(const struct parameters *p, const struct gpt *n, const float *x, int64_t first, float *wide,
                       float *y)
{
    const int64_t tile = first / TILE, end = (first + n->chosen + TILE - 1) / TILE, width = (end - tile) * TILE;
    const int64_t groups = (n->dim + GROUP - 1) / GROUP, quads = (n->dim + 3) / 4;
    struct weight parts[2];
    if (first < 0 || end * TILE > n->logits)
        return 1;
    for (int i = 0; i < 2; i++) {
        parts[i].four = 0;
        parts[i].codes = (const uint8_t *)p->data[LOGITS + 2 * i] + tile * quads * (TILE * 4);
        parts[i].scale = (const float *)p->data[LOGITS + 2 * i + 1] + tile * groups * TILE;
    }
    if (quantized_linear(x, n->rows, n->dim, parts, 2, wide, width) != 0)
        return 2;
    for (int64_t row = 0; row < n->rows; row++)
        memcpy(y + row * n->chosen, wide + row * width + first - tile * TILE, sizeof(float) * (size_t)n->chosen);
    return 0;
}

EXPORT int GptDecode(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                     void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct gpt n = {.through_layers = through_layers, .some_logits = some_logits};
    (void)stream;
    (void)extra;
    if (nparam < LAYERS + 3 || (nparam - 3 - LAYERS) % (WEIGHTS + CACHED) || ndims[LOGITS] != 4 ||
        !gpt_fits(&p, nparam, &n))
        return 1;
    n.logits = shapes[LOGITS][0] * TILE;
    n.layers = (n.outputs - LAYERS) / (WEIGHTS + CACHED);
    n.wide = n.chosen + 2 * TILE;
    if (!is_weight(&p, LOGITS, n.logits, n.dim) || !is_weight(&p, LOGITS + 2, n.logits, n.dim))
        return 2;
    return gpt_decode(&p, &n) != 0 ? 3 : 0;
}

EXPORT int GptSequence(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                       void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct own own;
    (void)stream;
    (void)extra;
    if (nparam < 4 || ndims[0] != 3 || !is_number(&p, 1, "int32") || !is_number(&p, 2, "int32"))
        return 1;
    const int64_t pieces = shapes[0][0], columns = shapes[0][1], dim = shapes[0][2];
    const int causal = *(const int32_t *)params[2], apart = causal ? WEIGHTS + CACHED : WEIGHTS;
    if (!IS(&p, 0, "float32", pieces, columns, dim) || !IS(&p, nparam - 1, "float32", pieces, columns, dim) ||
        columns < 1 || (nparam - 4) % apart)
        return 2;
    const struct layer_kind kind = {
        .activation = GELU, .causal = causal, .heads = *(const int32_t *)params[1], .columns = columns};
    memcpy(params[nparam - 1], params[0], sizeof(float) * (size_t)(pieces * columns * dim));
    begin(&own, params[nparam - 1], pieces * columns, dim, NULL);
    return through(&p, &own, 3, apart, (nparam - 4) / apart, kind) != 0 ? 3 : 0;
}
