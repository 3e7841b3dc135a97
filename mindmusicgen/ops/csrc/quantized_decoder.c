/* Decode steps of a MusicGen decoder with 8-bit weights, as one kernel for MindSpore's ops.Custom(func_type="aot"):
 *
 *   QuantizedDecode      the arguments are listed below; with the exact GELU
 *   QuantizedDecodeRelu  with ReLU
 *
 * A step is 24 layers, heads and a choice; as operators of their own they took a tenth longer.
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define NORM_EPSILON 1e-5f

/* B pieces, R rows (B, or 2 B with the null rows behind), K codebooks of V codes, N steps at most. */
enum {
    IDS,         /* the newest column, [B, K] int32 */
    PLACE,       /* its position, [1] int32 */
    STEPS,       /* how many steps, one int32 */
    FORCED,      /* [N, B, K] int32, what the next columns hold, -1 where the model chooses */
    UNIFORMS,    /* [N, B, K] */
    SCALES,      /* of guidance, [N] */
    TEMPERATURE, /* one number, as are the next two */
    TOP_K,
    TOP_P,
    EMBEDDING,   /* [K (V + 1), D] */
    TABLE,       /* of positions, [P, D] */
    NORM,        /* the last one's weight and bias, [D] */
    HEADS = NORM + 2,     /* D -> K V: codes and scales, and codes and scales of what these leave over */
    TEXT_MASK = HEADS + 4, /* [R, 1, 1, S] */
    LAYERS       /* then, for every layer, arguments SELF_NORM to CROSS_V of parts.h; then the outputs: */
    /* columns [N, B, K] int32, logits of the last step [R, K, V] */
};

#define OF_LAYER (MASK - SELF_NORM)

struct sizes {
    int64_t pieces, rows, books, codes, steps, positions, dim, layers;
};

static int fits(const struct parameters *p, int nparam, struct sizes *n)
{
    const int outputs = nparam - 2;
    if (outputs < LAYERS || (outputs - LAYERS) % OF_LAYER || p->ranks[FORCED] != 3 || p->ranks[TABLE] != 2 ||
        p->ranks[outputs + 1] != 3)
        return 0;
    const int64_t *forced = p->shapes[FORCED], *logits = p->shapes[outputs + 1];
    n->steps = forced[0];
    n->pieces = forced[1];
    n->rows = logits[0];
    n->books = logits[1];
    n->codes = logits[2];
    n->positions = p->shapes[TABLE][0];
    n->dim = p->shapes[TABLE][1];
    n->layers = (outputs - LAYERS) / OF_LAYER;
    for (int i = FORCED; i <= UNIFORMS; i++)
        if (!IS(p, i, i == FORCED ? "int32" : "float32", n->steps, n->pieces, n->books))
            return 0;
    for (int i = TEMPERATURE; i <= TOP_P; i++)
        if (!is_number(p, i, i == TOP_K ? "int32" : "float32"))
            return 0;
    return (n->rows == n->pieces || n->rows == 2 * n->pieces) && IS(p, IDS, "int32", n->pieces, n->books) &&
           IS(p, PLACE, "int32", 1) && is_number(p, STEPS, "int32") && IS(p, SCALES, "float32", n->steps) &&
           IS(p, EMBEDDING, "float32", n->books * (n->codes + 1), n->dim) &&
           IS(p, TABLE, "float32", n->positions, n->dim) && IS(p, NORM, "float32", n->dim) &&
           IS(p, NORM + 1, "float32", n->dim) && is_weight(p, HEADS, n->books * n->codes, n->dim) &&
           is_weight(p, HEADS + 2, n->books * n->codes, n->dim) &&
           p->ranks[TEXT_MASK] == 4 && p->shapes[TEXT_MASK][0] == n->rows &&
           IS(p, outputs, "int32", n->steps, n->pieces, n->books) &&
           IS(p, outputs + 1, "float32", n->rows, n->books, n->codes);
}

/* Sum of a column's embeddings and of its position, for all rows; non-zero if a code or the position is none. */
static int embed(const struct parameters *p, const struct sizes *n, const int32_t *ids, int32_t position, float *x)
{
    if (position < 0 || position >= n->positions)
        return 1;
    for (int64_t piece = 0; piece < n->pieces; piece++) {
        float *row = x + piece * n->dim;
        memcpy(row, (const float *)p->data[TABLE] + position * n->dim, sizeof(float) * (size_t)n->dim);
        for (int64_t book = 0; book < n->books; book++) {
            const int32_t code = ids[piece * n->books + book];
            if (code < 0 || code > n->codes)
                return 1;
            const float *from = (const float *)p->data[EMBEDDING] + (book * (n->codes + 1) + code) * n->dim;
            for (int64_t i = 0; i < n->dim; i++)
                row[i] += from[i];
        }
    }
    if (n->rows > n->pieces) /* the null rows see the same codes */
        memcpy(x + n->pieces * n->dim, x, sizeof(float) * (size_t)(n->pieces * n->dim));
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

/* One column through every layer, in place. */
static int through_layers(const struct parameters *p, const struct sizes *n, int32_t position, float *x, int activation)
{
    int64_t x_shape[] = {n->rows, n->dim}, one[] = {1};
    void *data[ARGUMENTS] = {[X] = x, [POSITION] = &position, [MASK] = p->data[TEXT_MASK], [Y] = x};
    int ranks[ARGUMENTS] = {[X] = 2, [POSITION] = 1, [MASK] = 4, [Y] = 2};
    int64_t *shapes[ARGUMENTS] = {[X] = x_shape, [POSITION] = one, [MASK] = p->shapes[TEXT_MASK], [Y] = x_shape};
    const char *dtypes[ARGUMENTS] = {[X] = "float32", [POSITION] = "int32", [MASK] = p->dtypes[TEXT_MASK], [Y] = "float32"};
    const struct parameters own = {data, ranks, shapes, dtypes};
    const int64_t last = LAYERS + n->layers * OF_LAYER - 1; /* a CROSS_V */
    const struct layer_kind kind = {.activation = activation, .heads = p->ranks[last] == 4 ? p->shapes[last][1] : 0};
    for (int64_t layer = 0; layer < n->layers; layer++) {
        const int64_t first = LAYERS + layer * OF_LAYER;
        memcpy(data + SELF_NORM, p->data + first, sizeof *data * OF_LAYER);
        memcpy(ranks + SELF_NORM, p->ranks + first, sizeof *ranks * OF_LAYER);
        memcpy(shapes + SELF_NORM, p->shapes + first, sizeof *shapes * OF_LAYER);
        memcpy(dtypes + SELF_NORM, p->dtypes + first, sizeof *dtypes * OF_LAYER);
        if (quantized_layer(&own, kind) != 0)
            return 1;
    }
    return 0;
}

static int decode(const struct parameters *p, const struct sizes *n, float *x, float *memory, int outputs, int activation)
{
    const int64_t width = n->pieces * n->books;
    const int32_t *ids = p->data[IDS], first = *(const int32_t *)p->data[PLACE];
    const int32_t steps = *(const int32_t *)p->data[STEPS];
    const struct weight heads[] = {{p->data[HEADS], p->data[HEADS + 1], 0}, {p->data[HEADS + 2], p->data[HEADS + 3], 0}};
    float *logits = p->data[outputs + 1];
    if (steps < 0 || steps > n->steps)
        return 1;
    struct choice choice = {.logits = logits, .memory = memory, .rows = width, .size = n->codes};
    choice.guided = n->rows > n->pieces ? width * n->codes : 0;
    choice.temperature = *(const float *)p->data[TEMPERATURE];
    choice.top_k = *(const int32_t *)p->data[TOP_K];
    choice.top_p = *(const float *)p->data[TOP_P];
    if (choice.top_k < 1)
        return 2;
    memset(p->data[outputs], 0, sizeof(int32_t) * (size_t)(n->steps * width));
    for (int32_t step = 0; step < steps; step++) {
        if (embed(p, n, ids, first + step, x) != 0 || through_layers(p, n, first + step, x, activation) != 0)
            return 3;
        normalise(p, n, x);
        if (quantized_linear(x, n->rows, n->dim, heads, 2, logits, n->books * n->codes) != 0)
            return 4;
        choice.forced = (const int32_t *)p->data[FORCED] + step * width;
        choice.uniforms = (const float *)p->data[UNIFORMS] + step * width;
        choice.scale = ((const float *)p->data[SCALES])[step];
        choice.codes = (int32_t *)p->data[outputs] + step * width;
        choose_codes(&choice);
        ids = choice.codes;
    }
    return 0;
}

static int decode_steps(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, int activation)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct sizes n;
    if (nparam < LAYERS + 2 || !fits(&p, nparam, &n))
        return 1;
    const int64_t choices = 2 * n.pieces * n.books * n.codes;
    float *memory = malloc(sizeof(float) * (size_t)(choices + n.rows * n.dim));
    if (!memory)
        return 2;
    const int failed = decode(&p, &n, memory + choices, memory, nparam - 2, activation);
    free(memory);
    return failed ? 3 : 0;
}

EXPORT int QuantizedDecode(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                           void *extra)
{
    (void)stream;
    (void)extra;
    return decode_steps(nparam, params, ndims, shapes, dtypes, GELU);
}

EXPORT int QuantizedDecodeRelu(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes,
                               void *stream, void *extra)
{
    (void)stream;
    (void)extra;
    return decode_steps(nparam, params, ndims, shapes, dtypes, RELU);
}
