/* Steps of a GPT (a decoder without cross-attention), whatever its weights are; see gpt.c. */

#ifndef MINDMUSICGEN_GPT_H
#define MINDMUSICGEN_GPT_H

#include <stdint.h>

#include "arguments.h"

/* B rows, N steps at most, C ids to choose among, V ids with logits. */
enum {
    IDS,         /* the newest, [B] int32 */
    PLACE,       /* their position, [1] int32 */
    STEPS,       /* how many steps, one int32 */
    FIRSTS,      /* the first of the C ids in each step, [N] int32 */
    UNIFORMS,    /* [N, B] */
    LEAST,       /* one number: a row ends where the end is more probable */
    TEMPERATURE, /* one number, as are the next two */
    TOP_K,
    TOP_P,
    END,         /* which of the C ids ends a row, one int32; negative: none */
    HEADS,       /* of attention, one int32 */
    EMBEDDING,   /* [ids, D] */
    TABLE,       /* of positions, [P, D] */
    NORM,        /* the last one's weight and bias, [D] */
    LOGITS = NORM + 2, /* D -> V, then the layers, then the outputs: ids [N, B], how many [1], the last logits [B, C] */
};

struct gpt {
    int64_t rows, steps, dim, ids, positions, chosen, heads, logits, layers;
    int64_t wide;   /* logits of a row that `some_logits` needs room for */
    int64_t memory; /* floats that `through_layers` needs */
    int outputs;    /* the number of the first */
    /* x [rows, dim] at a position, in place; non-zero when the arguments do not fit */
    int (*through_layers)(const struct parameters *p, const struct gpt *gpt, float *x, int32_t position, float *memory);
    /* logits [rows, chosen] of the ids from `first` on; non-zero when there are no such ids */
    int (*some_logits)(const struct parameters *p, const struct gpt *gpt, const float *x, int64_t first, float *wide,
                       float *y);
};

/* Whether the arguments up to LOGITS and the outputs fit; fills in sizes, up to `heads`. */
int gpt_fits(const struct parameters *p, int nparam, struct gpt *gpt);

/* Steps until all rows have ended; non-zero when an argument is wrong or there is no memory. */
int gpt_decode(const struct parameters *p, const struct gpt *gpt);

/* y = the norm of x, both [rows, dim]; they may be the same. */
void gpt_normalise(const float *x, int64_t rows, int64_t dim, const float *weight, const float *bias, float *y);

#endif
