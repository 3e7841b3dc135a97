/* Float32 matrix products on a tile unit; see product.c and tile_attention.c. */

#ifndef MINDMUSICGEN_PRODUCT_H
#define MINDMUSICGEN_PRODUCT_H

#include <stdint.h>

#include "parts.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && (__GNUC__ >= 11 || defined(__clang__))
#define HAVE_TILES 1
#endif

/* Whether this CPU has the unit and the system lets this process use it. */
int product_available(void);

/* y [rows, out] = x [rows, in] . w [out, in] transposed; w of float32 and three parts, or of bfloat16 and one. Non-zero
 * when there is no memory or no unit. */
int product(const float *x, int64_t rows, int64_t in, const void *w, int parts, int64_t out, float *y);

/* Pictures [pictures, height, width, channels], and a convolution with a border of zeros, whose window is odd: tall lines
 * of wide pixels, which lie dilation apart in a line. */
struct picture {
    int64_t pictures, height, width, channels, stride, out_height, out_width, tall, wide, dilation;
};

/* y [pictures, out_height, out_width, out]; w [out, tall * wide * channels]; non-zero as `product`. */
int convolve(const struct picture *p, const float *x, const void *w, int parts, const float *bias, int64_t out, float *y);

/* `sequence_attention` with tiles; non-zero when there is no memory or no unit. */
int tile_attention(const struct sequence *sequence);

/* Memory for tiles, kept from one call to the next, as new pages cost as much as a small product; NULL when there is
 * none. While another thread has what is kept, memory of the caller's own, which `give_tiles` frees. */
char *take_tiles(int64_t size, int *own);
void give_tiles(char *memory, int own);

#endif
