/* Which instruction set the kernels use. */

#ifndef MINDMUSICGEN_SIMD_H
#define MINDMUSICGEN_SIMD_H

#include <stdlib.h>
#include <string.h>

enum simd { SIMD_BASE, SIMD_AVX2, SIMD_AVX512, SIMD_TILES };

/* The best of the CPU, but at most what MINDMUSICGEN_SIMD says (base, avx2, avx512, amx), by which tests reach the
 * others. Whether there is a tile unit is for product.c to ask: the system must allow it. */
static inline enum simd simd_level(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const char *most = getenv("MINDMUSICGEN_SIMD");
    most = most ? most : "amx";
    __builtin_cpu_init();
    if (strcmp(most, "base") == 0 || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return SIMD_BASE;
    if (strcmp(most, "avx2") == 0 || !__builtin_cpu_supports("avx512f"))
        return SIMD_AVX2;
    return strcmp(most, "amx") == 0 ? SIMD_TILES : SIMD_AVX512;
#else
    return SIMD_BASE;
#endif
}

#endif
