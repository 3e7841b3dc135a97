/* A transformer whose layers look along rows, columns or the row before, for MindSpore's ops.Custom(func_type="aot");
 * jukebox/attention.py is the reference:
 *
 *   RingDecode  steps of it -> ids [N, B] int32, the last logits [B, V]
 *   RingFill    known positions at once, whose keys and values go into the buffers -> the last states [B, W]
 *
 * Their arguments are listed below. Each returns 0, or non-zero when shapes or dtypes are not those. Weights are float32,
 * or of 8 bits (quantized.c); biases, norms, tables and the head are float32. The buffers of a layer hold what its kind of
 * attention looks at, keys and values [B H L, d] in float32 or, as bits of bfloat16, in uint16.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gpt.h"
#include "parts.h"
#include "simd.h"
#include "team.h"

#define MOST 16384 /* vectors that a position may look at */
#define MOST_LANES 16
#define POSITIONS 16 /* of a whole sequence in a task */
#define FEW 16 /* rows that one thread does as soon as several */

enum kind { ROW, COLUMN, PREVIOUS, PRIME, DENSE, CROSS, KINDS_THERE_ARE };

/* B rows, N steps at most, T positions of known ids, P positions of the network, n codes of a window. */
enum {
    NEWEST,     /* the newest ids, [B] int32; RingFill: the known ones, [B, T] */
    FROM,       /* the first position, [1] int32; RingFill: how many of the T are real */
    COUNT,      /* how many steps, one int32; RingFill: not used */
    SIZES,      /* heads, positions in a row, rows, prime, positions before the first condition, whether it is added
                   again before the head: [6] int32 */
    SEEN,       /* the kind of each layer, [layers] int32 */
    IDS_TABLE,  /* [ids, W] */
    PLACES,     /* [P, W] */
    START,      /* in place of an id at the first position, [B, W] */
    CONDITIONS, /* [B n, W] */
    HEAD,       /* [V, W]; from here on RingFill has not: */
    DRAWN,      /* uniforms, [N, B] */
    HOT,        /* temperature, one number, as are the next two */
    FIRST_K,    /* int32 */
    FIRST_P,
    DECODED,    /* the layers of RingDecode */
    FILLED = HEAD,
};

/* Of a layer; a matrix is one argument, or two where it is of 8 bits. */
struct layer {
    const float *norm[2][2], *bias[4];
    int matrix[4]; /* numbers of arguments: W -> 3 A (cross: A), A -> W, W -> F, F -> W */
    void *keys, *values;
    int64_t length, d;
    int half, kind;
};

struct network {
    const struct parameters *p;
    int64_t rows, dim, ids, positions, conditions, inner, layers, logits, heads, row, count, prime, before;
    int again, first, parts; /* parts: arguments of a matrix */
};

/* What a position looks at. */
struct vectors {
    const void *keys, *values;
    int64_t stride, count, d;
    float scale;
};

/* The attention of a step. */
struct step {
    const float *qkv;
    float *out, *scores, *totals;
    const void *keys, *values;
    int64_t heads, d, apart, length, first, count, padded, parts;
    int half;
};

/* The attention of a whole sequence. */
struct whole {
    const float *qkv;
    float *out;
    const float *keys, *values; /* of cross attention */
    const struct network *net;
    int64_t positions, heads, d, apart, length, blocks;
    int kind;
};

/* Some of the B rows. */
struct rows {
    int64_t first, count;
};

struct normed {
    const float *x;
    float *y;
    const float *const *norm;
    int64_t dim;
};

struct biased {
    float *x;
    const float *bias;
    int64_t size;
};

static inline float number(const void *from, int64_t at, int half)
{
    if (!half)
        return ((const float *)from)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)from)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- what a position looks at, and where its own vectors go ---- */

/* The first of the positions seen, how far the next is, and how many. */
struct reach {
    int64_t first, step, count;
};

static struct reach reach(const struct network *n, int kind, int64_t position)
{
    const int64_t row = position / n->row, column = position % n->row;
    switch (kind) {
    case ROW: return (struct reach){row * n->row, 1, column + 1};
    case COLUMN: return (struct reach){column, n->row, row + 1};
    case PREVIOUS: return (struct reach){(row - 1) * n->row, 1, row ? n->row : 0};
    case PRIME: return (struct reach){0, 1, position < n->prime ? position + 1 : n->prime};
    default: return (struct reach){0, 1, position + 1};
    }
}

/* Where in a buffer a position lies. */
static int64_t place_of(const struct network *n, int kind, int64_t position)
{
    const int64_t row = position / n->row, column = position % n->row;
    switch (kind) {
    case ROW: return column;
    case COLUMN: return column * n->count + row;
    case PREVIOUS: return row % 2 * n->row + column;
    case PRIME: return position < n->prime ? position : n->prime;
    default: return position;
    }
}

static int64_t length_of(const struct network *n, int kind, int64_t found)
{
    switch (kind) {
    case ROW: return n->row;
    case PREVIOUS: return 2 * n->row;
    case PRIME: return n->prime + 1;
    case CROSS: return found;
    default: return n->positions;
    }
}

static inline const float *query_of(const struct step *a, int64_t unit)
{
    return a->qkv + unit / a->heads * a->apart + unit % a->heads * a->d;
}

static inline struct vectors vectors_of(const struct step *a, int64_t unit)
{
    const int64_t at = (unit * a->length + a->first) * a->d * (a->half ? 2 : 4);
    return (struct vectors){(const char *)a->keys + at, (const char *)a->values + at, a->d, a->count, a->d,
                            1.0f / sqrtf((float)a->d)};
}

static inline const float *query_at(const struct whole *a, int64_t unit, int64_t position)
{
    return a->qkv + (unit / a->heads * a->positions + position) * a->apart + unit % a->heads * a->d;
}

static inline struct vectors seen_from(const struct whole *a, int64_t unit, int64_t position)
{
    const float scale = 1.0f / sqrtf((float)a->d);
    if (a->kind == CROSS) {
        const int64_t at = unit * a->length * a->d;
        return (struct vectors){a->keys + at, a->values + at, a->d, a->length, a->d, scale};
    }
    const struct reach r = reach(a->net, a->kind, position);
    const float *keys = query_at(a, unit, r.count ? r.first : 0) + a->heads * a->d;
    return (struct vectors){keys, keys + a->heads * a->d, r.step * a->apart, r.count, a->d, scale};
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx2,fma")))
#define LANES 16
#include "rings_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "rings_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "rings_simd.h"

#define LOOPS(variant)                                                                                                 \
    {                                                                                                                  \
        score_task_##variant, soften_task_##variant, mix_task_##variant, sequence_task_##variant,                      \
            quick_gelu_task_##variant                                                                                  \
    }

struct loops {
    task_function score, soften, mix, sequence, quick_gelu;
};
static struct loops loops = LOOPS(base);
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512 && __builtin_cpu_supports("avx512bw"))
        loops = (struct loops)LOOPS(avx512);
    else if (simd_level() >= SIMD_AVX2)
        loops = (struct loops)LOOPS(avx2);
#endif
}

/* ---- the arguments ---- */

static int is_matrix(const struct network *n, int i, int64_t out, int64_t in)
{
    return n->parts == 1 ? IS(n->p, i, "float32", out, in) : is_weight(n->p, i, out, in);
}

/* A layer's arguments; zero if they do not fit. */
static int layer_at(const struct network *n, int64_t number, struct layer *layer)
{
    const struct parameters *p = n->p;
    const int kind = layer->kind = ((const int32_t *)p->data[SEEN])[number];
    int at = n->first + (int)number * (10 + 4 * n->parts), good = kind >= 0 && kind < KINDS_THERE_ARE;
    for (int i = 0; i < 4; i++) { /* a norm before the first and the third matrix */
        for (int j = 0; i % 2 == 0 && j < 2; j++, at++) {
            good = good && IS(p, at, "float32", n->dim);
            layer->norm[i / 2][j] = p->data[at];
        }
        layer->matrix[i] = at;
        at += n->parts;
        layer->bias[i] = p->data[at++];
    }
    layer->keys = p->data[at];
    layer->values = p->data[at + 1];
    if (!good || p->ranks[at] != 2 || p->shapes[at][0] % (n->rows * n->heads))
        return 0;
    layer->d = p->shapes[at][1];
    layer->length = p->shapes[at][0] / (n->rows * n->heads);
    layer->half = strcmp(p->dtypes[at], "uint16") == 0;
    const int64_t width = n->heads * layer->d, outs[4] = {kind == CROSS ? width : 3 * width, n->dim, n->inner, n->dim};
    const int64_t ins[4] = {n->dim, width, n->dim, n->inner};
    for (int i = 0; i < 4; i++)
        good = good && is_matrix(n, layer->matrix[i], outs[i], ins[i]) &&
               IS(p, layer->matrix[i] + n->parts, "float32", outs[i]);
    for (int i = at; i < at + 2; i++)
        good = good && IS(p, i, layer->half ? "uint16" : "float32", n->rows * n->heads * layer->length, layer->d);
    return good && layer->length == length_of(n, kind, layer->length) && layer->length <= MOST &&
           !(kind == CROSS && layer->half);
}

/* Sizes, and whether the arguments before `first`, the first layer, and all layers fit; `nparam` is without outputs. */
static int network_fits(const struct parameters *p, int nparam, int first, struct network *n)
{
    *n = (struct network){.p = p, .first = first};
    if (nparam < first + 14 || p->ranks[SEEN] != 1 || p->ranks[IDS_TABLE] != 2 || p->ranks[PLACES] != 2 ||
        p->ranks[START] != 2 || p->ranks[CONDITIONS] != 2 || !IS(p, SIZES, "int32", 6))
        return 0;
    const int32_t *sizes = p->data[SIZES];
    n->parts = p->ranks[first + 2] == 2 ? 1 : 2;
    n->heads = sizes[0];
    n->row = sizes[1];
    n->count = sizes[2];
    n->prime = sizes[3];
    n->before = sizes[4];
    n->again = sizes[5];
    n->layers = p->shapes[SEEN][0];
    n->ids = p->shapes[IDS_TABLE][0];
    n->positions = p->shapes[PLACES][0];
    n->dim = p->shapes[PLACES][1];
    n->rows = p->shapes[START][0];
    const int widened = first + 6 + 3 * n->parts; /* the bias of the third matrix */
    n->inner = p->ranks[widened] == 1 ? p->shapes[widened][0] : 0;
    if (n->rows < 1 || n->heads < 1 || n->row < 1 || n->count < 1 || n->row * n->count != n->positions || n->prime < 0 ||
        n->prime > n->positions || n->before < 0 || p->shapes[CONDITIONS][0] % n->rows ||
        nparam != first + (10 + 4 * n->parts) * n->layers)
        return 0;
    n->conditions = p->shapes[CONDITIONS][0] / n->rows;
    if (!IS(p, SEEN, "int32", n->layers) || !IS(p, IDS_TABLE, "float32", n->ids, n->dim) ||
        !IS(p, PLACES, "float32", n->positions, n->dim) || !IS(p, START, "float32", n->rows, n->dim) ||
        !IS(p, CONDITIONS, "float32", n->rows * n->conditions, n->dim))
        return 0;
    for (int64_t i = 0; i < n->layers; i++) {
        struct layer layer;
        if (!layer_at(n, i, &layer))
            return 0;
    }
    return 1;
}

/* ---- computing ---- */

/* Numbers in a row between two matrices: what attention reads, or the feed-forward's. */
static int64_t widest(const struct network *n, int64_t width)
{
    return n->inner > 3 * width ? n->inner : 3 * width;
}

/* y [rows, out] = x [rows, in] . a layer's matrix transposed, without its bias; non-zero when there is no memory. */
static int multiply(const struct network *n, const struct layer *layer, int which, const float *x, int64_t rows,
                    int64_t in, float *y, int64_t out)
{
    void **data = n->p->data + layer->matrix[which];
    const struct weight weight = {data[0], n->parts == 2 ? data[1] : NULL, 0};
    return n->parts == 1 ? float_linear(x, rows, in, data[0], y, out) : quantized_linear(x, rows, in, &weight, 1, y, out);
}

/* x += y + bias, of rows of `size`. */
static void add(float *x, const float *y, const float *bias, int64_t rows, int64_t size)
{
    for (int64_t row = 0; row < rows; row++, x += size, y += size)
        for (int64_t i = 0; i < size; i++)
            x[i] += y[i] + bias[i];
}

static void add_bias(float *x, const float *bias, int64_t rows, int64_t size)
{
    for (int64_t row = 0; row < rows; row++, x += size)
        for (int64_t i = 0; i < size; i++)
            x[i] += bias[i];
}

static void norm_task(const void *arguments, int64_t row)
{
    const struct normed *a = arguments;
    gpt_normalise(a->x + row * a->dim, 1, a->dim, a->norm[0], a->norm[1], a->y + row * a->dim);
}

static void normalise(const float *x, int64_t rows, int64_t dim, const float *const *norm, float *y)
{
    const struct normed a = {x, y, norm, dim};
    if (rows > FEW)
        team_run(norm_task, &a, rows);
    else
        gpt_normalise(x, rows, dim, norm[0], norm[1], y);
}

/* Vectors into a buffer, from number `at` on. */
static void put(void *buffer, int64_t at, int64_t d, int half, const float *from)
{
    if (!half) {
        memcpy((float *)buffer + at * d, from, sizeof(float) * (size_t)d);
        return;
    }
    uint16_t *to = (uint16_t *)buffer + at * d;
    for (int64_t i = 0; i < d; i++) { /* to the nearest, the even one of two; what is not finite stays so */
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        to[i] = (uint16_t)((bits + ((bits & 0x7f800000) == 0x7f800000 ? 0 : 0x7fff + (bits >> 16 & 1))) >> 16);
    }
}

/* The vectors of one position of some rows into a layer's buffers; qkv is of the first of them, the next `apart`. */
static void keep(const struct network *n, const struct layer *layer, struct rows rows, int64_t position,
                 const float *qkv, int64_t apart)
{
    const int64_t at = place_of(n, layer->kind, position), width = n->heads * layer->d;
    for (int64_t unit = 0; unit < rows.count * n->heads; unit++) {
        const float *from = qkv + unit / n->heads * apart + unit % n->heads * layer->d + width;
        const int64_t to = (rows.first * n->heads + unit) * layer->length + at;
        put(layer->keys, to, layer->d, layer->half, from);
        put(layer->values, to, layer->d, layer->half, from + width);
    }
}

static void attend_step(const struct network *n, const struct layer *layer, int64_t position, const float *qkv,
                        float *out, float *memory)
{
    const int kind = layer->kind;
    const int64_t width = n->heads * layer->d, units = n->rows * n->heads, threads = team_size();
    struct step a = {.qkv = qkv, .out = out, .keys = layer->keys, .values = layer->values, .heads = n->heads,
                     .d = layer->d, .length = layer->length, .half = layer->half, .apart = 3 * width};
    a.count = reach(n, kind, position).count;
    a.parts = units < threads ? threads / units : 1;
    if (kind == CROSS) {
        a.apart = width;
        a.count = layer->length;
    } else {
        keep(n, layer, (struct rows){0, n->rows}, position, qkv, a.apart);
    }
    if (kind == COLUMN)
        a.first = position % n->row * n->count;
    if (kind == PREVIOUS)
        a.first = (1 - position / n->row % 2) * n->row;
    if (a.count == 0) {
        memset(out, 0, sizeof(float) * (size_t)(n->rows * width));
        return;
    }
    a.padded = (a.count + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
    a.totals = memory;
    a.scores = memory + units;
    team_run(loops.score, &a, units * a.parts);
    for (int64_t unit = 0; unit < units; unit++)
        loops.soften(&a, unit);
    team_run(loops.mix, &a, units * a.parts);
}

/* Positions 0 to `positions` - 1 of one row, qkv [positions, 3 A] -> [positions, A]; the buffers are filled. */
static void attend_whole(const struct network *n, const struct layer *layer, int64_t row, int64_t positions,
                         const float *qkv, float *out)
{
    const int64_t width = n->heads * layer->d, at = row * n->heads * layer->length * layer->d;
    struct whole a = {.qkv = qkv, .out = out, .net = n, .positions = positions, .heads = n->heads, .d = layer->d,
                      .length = layer->length, .kind = layer->kind, .apart = 3 * width};
    a.blocks = (positions + POSITIONS - 1) / POSITIONS;
    if (layer->kind == CROSS) {
        a.apart = width;
        a.keys = (const float *)layer->keys + at;
        a.values = (const float *)layer->values + at;
    }
    team_run(loops.sequence, &a, n->heads * a.blocks);
    for (int64_t position = 0; layer->kind != CROSS && position < positions; position++)
        keep(n, layer, (struct rows){row, 1}, position, qkv + position * a.apart, a.apart);
}

/* x through all layers, in place: [B, W] at a position, or, where `whole`, [count, W], the first positions of one row.
 * Non-zero when there is no memory. */
static int through_layers(const struct network *n, float *x, int64_t count, int64_t at, int whole, float *memory)
{
    const int64_t dim = n->dim;
    for (int64_t number = 0; number < n->layers; number++) {
        struct layer layer;
        if (!layer_at(n, number, &layer))
            return 1;
        const int64_t width = n->heads * layer.d, projected = layer.kind == CROSS ? width : 3 * width;
        float *normed = memory, *wide = normed + count * dim, *mixed = wide + count * widest(n, width);
        const struct biased gelu = {wide, layer.bias[2], n->inner};
        normalise(x, count, dim, layer.norm[0], normed);
        if (multiply(n, &layer, 0, normed, count, dim, wide, projected))
            return 2;
        add_bias(wide, layer.bias[0], count, projected);
        if (whole)
            attend_whole(n, &layer, at, count, wide, mixed);
        else
            attend_step(n, &layer, at, wide, mixed, mixed + count * width);
        if (multiply(n, &layer, 1, mixed, count, width, normed, dim))
            return 2;
        add(x, normed, layer.bias[1], count, dim);
        normalise(x, count, dim, layer.norm[1], normed);
        if (multiply(n, &layer, 2, normed, count, dim, wide, n->inner))
            return 2;
        team_run(loops.quick_gelu, &gelu, count);
        if (multiply(n, &layer, 3, wide, count, n->inner, normed, dim))
            return 2;
        add(x, normed, layer.bias[3], count, dim);
    }
    return 0;
}

/* Memory of `through_layers`, in floats, for so many rows of x; a step's scores with it. */
static int64_t memory_for(const struct network *n, int64_t count, int whole)
{
    int64_t most = 0, longest = 0;
    for (int64_t number = 0; number < n->layers; number++) {
        struct layer layer;
        if (!layer_at(n, number, &layer))
            return 0;
        most = layer.d * n->heads > most ? layer.d * n->heads : most;
        longest = layer.length > longest ? layer.length : longest;
    }
    const int64_t scores = whole ? 0 : n->rows * n->heads * (longest + MOST_LANES + 1);
    return count * (n->dim + widest(n, most) + most) + scores;
}

/* What a position of a row reads; zero for an id that there is not. */
static int embed(const struct network *n, int64_t row, int64_t position, int32_t id, float *x)
{
    const struct parameters *p = n->p;
    const int64_t at = position - n->before;
    const float *place = (const float *)p->data[PLACES] + position * n->dim;
    const float *condition = (const float *)p->data[CONDITIONS] + (row * n->conditions + at) * n->dim;
    const float *first = (const float *)p->data[START] + row * n->dim;
    if (position && (id < 0 || id >= n->ids))
        return 0;
    first = position ? (const float *)p->data[IDS_TABLE] + id * n->dim : first;
    for (int64_t i = 0; i < n->dim; i++)
        x[i] = first[i] + place[i] + (at < 0 ? 0 : condition[i]);
    return 1;
}

static int decode(const struct network *n, int32_t *made, float *logits, float *memory)
{
    const struct parameters *p = n->p;
    const int32_t *ids = p->data[NEWEST], from = *(const int32_t *)p->data[FROM], steps = *(const int32_t *)p->data[COUNT];
    int32_t *free_rows = (int32_t *)(memory + 2 * n->rows * n->logits);
    float *x = memory + 2 * n->rows * n->logits + n->rows, *inner = x + n->rows * n->dim;
    struct choice choice = {.logits = logits, .memory = memory, .rows = n->rows, .size = n->logits, .forced = free_rows};
    choice.temperature = *(const float *)p->data[HOT];
    choice.top_k = *(const int32_t *)p->data[FIRST_K];
    choice.top_p = *(const float *)p->data[FIRST_P];
    for (int64_t row = 0; row < n->rows; row++)
        free_rows[row] = -1;
    for (int32_t step = 0; step < steps; step++, ids = choice.codes) {
        const int64_t position = from + step;
        for (int64_t row = 0; row < n->rows; row++)
            if (!embed(n, row, position, ids[row], x + row * n->dim))
                return 1;
        if (through_layers(n, x, n->rows, position, 0, inner))
            return 2;
        for (int64_t row = 0; n->again && row < n->rows; row++) {
            const int64_t at = row * n->conditions + position - n->before;
            add_bias(x + row * n->dim, (const float *)p->data[CONDITIONS] + at * n->dim, 1, n->dim);
        }
        if (float_linear(x, n->rows, n->dim, p->data[HEAD], logits, n->logits))
            return 3;
        choice.uniforms = (const float *)p->data[DRAWN] + step * n->rows;
        choice.codes = made + step * n->rows;
        choose_codes(&choice);
    }
    return 0;
}

EXPORT int RingDecode(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                      void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    const int output = nparam - 2;
    struct network n;
    (void)stream;
    (void)extra;
    if (output < DECODED || !network_fits(&p, output, DECODED, &n) || ndims[HEAD] != 2 || ndims[DRAWN] != 2)
        return 1;
    n.logits = shapes[HEAD][0];
    if (!IS(&p, HEAD, "float32", n.logits, n.dim) || !IS(&p, DRAWN, "float32", shapes[DRAWN][0], n.rows) ||
        !IS(&p, NEWEST, "int32", n.rows) || !is_number(&p, FROM, "int32") || !is_number(&p, COUNT, "int32") ||
        !IS(&p, output, "int32", shapes[DRAWN][0], n.rows) || !IS(&p, output + 1, "float32", n.rows, n.logits))
        return 2;
    for (int i = HOT; i <= FIRST_P; i++)
        if (!is_number(&p, i, i == FIRST_K ? "int32" : "float32"))
            return 3;
    const int32_t from = *(const int32_t *)params[FROM], steps = *(const int32_t *)params[COUNT];
    if (*(const int32_t *)params[FIRST_K] < 1 || steps < 0 || steps > shapes[DRAWN][0] || from < n.before ||
        from + steps > n.positions || from - n.before + steps > n.conditions)
        return 4;
    pthread_once(&chosen, choose);
    memset(params[output], 0, sizeof(int32_t) * (size_t)(shapes[DRAWN][0] * n.rows));
    memset(params[output + 1], 0, sizeof(float) * (size_t)(n.rows * n.logits));
    const int64_t size = n.rows * (2 * n.logits + 1 + n.dim) + memory_for(&n, n.rows, 0);
    float *memory = malloc(sizeof(float) * (size_t)size);
    const int failed = memory ? decode(&n, params[output], params[output + 1], memory) : 5;
    free(memory);
    return failed;
}

/* The known positions of one row after the other, whose last states go to y [B, W]. */
static int fill(const struct network *n, int64_t known, int64_t stride, float *y, float *memory)
{
    const int32_t *ids = n->p->data[NEWEST];
    float *x = memory, *inner = x + known * n->dim;
    for (int64_t row = 0; row < n->rows; row++, ids += stride) {
        for (int64_t position = 0; position < known; position++)
            if (!embed(n, row, position, position ? ids[position - 1] : 0, x + position * n->dim))
                return 1;
        if (through_layers(n, x, known, row, 1, inner))
            return 2;
        memcpy(y + row * n->dim, x + (known - 1) * n->dim, sizeof(float) * (size_t)n->dim);
    }
    return 0;
}

EXPORT int RingFill(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                    void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct network n;
    (void)stream;
    (void)extra;
    if (nparam < FILLED + 1 || !network_fits(&p, nparam - 1, FILLED, &n) || ndims[NEWEST] != 2)
        return 1;
    const int64_t stride = shapes[NEWEST][1];
    if (!IS(&p, NEWEST, "int32", n.rows, stride) || !is_number(&p, FROM, "int32") ||
        !IS(&p, nparam - 1, "float32", n.rows, n.dim))
        return 2;
    const int32_t known = *(const int32_t *)params[FROM];
    if (known < 1 || known > stride || known > n.positions || known - n.before > n.conditions)
        return 3;
    pthread_once(&chosen, choose);
    float *memory = malloc(sizeof(float) * (size_t)(known * n.dim + memory_for(&n, known, 1)));
    const int failed = memory ? fill(&n, known, stride, params[nparam - 1], memory) : 4;
    free(memory);
    return failed;
}
