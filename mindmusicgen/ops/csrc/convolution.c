/* Convolutions along time in float32, channels last, for MindSpore's ops.Custom(func_type="aot"):
 *
 *   Convolve  x [B, N, C], the weights' matrix, bias [O], what is added [B, L, O] (or the bias again: nothing), numbers
 *             [10] int32, end [1] int32 -> [B, L, O]
 *
 * The numbers are listed below. Only the first `end` samples of x are real. The matrix is [O, k C], a row going through
 * the taps and then the channels; where the taps are the rows' first axis, [k O, C]; of a transposed convolution
 * [stride O, k / stride C], see `models/convolutions.py`. It returns 0, or non-zero when something does not fit.
 *
 * A product of matrices without the left one: what a block of rows reads is laid out once, time last, padded and, where
 * it is asked for, as its ELU; a tap is a step aside in it. The weights are laid out in panels of 32 columns, all of them
 * first where the rows are many; where they are few, by each thread for itself, one panel after the other, so that large
 * matrices are read once and never written.
 */

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arguments.h"
#include "simd.h"
#include "team.h"

#define PANEL 32      /* columns; a multiple of every two vectors */
#define DEPTH 128     /* of a panel that is used at once: with what it meets it stays in the first cache */
#define LINES 16      /* rows that are laid out at once */
#define STRETCH 256   /* and their channels */
#define MOST_ROWS 16  /* of a product at once; at least every ROWS */
#define NARROW 4      /* up to so many columns, a row meets the weights as they are */
#define NEAR_FLOATS (96 * 1024) /* of what a block reads, a part of the second cache */
#define MOST_PACKED (2 << 20)   /* floats of panels that are all laid out first */
#define BLOCK_ROWS 224 /* of a block at most */
#define BLOCKS_EACH 4           /* wanted for a thread, so that none waits long for the last */
#define KEPT_FLOATS (4 << 20)   /* of memory that stays from one call to the next */

#define HUGE (2 << 20)           /* bytes of a huge page of most CPUs */

enum { TRANSPOSED, TAPS, DILATION, STRIDE, LEFT, REFLECT, ELU, ADDED, TAPS_FIRST, NUMBERS = 10 }; /* the last is spare */

struct convolution {
    const float *x, *weight, *bias, *other; /* other: added, or NULL */
    float *y;
    int64_t clips, samples, channels, end, left, stride; /* stride: samples of a row */
    int64_t depth, taps, first_tap, tap_step, halo;       /* a tap: rows that it lies behind */
    int64_t out, width, tap_stride, row_stride;           /* columns of the product, and of y */
    int64_t rows, length, trim;                           /* of the product; of y; of y that is cut off first */
    int reflect, elu;
    int64_t blocks, block_rows, near_row, each; /* each: floats of a thread */
    float *packed, *near, *memory;
    _Atomic int64_t *next;
};

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t divided_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

/* A sample of the padded clip; NULL where it is zero. What is behind the end's reflection is anything. */
static inline const float *sample(const struct convolution *a, int64_t clip, int64_t index)
{
    int64_t at = index - a->left;
    if (a->reflect) {
        at = at < 0 ? -at : at;
        at = least(at, 2 * a->end - 2 - at);
        at = at < 0 ? 0 : at;
    }
    if (at < 0 || at >= a->end)
        return NULL;
    return a->x + (clip * a->samples + at) * a->channels;
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/* y[c][r] = x[r][c] for LINES rows, a STRETCH apart; squares of four by four, as every CPU has vectors of four. */
static void turn(const float *x, int64_t channels, float *y, int64_t y_row)
{
    typedef int order __attribute__((vector_size(16)));
    const order low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
    int64_t c = 0;
    for (; c + 4 <= channels; c += 4)
        for (int64_t r = 0; r < LINES; r += 4) {
            const float *from = x + r * STRETCH + c;
            float *to = y + c * y_row + r;
            const four a0 = *(const four *)from, a1 = *(const four *)(from + STRETCH);
            const four a2 = *(const four *)(from + 2 * STRETCH), a3 = *(const four *)(from + 3 * STRETCH);
            const four b0 = __builtin_shuffle(a0, a1, low), b1 = __builtin_shuffle(a0, a1, high);
            const four b2 = __builtin_shuffle(a2, a3, low), b3 = __builtin_shuffle(a2, a3, high);
            *(four *)to = __builtin_shuffle(b0, b2, first);
            *(four *)(to + y_row) = __builtin_shuffle(b0, b2, second);
            *(four *)(to + 2 * y_row) = __builtin_shuffle(b1, b3, first);
            *(four *)(to + 3 * y_row) = __builtin_shuffle(b1, b3, second);
        }
    for (; c < channels; c++)
        for (int64_t r = 0; r < LINES; r++)
            y[c * y_row + r] = x[r * STRETCH + c];
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "convolution_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "convolution_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "convolution_simd.h"

static struct {
    task_function pack, blocks, near, panels, narrow;
} loops = {pack_task_base, blocks_task_base, near_task_base, panels_task_base, narrow_task_base};
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512) {
        loops.pack = pack_task_avx512;
        loops.blocks = blocks_task_avx512;
        loops.near = near_task_avx512;
        loops.panels = panels_task_avx512;
        loops.narrow = narrow_task_avx512;
    } else if (simd_level() == SIMD_AVX2) {
        loops.pack = pack_task_avx2;
        loops.blocks = blocks_task_avx2;
        loops.near = near_task_avx2;
        loops.panels = panels_task_avx2;
        loops.narrow = narrow_task_avx2;
    }
#endif
}

/* Memory that is kept, as new pages cost as much as a small convolution; while another thread has it, the caller's own. */
static struct {
    pthread_mutex_t busy;
    float *memory;
    int64_t floats;
} kept = {.busy = PTHREAD_MUTEX_INITIALIZER};

static float *new_memory(int64_t floats)
{
    const size_t bytes = (sizeof(float) * (size_t)floats + HUGE - 1) / HUGE * HUGE;
    void *memory;
    if (posix_memalign(&memory, HUGE, bytes) != 0)
        return NULL;
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE); /* a column of what is laid out lies in as many pages as there are channels */
#endif
    return memory;
}

static float *take_memory(int64_t floats, int *own)
{
    *own = floats > KEPT_FLOATS || pthread_mutex_trylock(&kept.busy) != 0;
    if (*own)
        return new_memory(floats);
    if (kept.floats < floats) {
        free(kept.memory);
        kept.memory = new_memory(floats);
        kept.floats = kept.memory ? floats : 0;
    }
    if (!kept.memory)
        pthread_mutex_unlock(&kept.busy);
    return kept.memory;
}

static void give_memory(float *memory, int own)
{
    if (own)
        free(memory);
    else if (memory)
        pthread_mutex_unlock(&kept.busy);
}

/* How the rows are cut into blocks: such that what a block reads stays near, and each thread has some of them. */
static void cut_into_blocks(struct convolution *a, int64_t threads, int64_t each)
{
    const int64_t near = least(NEAR_FLOATS / a->depth, BLOCK_ROWS), most = near < MOST_ROWS ? MOST_ROWS : near;
    int64_t blocks = divided_up(a->rows, most);
    blocks = blocks < each * threads ? each * threads : blocks;
    a->block_rows = divided_up(divided_up(a->rows, blocks), 4 * 14) * 4 * 14; /* of few blocks none is cut through */
    a->block_rows = least(a->block_rows, divided_up(a->rows, 14) * 14);
    a->blocks = divided_up(a->rows, a->block_rows);
    a->near_row = divided_up(a->block_rows + a->halo + MOST_ROWS, 16) * 16 | 16; /* lines of a set differ */
}

static int narrow(struct convolution *a, int64_t threads)
{
    const int64_t size = a->taps * a->depth;
    int own;
    cut_into_blocks(a, threads, BLOCKS_EACH);
    a->each = (a->block_rows + a->halo) * a->depth + 16;
    float *memory = take_memory(a->out * size + threads * a->each, &own);
    if (!memory)
        return 1;
    a->packed = memory;
    a->memory = memory + a->out * size;
    for (int64_t o = 0; o < a->out; o++)
        for (int64_t tap = 0; tap < a->taps; tap++)
            memcpy(a->packed + o * size + tap * a->depth, a->weight + tap * a->tap_stride + o * a->row_stride,
                   sizeof(float) * (size_t)a->depth);
    team_run(loops.narrow, a, threads);
    give_memory(memory, own);
    return 0;
}

static int many_rows(struct convolution *a, int64_t threads)
{
    const int64_t panels = divided_up(a->out, PANEL), size = panels * PANEL * a->taps * a->depth;
    int own;
    cut_into_blocks(a, threads, BLOCKS_EACH);
    a->each = (a->block_rows + MOST_ROWS) * PANEL + a->depth * a->near_row;
    float *memory = take_memory(size + threads * a->each, &own);
    if (!memory)
        return 1;
    a->packed = memory;
    a->memory = memory + size;
    team_run(loops.pack, a, panels);
    team_run(loops.blocks, a, threads);
    give_memory(memory, own);
    return 0;
}

static int few_rows(struct convolution *a, int64_t threads)
{
    int own;
    cut_into_blocks(a, 1, 1);
    const int64_t near = a->clips * a->blocks * a->depth * a->near_row;
    a->each = (a->block_rows + MOST_ROWS + a->taps * a->depth) * PANEL;
    float *memory = take_memory(near + threads * a->each, &own);
    if (!memory)
        return 1;
    a->near = memory;
    a->memory = memory + near;
    team_run(loops.near, a, a->clips * a->blocks);
    team_run(loops.panels, a, threads);
    give_memory(memory, own);
    return 0;
}

static int convolve_time(struct convolution *a)
{
    _Atomic int64_t next = 0;
    const int64_t threads = team_size();
    a->next = &next;
    pthread_once(&chosen, choose);
    if (a->clips == 0 || a->rows <= 0 || a->length <= 0)
        return 0;
    if (a->out <= NARROW && a->width == a->out && a->stride == 1 && a->tap_step == 1 && a->trim == 0)
        return narrow(a, threads);
    if (divided_up(a->out, PANEL) * PANEL * a->taps * a->depth <= MOST_PACKED)
        return many_rows(a, threads);
    return few_rows(a, threads);
}

/* What the numbers mean for a product of rows; non-zero when they, or the matrix, do not fit. */
static int understand(const struct parameters *p, struct convolution *a)
{
    const int32_t *n = p->data[4];
    const int64_t taps = n[TAPS], stride = n[STRIDE], step = n[DILATION];
    if (taps < 1 || stride < 1 || step < 1 || n[LEFT] < 0 || a->end < 0 || a->end > a->samples)
        return 1;
    a->taps = taps;
    a->reflect = n[REFLECT];
    a->elu = n[ELU];
    a->left = n[LEFT];
    a->stride = 1;
    a->depth = a->channels;
    a->out = a->width;
    if (n[TRANSPOSED]) {
        a->first_tap = a->left = a->halo = taps - 1;
        a->tap_step = -1;
        a->out = stride * a->width;
        a->rows = a->samples + taps - 1;
        a->trim = n[LEFT];
        return a->reflect || !IS(p, 1, "float32", a->out, taps * a->depth) || a->length != a->samples * stride;
    }
    a->stride = stride;
    a->depth = stride * a->channels;
    a->tap_step = step;
    a->halo = (taps - 1) * step;
    a->rows = a->length;
    if (n[TAPS_FIRST])
        return !IS(p, 1, "float32", taps * a->width, a->depth);
    return !IS(p, 1, "float32", a->width, taps * a->depth);
}

EXPORT int Convolve(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                    void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 7 || ndims[0] != 3 || ndims[2] != 1 || ndims[6] != 3 || !IS(&p, 4, "int32", NUMBERS) ||
        !is_number(&p, 5, "int32"))
        return 1;
    struct convolution a = {.x = params[0], .weight = params[1], .bias = params[2], .y = params[6]};
    const int32_t *numbers = params[4];
    a.clips = shapes[0][0];
    a.samples = shapes[0][1];
    a.channels = shapes[0][2];
    a.width = shapes[2][0];
    a.length = shapes[6][1];
    a.end = *(const int32_t *)params[5];
    if (!IS(&p, 0, "float32", a.clips, a.samples, a.channels) || !IS(&p, 2, "float32", a.width) ||
        !IS(&p, 6, "float32", a.clips, a.length, a.width) || understand(&p, &a))
        return 2;
    if (numbers[ADDED]) {
        if (!IS(&p, 3, "float32", a.clips, a.length, a.width))
            return 3;
        a.other = params[3];
    }
    a.tap_stride = numbers[TAPS_FIRST] && !numbers[TRANSPOSED] ? a.width * a.depth : a.depth;
    a.row_stride = numbers[TAPS_FIRST] && !numbers[TRANSPOSED] ? a.depth : a.taps * a.depth;
    return convolve_time(&a) ? 4 : 0;
}
