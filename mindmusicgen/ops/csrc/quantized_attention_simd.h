/* Attention over the 8-bit cache and over the prompt; a part of quantized_simd.h, which includes it. */

/* Write d numbers in 8 bits: runs of `run` numbers that lie run_bytes apart, in a run one every `step` bytes. Returns
 * their scale, NaN if one is not finite. */
INLINE float SIMD(store_column)(const float *from, int64_t d, uint8_t *to, int64_t run, int64_t step, int64_t run_bytes)
{
    uint8_t codes[MAX_HEAD];
    VEC highest = {0}, zeros = {0};
    int64_t i = 0;
    for (; i + LANES <= d; i += LANES) {
        const VEC v = LOAD(from + i), a = ABSOLUTE(v);
        zeros += v * 0.0f;
        highest = SELECT(a > highest, a, highest);
    }
    float top = SIMD(largest)(highest), bad = SIMD(sum)(zeros);
    for (; i < d; i++) {
        const float a = fabsf(from[i]);
        bad += from[i] * 0.0f;
        top = a > top ? a : top;
    }
    const float inverse = top > TINY ? 127.0f / top : 0.0f;
    for (i = 0; i < d; i++)
        codes[i] = (uint8_t)((int32_t)ROUND(from[i] * inverse) + ZERO);
    for (int64_t start = 0; start < d; start += run, to += run_bytes) {
        const int64_t count = d - start < run ? d - start : run;
        for (i = 0; i < count; i++)
            to[i * step] = codes[start + i];
    }
    return (top > TINY ? top / 127.0f : 0.0f) + bad;
}

/* Keys and values of one column and one head into the cache. */
INLINE void SIMD(append)(const struct cache *c, int64_t head, int64_t column, const float *k, const float *v)
{
    const int64_t d = c->d, key_quads = (d + QUAD - 1) / QUAD;
    uint8_t *key = c->keys + (head * c->tiles + column / TILE) * key_quads * (TILE * QUAD) + column % TILE * QUAD;
    uint8_t *value = c->values + head * ((d + TILE - 1) / TILE) * c->tiles * TILE * TILE +
                     column / QUAD * (TILE * QUAD) + column % QUAD;
    const int64_t place = head * c->tiles * TILE + column;
    c->key_scale[place] = SIMD(store_column)(k, d, key, QUAD, 1, TILE * QUAD);
    c->value_scale[place] = SIMD(store_column)(v, d, value, TILE, QUAD, c->tiles * TILE * TILE);
}

/* One task: fill the cache of one head with columns 0 .. filled - 1 of keys and values. */
TARGET static void SIMD(fill_task)(const void *arguments, int64_t head)
{
    const struct attention *a = arguments;
    const int64_t begin = head / a->heads * a->row_stride + head % a->heads * a->head_stride;
    for (int64_t column = 0; column < a->filled; column++) {
        const int64_t from = begin + column * a->column_stride;
        SIMD(append)(&a->cache, head, column, a->k + from, a->v + from);
    }
}

/* The highest of `columns` scores and of `highest`; what follows up to a multiple of TILE becomes -inf. */
INLINE float SIMD(highest_score)(float *score, int64_t columns, float highest)
{
    const int64_t end = (columns + TILE - 1) / TILE * TILE;
    VEC most = (VEC){0} + highest;
    for (int64_t c = columns; c < end; c++)
        score[c] = -INFINITY;
    for (int64_t c = 0; c < end; c += LANES) {
        const VEC s = LOAD(score + c);
        most = SELECT(s > most, s, most);
    }
    return SIMD(largest)(most);
}

/* weight[c] = exp(weight[c] - highest) for `columns` columns up to a multiple of TILE; returns their sum. */
INLINE float SIMD(exponentials)(float *weight, int64_t columns, float highest)
{
    const int64_t end = (columns + TILE - 1) / TILE * TILE;
    VEC sums = {0};
    for (int64_t c = 0; c < end; c += LANES) {
        const VEC e = SIMD(exp)(LOAD(weight + c) - highest);
        STORE(weight + c, e);
        sums += e;
    }
    return SIMD(sum)(sums);
}

/* out[0 .. d) += weights of a block of columns . values; `next`: keys that come after these. */
INLINE void SIMD(add_values)(const struct cache *c, int64_t head, int64_t start, int64_t columns, float *weight,
                             const uint8_t *next, VEC *out)
{
    static const float ones[TILE] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const int64_t tiles = (c->d + TILE - 1) / TILE, padded = (columns + TILE - 1) / TILE * TILE;
    const float *scale = c->value_scale + head * c->tiles * TILE + start;
    int16_t codes[BLOCK];
    float scales[BLOCK / GROUP];
    int32_t offsets[BLOCK / GROUP];
    for (int64_t i = 0; i < padded; i += LANES)
        STORE(weight + i, LOAD(weight + i) * LOAD(scale + i));
    for (int64_t i = columns; i < padded; i++)
        weight[i] = 0; /* a scale that was never written may be anything */
    SIMD(quantise)(weight, padded, GROUP, ZERO, codes, scales, offsets);
    struct operand m = {.scale = ones, .tile_bytes = c->tiles * TILE * TILE, .ahead_vector = TILE * QUAD};
    m.codes = c->values + head * tiles * m.tile_bytes + start * TILE;
    m.ahead = next;
    m.ahead_tile = padded * TILE;
    int64_t t = 0;
    for (; t + 4 <= tiles; t += 4, m.codes += 4 * m.tile_bytes, m.ahead += 4 * m.ahead_tile)
        SIMD(products)(1, 4, &m, codes, 0, scales, offsets, 0, padded / QUAD, out + t * PARTS);
    for (; t < tiles; t++, m.codes += m.tile_bytes, m.ahead += m.ahead_tile)
        SIMD(products)(1, 1, &m, codes, 0, scales, offsets, 0, padded / QUAD, out + t * PARTS);
}

/* One head of the new column. Scores and values are products like those of a linear layer, with the cached
 * keys and values in the place of weights; the softmax takes BLOCK columns at a time and rescales what came before. While
 * the scores of a block are found, its values come from memory, and then the keys of the next block or of the head
 * `next`. */
TARGET static void SIMD(self_attention)(const struct attention *a, int64_t head, int64_t next)
{
    const struct cache *c = &a->cache;
    const int64_t d = c->d, row = head / a->heads, width = a->heads * d;
    const float *q = a->q + row * a->q_stride + head % a->heads * d;
    const int64_t quads = (d + QUAD - 1) / QUAD, padded = (d + TILE - 1) / TILE * TILE;
    float scaled[MAX_HEAD] = {0}, weight[BLOCK], highest = -FLT_MAX, total = 0;
    int16_t codes[MAX_HEAD];
    float scales[MAX_HEAD / GROUP];
    int32_t offsets[MAX_HEAD / GROUP];
    VEC out[MAX_HEAD / LANES];

    SIMD(append)(c, head, a->filled - 1, q + width, q + 2 * width);
    for (int64_t i = 0; i < d; i++)
        scaled[i] = q[i] * a->factor;
    SIMD(quantise)(scaled, padded, GROUP, ZERO, codes, scales, offsets);
    for (int64_t i = 0; i < padded / LANES; i++)
        out[i] = (VEC){0};
    for (int64_t start = 0; start < a->filled; start += BLOCK) {
        const int64_t columns = a->filled - start < BLOCK ? a->filled - start : BLOCK;
        const int64_t first = head * c->tiles + start / TILE, tiles = (columns + TILE - 1) / TILE;
        struct operand m = {.scale_tile = TILE, .tile_bytes = quads * (TILE * QUAD), .ahead_vector = TILE * QUAD};
        const uint8_t *values = c->values + head * padded * c->tiles * TILE + start * TILE;
        m.ahead_tile = c->tiles * TILE * TILE;
        for (int64_t t = 0; t < tiles;) {
            m.codes = c->keys + (first + t) * m.tile_bytes;
            m.ahead = values + t * (TILE * TILE);
            m.scale = c->key_scale + (first + t) * TILE;
            VEC scores[4 * PARTS] = {{0}};
            const int many = tiles - t >= 4 ? 4 : 1;
            if (many == 4)
                SIMD(products)(1, 4, &m, codes, 0, scales, offsets, 0, quads, scores);
            else
                SIMD(products)(1, 1, &m, codes, 0, scales, offsets, 0, quads, scores);
            memcpy(weight + t * TILE, scores, sizeof(float) * (size_t)(many * TILE));
            t += many;
        }
        const float before = highest;
        highest = SIMD(highest_score)(weight, columns, highest);
        const VEC keep = SIMD(exp)((VEC){0} + (before - highest));
        total = total * keep[0] + SIMD(exponentials)(weight, columns, highest);
        for (int64_t i = 0; i < padded / LANES; i++)
            out[i] *= keep[0];
        const int64_t after = start + BLOCK < a->filled ? first + BLOCK / TILE : next * c->tiles;
        SIMD(add_values)(c, head, start, columns, weight, c->keys + after * m.tile_bytes, out);
    }
    float *to = a->out + row * a->out_stride + head % a->heads * d;
    for (int64_t i = 0; i < d; i++)
        to[i] = out[i / LANES][i % LANES] / total;
}

/* One head's attention to the prompt, whose keys and values [rows * heads, filled, d] are floats. */
TARGET static void SIMD(cross_attention)(const struct attention *a, int64_t head)
{
    const int64_t d = a->cache.d, row = head / a->heads, columns = a->filled;
    const float *q = a->q + row * a->q_stride + head % a->heads * d, *mask = a->mask + row * columns;
    const float *keys = a->k + head * columns * d, *values = a->v + head * columns * d;
    float *weight = a->weights + head * ((columns + TILE - 1) / TILE * TILE);
    float *out = a->out + row * a->out_stride + head % a->heads * d;

    for (int64_t c = 0; c < columns; c++) {
        VEC sums = {0};
        int64_t i = 0;
        for (; i + LANES <= d; i += LANES)
            sums += LOAD(q + i) * LOAD(keys + c * d + i);
        float score = SIMD(sum)(sums);
        for (; i < d; i++)
            score += q[i] * keys[c * d + i];
        weight[c] = score * a->factor + mask[c];
    }
    const float highest = SIMD(highest_score)(weight, columns, -FLT_MAX);
    const float total = SIMD(exponentials)(weight, columns, highest);
    memset(out, 0, sizeof(float) * (size_t)d);
    for (int64_t c = 0; c < columns; c++) {
        const float part = weight[c] / total;
        int64_t i = 0;
        for (; i + LANES <= d; i += LANES)
            STORE(out + i, LOAD(out + i) + LOAD(values + c * d + i) * part);
        for (; i < d; i++)
            out[i] += values[c * d + i] * part;
    }
}

/* One task: some heads. */
TARGET static void SIMD(attention_task)(const void *arguments, int64_t task)
{
    const struct attention *a = arguments;
    const int64_t first = task * a->heads_each, last = first + a->heads_each;
    for (int64_t head = first; head < last && head < a->all_heads; head++) {
        if (a->mask)
            SIMD(cross_attention)(a, head);
        else
            SIMD(self_attention)(a, head, head + 1 < last && head + 1 < a->all_heads ? head + 1 : first);
    }
}
