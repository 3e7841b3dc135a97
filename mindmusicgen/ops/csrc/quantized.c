/* Kernels of 8-bit and 4-bit weights for MindSpore's ops.Custom(func_type="aot"):
 *
 *   QuantizedLinear  x [rows, in], codes [T, Q, 16, 4] uint8, scale [T, G, 16] float32 -> [rows, out]
 *                    or, in 4 bits, codes [T, O, 16, 4] uint8, scale [T, F, 16] float16
 *   QuantizedLayer   one column through a decoder layer; the arguments are listed in parts.h
 *   FillCache        k, v [B, H, columns, d] into the 8-bit cache of QuantizedLayer -> [1]
 *
 * A weight is (code - 128) * scale. Codes lie in tiles of 16 outputs (T tiles), in a tile in quads of 4 inputs
 * (Q quads); scales belong to an output and a group of 128 inputs (G groups). Activations are rounded to 16 bits with
 * a scale of their own in each group of each row, so what is lost is the rounding of the weights.
 *
 * In 4 bits a weight is (code - 8) * scale. A byte holds two inputs' codes: those of octs of 8 inputs (O octs), the first
 * quad in the low halves, the second in the high ones. Scales belong to an output and a group of 32 inputs (F groups).
 *
 * The cache keeps keys and values as such weights, with one scale per column and head:
 *   keys [B, H, L / 16, d / 4, 16, 4]: columns are the outputs;   values [B, H, d / 16, L / 4, 16, 4]: the inputs;
 *   scales [B, H, L]; L a multiple of 16, fractions of d rounded up.
 *
 * Each kernel returns 0, or non-zero when shapes or dtypes are not those.
 */

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"
#include "simd.h"
#include "team.h"

#define TILE 16
#define QUAD 4
#define GROUP 128
#define ZERO 128         /* the code of a weight of 0 */
#define OCT 8            /* inputs of a vector of 4-bit codes */
#define GROUP4 32    /* inputs of a scale of 4-bit codes */
#define ZERO4 8
#define CODES 32512.0f   /* largest code of an activation: both its halves fit into 8 signed bits */
#define TINY 1e-30f      /* what is no larger counts as 0 */
#define NORM_EPSILON 1e-5f
#define BLOCK 512        /* columns whose scores are held at once; a multiple of GROUP */
#define MAX_HEAD 256     /* a multiple of GROUP */
#define PREFETCH 6144    /* bytes ahead in each of a thread's two streams of weights; best of 768 to 6144 */
#define BLOCK_ROWS 4     /* rows that are multiplied at once */
#define ALIGNMENT 64

/* A job's tasks: `many` large ones first, then small ones, so that no thread waits long for the last. */
struct shares {
    int64_t many, large, small, tasks;
};

struct activations {
    const float *x, *norm_weight, *norm_bias; /* x: rows of `stride` floats, zero from `in` on, unless normalised */
    float *normed;
    int16_t *codes;
    float *scale;
    int32_t *offset;
    int64_t rows, in, x_stride, stride, groups, offsets; /* offsets: how many a row has */
    int four;                                            /* whether 4-bit weights come next */
};

struct operand {
    const uint8_t *codes;
    const float *scale;
    const uint16_t *scale4;
    int64_t tile_bytes, scale_tile, scale_group;
    const uint8_t *ahead; /* what is asked for from memory meanwhile: at vector q of tile t, what lies there */
    int64_t ahead_tile, ahead_vector;
};

struct product {
    struct weight weight;
    const float *residual;
    const struct activations *x;
    float *y;
    int64_t y_stride, residual_stride, out, tiles, vectors; /* vectors: of 64 codes' bytes, in a tile */
    int activation;
    struct shares shares;
};

struct cache {
    uint8_t *keys, *values;
    float *key_scale, *value_scale;
    int64_t d, tiles;
};

struct attention {
    struct cache cache;
    const float *q, *k, *v, *mask; /* k, v and mask: of cross-attention only */
    float *weights, *out;
    int64_t heads, all_heads, heads_each, q_stride, out_stride, filled;
    int64_t row_stride, head_stride, column_stride; /* of k and v that fill the cache */
    float factor;
};

static int64_t divided_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

static int64_t padded(int64_t n)
{
    return divided_up(n, TILE) * TILE;
}

static struct shares share_out(int64_t tiles, int64_t rows)
{
    const int64_t threads = team_size();
    struct shares s = {.many = threads, .large = tiles * 3 / 4 / threads, .small = 2};
    if (s.large < 4 || rows > TILE) /* many rows: arithmetic counts, and small tasks keep the weights in the cache */
        s.many = s.large = 0;
    const int64_t rest = tiles - s.many * s.large;
    s.small = rest / (8 * threads) > s.small ? rest / (8 * threads) : s.small;
    s.tasks = s.many + divided_up(rest, s.small);
    return s;
}

static void task_range(int64_t tiles, struct shares s, int64_t task, int64_t *first, int64_t *last)
{
    const int64_t size = task < s.many ? s.large : s.small;
    *first = task < s.many ? task * s.large : s.many * s.large + (task - s.many) * s.small;
    *last = *first + size < tiles ? *first + size : tiles;
}

/* ---- the inner loops, for each instruction set ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1
#include <immintrin.h>

#define SIMD(name) name##_vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")))
#define LANES 16
#include "quantized_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "quantized_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "quantized_simd.h"

#define TABLE(set)                                                                                                     \
    {.activations = activation_task_##set,                                                                             \
     .product = product_task_##set,                                                                                    \
     .attention = attention_task_##set,                                                                                \
     .fill = fill_task_##set}

static struct {
    task_function activations, product, attention, fill;
} loops = TABLE(base);
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    static const typeof(loops) avx2 = TABLE(avx2), vnni = TABLE(vnni);
    const enum simd level = simd_level();
    if (level >= SIMD_AVX512 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        loops = vnni;
    else if (level != SIMD_BASE)
        loops = avx2;
#endif
}

/* ---- steps of a kernel ---- */

/* Memory of one call, zeroed; `at` moves on. */
struct workspace {
    char *start;
    size_t at;
};

static void *take(struct workspace *w, int64_t bytes)
{
    void *place = w->start ? w->start + w->at : NULL;
    w->at += (size_t)divided_up(bytes, ALIGNMENT) * ALIGNMENT;
    return place;
}

/* Lay out the memory of `rows` rows of at most `in` activations. */
static void take_activations(struct workspace *w, struct activations *a, int64_t rows, int64_t in)
{
    a->rows = rows;
    a->codes = take(w, 2 * rows * padded(in));
    a->scale = take(w, 4 * rows * divided_up(in, GROUP));
    a->offset = take(w, 4 * rows * divided_up(in, GROUP4));
}

/* Round rows of `in` floats that lie x_stride apart, for weights of 4 bits or of 8; normalise them first if there is a
 * norm, a weight and a bias. */
static void round_rows(struct activations *a, int four, const float *x, int64_t x_stride, int64_t in, void *const *norm)
{
    a->x = x;
    a->x_stride = x_stride;
    a->in = in;
    a->stride = padded(in);
    a->groups = divided_up(in, GROUP);
    a->four = four;
    a->offsets = divided_up(in, four ? GROUP4 : GROUP);
    a->norm_weight = norm ? norm[0] : NULL;
    a->norm_bias = norm ? norm[1] : NULL;
    if (a->rows > 4)
        team_run(loops.activations, a, a->rows);
    else
        for (int64_t row = 0; row < a->rows; row++)
            loops.activations(a, row);
}

static void multiply(struct product p)
{
    p.tiles = divided_up(p.out, TILE);
    p.vectors = divided_up(p.x->in, p.weight.four ? OCT : QUAD);
    p.shares = share_out(p.tiles, p.x->rows);
    team_run(loops.product, &p, p.shares.tasks);
}

/* Attention of all heads of all rows; several heads a task, each of which asks for the next one's keys. */
static void attend(struct attention a, int64_t rows)
{
    const int64_t shared = rows * a.heads / (4 * team_size());
    a.all_heads = rows * a.heads;
    a.heads_each = shared < 1 ? 1 : a.filled > 256 && shared > 4 ? 4 : shared;
    team_run(loops.attention, &a, divided_up(a.all_heads, a.heads_each));
}

/* ---- entry points ---- */

/* Argument i and the one behind it, which `is_weight` has looked at. */
static struct weight weight_at(const struct parameters *p, int i)
{
    return (struct weight){p->data[i], p->data[i + 1], strcmp(p->dtypes[i + 1], "float16") == 0};
}

int is_weight(const struct parameters *p, int i, int64_t out, int64_t in)
{
    const int64_t tiles = divided_up(out, TILE);
    if (weight_at(p, i).four)
        return IS(p, i, "uint8", tiles, divided_up(in, OCT), TILE, QUAD) &&
               IS(p, i + 1, "float16", tiles, divided_up(in, GROUP4), TILE);
    return IS(p, i, "uint8", tiles, divided_up(in, QUAD), TILE, QUAD) &&
           IS(p, i + 1, "float32", tiles, divided_up(in, GROUP), TILE);
}

/* Whether arguments i .. i + 3 are keys, their scales, values, their scales; fills in `cache`. */
static int is_cache(const struct parameters *p, int i, int64_t rows, int64_t heads, int64_t d, struct cache *cache)
{
    if (p->ranks[i + 1] != 3 || d < 1 || d > MAX_HEAD)
        return 0;
    const int64_t length = p->shapes[i + 1][2];
    *cache = (struct cache){p->data[i], p->data[i + 2], p->data[i + 1], p->data[i + 3], d, length / TILE};
    return length % TILE == 0 && IS(p, i, "uint8", rows, heads, length / TILE, divided_up(d, QUAD), TILE, QUAD) &&
           IS(p, i + 1, "float32", rows, heads, length) &&
           IS(p, i + 2, "uint8", rows, heads, divided_up(d, TILE), length / QUAD, TILE, QUAD) &&
           IS(p, i + 3, "float32", rows, heads, length);
}

int quantized_linear(const float *x, int64_t rows, int64_t in, const struct weight *parts, int count, float *y,
                     int64_t out)
{
    const int64_t stride = padded(in);
    struct workspace w = {NULL, 0};
    struct activations a;
    float *copy = NULL;
    for (int pass = 0; pass < 2; pass++) { /* the first finds out how much memory is needed */
        if (pass == 1 && !(w.start = aligned_alloc(ALIGNMENT, w.at + ALIGNMENT)))
            return 1;
        w.at = 0;
        take_activations(&w, &a, rows, in);
        copy = stride == in ? NULL : take(&w, 4 * rows * stride);
    }
    for (int64_t row = 0; copy && row < rows; row++) {
        memcpy(copy + row * stride, x + row * in, sizeof(float) * (size_t)in);
        memset(copy + row * stride + in, 0, sizeof(float) * (size_t)(stride - in));
    }
    pthread_once(&chosen, choose);
    round_rows(&a, parts->four, copy ? copy : x, stride, in, NULL);
    for (int part = 0; part < count; part++)
        multiply((struct product){.weight = parts[part], .x = &a, .y = y,
                                  .residual = part ? y : NULL, .y_stride = out, .residual_stride = out, .out = out});
    free(w.start);
    return 0;
}

EXPORT int QuantizedLinear(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                           void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 4 || ndims[0] != 2 || ndims[3] != 2)
        return 1;
    const int64_t rows = shapes[0][0], in = shapes[0][1], out = shapes[3][1];
    if (!IS(&p, 0, "float32", rows, in) || !IS(&p, 3, "float32", rows, out) || !is_weight(&p, 1, out, in))
        return 2;
    const struct weight weight = weight_at(&p, 1);
    return quantized_linear(params[0], rows, in, &weight, 1, params[3], out) ? 3 : 0;
}

static int cross_fits(const struct parameters *p, int64_t heads)
{
    if (p->ranks[CROSS_K] != 4)
        return 0;
    const int64_t rows = p->shapes[X][0], dim = p->shapes[X][1], *cross = p->shapes[CROSS_K];
    return IS(p, CROSS_NORM, "float32", dim) && IS(p, CROSS_NORM + 1, "float32", dim) &&
           is_weight(p, CROSS_Q, dim, dim) && is_weight(p, CROSS_OUT, dim, dim) && cross[1] == heads &&
           cross[1] * cross[3] == dim && IS(p, CROSS_K, "float32", rows, cross[1], cross[2], cross[3]) &&
           IS(p, CROSS_V, "float32", rows, cross[1], cross[2], cross[3]) && IS(p, MASK, "float32", rows, 1, 1, cross[2]);
}

static int layer_fits(const struct parameters *p, struct layer_kind kind, struct cache *cache)
{
    if (p->ranks[X] != 2 || p->ranks[FC1] != 4 || p->ranks[FC2] != 4 || kind.heads < 1)
        return 0;
    const int64_t rows = p->shapes[X][0], dim = p->shapes[X][1];
    const int64_t inner = p->shapes[FC1][0] * TILE; /* a whole number of tiles */
    const int64_t pieces = kind.columns ? rows / kind.columns : rows;
    for (int norm = SELF_NORM; norm <= FINAL_NORM; norm += FINAL_NORM - SELF_NORM)
        if (!IS(p, norm, "float32", dim) || !IS(p, norm + 1, "float32", dim))
            return 0;
    if (kind.columns ? rows % kind.columns : !IS(p, POSITION, "int32", 1))
        return 0;
    if (p->data[CACHE] && !is_cache(p, CACHE, pieces, kind.heads, dim / kind.heads, cache))
        return 0;
    return dim % kind.heads == 0 && IS(p, X, "float32", rows, dim) && IS(p, Y, "float32", rows, dim) &&
           is_weight(p, QKV, 3 * dim, dim) && is_weight(p, SELF_OUT, dim, dim) && is_weight(p, FC1, inner, dim) &&
           is_weight(p, FC2, dim, inner) && (!p->data[CROSS_K] || cross_fits(p, kind.heads));
}

/* The memory between the steps of a layer. */
struct between {
    struct activations a;
    float *qkv, *mixed, *inner, *weights;
};

/* Attention of sequences to themselves, which fill the cache. */
static int attend_sequences(struct attention self, const struct between *m, int64_t rows, struct layer_kind kind)
{
    const int64_t dim = kind.heads * self.cache.d, pieces = rows / kind.columns;
    struct sequence sequence = {.qkv = m->qkv, .out = m->mixed, .rows = pieces, .columns = kind.columns,
                                .heads = kind.heads, .d = self.cache.d, .out_stride = self.out_stride};
    sequence.causal = kind.causal;
    if (self.cache.keys) {
        self.k = m->qkv + dim;
        self.v = self.k + dim;
        self.filled = kind.columns;
        self.row_stride = kind.columns * 3 * dim;
        self.head_stride = self.cache.d;
        self.column_stride = 3 * dim;
        team_run(loops.fill, &self, pieces * kind.heads);
    }
    return sequence_attention(&sequence);
}

static int layer(const struct parameters *p, struct cache cache, struct between *m, struct layer_kind kind)
{
    void **data = p->data;
    const int64_t rows = p->shapes[X][0], dim = p->shapes[X][1], inner = p->shapes[FC1][0] * TILE;
    const int64_t wide = padded(dim);
    struct activations *a = &m->a;
    struct product to_y = {.x = a, .y = data[Y], .residual = data[Y], .y_stride = dim, .residual_stride = dim, .out = dim};
    struct attention self = {.cache = cache, .heads = kind.heads, .q = m->qkv, .q_stride = 3 * dim, .out = m->mixed};
    self.out_stride = wide;
    self.factor = 1.0f / sqrtf((float)cache.d);

    struct weight weight = weight_at(p, QKV);
    round_rows(a, weight.four, data[X], dim, dim, data + SELF_NORM);
    multiply((struct product){.weight = weight, .x = a, .y = m->qkv, .y_stride = 3 * dim, .out = 3 * dim});
    if (kind.columns) {
        if (attend_sequences(self, m, rows, kind) != 0)
            return 1;
    } else {
        self.filled = *(const int32_t *)data[POSITION] + 1;
        attend(self, rows);
    }
    to_y.weight = weight_at(p, SELF_OUT);
    round_rows(a, to_y.weight.four, m->mixed, wide, dim, NULL);
    to_y.residual = data[X];
    multiply(to_y);
    to_y.residual = data[Y];

    if (data[CROSS_K]) {
        self.k = data[CROSS_K];
        self.v = data[CROSS_V];
        self.mask = data[MASK];
        self.weights = m->weights;
        self.filled = p->shapes[CROSS_K][2];
        weight = weight_at(p, CROSS_Q);
        round_rows(a, weight.four, data[Y], dim, dim, data + CROSS_NORM);
        multiply((struct product){.weight = weight, .x = a, .y = m->qkv, .y_stride = 3 * dim, .out = dim});
        attend(self, rows);
        to_y.weight = weight_at(p, CROSS_OUT);
        round_rows(a, to_y.weight.four, m->mixed, wide, dim, NULL);
        multiply(to_y);
    }

    weight = weight_at(p, FC1);
    round_rows(a, weight.four, data[Y], dim, dim, data + FINAL_NORM);
    multiply((struct product){.weight = weight, .x = a, .y = m->inner, .y_stride = inner, .out = inner,
                              .activation = kind.activation});
    to_y.weight = weight_at(p, FC2);
    round_rows(a, to_y.weight.four, m->inner, inner, inner, NULL);
    multiply(to_y);
    return 0;
}

int quantized_layer(const struct parameters *p, struct layer_kind kind)
{
    struct cache cache = {.d = kind.heads > 0 ? p->shapes[X][1] / kind.heads : 0};
    struct between m;
    if (!layer_fits(p, kind, &cache))
        return 1;
    const int64_t last = kind.columns ? kind.columns - 1 : *(const int32_t *)p->data[POSITION];
    if (last < 0 || (cache.keys && last >= cache.tiles * TILE) || (!kind.columns && !cache.keys))
        return 2;
    const int64_t rows = p->shapes[X][0], dim = p->shapes[X][1], inner = p->shapes[FC1][0] * TILE;
    const int64_t cross = p->data[CROSS_K] ? p->shapes[CROSS_K][2] : 0;
    struct workspace w = {NULL, 0};
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) {
            if (!(w.start = aligned_alloc(ALIGNMENT, w.at)))
                return 3;
            if (dim % TILE)
                memset(w.start, 0, w.at); /* the padding behind each row is read */
        }
        w.at = 0;
        take_activations(&w, &m.a, rows, inner > dim ? inner : dim);
        m.a.normed = take(&w, 4 * rows * padded(dim));
        m.qkv = take(&w, 4 * rows * 3 * dim);
        m.mixed = take(&w, 4 * rows * padded(dim));
        m.inner = take(&w, 4 * rows * inner);
        m.weights = take(&w, 4 * rows * kind.heads * padded(cross));
    }
    pthread_once(&chosen, choose);
    const int failed = layer(p, cache, &m, kind);
    free(w.start);
    return failed ? 4 : 0;
}

/* One layer, for tests: the arguments of `quantized_layer`, with the exact GELU. */
EXPORT int QuantizedLayer(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                          void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != ARGUMENTS || ndims[CROSS_K] != 4)
        return 1;
    return quantized_layer(&p, (struct layer_kind){.activation = GELU, .heads = shapes[CROSS_K][1]});
}

EXPORT int FillCache(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                     void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    struct attention a = {.k = params[0], .v = params[1]};
    (void)stream;
    (void)extra;
    if (nparam != 7 || ndims[0] != 4)
        return 1;
    const int64_t *size = shapes[0];
    for (int i = 0; i < 2; i++)
        if (!IS(&p, i, "float32", size[0], size[1], size[2], size[3]))
            return 2;
    if (!is_cache(&p, 2, size[0], size[1], size[3], &a.cache) || size[2] > a.cache.tiles * TILE)
        return 3;
    a.heads = size[1];
    a.filled = size[2];
    a.column_stride = size[3];
    a.head_stride = size[2] * size[3];
    a.row_stride = size[1] * a.head_stride;
    pthread_once(&chosen, choose);
    team_run(loops.fill, &a, size[0] * size[1]);
    *(float *)params[6] = 0;
    return 0;
}
