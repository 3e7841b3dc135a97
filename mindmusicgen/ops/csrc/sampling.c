/* The choice of the next codes for MindSpore's ops.Custom(func_type="aot"); generation/sampling.py is the reference:
 *
 *   Choose  logits [R, K, V] float32, forced [B, K] int32, uniforms [B, K] float32, guidance scale, temperature
 *           (float32), top_k (int32), top_p (float32), one number each -> [B, K] int32
 *
 * R is B, or 2 B: then the second half are the null rows of guidance. Returns 0, or non-zero when shapes or dtypes are
 * not those.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"
#include "team.h"

#define FREE (-1) /* what `forced` holds where the model chooses */

/* The k-th largest of n floats, k from 1; reorders them. */
static float kth_largest(float *v, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const float a = v[low], b = v[(low + high) / 2], c = v[high];
        const float pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
        int64_t i = low, j = high;
        while (i <= j) {
            while (v[i] > pivot)
                i++;
            while (v[j] < pivot)
                j--;
            if (i <= j) {
                const float t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
    return v[k - 1];
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The smallest logit that top-p keeps, of n logits that top-k kept. */
static float lowest_of_top_p(float *v, int64_t n, float top_p)
{
    float total = 0, before = 0;
    qsort(v, (size_t)n, sizeof *v, descending);
    for (int64_t i = 0; i < n; i++)
        total += expf(v[i] - v[0]);
    for (int64_t i = 1; i < n; i++) {
        before += expf(v[i - 1] - v[0]) / total;
        if (before >= top_p)
            return v[i - 1];
    }
    return v[n - 1];
}

static void choose_task(const void *arguments, int64_t row)
{
    const struct choice *a = arguments;
    const float *prompt = a->logits + row * a->size, *null = prompt + a->guided;
    float *v = a->memory + 2 * row * a->size, *order = v + a->size;
    float highest = -INFINITY, total = 0, lowest = -INFINITY;
    int finite = 1;
    if (a->forced[row] != FREE) {
        a->codes[row] = a->forced[row];
        return;
    }
    for (int64_t i = 0; i < a->size; i++) {
        v[i] = (a->guided ? null[i] + (prompt[i] - null[i]) * a->scale : prompt[i]) / a->temperature;
        highest = v[i] > highest ? v[i] : highest;
        finite &= v[i] - v[i] == 0;
    }
    if (!finite) { /* the caller sees that from the logits; no order could be made of them */
        a->codes[row] = 0;
        return;
    }
    memcpy(order, v, sizeof *v * (size_t)a->size);
    if (a->top_k < a->size)
        lowest = kth_largest(order, a->size, a->top_k);
    if (a->top_p <= 1) {
        int64_t kept = 0;
        for (int64_t i = 0; i < a->size; i++)
            if (v[i] >= lowest)
                order[kept++] = v[i];
        lowest = lowest_of_top_p(order, kept, a->top_p);
    }
    for (int64_t i = 0; i < a->size; i++) {
        if (v[i] >= lowest)
            total += expf(v[i] - highest);
        v[i] = total;
    }
    const float target = a->uniforms[row] * total;
    int64_t code = 0;
    while (code < a->size - 1 && v[code] <= target)
        code++;
    a->codes[row] = (int32_t)code;
}

void choose_codes(const struct choice *choice)
{
    team_run(choose_task, choice, choice->rows);
}

EXPORT int Choose(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                  void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    if (nparam != 8 || ndims[0] != 3 || ndims[1] != 2)
        return 1;
    const int64_t pieces = shapes[1][0], books = shapes[0][1], rows = pieces * books, size = shapes[0][2];
    if (!IS(&p, 0, "float32", shapes[0][0], books, size) || !IS(&p, 1, "int32", pieces, books) ||
        !IS(&p, 2, "float32", pieces, books) || !IS(&p, 7, "int32", pieces, books))
        return 2;
    for (int i = 3; i < 7; i++)
        if (!is_number(&p, i, i == 5 ? "int32" : "float32"))
            return 3;
    struct choice a = {.logits = params[0], .forced = params[1], .uniforms = params[2], .codes = params[7]};
    a.rows = rows;
    a.size = size;
    a.guided = shapes[0][0] == 2 * pieces ? rows * size : 0;
    a.scale = *(const float *)params[3];
    a.temperature = *(const float *)params[4];
    a.top_k = *(const int32_t *)params[5];
    a.top_p = *(const float *)params[6];
    if ((!a.guided && shapes[0][0] != pieces) || size < 1 || a.top_k < 1)
        return 4;
    a.memory = malloc(sizeof(float) * (size_t)(2 * rows * size));
    if (!a.memory)
        return 5;
    choose_codes(&a);
    free(a.memory);
    return 0;
}
