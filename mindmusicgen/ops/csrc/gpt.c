/* Steps of a GPT: embeddings, the choice of ids, and when a row has ended. What its layers and its head compute is in
 * float_gpt.c and quantized_gpt.c. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpt.h"
#include "parts.h"

#define NORM_EPSILON 1e-5f
#define FREE (-1)

int gpt_fits(const struct parameters *p, int nparam, struct gpt *n)
{
    const int outputs = n->outputs = nparam - 3;
    if (outputs < LOGITS || p->ranks[UNIFORMS] != 2 || p->ranks[EMBEDDING] != 2 || p->ranks[TABLE] != 2 ||
        p->ranks[outputs + 2] != 2)
        return 0;
    n->steps = p->shapes[UNIFORMS][0];
    n->rows = p->shapes[UNIFORMS][1];
    n->ids = p->shapes[EMBEDDING][0];
    n->positions = p->shapes[TABLE][0];
    n->dim = p->shapes[TABLE][1];
    n->chosen = p->shapes[outputs + 2][1];
    for (int i = LEAST; i <= HEADS; i++)
        if (!is_number(p, i, i == TOP_K || i >= END ? "int32" : "float32"))
            return 0;
    n->heads = *(const int32_t *)p->data[HEADS];
    return n->heads > 0 && n->dim % n->heads == 0 && IS(p, IDS, "int32", n->rows) && IS(p, PLACE, "int32", 1) &&
           is_number(p, STEPS, "int32") && IS(p, FIRSTS, "int32", n->steps) &&
           IS(p, UNIFORMS, "float32", n->steps, n->rows) && IS(p, EMBEDDING, "float32", n->ids, n->dim) &&
           IS(p, TABLE, "float32", n->positions, n->dim) && IS(p, NORM, "float32", n->dim) &&
           IS(p, NORM + 1, "float32", n->dim) && IS(p, outputs, "int32", n->steps, n->rows) &&
           IS(p, outputs + 1, "int32", 1) && IS(p, outputs + 2, "float32", n->rows, n->chosen);
}

void gpt_normalise(const float *x, int64_t rows, int64_t dim, const float *weight, const float *bias, float *y)
{
    for (int64_t row = 0; row < rows; row++, x += dim, y += dim) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < dim; i++)
            sum += x[i];
        const float mean = (float)(sum / (double)dim);
        for (int64_t i = 0; i < dim; i++)
            squares += (double)(x[i] - mean) * (x[i] - mean);
        const float scale = 1.0f / sqrtf((float)(squares / (double)dim) + NORM_EPSILON);
        for (int64_t i = 0; i < dim; i++)
            y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    }
}

/* Embeddings of ids and of their position; non-zero if one is none. */
static int embed(const struct parameters *p, const struct gpt *n, const int32_t *ids, int32_t position, float *x)
{
    const float *place = (const float *)p->data[TABLE] + position * n->dim;
    if (position < 0 || position >= n->positions)
        return 1;
    for (int64_t row = 0; row < n->rows; row++, x += n->dim) {
        if (ids[row] < 0 || ids[row] >= n->ids)
            return 1;
        const float *from = (const float *)p->data[EMBEDDING] + ids[row] * n->dim;
        for (int64_t i = 0; i < n->dim; i++)
            x[i] = from[i] + place[i];
    }
    return 0;
}

/* The end takes the place of a choice where it is probable enough, and stays. Returns whether some row goes on. */
static int finish(const struct gpt *n, const int32_t *before, int32_t *ids, const float *logits, int32_t end,
                  float least, int32_t first)
{
    int alive = 0;
    for (int64_t row = 0; row < n->rows; row++, logits += n->chosen) {
        float highest = -INFINITY, total = 0;
        for (int64_t i = 0; end >= 0 && i < n->chosen; i++)
            highest = logits[i] > highest ? logits[i] : highest;
        for (int64_t i = 0; end >= 0 && least < 1 && i < n->chosen; i++)
            total += expf(logits[i] - highest);
        if (end >= 0 && (before[row] == end || (least < 1 && expf(logits[end] - highest) / total > least)))
            ids[row] = end;
        else
            ids[row] += first;
        alive |= end < 0 || ids[row] != end;
    }
    return alive;
}

static int going_on(const struct gpt *n, const int32_t *ids, int32_t end)
{
    for (int64_t row = 0; row < n->rows; row++)
        if (end < 0 || ids[row] != end)
            return 1;
    return 0;
}

/* The steps, on memory of which `choose_codes` has the first part. */
static int decode(const struct parameters *p, const struct gpt *n, float *memory)
{
    const int32_t *ids = p->data[IDS], *firsts = p->data[FIRSTS], place = *(const int32_t *)p->data[PLACE];
    const int32_t steps = *(const int32_t *)p->data[STEPS], end = *(const int32_t *)p->data[END];
    int32_t *made = p->data[n->outputs], *free_rows = (int32_t *)(memory + 3 * n->rows * n->chosen), step = 0;
    float *logits = p->data[n->outputs + 2], *wide = memory + 3 * n->rows * n->chosen + n->rows;
    float *x = wide + n->rows * n->wide, *inner = x + n->rows * n->dim;
    struct choice choice = {.logits = logits, .memory = memory, .rows = n->rows, .size = n->chosen};
    choice.temperature = *(const float *)p->data[TEMPERATURE];
    choice.top_k = *(const int32_t *)p->data[TOP_K];
    choice.top_p = *(const float *)p->data[TOP_P];
    choice.forced = free_rows;
    if (steps < 0 || steps > n->steps || choice.top_k < 1 || end >= n->chosen)
        return 1;
    for (int64_t row = 0; row < n->rows; row++)
        free_rows[row] = FREE;
    memset(made, 0, sizeof(int32_t) * (size_t)(n->steps * n->rows));
    memset(logits, 0, sizeof(float) * (size_t)(n->rows * n->chosen));
    for (int alive = going_on(n, ids, end); step < steps && alive; step++) {
        if (embed(p, n, ids, place + step, x) != 0 || n->through_layers(p, n, x, place + step, inner) != 0)
            return 2;
        gpt_normalise(x, n->rows, n->dim, p->data[NORM], p->data[NORM + 1], x);
        if (n->some_logits(p, n, x, firsts[step], wide, logits) != 0)
            return 3;
        choice.uniforms = (const float *)p->data[UNIFORMS] + step * n->rows;
        choice.codes = made + step * n->rows;
        choose_codes(&choice);
        alive = finish(n, ids, choice.codes, logits, end, *(const float *)p->data[LEAST], firsts[step]);
        ids = choice.codes;
    }
    *(int32_t *)p->data[n->outputs + 1] = step;
    return 0;
}

int gpt_decode(const struct parameters *p, const struct gpt *n)
{
    const int64_t each = 3 * n->chosen + 1 + n->wide + n->dim;
    float *memory = malloc(sizeof(float) * (size_t)(n->rows * each + n->memory));
    const int failed = memory ? decode(p, n, memory) : 4;
    free(memory);
    return failed;
}
