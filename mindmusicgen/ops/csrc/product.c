/* Float32 matrix products on the tile unit (AMX) of server CPUs, which itself multiplies bfloat16 only.
 *
 * A float32 has 24 significant bits, a bfloat16 has 8: cutting the bits off in turn gives x = x1 + x2 + x3 exactly. Of
 * the nine products of two numbers' parts the six largest are summed, in float32; the three that are left out are below
 * 2^-21 of the whole, less than what rounding a long sum costs. Six products of tiles are still several times quicker
 * than one of AVX-512.
 *
 * Both matrices are first cut and laid out in blocks of 32 rows: for every 32 columns six tiles of 1 KiB, rows 0 to 15
 * and 16 to 31 of each part. Tiles of the right matrix hold pairs of columns of one row of it below each other, as the
 * unit wants them.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"
#include "team.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && (__GNUC__ >= 11 || defined(__clang__))

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TARGET __attribute__((target("avx512f,avx512bw,amx-tile,amx-bf16")))
#define SIDE 32                    /* rows of a block, and columns of a step */
#define TILE 1024                  /* bytes */
#define STEP (6 * TILE)            /* bytes of a block's 32 columns */
#define STEPS 6                    /* whose tiles stay near while they are used: 36 KB of a block; best of 4 to 16 */
#define PANEL_ROWS 256             /* of the result, in one task */
#define PANEL_COLUMNS 128
#define MOST_BYTES (8 << 20)       /* of the tiles of one matrix that are made at once */

struct product {
    const float *x, *w; /* [rows, in], [out, in] */
    float *y;           /* rows y_stride apart */
    int64_t rows, out, in, y_stride;
    char *left, *right; /* tiles */
};

static int64_t blocks(int64_t n)
{
    return (n + SIDE - 1) / SIDE;
}

/* ---- cutting ---- */

/* 32 numbers of which `count` are there, cut into three rows of 32 bfloat16. */
TARGET static void cut(const float *x, int64_t count, __m512i *parts)
{
    const __m512i odd = _mm512_add_epi16(_mm512_set1_epi32(0x00030001), /* numbers of the upper halves */
                                         _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
                                                                             3, 2, 1, 0),
                                                            _mm512_set1_epi32(0x00040004)));
    const __m512i top = _mm512_set1_epi32((int)0xffff0000);
    const uint32_t there = count >= SIDE ? UINT32_MAX : (UINT32_C(1) << count) - 1;
    __m512 a = _mm512_maskz_loadu_ps((__mmask16)there, x), b = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + 16);
    for (int part = 0; part < 3; part++) {
        const __m512i high = _mm512_and_si512(_mm512_castps_si512(a), top);
        const __m512i next = _mm512_and_si512(_mm512_castps_si512(b), top);
        parts[part] = _mm512_permutex2var_epi16(high, odd, next);
        a = _mm512_sub_ps(a, _mm512_castsi512_ps(high));
        b = _mm512_sub_ps(b, _mm512_castsi512_ps(next));
    }
}

/* 16 rows of 16 pairs to 16 rows of 16 pairs, transposed. */
TARGET static void transpose(__m512i *rows)
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

/* Block `block` of a matrix [rows, in] as tiles. */
TARGET static void lay_out(const float *x, int64_t rows, int64_t in, int64_t block, char *tiles, int transposed)
{
    tiles += block * blocks(in) * STEP;
    for (int64_t first = 0; first < in; first += SIDE, tiles += STEP)
        for (int half = 0; half < 2; half++) {
            __m512i parts[16][3], rows_of[16];
            for (int r = 0; r < 16; r++) {
                const int64_t row = block * SIDE + half * 16 + r;
                cut(row < rows ? x + row * in + first : x, row < rows ? in - first : 0, parts[r]);
            }
            for (int part = 0; part < 3; part++) {
                for (int r = 0; r < 16; r++)
                    rows_of[r] = parts[r][part];
                if (transposed)
                    transpose(rows_of);
                for (int r = 0; r < 16; r++)
                    _mm512_store_si512(tiles + (2 * part + half) * TILE + r * 64, rows_of[r]);
            }
        }
}

static void lay_out_left(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    lay_out(a->x, a->rows, a->in, block, a->left, 0);
}

static void lay_out_right(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    lay_out(a->w, a->out, a->in, block, a->right, 1);
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
TARGET static void multiply(const char *left, const char *right, int64_t steps, float *y, int64_t stride, int add)
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
    for (int64_t step = 0; step < steps; step++, left += STEP, right += STEP) {
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
static void multiply_edge(const char *left, const char *right, int64_t steps, float *y, int64_t stride, int add,
                          int64_t rows, int64_t columns)
{
    float whole[SIDE * SIDE] = {0};
    for (int64_t r = 0; add && r < rows; r++)
        memcpy(whole + r * SIDE, y + r * stride, sizeof(float) * (size_t)columns);
    multiply(left, right, steps, whole, SIDE, add);
    for (int64_t r = 0; r < rows; r++)
        memcpy(y + r * stride, whole + r * SIDE, sizeof(float) * (size_t)columns);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t panels(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* One task: a panel of the result. */
TARGET static void panel(const void *arguments, int64_t task)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    const struct product *a = arguments;
    const int64_t across = panels(a->out, PANEL_COLUMNS), steps = blocks(a->in);
    const int64_t top = task / across * PANEL_ROWS, first = task % across * PANEL_COLUMNS;
    const int64_t bottom = least(top + PANEL_ROWS, a->rows), last = least(first + PANEL_COLUMNS, a->out);
    _tile_loadconfig(&tiles);
    for (int64_t step = 0; step < steps; step += STEPS)
        for (int64_t row = top; row < bottom; row += SIDE)
            for (int64_t column = first; column < last; column += SIDE) {
                const char *left = a->left + (row / SIDE * steps + step) * STEP;
                const char *right = a->right + (column / SIDE * steps + step) * STEP;
                const int64_t count = least(STEPS, steps - step);
                float *y = a->y + row * a->y_stride + column;
                if (row + SIDE <= a->rows && column + SIDE <= a->out)
                    multiply(left, right, count, y, a->y_stride, step > 0);
                else
                    multiply_edge(left, right, count, y, a->y_stride, step > 0, least(SIDE, a->rows - row),
                                  least(SIDE, a->out - column));
            }
    _tile_release();
}

/* ---- the whole ---- */

static int have_tiles;
static pthread_once_t asked = PTHREAD_ONCE_INIT;

static void ask(void)
{
    unsigned a, b, c, d;
    const char *most = getenv("MINDMUSICGEN_SIMD");
    if (most && strcmp(most, "amx") != 0)
        return;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) /* amx-bf16, amx-tile */
        return;
    __builtin_cpu_init();
    have_tiles = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}

int product_available(void)
{
    pthread_once(&asked, ask);
    return have_tiles;
}

/* Memory for tiles, kept from one product to the next: new pages cost as much as a small product. */
static struct {
    pthread_mutex_t busy;
    char *memory;
    int64_t size;
} kept = {.busy = PTHREAD_MUTEX_INITIALIZER};

int product(const float *x, int64_t rows, int64_t in, const float *w, int64_t out, float *y)
{
    const int64_t block = blocks(in) * STEP; /* bytes of 32 rows */
    const int64_t most = MOST_BYTES / block < PANEL_ROWS / SIDE ? PANEL_ROWS / SIDE : MOST_BYTES / block;
    const int64_t left = least(blocks(rows), most), right = least(blocks(out), most);
    const int64_t size = (left + right) * block;
    const int own = pthread_mutex_trylock(&kept.busy) != 0;
    char *memory = own ? NULL : kept.memory;
    if (own || kept.size < size) {
        free(memory);
        if (posix_memalign((void **)&memory, 64, (size_t)size) != 0)
            memory = NULL;
        if (!own) {
            kept.memory = memory;
            kept.size = memory ? size : 0;
        }
    }
    for (int64_t column = 0; memory && column < out; column += right * SIDE) {
        struct product a = {.x = x, .w = w + column * in, .in = in, .y_stride = out, .left = memory};
        a.right = memory + left * block;
        a.out = least(right * SIDE, out - column);
        team_run(lay_out_right, &a, blocks(a.out));
        for (int64_t row = 0; row < rows; row += left * SIDE) {
            a.x = x + row * in;
            a.y = y + row * out + column;
            a.rows = least(left * SIDE, rows - row);
            team_run(lay_out_left, &a, blocks(a.rows));
            team_run(panel, &a, panels(a.rows, PANEL_ROWS) * panels(a.out, PANEL_COLUMNS));
        }
    }
    const int failed = memory == NULL;
    if (own)
        free(memory);
    else
        pthread_mutex_unlock(&kept.busy);
    return failed;
}

#else

int product_available(void)
{
    return 0;
}

int product(const float *x, int64_t rows, int64_t in, const float *w, int64_t out, float *y)
{
    (void)x, (void)rows, (void)in, (void)w, (void)out, (void)y;
    return 1;
}

#endif
