/* The inner loops of quantized.c, compiled once per instruction set; SIMD, TARGET and LANES as in kernels_simd.h.
 *
 * The products of 8-bit weights and 16-bit activations are summed as integers within a group, so every variant finds
 * the same sums: with AVX-512 VNNI from the two signed halves of an activation, with AVX2 from 16-bit products.
 */

#include "vectors_simd.h"

#define PARTS (TILE / LANES) /* vectors in the outputs of a tile */
#define ABSOLUTE(v) ((VEC)((IVEC)(v) & 0x7fffffff))
#define ROUND(v) (((v) + 12582912.0f) - 12582912.0f) /* to the nearest whole number, for less than 2^22 */

INLINE float SIMD(largest)(VEC v)
{
    float lane[LANES];
    memcpy(lane, &v, sizeof v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* ---- activations ---- */

/* y = (x - mean) / sqrt(variance + 1e-5) * w + b over n values */
TARGET static void SIMD(layer_norm)(const float *x, const float *w, const float *b, float *y, int64_t n)
{
    VEC sums = {0};
    int64_t i = 0;
    float total = 0, squares = 0;
    for (; i + LANES <= n; i += LANES)
        sums += LOAD(x + i);
    for (; i < n; i++)
        total += x[i];
    const float mean = (total + SIMD(sum)(sums)) / (float)n;
    sums = (VEC){0};
    for (i = 0; i + LANES <= n; i += LANES) {
        const VEC v = LOAD(x + i) - mean;
        sums += v * v;
    }
    for (; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / sqrtf((squares + SIMD(sum)(sums)) / (float)n + NORM_EPSILON);
    for (i = 0; i + LANES <= n; i += LANES)
        STORE(y + i, (LOAD(x + i) - mean) * scale * LOAD(w + i) + LOAD(b + i));
    for (; i < n; i++)
        y[i] = (x[i] - mean) * scale * w[i] + b[i];
}

#if LANES == 16
/* Per quad of activations: four high halves, then four low ones, both signed. */
INLINE void SIMD(store_codes)(int16_t *to, IVEC codes)
{
    const __m512i q = (__m512i)codes;
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
    const __m128i low = _mm512_cvtepi32_epi8(_mm512_sub_epi32(q, _mm512_slli_epi32(high, 8)));
    const __m128i upper = _mm512_cvtepi32_epi8(high);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi32(upper, low));
    _mm_storeu_si128((__m128i *)to + 1, _mm_unpackhi_epi32(upper, low));
}
#else
typedef int16_t SIMD(codes) __attribute__((vector_size(2 * LANES)));
INLINE void SIMD(store_codes)(int16_t *to, IVEC codes)
{
    const SIMD(codes) narrow = __builtin_convertvector(codes, SIMD(codes));
    memcpy(to, &narrow, sizeof narrow);
}
#endif

/* n floats, a multiple of TILE, to 16-bit codes with a scale per group. What is not finite makes the scale NaN. An
 * offset is what weights of `zero` would add to the codes that lie `each` by `each` together, with the other sign. */
INLINE void SIMD(quantise)(const float *x, int64_t n, int64_t each, int32_t zero, int16_t *codes, float *scale,
                           int32_t *offset)
{
    for (int64_t start = 0; start < n; start += GROUP, scale++) {
        const int64_t end = start + GROUP < n ? start + GROUP : n;
        VEC highest = {0}, bad = {0};
        for (int64_t i = start; i < end; i += LANES) {
            const VEC v = LOAD(x + i), a = ABSOLUTE(v);
            bad += v * 0.0f;
            highest = SELECT(a > highest, a, highest);
        }
        const float top = SIMD(largest)(highest), inverse = top > TINY ? CODES / top : 0.0f;
        for (int64_t part = start; part < end; part += each) {
            IVEC total = {0};
            for (int64_t i = part; i < part + each && i < end; i += LANES) {
                const IVEC q = __builtin_convertvector(ROUND(LOAD(x + i) * inverse), IVEC);
                total += q;
                SIMD(store_codes)(codes + i, q);
            }
            uint32_t sum = 0;
            for (int i = 0; i < LANES; i++)
                sum += (uint32_t)total[i];
            *offset++ = (int32_t)(0 - (uint32_t)zero * sum);
        }
        *scale = (top > TINY ? top / CODES : 0.0f) + SIMD(sum)(bad);
    }
}

/* One task: one row of a->x, normalised first if there is a norm. */
TARGET static void SIMD(activation_task)(const void *arguments, int64_t row)
{
    const struct activations *a = arguments;
    const float *x = a->x + row * a->x_stride;
    if (a->norm_weight) {
        SIMD(layer_norm)(x, a->norm_weight, a->norm_bias, a->normed + row * a->stride, a->in);
        x = a->normed + row * a->stride;
    }
    int16_t *codes = a->codes + row * a->stride;
    float *scale = a->scale + row * a->groups;
    int32_t *offset = a->offset + row * a->offsets;
    if (a->four)
        SIMD(quantise)(x, a->stride, GROUP4, ZERO4, codes, scale, offset);
    else
        SIMD(quantise)(x, a->stride, GROUP, ZERO, codes, scale, offset);
}

/* ---- products ---- */

/* y[row][tile] += codes . weights for `rows` rows and `tiles` tiles that lie tile_bytes apart. */
#if LANES == 16
/* _mm512_dpbusd_epi32; written out, because GCC 12 copies every sum before and after it. */
#define ADD_PRODUCTS(sums, codes, four) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(four))
#define SPREAD(four) _mm512_set1_epi32(four) /* to every output; once for all tiles, as loads are what limits many rows */

typedef int32_t SIMD(four) __attribute__((may_alias, aligned(4)));

INLINE void SIMD(products)(int rows, int tiles, const struct operand *m, const int16_t *x, int64_t x_stride,
                           const float *xs, const int32_t *offset, int64_t groups, int64_t quads, VEC *y)
{
    for (int64_t first = 0, g = 0; first < quads; first += GROUP / QUAD, g++) {
        const int64_t last = first + GROUP / QUAD < quads ? first + GROUP / QUAD : quads;
        __m512i high[8], low[8];
        for (int i = 0; i < rows * tiles; i++) {
            high[i] = _mm512_setzero_si512();
            low[i] = _mm512_set1_epi32(offset[i / tiles * groups + g]);
        }
        for (int64_t q = first; q < last; q++) {
            __m512i w[4];
            for (int t = 0; t < tiles; t++) {
                const uint8_t *from = m->codes + t * m->tile_bytes + q * (TILE * QUAD);
                w[t] = _mm512_loadu_si512(from);
                __builtin_prefetch(m->ahead + t * m->ahead_tile + q * m->ahead_vector);
            }
            for (int r = 0; r < rows; r++) {
                const SIMD(four) *halves = (const SIMD(four) *)(x + r * x_stride + q * QUAD);
                const __m512i upper = SPREAD(halves[0]), lower = SPREAD(halves[1]);
                for (int t = 0; t < tiles; t++) {
                    const int i = r * tiles + t;
                    ADD_PRODUCTS(high[i], w[t], upper);
                    ADD_PRODUCTS(low[i], w[t], lower);
                }
            }
        }
        for (int r = 0; r < rows; r++) {
            for (int t = 0; t < tiles; t++) {
                const int i = r * tiles + t;
                const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), low[i]);
                const VEC scale = LOAD(m->scale + t * m->scale_tile + g * m->scale_group) * xs[r * groups + g];
                y[i] += (VEC)_mm512_cvtepi32_ps(total) * scale;
            }
        }
    }
}
#elif LANES == 8
INLINE void SIMD(products)(int rows, int tiles, const struct operand *m, const int16_t *x, int64_t x_stride,
                           const float *xs, const int32_t *offset, int64_t groups, int64_t quads, VEC *y)
{
    for (int64_t first = 0, g = 0; first < quads; first += GROUP / QUAD, g++) {
        const int64_t last = first + GROUP / QUAD < quads ? first + GROUP / QUAD : quads;
        for (int t = 0; t < tiles; t++) {
            __m256i sums[2][4]; /* four outputs each, as two halves that are added at the end */
            for (int r = 0; r < rows; r++)
                for (int p = 0; p < 4; p++)
                    sums[r][p] = _mm256_setzero_si256();
            for (int64_t q = first; q < last; q++) {
                const uint8_t *from = m->codes + t * m->tile_bytes + q * (TILE * QUAD);
                __builtin_prefetch(m->ahead + t * m->ahead_tile + q * m->ahead_vector);
                __m256i xv[2];
                for (int r = 0; r < rows; r++) {
                    int64_t four;
                    memcpy(&four, x + r * x_stride + q * QUAD, sizeof four);
                    xv[r] = _mm256_set1_epi64x(four);
                }
                for (int p = 0; p < 4; p++) {
                    const __m256i w = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from + p));
                    for (int r = 0; r < rows; r++)
                        sums[r][p] = _mm256_add_epi32(sums[r][p], _mm256_madd_epi16(w, xv[r]));
                }
            }
            for (int r = 0; r < rows; r++) {
                const __m256i zero = _mm256_set1_epi32(offset[r * groups + g]);
                for (int p = 0; p < 2; p++) {
                    const __m256i pairs = _mm256_hadd_epi32(sums[r][2 * p], sums[r][2 * p + 1]);
                    const __m256i total = _mm256_add_epi32(_mm256_permute4x64_epi64(pairs, 0xd8), zero);
                    const float *scale = m->scale + t * m->scale_tile + g * m->scale_group + p * LANES;
                    y[(r * tiles + t) * PARTS + p] +=
                        (VEC)_mm256_cvtepi32_ps(total) * (LOAD(scale) * xs[r * groups + g]);
                }
            }
        }
    }
}
#else
INLINE void SIMD(products)(int rows, int tiles, const struct operand *m, const int16_t *x, int64_t x_stride,
                           const float *xs, const int32_t *offset, int64_t groups, int64_t quads, VEC *y)
{
    for (int64_t first = 0, g = 0; first < quads; first += GROUP / QUAD, g++) {
        const int64_t last = first + GROUP / QUAD < quads ? first + GROUP / QUAD : quads;
        for (int i = 0; i < rows * tiles; i++) {
            const int r = i / tiles, t = i % tiles;
            int32_t sums[TILE] = {0};
            for (int64_t q = first; q < last; q++) {
                const uint8_t *from = m->codes + t * m->tile_bytes + q * (TILE * QUAD);
                const int16_t *four = x + r * x_stride + q * QUAD;
                for (int o = 0; o < TILE; o++)
                    for (int k = 0; k < QUAD; k++)
                        sums[o] += (int32_t)from[o * QUAD + k] * four[k];
            }
            const float *scale = m->scale + t * m->scale_tile + g * m->scale_group;
            for (int o = 0; o < TILE; o++)
                y[i * PARTS + o / LANES][o % LANES] +=
                    (float)(sums[o] + offset[r * groups + g]) * (scale[o] * xs[r * groups + g]);
        }
    }
}
#endif

#include "quantized4_simd.h"

/* Rows row .. row + rows - 1 of the outputs of `tiles` tiles, the first tile and then every apart-th. Of few rows, the
 * weights are asked for from memory shortly before they are needed; of many, the next tiles' while these are multiplied
 * again and again, a part of them with each block of rows. */
INLINE void SIMD(outputs)(int rows, int tiles, const struct product *a, int64_t row, int64_t tile, int64_t apart)
{
    const struct activations *x = a->x;
    const int64_t groups = x->offsets; /* of weights: each has an offset */
    const int64_t tile_bytes = a->vectors * (TILE * QUAD), blocks = (x->rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int64_t part = tile_bytes / blocks;
    const struct operand m = {
        .codes = a->weight.codes + tile * tile_bytes,
        .scale = (const float *)a->weight.scale + tile * groups * TILE,
        .scale4 = (const uint16_t *)a->weight.scale + tile * groups * TILE,
        .tile_bytes = apart * tile_bytes,
        .scale_tile = apart * groups * TILE,
        .scale_group = TILE,
        .ahead = a->weight.codes + tile * tile_bytes + (blocks == 1 ? PREFETCH : tile_bytes + row / BLOCK_ROWS * part),
        .ahead_tile = apart * tile_bytes,
        .ahead_vector = blocks == 1 ? TILE * QUAD : TILE * QUAD / blocks,
    };
    VEC y[8 * PARTS];
    for (int i = 0; i < rows * tiles * PARTS; i++)
        y[i] = (VEC){0};
    if (a->weight.four)
        SIMD(products4)(rows, tiles, &m, x, row, a->vectors, y);
    else
        SIMD(products)(rows, tiles, &m, x->codes + row * x->stride, x->stride, x->scale + row * x->groups,
                       x->offset + row * x->groups, x->groups, a->vectors, y);
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < tiles; t++) {
            const int64_t first = (tile + t * apart) * TILE, place = (row + r) * a->y_stride + first;
            const int count = a->out - first < TILE ? (int)(a->out - first) : TILE;
            float values[TILE];
            for (int p = 0; p < PARTS; p++) {
                const VEC v = y[(r * tiles + t) * PARTS + p];
                STORE(values + p * LANES, a->activation == GELU   ? SIMD(gelu)(v)
                                          : a->activation == RELU ? SELECT(v < 0.0f, (VEC){0}, v)
                                                                  : v);
            }
            for (int o = 0; a->residual && o < count; o++)
                values[o] += a->residual[(row + r) * a->residual_stride + first + o];
            memcpy(a->y + place, values, sizeof(float) * (size_t)count);
        }
    }
}

/* All rows of the outputs of `tiles` tiles; the weights come from memory for the first block of rows only. */
INLINE void SIMD(all_rows)(int tiles, const struct product *a, int64_t tile, int64_t apart)
{
    int64_t row = 0;
    const int64_t rows = a->x->rows;
#if LANES == 16
    for (; row + BLOCK_ROWS <= rows; row += BLOCK_ROWS)
        SIMD(outputs)(BLOCK_ROWS, tiles, a, row, tile, apart);
    switch (rows - row) {
    case 3: SIMD(outputs)(3, tiles, a, row, tile, apart); return;
    case 2: SIMD(outputs)(2, tiles, a, row, tile, apart); return;
    case 1: SIMD(outputs)(1, tiles, a, row, tile, apart); return;
    default: return;
    }
#elif LANES == 8
    for (; row + 2 <= rows; row += 2)
        SIMD(outputs)(2, tiles, a, row, tile, apart);
#endif
    for (; row < rows; row++)
        SIMD(outputs)(1, tiles, a, row, tile, apart);
}

/* One task: some tiles, read as two streams that are each contiguous. */
TARGET static void SIMD(product_task)(const void *arguments, int64_t task)
{
    const struct product *a = arguments;
    int64_t first, last;
    task_range(a->tiles, a->shares, task, &first, &last);
    const int64_t half = (last - first) / 2;
    for (int64_t tile = first; tile < first + half; tile++)
        SIMD(all_rows)(2, a, tile, half);
    if ((last - first) % 2)
        SIMD(all_rows)(1, a, last - 1, 1);
}

#include "quantized_attention_simd.h"

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef PARTS
#undef SELECT
#undef ABSOLUTE
#undef ROUND
#undef ADD_PRODUCTS
#undef SPREAD
