/* Float32 matrix products of any layout, with what training puts behind them; see gemm.h and gemm_simd.h.
 *
 * The right matrix is first laid out in panels by the whole team; then each task makes a tile of the result, DEPTH deep
 * at a time, so that the panel in use and the rows that meet it stay near. Where the CPU has a tile unit, products of a
 * linear layer go to product.c.
 */

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gemm.h"
#include "product.h"
#include "simd.h"
#include "team.h"

#define DEPTH 256            /* a panel of it, 32 KB with 512 bits, stays in the first cache */
#define MOST_FLOATS (4 << 20) /* of panels at once */
#define TILE_ROWS 120        /* of a task at most; a multiple of every MR */
#define COPY (TILE_ROWS * DEPTH + 16) /* floats of a task's copy of the left matrix */
#define TASKS_EACH 4         /* wanted for a thread, so that none waits long for the last */

struct job {
    struct gemm g;
    float *panels, *copies;
    int64_t depth, tile_rows, tile_columns, down; /* depth: of the panels */
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "gemm_tasks_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "gemm_tasks_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "gemm_tasks_simd.h"

static struct {
    task_function pack, tile;
    int64_t width; /* of a panel */
} loops = {pack_task_base, tile_task_base, 8};
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512) {
        loops.pack = pack_task_avx512;
        loops.tile = tile_task_avx512;
        loops.width = 32;
    } else if (simd_level() == SIMD_AVX2) {
        loops.pack = pack_task_avx2;
        loops.tile = tile_task_avx2;
        loops.width = 16;
    }
#endif
}

static int64_t over(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* Rows and columns of a task. */
static void cut_into_tiles(struct job *job)
{
    const int64_t wanted = TASKS_EACH * (int64_t)team_size(), m = job->g.m, n = job->g.n;
    int64_t rows = over(over(m, wanted), 12) * 12;
    rows = rows < 48 ? 48 : rows > TILE_ROWS ? TILE_ROWS : rows;
    const int64_t down = over(m, rows), across = over(wanted, down);
    int64_t columns = over(over(n, across), 64) * 64;
    job->tile_rows = rows;
    job->tile_columns = columns;
    job->down = down;
}

int gemm(const struct gemm *g)
{
    struct job job = {.g = *g};
    int own;
    if (g->m < 1 || g->n < 1)
        return 0;
    pthread_once(&chosen, choose);
    cut_into_tiles(&job);
    const int64_t panels = over(g->n, loops.width), tasks = job.down * over(g->n, job.tile_columns);
    const int64_t most = MOST_FLOATS / (panels * loops.width) / DEPTH * DEPTH;
    job.depth = g->k < most ? g->k : most < DEPTH ? DEPTH : most;
    const int64_t room = job.depth * panels * loops.width;
    float *memory = (float *)take_tiles(4 * (room + (g->a_row == 1 ? tasks * COPY : 0)), &own);
    job.panels = memory;
    job.copies = memory + room;
    for (int64_t first = 0; memory && (first < g->k || first == 0); first += job.depth) {
        job.g.a = g->a + first * g->a_column;
        job.g.b = g->b + first * g->b_row;
        job.g.k = g->k - first < job.depth ? g->k - first : job.depth;
        job.g.init = first ? g->c : g->init;
        const int last = first + job.g.k >= g->k;
        job.g.gate = last ? g->gate : NULL;
        job.g.relu = last && g->relu;
        team_run(loops.pack, &job, panels);
        team_run(loops.tile, &job, tasks);
    }
    give_tiles((char *)memory, own);
    return memory == NULL;
}

int gemm_forward(const float *x, const float *w, const float *init, int relu, float *y, int64_t rows, int64_t in,
                 int64_t out)
{
    if (!init && !relu && product_available())
        return product(x, rows, in, w, 3, out, y);
    return gemm(&(struct gemm){.a = x, .b = w, .c = y, .init = init, .relu = relu, .m = rows, .n = out, .k = in,
                               .a_row = in, .a_column = 1, .b_row = 1, .b_column = in, .c_row = out});
}

int gemm_input(const float *dy, const float *w, const float *gate, float *dx, int64_t rows, int64_t in, int64_t out)
{
    return gemm(&(struct gemm){.a = dy, .b = w, .c = dx, .gate = gate, .m = rows, .n = in, .k = out, .a_row = out,
                               .a_column = 1, .b_row = in, .b_column = 1, .c_row = in});
}

int gemm_weight(const float *dy, const float *x, float *dw, int64_t rows, int64_t in, int64_t out)
{
    return gemm(&(struct gemm){.a = dy, .b = x, .c = dw, .m = out, .n = in, .k = rows, .a_row = 1, .a_column = out,
                               .b_row = in, .b_column = 1, .c_row = in});
}
