/* Products with 4-bit weights; a part of quantized_simd.h, which includes it. The sums of a group of 32 are whole numbers
 * of at most 24 bits, which a float holds exactly; the four groups that share a scale of activations are added first. */

#if LANES == 16
INLINE void SIMD(products4)(int rows, int tiles, const struct operand *m, const struct activations *x, int64_t row,
                                int64_t octs, VEC *y)
{
    const __m512i mask = _mm512_set1_epi8(15);
    const int16_t *codes = x->codes + row * x->stride;
    const int32_t *offset = x->offset + row * x->offsets;
    for (int64_t first = 0, g = 0, f = 0; first < octs; first += GROUP / OCT, g++) {
        const int64_t last = first + GROUP / OCT < octs ? first + GROUP / OCT : octs;
        VEC part[8];
        for (int i = 0; i < rows * tiles; i++)
            part[i] = (VEC){0};
        for (int64_t begin = first; begin < last; begin += GROUP4 / OCT, f++) {
            const int64_t end = begin + GROUP4 / OCT < last ? begin + GROUP4 / OCT : last;
            __m512i high[8], low[8];
            for (int r = 0; r < rows; r++) {
                for (int t = 0; t < tiles; t++) {
                    high[r * tiles + t] = _mm512_setzero_si512();
                    low[r * tiles + t] = _mm512_set1_epi32(offset[r * x->offsets + f]);
                }
            }
            for (int64_t o = begin; o < end; o++) {
                __m512i even[2], odd[2];
                for (int t = 0; t < tiles; t++) {
                    const uint8_t *from = m->codes + t * m->tile_bytes + o * (TILE * QUAD);
                    const __m512i both = _mm512_loadu_si512(from);
                    even[t] = _mm512_and_si512(both, mask);
                    odd[t] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
                    __builtin_prefetch(m->ahead + t * m->ahead_tile + o * m->ahead_vector);
                }
                for (int r = 0; r < rows; r++) {
                    const SIMD(four) *halves = (const SIMD(four) *)(codes + r * x->stride + o * OCT);
                    for (int k = 0; k < 2; k++) {
                        const __m512i upper = SPREAD(halves[2 * k]), lower = SPREAD(halves[2 * k + 1]);
                        for (int t = 0; t < tiles; t++) {
                            const int i = r * tiles + t;
                            ADD_PRODUCTS(high[i], k ? odd[t] : even[t], upper);
                            ADD_PRODUCTS(low[i], k ? odd[t] : even[t], lower);
                        }
                    }
                }
            }
            for (int t = 0; t < tiles; t++) {
                const uint16_t *from = m->scale4 + t * m->scale_tile + f * m->scale_group;
                const VEC scale = (VEC)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
                for (int r = 0; r < rows; r++) {
                    const int i = r * tiles + t;
                    const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), low[i]);
                    part[i] += (VEC)_mm512_cvtepi32_ps(total) * scale;
                }
            }
        }
        for (int i = 0; i < rows * tiles; i++)
            y[i] += part[i] * x->scale[(row + i / tiles) * x->groups + g];
    }
}
#else
typedef uint16_t SIMD(half) __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

/* LANES float16 to float32; finite ones. */
INLINE VEC SIMD(halves)(const uint16_t *from)
{
    const IVEC bits = __builtin_convertvector(*(const SIMD(half) *)from, IVEC), size = bits & 0x7fff;
    const IVEC normal = (size << 13) + (112 << 23);
    const VEC tiny = __builtin_convertvector(size, VEC) * 0x1p-24f;
    return (VEC)((IVEC)SELECT(size < 0x400, tiny, (VEC)normal) | (bits & 0x8000) << 16);
}

/* The sums of products of the octs begin .. end - 1 of one tile with one or two rows. */
#if LANES == 8
INLINE void SIMD(sums4)(int rows, const uint8_t *from, const int16_t *codes, int64_t stride, int64_t count, IVEC *sum)
{
    const __m128i mask = _mm_set1_epi8(15);
    __m256i sums[2][4]; /* four outputs each, as two halves that are added at the end */
    for (int i = 0; i < rows * 4; i++)
        sums[i / 4][i % 4] = _mm256_setzero_si256();
    for (int64_t o = 0; o < count; o++, from += TILE * QUAD) {
        __m256i xv[2][2];
        for (int i = 0; i < rows * 2; i++) {
            int64_t four;
            memcpy(&four, codes + i / 2 * stride + o * OCT + i % 2 * QUAD, sizeof four);
            xv[i / 2][i % 2] = _mm256_set1_epi64x(four);
        }
        for (int p = 0; p < 4; p++) {
            const __m128i both = _mm_loadu_si128((const __m128i *)from + p);
            const __m256i even = _mm256_cvtepu8_epi16(_mm_and_si128(both, mask));
            const __m256i odd = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(both, 4), mask));
            for (int r = 0; r < rows; r++) {
                const __m256i more = _mm256_madd_epi16(odd, xv[r][1]);
                sums[r][p] = _mm256_add_epi32(sums[r][p], _mm256_add_epi32(_mm256_madd_epi16(even, xv[r][0]), more));
            }
        }
    }
    for (int i = 0; i < rows * 2; i++) {
        const __m256i pairs = _mm256_hadd_epi32(sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1]);
        sum[i] = (IVEC)_mm256_permute4x64_epi64(pairs, 0xd8);
    }
}
#else
INLINE void SIMD(sums4)(int rows, const uint8_t *from, const int16_t *codes, int64_t stride, int64_t count, IVEC *sum)
{
    for (int r = 0; r < rows; r++) {
        int32_t sums[TILE] = {0};
        for (int64_t o = 0; o < count; o++)
            for (int i = 0; i < TILE * QUAD; i++) {
                const int16_t *eight = codes + r * stride + o * OCT + i % QUAD;
                const int both = from[o * (TILE * QUAD) + i];
                sums[i / QUAD] += (both & 15) * eight[0] + (both >> 4) * eight[QUAD];
            }
        memcpy(sum + r * PARTS, sums, sizeof sums);
    }
}
#endif

INLINE void SIMD(products4)(int rows, int tiles, const struct operand *m, const struct activations *x, int64_t row,
                                int64_t octs, VEC *y)
{
    for (int64_t begin = 0, f = 0; begin < octs; begin += GROUP4 / OCT, f++) {
        const int64_t count = begin + GROUP4 / OCT < octs ? GROUP4 / OCT : octs - begin;
        for (int t = 0; t < tiles; t++) {
            const int16_t *codes = x->codes + row * x->stride + begin * OCT;
            const uint16_t *scale = m->scale4 + t * m->scale_tile + f * m->scale_group;
            IVEC sums[2 * PARTS];
            for (int64_t o = begin; o < begin + count; o++)
                __builtin_prefetch(m->ahead + t * m->ahead_tile + o * m->ahead_vector);
            SIMD(sums4)(rows, m->codes + t * m->tile_bytes + begin * (TILE * QUAD), codes, x->stride, count, sums);
            for (int i = 0; i < rows * PARTS; i++) {
                const int64_t r = row + i / PARTS, p = i % PARTS;
                const VEC total = __builtin_convertvector(sums[i] + x->offset[r * x->offsets + f], VEC);
                const float xs = x->scale[r * x->groups + f * GROUP4 / GROUP];
                y[(i / PARTS * tiles + t) * PARTS + p] += total * (SIMD(halves)(scale + p * LANES) * xs);
            }
        }
    }
}
#endif
