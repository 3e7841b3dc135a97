/* Vector types, the exponential, the sigmoid, GELU, a sum and a softmax, for one instruction set. Included by the other *_simd.h files, which are
 * compiled once per instruction set with SIMD, TARGET and LANES defined; see kernels_simd.h.
 */

typedef float SIMD(vec) __attribute__((vector_size(4 * LANES)));
typedef int32_t SIMD(ivec) __attribute__((vector_size(4 * LANES)));
/* MindSpore's tensors are 16-byte aligned only, so loads and stores go through a type that asks for no more than 4. */
typedef float SIMD(loose) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define VEC SIMD(vec)
#define IVEC SIMD(ivec)
#define LOAD(p) (*(const SIMD(loose) *)(p))
#define STORE(p, v) (*(SIMD(loose) *)(p) = (v))
#define SELECT(mask, a, b) ((VEC)(((IVEC)(a) & (mask)) | ((IVEC)(b) & ~(mask))))
#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE float SIMD(sum)(VEC v)
{
    float lane[LANES];
    memcpy(lane, &v, sizeof v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

/* exp(x) for x <= 0 or NaN, relative error about 1e-7 (Cephes' polynomial); 0 below the smallest normal number. */
INLINE VEC SIMD(exp)(VEC x)
{
    const IVEC tiny = x < -87.0f; /* false for NaN, which goes through the arithmetic and comes out as NaN */
    x = (VEC)((IVEC)x & ~tiny);
    const IVEC n = __builtin_convertvector(x * 1.44269504f - 0.5f, IVEC); /* truncates: nearest, as x <= 0 */
    const VEC f = __builtin_convertvector(n, VEC);
    const VEC r = (x - f * 0.693359375f) - f * -2.12194440e-4f;
    VEC p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (VEC)((IVEC)(p * (VEC)((n + 127) << 23)) & ~tiny);
}

/* The exact GELU, x (1 + erf(x / sqrt 2)) / 2; erf as a ratio of polynomials, error below 4e-7. */
INLINE VEC SIMD(gelu)(VEC x)
{
    VEC z = x * 0.70710678f;
    z = SELECT(z > 4.0f, (VEC){0} + 4.0f, z);
    z = SELECT(z < -4.0f, (VEC){0} - 4.0f, z);
    const VEC s = z * z;
    VEC p = s * -2.72614225801306e-10f + 2.77068142495902e-08f;
    p = p * s + -2.10102402082508e-06f;
    p = p * s + -5.69250639462346e-05f;
    p = p * s + -7.34990630326855e-04f;
    p = p * s + -2.95459980854025e-03f;
    p = p * s + -1.60960333262415e-02f;
    VEC q = s * -1.45660718464996e-05f + -2.13374055278905e-04f;
    q = q * s + -1.68282697438203e-03f;
    q = q * s + -7.37332916720468e-03f;
    q = q * s + -1.42647390514189e-02f;
    return x * 0.5f * (z * p / q + 1.0f);
}

/* Scores of one query to weights, not yet divided by their sum, which is returned; those from `seen` on become 0. */
INLINE float SIMD(soften)(float *scores, int64_t seen, int64_t columns)
{
    VEC highest = (VEC){0} - FLT_MAX, sums = {0};
    float top = -FLT_MAX, lane[LANES];
    for (int64_t c = seen; c < columns; c++)
        scores[c] = -INFINITY;
    for (int64_t c = 0; c < columns; c += LANES) {
        const VEC v = LOAD(scores + c);
        highest = SELECT(v > highest, v, highest);
    }
    memcpy(lane, &highest, sizeof lane);
    for (int i = 0; i < LANES; i++)
        top = lane[i] > top ? lane[i] : top;
    for (int64_t c = 0; c < columns; c += LANES) {
        const VEC e = SIMD(exp)(LOAD(scores + c) - top);
        STORE(scores + c, e);
        sums += e;
    }
    return SIMD(sum)(sums);
}

INLINE VEC SIMD(sigmoid)(VEC x)
{
    const VEC e = SIMD(exp)((VEC)((IVEC)x | INT32_MIN)); /* of -|x| */
    const IVEC negative = x < 0.0f;
    return (VEC)((negative & (IVEC)e) | (~negative & (IVEC)((VEC){0} + 1.0f))) / (e + 1.0f);
}
