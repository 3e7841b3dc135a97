/* Float32 matrix products on the tile unit (AMX) of server CPUs, which itself multiplies bfloat16 only.
 *
 * A float32 has 24 significant bits, a bfloat16 has 8: cutting the bits off in turn gives x = x1 + x2 + x3 exactly. Of
 * the nine products of two numbers' parts the six largest are summed, in float32; the three that are left out are below
 * 2^-21 of the whole, less than what rounding a long sum costs. Six products of tiles are still several times quicker
 * than one of AVX-512.
 *
 * Both matrices are first cut and laid out as tiles.h says.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"
#include "team.h"

#ifdef HAVE_TILES

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiles.h"

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

static void lay_out_left(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    lay_out(a->x, a->rows, a->in, a->in, 1, block, a->left, 0);
}

static void lay_out_right(const void *arguments, int64_t block)
{
    const struct product *a = arguments;
    lay_out(a->w, a->out, a->in, a->in, 1, block, a->right, 1);
}

static int64_t panels(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* One task: a panel of the result. */
TARGET static void panel(const void *arguments, int64_t task)
{
    const struct product *a = arguments;
    const int64_t across = panels(a->out, PANEL_COLUMNS), steps = blocks(a->in);
    const int64_t top = task / across * PANEL_ROWS, first = task % across * PANEL_COLUMNS;
    const int64_t bottom = least(top + PANEL_ROWS, a->rows), last = least(first + PANEL_COLUMNS, a->out);
    begin_tiles();
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
    end_tiles();
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

int product(const float *x, int64_t rows, int64_t in, const float *w, int64_t out, float *y)
{
    const int64_t block = blocks(in) * STEP; /* bytes of 32 rows */
    const int64_t most = MOST_BYTES / block < PANEL_ROWS / SIDE ? PANEL_ROWS / SIDE : MOST_BYTES / block;
    const int64_t left = least(blocks(rows), most), right = least(blocks(out), most);
    int own;
    char *memory = take_tiles((left + right) * block, &own);
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
    give_tiles(memory, own);
    return memory == NULL;
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
