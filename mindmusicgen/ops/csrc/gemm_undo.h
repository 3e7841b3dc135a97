/* Undoes what vectors_simd.h and gemm_simd.h define. */

#undef VEC
#undef IVEC
#undef LOAD
#undef STORE
#undef INLINE
#undef SELECT
#undef ROWS_OF_GROUP
#undef GROUPS
#undef MR
#undef NR
