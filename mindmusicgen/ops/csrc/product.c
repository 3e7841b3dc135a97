/* Matrix products of float32 on the tile unit (AMX) of server CPUs, which itself multiplies bfloat16 only.
 *
 * A float32 has 24 significant bits, a bfloat16 has 8: cutting the bits off in turn gives x = x1 + x2 + x3 exactly. Of
 * the nine products of two numbers' parts the six largest are summed, in float32; the three that are left out are below
 * 2^-21 of the whole, less than what rounding a long sum costs. Six products of tiles are still several times quicker
 * than one of AVX-512.
 *
 * Where the right matrix is of bfloat16, the left one is rounded to it, and one product of tiles is all: that is what
 * bfloat16 means on a CPU, operands of 8 bits and sums of 24.
 *
 * Both matrices are first cut and laid out as tiles.h says.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"
#include "simd.h"
#include "team.h"

#ifdef HAVE_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.h"

#define STEPS(parts) (18 / (parts)) /* whose tiles stay near while they are used: 36 KB of a block; best of 12 to 48 */
#define PANEL_ROWS 256             /* of the result, in one task */
#define PANEL_COLUMNS 128
#define MOST_BYTES (8 << 20)       /* of the tiles of one matrix that are made at once */

struct product {
    const float *x, *bias; /* [rows, in], [out] or NULL */
    const void *w;         /* [out, in], float32 of three parts or bfloat16 of one */
    int parts;
    float *y;                  /* rows y_stride apart */
    int64_t rows, out, in, steps, y_stride;
    char *left, *right; /* tiles */
    const struct picture *picture; /* whose neighbourhoods are the rows of x, if there is one */
    int64_t first;                 /* of its pixels, the first row */
};

static int64_t taps_of(const struct picture *p)
{
    return p ? p->tall * p->wide : 1;
}

/* The windows around 32 pixels of the result, each pixel's channels filled up to whole steps; zeros outside. */
TARGET static inline void lay_out_pixels(const struct product *a, int64_t block, int parts)
{
    const struct picture *p = a->picture;
    char *tiles = a->left + block * a->steps * STEP(parts);
    int64_t lines[SIDE], columns[SIDE], pictures[SIDE];
    for (int64_t r = 0; r < SIDE; r++) {
        const int64_t pixel = a->first + block * SIDE + r, line = pixel / p->out_width;
        columns[r] = pixel % p->out_width * p->stride;
        lines[r] = line % p->out_height * p->stride;
        pictures[r] = line / p->out_height;
    }
    for (int64_t tap = 0; tap < taps_of(p); tap++) {
        const int64_t down = tap / p->wide - p->tall / 2, aside = (tap % p->wide - p->wide / 2) * p->dilation;
        const float *from[SIDE];
        for (int64_t r = 0; r < SIDE; r++) {
            const int64_t line = lines[r] + down, column = columns[r] + aside;
            const int there = block * SIDE + r < a->rows && line >= 0 && line < p->height && column >= 0 &&
                              column < p->width;
            from[r] = there ? a->x + ((pictures[r] * p->height + line) * p->width + column) * p->channels : NULL;
        }
        for (int64_t first = 0; first < p->channels; first += SIDE, tiles += STEP(parts))
            for (int r = 0; r < SIDE; r++) {
                __m512i rows[3];
                cut(from[r] ? from[r] + first : a->x, from[r] ? p->channels - first : 0, 1, rows, parts);
                for (int part = 0; part < parts; part++)
                    _mm512_store_si512(tiles + (2 * part + r / 16) * TILE + r % 16 * 64, rows[part]);
            }
    }
}

/* One task; a compiler's constant for the parts. */
TARGET static void lay_out_left(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    if (a->picture && a->parts == 1)
        lay_out_pixels(a, block, 1);
    else if (a->picture)
        lay_out_pixels(a, block, 3);
    else if (a->parts == 1)
        lay_out(a->x, a->rows, a->in, a->in, 1, block, a->left, 0, 1);
    else
        lay_out(a->x, a->rows, a->in, a->in, 1, block, a->left, 0, 3);
}

TARGET static void lay_out_right(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    const int64_t taps = taps_of(a->picture), in = a->in / taps;
    for (int64_t tap = 0; tap < taps; tap++) {
        char *tiles = a->right + (block * (a->steps - blocks(in)) + tap * blocks(in)) * STEP(a->parts);
        if (a->parts == 1)
            lay_out_halves((const uint16_t *)a->w + tap * in, a->out, in, a->in, block, tiles);
        else
            lay_out((const float *)a->w + tap * in, a->out, in, a->in, 1, block, tiles, 1, 3);
    }
}

static int64_t panels(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* One task: a panel of the result. */
TARGET static void panel(const void *arguments, int64_t task)
{
    const struct product *a = arguments;
    const int64_t across = panels(a->out, PANEL_COLUMNS), steps = a->steps, near = STEPS(a->parts);
    const int64_t top = task / across * PANEL_ROWS, first = task % across * PANEL_COLUMNS;
    const int64_t bottom = least(top + PANEL_ROWS, a->rows), last = least(first + PANEL_COLUMNS, a->out);
    for (int64_t row = top; a->bias && row < bottom; row++)
        memcpy(a->y + row * a->y_stride + first, a->bias + first, sizeof(float) * (size_t)(last - first));
    begin_tiles();
    for (int64_t step = 0; step < steps; step += near)
        for (int64_t row = top; row < bottom; row += SIDE)
            for (int64_t column = first; column < last; column += SIDE) {
                const char *left = a->left + (row / SIDE * steps + step) * STEP(a->parts);
                const char *right = a->right + (column / SIDE * steps + step) * STEP(a->parts);
                const int64_t count = least(near, steps - step);
                float *y = a->y + row * a->y_stride + column;
                const int add = step > 0 || a->bias;
                if (row + SIDE <= a->rows && column + SIDE <= a->out)
                    multiply(left, right, count, y, a->y_stride, add, a->parts);
                else
                    multiply_edge(left, right, count, y, a->y_stride, add, least(SIDE, a->rows - row),
                                  least(SIDE, a->out - column), a->parts);
            }
    end_tiles();
}

/* ---- the whole ---- */

static int have_tiles;
static pthread_once_t asked = PTHREAD_ONCE_INIT;

static void ask(void)
{
    unsigned a, b, c, d;
    if (simd_level() != SIMD_TILES)
        return;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) /* amx-bf16, amx-tile */
        return;
    have_tiles = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16") &&
                 syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}

int product_available(void)
{
    pthread_once(&asked, ask);
    return have_tiles;
}

static struct {
    pthread_mutex_t busy;
    char *memory;
    int64_t size;
} kept = {.busy = PTHREAD_MUTEX_INITIALIZER};

char *take_tiles(int64_t size, int *own)
{
    *own = pthread_mutex_trylock(&kept.busy) != 0;
    char *memory = *own ? NULL : kept.memory;
    if (*own || kept.size < size) {
        free(memory);
        if (posix_memalign((void **)&memory, 64, (size_t)size) != 0)
            memory = NULL;
        if (!*own) {
            kept.memory = memory;
            kept.size = memory ? size : 0;
        }
    }
    return memory;
}

void give_tiles(char *memory, int own)
{
    if (own)
        free(memory);
    else
        pthread_mutex_unlock(&kept.busy);
}

/* All of `whole`, piece by piece where its tiles would take too much memory. */
static int multiply_all(const struct product *whole)
{
    const int64_t block = whole->steps * STEP(whole->parts); /* bytes of 32 rows */
    const int64_t most = MOST_BYTES / block < PANEL_ROWS / SIDE ? PANEL_ROWS / SIDE : MOST_BYTES / block;
    const int64_t left = least(blocks(whole->rows), most), right = least(blocks(whole->out), most);
    int own;
    char *memory = take_tiles((left + right) * block, &own);
    for (int64_t column = 0; memory && column < whole->out; column += right * SIDE) {
        struct product a = *whole;
        a.left = memory;
        a.right = memory + left * block;
        a.w = (const char *)a.w + column * a.in * (a.parts == 1 ? 2 : 4);
        a.bias = a.bias ? a.bias + column : NULL;
        a.out = least(right * SIDE, whole->out - column);
        team_run(lay_out_right, &a, blocks(a.out));
        for (a.first = 0; a.first < whole->rows; a.first += left * SIDE) {
            a.x = a.picture ? whole->x : whole->x + a.first * a.in;
            a.y = whole->y + a.first * a.y_stride + column;
            a.rows = least(left * SIDE, whole->rows - a.first);
            team_run(lay_out_left, &a, blocks(a.rows));
            team_run(panel, &a, panels(a.rows, PANEL_ROWS) * panels(a.out, PANEL_COLUMNS));
        }
    }
    give_tiles(memory, own);
    return memory == NULL;
}

int product(const float *x, int64_t rows, int64_t in, const void *w, int parts, int64_t out, float *y)
{
    return multiply_all(&(struct product){.x = x, .w = w, .parts = parts, .y = y, .rows = rows, .out = out, .in = in,
                                          .steps = blocks(in), .y_stride = out});
}

int convolve(const struct picture *p, const float *x, const void *w, int parts, const float *bias, int64_t out, float *y)
{
    return multiply_all(&(struct product){.x = x, .w = w, .parts = parts, .bias = bias, .y = y, .out = out,
                                          .in = taps_of(p) * p->channels, .y_stride = out, .picture = p,
                                          .rows = p->pictures * p->out_height * p->out_width,
                                          .steps = taps_of(p) * blocks(p->channels)});
}

#else

int product_available(void)
{
    return 0;
}

int product(const float *x, int64_t rows, int64_t in, const void *w, int parts, int64_t out, float *y)
{
    (void)x, (void)rows, (void)in, (void)w, (void)parts, (void)out, (void)y;
    return 1;
}

int convolve(const struct picture *p, const float *x, const void *w, int parts, const float *bias, int64_t out, float *y)
{
    (void)p, (void)x, (void)w, (void)parts, (void)bias, (void)out, (void)y;
    return 1;
}

#endif
