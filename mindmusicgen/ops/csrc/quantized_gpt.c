/* A GPT (a decoder without cross-attention) with 8-bit weights, for MindSpore's ops.Custom(func_type="aot"):
 *
 *   GptDecode    steps of it, arguments listed below -> ids [N, B] int32, how many [1] int32, the last logits [B, C]
 *   GptSequence  x [B, T, D], heads, causal (one int32 each), then for every layer its weights and, where causal, its
 *                cache, which is filled from column 0 on -> [B, T, D]
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define NORM_EPSILON 1e-5f
#define TILE 16
#define GROUP 128
#define FREE (-1)

/* B rows, N steps at most, C ids to choose among, V ids with logits. */
enum {
    IDS,         /* the newest, [B] int32 */
    PLACE,       /* their position, [1] int32 */
    STEPS,       /* how many steps, one int32 */
    FIRSTS,      /* the first of the C ids in each step, [N] int32 */
    UNIFORMS,    /* [N, B] */
    LEAST,       /* one number: a row ends where the end is more probable */
    TEMPERATURE, /* one number, as are the next two */
    TOP_K,
    TOP_P,
    END,         /* which of the C ids ends a row, one int32; negative: none */
    HEADS,       /* of attention, one int32 */
    EMBEDDING,   /* [ids, D] */
    TABLE,       /* of positions, [P, D] */
    NORM,        /* the last one's weight and bias, [D] */
    LOGITS = NORM + 2,   /* D -> V: codes and scales, and codes and scales of what these leave over */
    LAYERS = LOGITS + 4, /* then, for every layer, WEIGHTS and CACHED arguments; then the outputs */
};

enum { WEIGHTS = 12, CACHED = 4 }; /* norm, qkv, out, norm, fc1, fc2 of two arguments each; the cache */

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
static int through_layers(const struct parameters *p, struct own *own, int first, int apart, int64_t layers,
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

struct sizes {
    int64_t rows, steps, dim, ids, positions, logits, chosen, layers;
};

static int fits(const struct parameters *p, int nparam, struct sizes *n)
{
    const int outputs = nparam - 3;
    if (outputs < LAYERS || (outputs - LAYERS) % (WEIGHTS + CACHED) || p->ranks[UNIFORMS] != 2 ||
        p->ranks[EMBEDDING] != 2 || p->ranks[TABLE] != 2 || p->ranks[LOGITS] != 4 || p->ranks[outputs + 2] != 2)
        return 0;
    *n = (struct sizes){p->shapes[UNIFORMS][1], p->shapes[UNIFORMS][0], p->shapes[TABLE][1], p->shapes[EMBEDDING][0],
                        p->shapes[TABLE][0], p->shapes[LOGITS][0] * TILE, p->shapes[outputs + 2][1],
                        (outputs - LAYERS) / (WEIGHTS + CACHED)};
    for (int i = LEAST; i <= HEADS; i++)
        if (!is_number(p, i, i == TOP_K || i >= END ? "int32" : "float32"))
            return 0;
    return IS(p, IDS, "int32", n->rows) && IS(p, PLACE, "int32", 1) && is_number(p, STEPS, "int32") &&
           IS(p, FIRSTS, "int32", n->steps) && IS(p, UNIFORMS, "float32", n->steps, n->rows) &&
           IS(p, EMBEDDING, "float32", n->ids, n->dim) && IS(p, TABLE, "float32", n->positions, n->dim) &&
           IS(p, NORM, "float32", n->dim) && IS(p, NORM + 1, "float32", n->dim) &&
           is_weight(p, LOGITS, n->logits, n->dim) && is_weight(p, LOGITS + 2, n->logits, n->dim) &&
           IS(p, outputs, "int32", n->steps, n->rows) && IS(p, outputs + 1, "int32", 1) &&
           IS(p, outputs + 2, "float32", n->rows, n->chosen);
}

/* Embeddings of ids and of their position; non-zero if one is none. */
static int embed(const struct parameters *p, const struct sizes *n, const int32_t *ids, int32_t position, float *x)
{
    const float *place = (const float *)p->data[TABLE] + position * n->dim;
    if (position < 0 || position >= n->positions)
        return 1;
    for (int64_t row = 0; row < n->rows; row++, x += n->dim) {
        if (ids[row] < 0 || ids[row] >= n->ids)
            return 1;
        const float *from = (const float *)p->data[EMBEDDING] + ids[row] * n->dim;
        for (int64_t i = 0; i < n->dim; i++)
            x[i] = from[i] + place[i];
    }
    return 0;
}

static void normalise(const struct parameters *p, const struct sizes *n, float *x)
{
    const float *weight = p->data[NORM], *bias = p->data[NORM + 1];
    for (int64_t row = 0; row < n->rows; row++, x += n->dim) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n->dim; i++)
            sum += x[i];
        const float mean = (float)(sum / (double)n->dim);
        for (int64_t i = 0; i < n->dim; i++)
            squares += (double)(x[i] - mean) * (x[i] - mean);
        const float scale = 1.0f / sqrtf((float)(squares / (double)n->dim) + NORM_EPSILON);
        for (int64_t i = 0; i < n->dim; i++)
            x[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    }
}

/* Logits [B, C] of the ids from `first` on: whole tiles of the head, then what is wanted of them. */
static int some_logits(const struct parameters *p, const struct sizes *n, const float *x, int64_t first, float *wide,
                       float *y)
{
    const int64_t tile = first / TILE, end = (first + n->chosen + TILE - 1) / TILE, width = (end - tile) * TILE;
    const int64_t groups = (n->dim + GROUP - 1) / GROUP, quads = (n->dim + 3) / 4;
    struct weight parts[2];
    if (first < 0 || end * TILE > n->logits)
        return 1;
    for (int i = 0; i < 2; i++) {
        parts[i].codes = (const uint8_t *)p->data[LOGITS + 2 * i] + tile * quads * (TILE * 4);
        parts[i].scale = (const float *)p->data[LOGITS + 2 * i + 1] + tile * groups * TILE;
    }
    if (quantized_linear(x, n->rows, n->dim, parts, 2, wide, width) != 0)
        return 2;
    for (int64_t row = 0; row < n->rows; row++)
        memcpy(y + row * n->chosen, wide + row * width + first - tile * TILE, sizeof(float) * (size_t)n->chosen);
    return 0;
}

/* The end takes the place of a choice where it is probable enough, and stays. Returns whether some row goes on. */
static int finish(const struct sizes *n, const int32_t *before, int32_t *ids, const float *logits, int32_t end,
                  float least, int32_t first)
{
    int alive = 0;
    for (int64_t row = 0; row < n->rows; row++, logits += n->chosen) {
        float highest = -INFINITY, total = 0;
        for (int64_t i = 0; end >= 0 && i < n->chosen; i++)
            highest = logits[i] > highest ? logits[i] : highest;
        for (int64_t i = 0; end >= 0 && least < 1 && i < n->chosen; i++)
            total += expf(logits[i] - highest);
        if (end >= 0 && (before[row] == end || (least < 1 && expf(logits[end] - highest) / total > least)))
            ids[row] = end;
        else
            ids[row] += first;
        alive |= end < 0 || ids[row] != end;
    }
    return alive;
}

static int going_on(const struct sizes *n, const int32_t *ids, int32_t end)
{
    for (int64_t row = 0; row < n->rows; row++)
        if (end < 0 || ids[row] != end)
            return 1;
    return 0;
}

static int decode(const struct parameters *p, const struct sizes *n, float *x, float *memory, int outputs)
{
    const int32_t *ids = p->data[IDS], *firsts = p->data[FIRSTS], place = *(const int32_t *)p->data[PLACE];
    const int32_t steps = *(const int32_t *)p->data[STEPS], end = *(const int32_t *)p->data[END];
    int32_t *made = p->data[outputs], *free_rows = (int32_t *)(memory + 3 * n->rows * n->chosen), position, step = 0;
    float *logits = p->data[outputs + 2], *wide = memory + 3 * n->rows * n->chosen + n->rows;
    const struct layer_kind kind = {.activation = GELU, .heads = *(const int32_t *)p->data[HEADS]};
    struct choice choice = {.logits = logits, .memory = memory, .rows = n->rows, .size = n->chosen};
    struct own own;
    choice.temperature = *(const float *)p->data[TEMPERATURE];
    choice.top_k = *(const int32_t *)p->data[TOP_K];
    choice.top_p = *(const float *)p->data[TOP_P];
    choice.forced = free_rows;
    if (steps < 0 || steps > n->steps || choice.top_k < 1 || end >= n->chosen)
        return 1;
    for (int64_t row = 0; row < n->rows; row++)
        free_rows[row] = FREE;
    memset(made, 0, sizeof(int32_t) * (size_t)(n->steps * n->rows));
    memset(logits, 0, sizeof(float) * (size_t)(n->rows * n->chosen));
    begin(&own, x, n->rows, n->dim, &position);
    for (int alive = going_on(n, ids, end); step < steps && alive; step++) {
        position = place + step;
        if (embed(p, n, ids, position, x) != 0 ||
            through_layers(p, &own, LAYERS, WEIGHTS + CACHED, n->layers, kind) != 0)
            return 2;
        normalise(p, n, x);
        if (some_logits(p, n, x, firsts[step], wide, logits) != 0)
            return 3;
        choice.uniforms = (const float *)p->data[UNIFORMS] + step * n->rows;
        choice.codes = made + step * n->rows;
        choose_codes(&choice);
        alive = finish(n, ids, choice.codes, logits, end, *(const float *)p->data[LEAST], firsts[step]);
        ids = choice.codes;
    }
    *(int32_t *)p->data[outputs + 1] = step;
    return 0;
}

EXPORT int GptDecode(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                     void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct sizes n = {0};
    (void)stream;
    (void)extra;
    if (nparam < LAYERS + 3 || !fits(&p, nparam, &n))
        return 1;
    float *memory = malloc(sizeof(float) * (size_t)(n.rows * (4 * n.chosen + 2 * TILE + 1 + n.dim)));
    if (!memory)
        return 2;
    const int failed = decode(&p, &n, memory + n.rows * (4 * n.chosen + 2 * TILE + 1), memory, nparam - 3);
    free(memory);
    return failed ? 3 : 0;
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
    return through_layers(&p, &own, 3, apart, (nparam - 4) / apart, kind) != 0 ? 3 : 0;
}
