/* Attention of whole sequences on the tile unit: scores and mixtures are products of tiles, the softmax is float32's.
 *
 * For each head the keys and values become tiles once. Then threads take blocks of 32 queries in turn: their scores, the
 * weights of these, and the weights as tiles stay in memory of the thread's own.
 */

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "product.h"
#include "team.h"

#ifdef HAVE_TILES

#include "tiles.h"

#define SIMD(name) name##_tiles
#define LANES 16
#include "vectors_simd.h"

#define MOST_BYTES (16 << 20) /* of the tiles of keys and values that are made at once */

struct job {
    const struct sequence *s;
    char *keys, *values, *own; /* tiles of all heads of the job; memory of each thread */
    int64_t first, heads;      /* of all heads of all rows */
    int64_t head_bytes, own_bytes;
    _Atomic int64_t next; /* block of queries */
};

/* q of a head; k and v lie dim and 2 dim floats behind it. */
static const float *queries_of(const struct sequence *s, int64_t head)
{
    return s->qkv + head / s->heads * s->columns * 3 * s->heads * s->d + head % s->heads * s->d;
}

/* 32 rows of values as the step `step` of right matrices whose rows are the values' columns. */
TARGET static inline void lay_out_values(const float *v, int64_t count, int64_t d, int64_t stride, int64_t step, int64_t steps,
                                         char *tiles, int parts)
{
    static const uint16_t low[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i first = _mm512_loadu_si512(low), second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    for (int64_t column = 0; column < d; column += SIDE) {
        char *to = tiles + (column / SIDE * steps + step) * STEP(parts);
        for (int64_t pair = 0; pair < SIDE / 2; pair++) {
            __m512i cuts[2][3];
            for (int64_t r = 0; r < 2; r++) {
                const int64_t row = 2 * pair + r;
                cut(row < count ? v + row * stride + column : v, row < count ? d - column : 0, 1, cuts[r], parts);
            }
            for (int part = 0; part < parts; part++) {
                char *tile = to + 2 * part * TILE + pair * 64;
                _mm512_store_si512(tile, _mm512_permutex2var_epi16(cuts[0][part], first, cuts[1][part]));
                _mm512_store_si512(tile + TILE, _mm512_permutex2var_epi16(cuts[0][part], second, cuts[1][part]));
            }
        }
    }
}

/* 32 keys and values of one head, as tiles and into the caches. */
TARGET static inline void lay_out_both(const struct job *job, int64_t task, int cuts)
{
    const struct sequence *s = job->s;
    const int64_t parts = blocks(s->columns), index = task / parts, block = task % parts, head = job->first + index;
    const int64_t dim = s->heads * s->d, start = block * SIDE, count = least(SIDE, s->columns - start);
    const float *k = queries_of(s, head) + dim, *v = k + dim + start * 3 * dim;
    lay_out(k, s->columns, s->d, 3 * dim, 1, block, job->keys + index * job->head_bytes, 1, cuts);
    lay_out_values(v, count, s->d, 3 * dim, block, parts, job->values + index * job->head_bytes,
                   cuts);
    for (int64_t c = start; s->keys && c < start + count; c++) {
        memcpy(s->keys + (head * s->length + c) * s->d, k + c * 3 * dim, sizeof(float) * (size_t)s->d);
        memcpy(s->values + (head * s->length + c) * s->d, k + dim + c * 3 * dim, sizeof(float) * (size_t)s->d);
    }
}

/* One task. */
TARGET static void prepare(const void *arguments, int64_t task)
{
    const struct job *job = arguments;
    if (job->s->rough)
        lay_out_both(job, task, 1);
    else
        lay_out_both(job, task, 3);
}

/* 32 queries of one head. */
TARGET static inline void attend(const struct job *job, int64_t index, int64_t block, char *own, int parts)
{
    const struct sequence *s = job->s;
    const int64_t n = s->columns, d = s->d, dim = s->heads * d, wide = blocks(n) * SIDE, across = blocks(d) * SIDE;
    const int64_t first = block * SIDE, count = least(SIDE, n - first), head = job->first + index;
    const int64_t reach = s->causal ? first + SIDE : wide;
    const char *keys = job->keys + index * job->head_bytes, *values = job->values + index * job->head_bytes;
    char *queries = own, *weights = queries + blocks(d) * STEP(parts);
    float *scores = (float *)(weights + blocks(n) * STEP(parts)), *mixed = scores + SIDE * wide, totals[SIDE];
    float *out = s->out + (head / s->heads * n + first) * s->out_stride + head % s->heads * d;
    lay_out(queries_of(s, head) + first * 3 * dim, count, d, 3 * dim, s->factor, 0, queries, 0, parts);
    for (int64_t column = 0; column < reach; column += SIDE)
        multiply(queries, keys + column / SIDE * blocks(d) * STEP(parts), blocks(d), scores + column, wide, 0, parts);
    for (int64_t r = 0; r < count; r++)
        totals[r] = soften_tiles(scores + r * wide, s->causal ? first + r + 1 : n, reach);
    lay_out(scores, count, reach, wide, 1, 0, weights, 0, parts);
    for (int64_t column = 0; column < across; column += SIDE)
        multiply(weights, values + column / SIDE * blocks(n) * STEP(parts), blocks(reach), mixed + column, across, 0,
                 parts);
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < d; i++)
            out[r * s->out_stride + i] = mixed[r * across + i] / totals[r];
}

/* One task: a thread that takes blocks of queries until none is left; of causal ones the longest first. */
TARGET static void work(const void *arguments, int64_t task)
{
    struct job *job = (struct job *)arguments;
    const int64_t each = blocks(job->s->columns), all = job->heads * each;
    begin_tiles();
    for (int64_t i = atomic_fetch_add(&job->next, 1); i < all; i = atomic_fetch_add(&job->next, 1)) {
        char *own = job->own + task * job->own_bytes;
        if (job->s->rough)
            attend(job, i % job->heads, each - 1 - i / job->heads, own, 1);
        else
            attend(job, i % job->heads, each - 1 - i / job->heads, own, 3);
    }
    end_tiles();
}

int tile_attention(const struct sequence *s)
{
    const int64_t n = s->columns, all = s->rows * s->heads, threads = team_size();
    const int64_t head_bytes = blocks(n) * blocks(s->d) * STEP(3);
    const int64_t own_bytes = (blocks(s->d) + blocks(n)) * STEP(3) +
                              (int64_t)sizeof(float) * SIDE * SIDE * (blocks(n) + blocks(s->d));
    const int64_t most = MOST_BYTES / (2 * head_bytes), heads = least(all, most < 1 ? 1 : most);
    int own;
    char *memory;
    if (!product_available() || !(memory = take_tiles(2 * heads * head_bytes + threads * own_bytes, &own)))
        return 1;
    for (int64_t first = 0; first < all; first += heads) {
        struct job job = {.s = s, .keys = memory, .first = first, .head_bytes = head_bytes, .own_bytes = own_bytes};
        job.values = memory + heads * head_bytes;
        job.own = job.values + heads * head_bytes;
        job.heads = least(heads, all - first);
        team_run(prepare, &job, job.heads * blocks(n));
        team_run(work, &job, threads);
    }
    give_tiles(memory, own);
    return 0;
}

#else

int tile_attention(const struct sequence *s)
{
    (void)s;
    return 1;
}

#endif
