/* CPU kernels for MindSpore's ops.Custom(func_type="aot"), float32 only:
 *
 *   CachedAttention  q, k, v [B, H, 1, d], key_cache, value_cache [B, H, L, d], position [1] int32 -> [B, H, 1, d]
 *   Linear           x [rows, in], weight [out, in] -> [rows, out]; many rows by product.c where it can
 *   Lstm             inputs' part of the gates [B, T, 4 H], weight [4 H, H], h, c [B, H] -> h of every step [B, T, H],
 *                    the last c [B, H]; gates in torch's order: input, forget, cell, output
 *   RoughLstm        the same; the weight is rounded to 16 bits, a scale a row, before the first step
 *
 * Each returns 0, or non-zero when shapes or dtypes are not those. All are bound by memory bandwidth (with few rows): what counts is
 * that every weight, key and value is read once, in long runs, by all cores.
 *
 * No header of MindSpore or Python is needed. The library must stay loaded once a kernel ran (link with -z nodelete):
 * its threads wait in its code.
 */

#define _GNU_SOURCE
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "product.h"
#include "simd.h"
#include "team.h"

#define MAX_ROWS 4 /* rows and outputs of one block of dot products: 16 sums stay in registers */
#define MAX_OUTS 4
#define BLOCK 64 /* columns of the cache whose scores are held at once; a multiple of every LANES */
#define TASK_BYTES (64 * 1024) /* of weights; each begins without having been foretold, so large matrices have larger ones */
#define LARGE_TASKS 4
#define FEW_ROWS 16 /* with more, arithmetic counts more than reading the weights */
#define CODE_ROWS 64 /* of weights, rounded in a task */
#define UNITS 64 /* of an LSTM in a task; a multiple of every LANES */
#define PREFETCH 512 /* floats ahead, which the hardware does not do across pages; measured best of 0 to 2048 */

struct linear {
    const float *x, *w;
    float *y;
    int64_t rows, in, out, outs_per_task;
};

struct lstm {
    const float *gates, *weight, *h; /* of one step: the gates of row r lie gates_stride apart */
    int16_t *codes;                  /* of the weight, which is codes times scale of its row; NULL: as it is */
    float *scale;
    float *c, *y;
    int64_t rows, size, gates_stride, y_stride;
};

struct attention {
    const float *q, *k, *v;
    float *key_cache, *value_cache, *out;
    int64_t length, d, position;
    float scale;
};

/* ---- the thread team ---- */

/* One team for all kernels. A second set of spinning threads (OpenMP's, say) beside MindSpore's own costs more than
 * it brings on few cores; these spin for some microseconds, then yield, then sleep.
 *
 * `state` holds generation (24 bits) | number of tasks (20) | next task (20). A thread owns a task when it moves `next`
 * on by compare-and-swap; since the number of tasks is in the same word, a thread that comes late can neither take a
 * task twice nor read the fields of a job that is over: they stay as they are until `done` reaches the number. */
#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define SPINS 2000
#define YIELDS 100
#define MAX_THREADS 64

static struct {
    pthread_mutex_t busy; /* held by the thread whose job runs */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    _Atomic uint64_t state;
    _Atomic int64_t done;
    _Atomic int sleepers;
    _Atomic int threads; /* with the caller; 0: not started */
    task_function function;
    const void *arguments;
} team = {.busy = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int has_task(uint64_t state)
{
    return (state & COUNT_MASK) < (state >> COUNT_BITS & COUNT_MASK);
}

static void work(void)
{
    uint64_t state = atomic_load(&team.state);
    while (has_task(state)) {
        if (!atomic_compare_exchange_weak(&team.state, &state, state + 1))
            continue;
        team.function(team.arguments, (int64_t)(state & COUNT_MASK));
        atomic_fetch_add(&team.done, 1);
        state = atomic_load(&team.state);
    }
}

static void wait_for_task(void)
{
    for (int i = 0; i < SPINS + YIELDS; i++) {
        if (has_task(atomic_load_explicit(&team.state, memory_order_relaxed)))
            return;
        if (i < SPINS)
            relax();
        else
            sched_yield();
    }
    pthread_mutex_lock(&team.sleep);
    atomic_fetch_add(&team.sleepers, 1); /* before the look at `state`: run() writes and looks the other way round */
    while (!has_task(atomic_load(&team.state)))
        pthread_cond_wait(&team.wake, &team.sleep);
    atomic_fetch_sub(&team.sleepers, 1);
    pthread_mutex_unlock(&team.sleep);
}

static void *helper(void *unused)
{
    (void)unused;
    for (;;) {
        wait_for_task();
        work();
    }
    return NULL;
}

/* Only the forking thread lives on in the child: forget the team, the next job starts a new one. */
static void after_fork(void)
{
    const pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    const pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    team.busy = mutex;
    team.sleep = mutex;
    team.wake = condition;
    atomic_store(&team.state, 0);
    atomic_store(&team.sleepers, 0);
    team.threads = 0;
}

static int wanted_threads(pthread_attr_t *attributes)
{
    const char *text = getenv("MINDMUSICGEN_THREADS");
    long count = text ? strtol(text, NULL, 10) : 0;
#if defined(__linux__)
    /* The process's mask, not this thread's, which MindSpore may have bound to one core. */
    cpu_set_t cpus;
    if (sched_getaffinity(getpid(), sizeof cpus, &cpus) == 0) {
        pthread_attr_setaffinity_np(attributes, sizeof cpus, &cpus);
        count = count > 0 ? count : CPU_COUNT(&cpus);
    }
#else
    (void)attributes;
#endif
    count = count > 0 ? count : sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : (int)count;
}

static void start_team(void)
{
    static int fork_handled;
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (!fork_handled)
        fork_handled = pthread_atfork(NULL, NULL, after_fork) == 0;
    team.threads = 1;
    if (!fork_handled || pthread_attr_init(&attributes) != 0)
        return;
    const int wanted = wanted_threads(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (team.threads < wanted && pthread_create(&thread, &attributes, helper, NULL) == 0)
        team.threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void run_job(task_function function, const void *arguments, int64_t tasks)
{
    const uint64_t generation = (atomic_load(&team.state) >> (2 * COUNT_BITS)) + 1;
    team.function = function;
    team.arguments = arguments;
    atomic_store(&team.done, 0);
    atomic_store(&team.state, generation << (2 * COUNT_BITS) | (uint64_t)tasks << COUNT_BITS);
    if (atomic_load(&team.sleepers) > 0) {
        pthread_mutex_lock(&team.sleep);
        pthread_cond_broadcast(&team.wake);
        pthread_mutex_unlock(&team.sleep);
    }
    work();
    for (int i = 0; atomic_load(&team.done) < tasks; i++) {
        if (i < SPINS)
            relax();
        else
            sched_yield(); /* a helper that holds a task has lost its core: leave it this one */
    }
}

int team_size(void)
{
    const int threads = atomic_load(&team.threads);
    return threads > 0 ? threads : 2; /* a guess for the first job, which starts them */
}

void team_run(task_function function, const void *arguments, int64_t tasks)
{
    if (tasks > 1 && tasks <= (int64_t)COUNT_MASK && pthread_mutex_trylock(&team.busy) == 0) {
        if (team.threads == 0)
            start_team();
        if (team.threads > 1) {
            run_job(function, arguments, tasks);
            tasks = 0;
        }
        pthread_mutex_unlock(&team.busy);
    }
    for (int64_t task = 0; task < tasks; task++)
        function(arguments, task);
}

/* ---- the kernels, for each instruction set ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86_VARIANTS 1

#define SIMD(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define LANES 16
#include "kernels_simd.h"
#undef SIMD
#undef TARGET
#undef LANES

#define SIMD(name) name##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define LANES 8
#include "kernels_simd.h"
#undef SIMD
#undef TARGET
#undef LANES
#endif

#define SIMD(name) name##_base
#define TARGET
#define LANES 4
#include "kernels_simd.h"

static task_function linear_task, attention_task, lstm_task, rough_lstm_task, round_task;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
    linear_task = linear_task_base;
    attention_task = attention_task_base;
    lstm_task = lstm_task_base;
    rough_lstm_task = rough_lstm_task_base;
    round_task = round_task_base;
#ifdef HAVE_X86_VARIANTS
    if (simd_level() >= SIMD_AVX512) {
        linear_task = linear_task_avx512;
        attention_task = attention_task_avx512;
        lstm_task = lstm_task_avx512;
        rough_lstm_task = rough_lstm_task_avx512;
        round_task = round_task_avx512;
    } else if (simd_level() == SIMD_AVX2) {
        linear_task = linear_task_avx2;
        attention_task = attention_task_avx2;
        lstm_task = lstm_task_avx2;
        rough_lstm_task = rough_lstm_task_avx2;
        round_task = round_task_avx2;
    }
#endif
}

int float_linear(const float *x, int64_t rows, int64_t in, const float *w, float *y, int64_t out)
{
    if (rows > FEW_ROWS && product_available())
        return product(x, rows, in, w, 3, out, y);
    struct linear a = {.x = x, .w = w, .y = y, .rows = rows, .in = in, .out = out};
    const int64_t floats = TASK_BYTES / (int64_t)sizeof(float), large = out * in >= 4 * LARGE_TASKS * floats;
    a.outs_per_task = floats * (large ? LARGE_TASKS : 1) / (in > 0 ? in : 1) / MAX_OUTS * MAX_OUTS;
    a.outs_per_task = a.outs_per_task < MAX_OUTS ? MAX_OUTS : a.outs_per_task;
    pthread_once(&chosen, choose);
    team_run(linear_task, &a, (out + a.outs_per_task - 1) / a.outs_per_task);
    return 0;
}

void float_cached_attention(const float *qkv, int64_t rows, int64_t heads, int64_t d, int64_t length, int64_t position,
                            float *keys, float *values, float *out)
{
    struct attention a = {.length = length, .d = d, .position = position, .scale = 1.0f / sqrtf((float)d)};
    pthread_once(&chosen, choose);
    for (int64_t row = 0; row < rows; row++) {
        a.q = qkv + 3 * row * heads * d;
        a.k = a.q + heads * d;
        a.v = a.k + heads * d;
        a.key_cache = keys + row * heads * length * d;
        a.value_cache = values + row * heads * length * d;
        a.out = out + row * heads * d;
        team_run(attention_task, &a, heads);
    }
}

/* ---- entry points ---- */

static int is_float(const char *dtype)
{
    return strcmp(dtype, "float32") == 0 || strcmp(dtype, "float") == 0;
}

/* Whether `Linear` is quick for any number of rows. */
EXPORT int LinearTakesManyRows(void)
{
    return product_available();
}

EXPORT int Linear(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                  void *extra)
{
    (void)stream;
    (void)extra;
    if (nparam != 3)
        return 1;
    for (int i = 0; i < 3; i++)
        if (ndims[i] != 2 || !is_float(dtypes[i]))
            return 2;
    const int64_t rows = shapes[0][0], in = shapes[0][1], out = shapes[1][0];
    if (shapes[1][1] != in || shapes[2][0] != rows || shapes[2][1] != out)
        return 3;
    return float_linear(params[0], rows, in, params[1], params[2], out) ? 4 : 0;
}

static int lstm(const struct parameters *p, int nparam, int rough)
{
    if (nparam != 6 || p->ranks[0] != 3 || p->ranks[2] != 2)
        return 1;
    const int64_t rows = p->shapes[0][0], steps = p->shapes[0][1], size = p->shapes[2][1];
    if (!IS(p, 0, "float32", rows, steps, 4 * size) || !IS(p, 1, "float32", 4 * size, size) ||
        !IS(p, 2, "float32", rows, size) || !IS(p, 3, "float32", rows, size) ||
        !IS(p, 4, "float32", rows, steps, size) || !IS(p, 5, "float32", rows, size))
        return 2;
    float *h = malloc(sizeof(float) * (size_t)(rows * size + (rough ? 4 * size + 2 * size * size : 0)));
    if (!h)
        return 3;
    struct lstm a = {.weight = p->data[1], .h = h, .c = p->data[5], .rows = rows, .size = size};
    a.scale = h + rows * size;
    a.codes = rough ? (int16_t *)(a.scale + 4 * size) : NULL;
    a.gates_stride = steps * 4 * size;
    a.y_stride = steps * size;
    memcpy(h, p->data[2], sizeof(float) * (size_t)(rows * size));
    memcpy(a.c, p->data[3], sizeof(float) * (size_t)(rows * size));
    pthread_once(&chosen, choose);
    if (rough)
        team_run(round_task, &a, (4 * size + CODE_ROWS - 1) / CODE_ROWS);
    for (int64_t step = 0; step < steps; step++) {
        a.gates = (const float *)p->data[0] + step * 4 * size;
        a.y = (float *)p->data[4] + step * size;
        team_run(rough ? rough_lstm_task : lstm_task, &a, (size + UNITS - 1) / UNITS);
        for (int64_t row = 0; row < rows; row++)
            memcpy(h + row * size, a.y + row * a.y_stride, sizeof(float) * (size_t)size);
    }
    free(h);
    return 0;
}

EXPORT int Lstm(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    return lstm(&p, nparam, 0);
}

EXPORT int RoughLstm(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                     void *extra)
{
    const struct parameters p = {params, ndims, shapes, dtypes};
    (void)stream;
    (void)extra;
    return lstm(&p, nparam, 1);
}

EXPORT int CachedAttention(int nparam, void **params, int *ndims, int64_t **shapes, const char **dtypes, void *stream,
                           void *extra)
{
    (void)stream;
    (void)extra;
    if (nparam != 7 || ndims[5] != 1 || shapes[5][0] != 1 || strcmp(dtypes[5], "int32") != 0)
        return 1;
    for (int i = 0; i < 7; i++)
        if (i != 5 && (ndims[i] != 4 || !is_float(dtypes[i])))
            return 2;
    const int64_t *cache = shapes[3];
    for (int i = 0; i < 7; i++) {
        const int64_t columns = i == 3 || i == 4 ? cache[2] : 1;
        if (i != 5 && (shapes[i][0] != cache[0] || shapes[i][1] != cache[1] || shapes[i][2] != columns ||
                       shapes[i][3] != cache[3]))
            return 3;
    }
    struct attention a = {.q = params[0], .k = params[1], .v = params[2], .out = params[6]};
    a.key_cache = params[3];
    a.value_cache = params[4];
    a.length = cache[2];
    a.d = cache[3];
    a.position = *(const int32_t *)params[5];
    if (a.position < 0 || a.position >= a.length)
        return 4;
    a.scale = 1.0f / sqrtf((float)a.d);
    pthread_once(&chosen, choose);
    team_run(attention_task, &a, cache[0] * cache[1]);
    return 0;
}
