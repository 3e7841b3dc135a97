/* Vector types, the exponential and a sum, for one instruction set. Included by the other *_simd.h files, which are
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
