/* Rounding of weights to 4 bits, for ops/packing4.py, which says what it computes and computes the same:
 *
 *   Pack4  weight [out, in] float32, finite -> codes [T, O, 16, 4] uint8, scale [T, F, 16] float16
 *
 * Sums are made in one order on every machine, and nothing is multiplied and added at once, so that a model that was
 * converted anywhere holds the same codes. It returns 0, or non-zero when shapes or dtypes are not those.
 */

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

/* Vectors are handed to functions that are always inlined: how they would be passed does not matter. */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "arguments.h"
#include "simd.h"
#include "team.h"

#define TILE 16
#define QUAD 4
#define OCT 8
#define GROUP 32
#if defined(__x86_64__)
#define LANES 8
#else
#define LANES 4
#endif
#define ZERO 8
#define MAGIC 12582912.0f /* added and taken away again: the nearest whole number */

/* A number of each of some outputs of a tile. */
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

struct job {
    const float *weight;
    uint8_t *codes;
    uint16_t *scale;
    int64_t out, in, octs, groups;
};

#define INLINE static inline __attribute__((always_inline))
#define CHOOSE(mask, a, b) ((vec)(((ivec)(a) & (mask)) | ((ivec)(b) & ~(mask))))

INLINE vec size_of(const vec *x)
{
    return (vec)((ivec)*x & 0x7fffffff);
}

/* float32 to the nearest that float16 holds; its bits, and in place its value. Below 2^-14 these are multiples of 2^-24. */
INLINE void to_half(vec *x, ivec *half)
{
    const ivec sign = ((ivec)*x >> 16) & 0x8000, size = (ivec)*x & 0x7fffffff, small = size < (113 << 23);
    const vec steps = (size_of(x) * 0x1p24f + MAGIC) - MAGIC;
    const ivec tiny = __builtin_convertvector(steps, ivec);
    const ivec normal = (size - (112 << 23) + 0xfff + ((size >> 13) & 1)) >> 13;
    *half = (tiny & small) | (normal & ~small);
    *x = (vec)((ivec)CHOOSE(small, steps * 0x1p-24f, (vec)((*half << 13) + (112 << 23))) | sign << 16);
    *half |= sign;
}

/* The nearest of the whole numbers -8 to 7 to a weight over a scale. */
INLINE vec code_of(const vec *w, const vec *inverse)
{
    const vec lowest = (vec){0} - (float)ZERO, highest = (vec){0} + (float)(ZERO - 1);
    const vec c = (*w * *inverse + MAGIC) - MAGIC;
    return CHOOSE(c < lowest, lowest, CHOOSE(c > highest, highest, c));
}

INLINE vec inverse_of(const vec *scale)
{
    const ivec none = *scale == 0.0f;
    return (vec)((ivec)(1.0f / CHOOSE(none, (vec){0} + 1.0f, *scale)) & ~none);
}

/* Codes and scales of a group of each output that err least among those that are tried. */
INLINE void search(const vec *w, vec *codes, ivec *scales)
{
    static const double steps[] = {7.0, 7.5, 8.0, 8.5, 9.0, 9.5}; /* as in ops/packing4.py */
    vec top = w[0], best = (vec){0} + INFINITY;
    for (int i = 1; i < GROUP; i++)
        top = CHOOSE(size_of(w + i) > size_of(&top), w[i], top);
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        vec tried[GROUP], above = {0}, below = {0}, error = {0}, scale = top * (float)(-1.0 / steps[s]);
        ivec half;
        to_half(&scale, &half);
        vec inverse = inverse_of(&scale);
        for (int i = 0; i < GROUP; i++) {
            const vec c = code_of(w + i, &inverse);
            above += c * w[i];
            below += c * c;
        }
        const ivec none = below == 0.0f;
        scale = (vec)((ivec)(above / CHOOSE(none, (vec){0} + 1.0f, below)) & ~none);
        to_half(&scale, &half);
        inverse = inverse_of(&scale);
        for (int i = 0; i < GROUP; i++) {
            tried[i] = code_of(w + i, &inverse);
            const vec wrong = w[i] - tried[i] * scale;
            error += wrong * wrong;
        }
        const ivec better = error < best;
        best = CHOOSE(better, error, best);
        *scales = (half & better) | (*scales & ~better);
        for (int i = 0; i < GROUP; i++)
            codes[i] = CHOOSE(better, tried[i], codes[i]);
    }
}

/* LANES outputs of a tile, from `lane` on. */
INLINE void pack_group(const struct job *j, int64_t tile, int64_t lane, int64_t group)
{
    const int64_t begin = group * GROUP, count = j->in - begin < GROUP ? j->in - begin : GROUP;
    const int64_t first = tile * TILE + lane, outputs = j->out - first < LANES ? j->out - first : LANES;
    vec w[GROUP] = {{0}}, codes[GROUP] = {{0}};
    ivec scales = {0};
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t i = 0; i < count; i++)
            w[i][o] = j->weight[(first + o) * j->in + begin + i];
    search(w, codes, &scales);
    for (int o = 0; o < LANES; o++)
        j->scale[(tile * j->groups + group) * TILE + lane + o] = (uint16_t)scales[o];
    for (int64_t i = 0; i < count; i += OCT) {
        uint8_t *to = j->codes + (tile * j->octs + (begin + i) / OCT) * (TILE * QUAD) + lane * QUAD;
        for (int k = 0; k < QUAD; k++) {
            const ivec even = __builtin_convertvector(codes[i + k], ivec) + ZERO;
            const ivec odd = __builtin_convertvector(codes[i + QUAD + k], ivec) + ZERO, both = even | odd << 4;
            for (int o = 0; o < LANES; o++)
                to[o * QUAD + k] = (uint8_t)both[o];
        }
    }
}

/* One task: a tile of outputs. */
INLINE void pack_all(const struct job *j, int64_t tile)
{
    for (int64_t group = 0; group < j->groups; group++)
        for (int64_t lane = 0; lane < TILE; lane += LANES)
            pack_group(j, tile, lane, group);
}

static void pack_tile(const void *arguments, int64_t tile)
{
    pack_all(arguments, tile);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void pack_tile_avx2(const void *arguments, int64_t tile)
{
    pack_all(arguments, tile);
}
#else
#define pack_tile_avx2 pack_tile
#endif

EXPORT int Pack4(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                    void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 3 || ndims[0] != 2)
        return 1;
    struct job j = {.weight = params[0], .codes = params[1], .scale = params[2], .out = shapes[0][0], .in = shapes[0][1]};
    const int64_t tiles = (j.out + TILE - 1) / TILE;
    j.octs = (j.in + OCT - 1) / OCT;
    j.groups = (j.in + GROUP - 1) / GROUP;
    if (!IS(&p, 0, "float32", j.out, j.in) || !IS(&p, 1, "uint8", tiles, j.octs, TILE, QUAD) ||
        !IS(&p, 2, "float16", tiles, j.groups, TILE))
        return 2;
    team_run(simd_level() == SIMD_BASE ? pack_tile : pack_tile_avx2, &j, tiles);
    return 0;
}
