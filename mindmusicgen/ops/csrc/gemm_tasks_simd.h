/* The tasks of gemm.c, compiled once per instruction set. */

#include "vectors_simd.h"

#include "gemm_simd.h"

/* One task: a panel of the right matrix. */
TARGET static void SIMD(pack_task)(const void *arguments, int64_t task)
{
    const struct job *job = arguments;
    const struct gemm *g = &job->g;
    SIMD(pack)(g->b + task * NR * g->b_column, g->b_row, g->b_column, g->k, g->n - task * NR,
               job->panels + task * NR * job->depth);
}

/* MR of `rows` rows that lie beside each other, k columns of them. Whole vectors are copied, of which the next block or
 * what COPY has left overwrites or takes the end. */
INLINE void SIMD(copy_block)(const float *a, int64_t a_column, int64_t k, int64_t rows, float *copy)
{
    if (rows >= (MR + LANES - 1) / LANES * LANES) {
        for (int64_t i = 0; i < k; i++)
            for (int r = 0; r < MR; r += LANES)
                STORE(copy + i * MR + r, LOAD(a + i * a_column + r));
        return;
    }
    for (int64_t i = 0; i < k; i++)
        for (int64_t r = 0; r < MR && r < rows; r++)
            copy[i * MR + r] = a[i * a_column + r];
}

/* One task: a tile of the result. A left matrix whose rows lie beside each other is laid out as blocks of MR rows first:
 * its columns would each be on a page of their own. */
TARGET static void SIMD(tile_task)(const void *arguments, int64_t task)
{
    const struct job *job = arguments;
    const struct gemm *g = &job->g;
    const int64_t row = task % job->down * job->tile_rows, column = task / job->down * job->tile_columns;
    const int64_t m = g->m - row < job->tile_rows ? g->m - row : job->tile_rows;
    const int64_t n = g->n - column < job->tile_columns ? g->n - column : job->tile_columns;
    float *copy = job->copies + task * COPY;
    for (int64_t first = 0; first < g->k; first += DEPTH) {
        const int64_t k = g->k - first < DEPTH ? g->k - first : DEPTH, at = row * g->c_row + column;
        const float *a = g->a + row * g->a_row + first * g->a_column;
        const float *panels = job->panels + column * job->depth + first * NR;
        const int last = first + k >= g->k;
        const struct SIMD(finish) f = {g->c + at, first ? g->c + at : g->init ? g->init + at : NULL,
                                       last && g->gate ? g->gate + at : NULL, g->c_row, last && g->relu};
        if (g->a_row != 1) {
            SIMD(multiply)(a, g->a_row, 1, m, n, k, panels, NR * job->depth, &f);
            continue;
        }
        for (int64_t block = 0; block < m; block += MR)
            SIMD(copy_block)(a + block, g->a_column, k, g->m - row - block, copy + block * k);
        for (int64_t c = 0; c < n; c += NR)
            for (int64_t block = 0; block < m; block += MR) {
                const int64_t here = block * g->c_row + c;
                const struct SIMD(finish) part = {f.c + here, f.init ? f.init + here : NULL,
                                                  f.gate ? f.gate + here : NULL, f.row, f.relu};
                SIMD(multiply)(copy + block * k, 1, MR, m - block < MR ? m - block : MR, n - c < NR ? n - c : NR, k,
                               panels + c * job->depth, 0, &part);
            }
    }
}

#include "gemm_undo.h"
