/* Tiles of float32 matrices for the tile unit (AMX) of server CPUs: cutting, laying out, multiplying. See product.c.
 *
 * A matrix is laid out in blocks of 32 rows: for every 32 columns, a step, tiles of 1 KiB, rows 0 to 15 and 16 to 31 of
 * each part. There are three parts, or, where bfloat16 is enough, one, which is rounded. In tiles of a right matrix two
 * columns of one row lie beside each other and those of the next row follow, as the unit wants them.
 */

#ifndef MINDMUSICGEN_TILES_H
#define MINDMUSICGEN_TILES_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16")))
#define SIDE 32                    /* rows of a block, and columns of a step */
#define TILE 1024                  /* bytes */
#define STEP(parts) (2 * (parts)*TILE) /* bytes of a block's 32 columns */

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t blocks(int64_t n)
{
    return (n + SIDE - 1) / SIDE;
}

/* ---- cutting ---- */

/* 32 numbers of which `count` are there, times a factor, cut into three rows of 32 bfloat16, or rounded to one. */
TARGET static inline void cut(const float *x, int64_t count, float factor, __m512i *rows, int parts)
{
    const __m512i odd = _mm512_add_epi16(_mm512_set1_epi32(0x00030001), /* numbers of the upper halves */
                                         _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
                                                                             3, 2, 1, 0),
                                                            _mm512_set1_epi32(0x00040004)));
    const __m512i top = _mm512_set1_epi32((int)0xffff0000);
    const uint32_t there = count >= SIDE ? UINT32_MAX : (UINT32_C(1) << count) - 1;
    __m512 a = _mm512_maskz_loadu_ps((__mmask16)there, x), b = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + 16);
    a = _mm512_mul_ps(a, _mm512_set1_ps(factor));
    b = _mm512_mul_ps(b, _mm512_set1_ps(factor));
    if (parts == 1) {
        rows[0] = (__m512i)_mm512_cvtne2ps_pbh(b, a);
        return;
    }
    for (int part = 0; part < 3; part++) {
        const __m512i high = _mm512_and_si512(_mm512_castps_si512(a), top);
        const __m512i next = _mm512_and_si512(_mm512_castps_si512(b), top);
        rows[part] = _mm512_permutex2var_epi16(high, odd, next);
        a = _mm512_sub_ps(a, _mm512_castsi512_ps(high));
        b = _mm512_sub_ps(b, _mm512_castsi512_ps(next));
    }
}

/* 16 rows of 16 pairs to 16 rows of 16 pairs, transposed. */
TARGET static inline void transpose(__m512i *rows)
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        rows[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        rows[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* Block `block` of factor * a matrix [rows, in] whose rows lie `stride` floats apart, as tiles of a left matrix or, if
 * transposed, a right one. */
TARGET static inline void lay_out(const float *x, int64_t rows, int64_t in, int64_t stride, float factor, int64_t block,
                                  char *tiles, int transposed, int parts)
{
    tiles += block * blocks(in) * STEP(parts);
    for (int64_t first = 0; first < in; first += SIDE, tiles += STEP(parts))
        for (int half = 0; half < 2; half++) {
            __m512i cuts[16][3], rows_of[16];
            for (int r = 0; r < 16; r++) {
                const int64_t row = block * SIDE + half * 16 + r;
                cut(row < rows ? x + row * stride + first : x, row < rows ? in - first : 0, factor, cuts[r], parts);
            }
            for (int part = 0; part < parts; part++) {
                for (int r = 0; r < 16; r++)
                    rows_of[r] = cuts[r][part];
                if (transposed)
                    transpose(rows_of);
                for (int r = 0; r < 16; r++)
                    _mm512_store_si512(tiles + (2 * part + half) * TILE + r * 64, rows_of[r]);
            }
        }
}

/* Block `block` of a matrix of bfloat16, as tiles of a right matrix of one part. */
TARGET static inline void lay_out_halves(const uint16_t *w, int64_t rows, int64_t in, int64_t stride, int64_t block,
                                         char *tiles)
{
    tiles += block * blocks(in) * STEP(1);
    for (int64_t first = 0; first < in; first += SIDE, tiles += STEP(1)) {
        const uint32_t there = in - first >= SIDE ? UINT32_MAX : (UINT32_C(1) << (in - first)) - 1;
        for (int half = 0; half < 2; half++) {
            __m512i rows_of[16];
            for (int r = 0; r < 16; r++) {
                const int64_t row = block * SIDE + half * 16 + r;
                rows_of[r] = _mm512_maskz_loadu_epi16(row < rows ? there : 0, row < rows ? w + row * stride + first : w);
            }
            transpose(rows_of);
            for (int r = 0; r < 16; r++)
                _mm512_store_si512(tiles + half * TILE + r * 64, rows_of[r]);
        }
    }
}

/* ---- multiplying ---- */

#define MULTIPLY                                                                                                       \
    do {                                                                                                               \
        _tile_dpbf16ps(0, 4, 6);                                                                                       \
        _tile_dpbf16ps(1, 4, 7);                                                                                       \
        _tile_dpbf16ps(2, 5, 6);                                                                                       \
        _tile_dpbf16ps(3, 5, 7);                                                                                       \
    } while (0)
#define LEFT(part)                                                                                                     \
    do {                                                                                                               \
        _tile_loadd(4, left + (2 * (part)-2) * TILE, 64);                                                              \
        _tile_loadd(5, left + (2 * (part)-1) * TILE, 64);                                                              \
    } while (0)
#define RIGHT(part)                                                                                                    \
    do {                                                                                                               \
        _tile_loadd(6, right + (2 * (part)-2) * TILE, 64);                                                             \
        _tile_loadd(7, right + (2 * (part)-1) * TILE, 64);                                                             \
    } while (0)

/* y [32, 32] (rows `stride` floats apart) = or += left . right over some steps; small products first. */
TARGET static inline void multiply(const char *left, const char *right, int64_t steps, float *y, int64_t stride, int add,
                                   int parts)
{
    const int64_t bytes = stride * (int64_t)sizeof(float);
    if (add) {
        _tile_loadd(0, y, bytes);
        _tile_loadd(1, y + 16, bytes);
        _tile_loadd(2, y + 16 * stride, bytes);
        _tile_loadd(3, y + 16 * stride + 16, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t step = 0; parts == 1 && step < steps; step++, left += STEP(1), right += STEP(1)) {
        LEFT(1);
        RIGHT(1);
        MULTIPLY;
    }
    for (int64_t step = 0; parts == 3 && step < steps; step++, left += STEP(3), right += STEP(3)) {
        LEFT(3);
        RIGHT(1);
        MULTIPLY;
        LEFT(2);
        MULTIPLY;
        RIGHT(2);
        MULTIPLY;
        LEFT(1);
        MULTIPLY;
        RIGHT(3);
        MULTIPLY;
        RIGHT(1);
        MULTIPLY;
    }
    _tile_stored(0, y, bytes);
    _tile_stored(1, y + 16, bytes);
    _tile_stored(2, y + 16 * stride, bytes);
    _tile_stored(3, y + 16 * stride + 16, bytes);
}

/* The same where the result has fewer than 32 rows or columns. */
TARGET static inline void multiply_edge(const char *left, const char *right, int64_t steps, float *y, int64_t stride, int add,
                                        int64_t rows, int64_t columns, int parts)
{
    float whole[SIDE * SIDE] = {0};
    for (int64_t r = 0; add && r < rows; r++)
        memcpy(whole + r * SIDE, y + r * stride, sizeof(float) * (size_t)columns);
    multiply(left, right, steps, whole, SIDE, add, parts);
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * stride, whole + r * SIDE, sizeof(float) * (size_t)columns);
}

/* What every thread must do before it multiplies, and undo when it is done. */
TARGET static inline void begin_tiles(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&tiles);
}

TARGET static inline void end_tiles(void)
{
    _tile_release();
}

#endif
