/* The arguments of an operator as MindSpore passes them to a kernel. */

#ifndef MINDMUSICGEN_ARGUMENTS_H
#define MINDMUSICGEN_ARGUMENTS_H

#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct parameters {
    void **data;
    int *ranks;
    int64_t **shapes;
    const char **dtypes;
};

/* Whether argument i has this dtype and shape. */
static inline int is(const struct parameters *p, int i, const char *dtype, int rank, const int64_t *shape)
{
    const char *found = strcmp(p->dtypes[i], "float") == 0 ? "float32" : p->dtypes[i];
    if (p->ranks[i] != rank || strcmp(found, dtype) != 0)
        return 0;
    for (int axis = 0; axis < rank; axis++)
        if (p->shapes[i][axis] != shape[axis])
            return 0;
    return 1;
}

#define IS(p, i, dtype, ...)                                                                                           \
    is(p, i, dtype, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

/* Whether argument i is one number. */
static inline int is_number(const struct parameters *p, int i, const char *dtype)
{
    return is(p, i, dtype, 0, NULL) || IS(p, i, dtype, 1);
}

#endif
