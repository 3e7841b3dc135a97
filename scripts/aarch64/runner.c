/* Runs kernels for scripts/aarch64/check.py, inside an emulator. Standard input holds calls, standard output answers:
 *
 *   call: the kernel's name (32 bytes), the number of arrays (int32), for each its dtype (16 bytes), rank (int32),
 *         sizes (int64 each) and bytes (int64), and then its contents
 *   answer: what the kernel returned (int32), and the contents of all arrays
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNELS(X)                                                                                                     \
    X(Linear) X(CachedAttention) X(Lstm) X(Choose) X(QuantizedLinear) X(QuantizedLayer) X(FillCache)                   \
    X(QuantizedDecode) X(QuantizedDecodeRelu)

#define DECLARE(name) int name(int, void **, int *, int64_t **, const char **, void *, void *);
KERNELS(DECLARE)

typedef int (*kernel)(int, void **, int *, int64_t **, const char **, void *, void *);

#define ENTRY(name) {#name, name},
static const struct {
    const char *name;
    kernel run;
} table[] = {KERNELS(ENTRY)};

static void get(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size)
        exit(feof(stdin) ? 0 : 1);
}

static void *room(size_t size)
{
    void *memory = aligned_alloc(64, (size + 64) / 64 * 64);
    if (!memory)
        exit(2);
    return memory;
}

static kernel find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i].run;
    exit(3);
}

int main(void)
{
    for (;;) {
        char name[32];
        int32_t count;
        get(name, sizeof name);
        get(&count, sizeof count);
        void *data[count];
        int ranks[count];
        int64_t *shapes[count], bytes[count];
        const char *dtypes[count];
        for (int i = 0; i < count; i++) {
            int32_t rank;
            dtypes[i] = room(16);
            get((char *)dtypes[i], 16);
            get(&rank, sizeof rank);
            ranks[i] = rank;
            shapes[i] = room(sizeof(int64_t) * (size_t)(rank + 1));
            get(shapes[i], sizeof(int64_t) * (size_t)rank);
            get(&bytes[i], sizeof bytes[i]);
            data[i] = room((size_t)bytes[i]);
            get(data[i], (size_t)bytes[i]);
        }
        const int32_t code = find(name)(count, data, ranks, shapes, dtypes, NULL, NULL);
        fwrite(&code, sizeof code, 1, stdout);
        for (int i = 0; i < count; i++) {
            fwrite(data[i], 1, (size_t)bytes[i], stdout);
            free(data[i]);
            free(shapes[i]);
            free((void *)dtypes[i]);
        }
        fflush(stdout);
    }
}
