/* The inner loops of matrix products, compiled once per instruction set; SIMD, TARGET and LANES as in kernels_simd.h,
 * and vectors_simd.h included before.
 *
 * A block of the result, GROUPS * 3 rows of two vectors, stays in registers while the whole depth goes by. The right
 * matrix is laid out in panels of two vectors' width, one row of the panel after the other; the left one is read where
 * it lies.
 */

#define ROWS_OF_GROUP 3 /* one pointer and one stride reach three rows: p, p + s, p + 2 s */
#define GROUPS (LANES == 16 ? 4 : 2)
#define MR (ROWS_OF_GROUP * GROUPS)
#define NR (2 * LANES)

/* What is done with a block of sums. */
struct SIMD(finish) {
    float *c;
    const float *init, *gate; /* beside c */
    int64_t row;
    int relu;
};

INLINE void SIMD(store_block)(VEC (*sums)[2], const struct SIMD(finish) *f, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++) {
            const int64_t at = r * f->row + v * LANES;
            VEC y = sums[r][v];
            if (f->init)
                y += LOAD(f->init + at);
            if (f->relu)
                y = SELECT(y > 0.0f, y, (VEC){0});
            if (f->gate)
                y = SELECT(LOAD(f->gate + at) > 0.0f, y, (VEC){0});
            STORE(f->c + at, y);
        }
}

/* The same where the block reaches over the result's edge. */
static TARGET void SIMD(store_edge)(VEC (*sums)[2], const struct SIMD(finish) *f, int64_t rows, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++) {
        float line[NR];
        memcpy(line, sums[r], sizeof line);
        for (int64_t i = 0; i < columns; i++) {
            float y = line[i] + (f->init ? f->init[r * f->row + i] : 0.0f);
            if ((f->relu && y < 0) || (f->gate && !(f->gate[r * f->row + i] > 0)))
                y = 0;
            f->c[r * f->row + i] = y;
        }
    }
}

/* sums = MR rows of a . a panel. By columns: a's rows lie beside each other, its columns a_stride apart; else the other
 * way round. */
INLINE void SIMD(sum_block)(int by_columns, const float *a, int64_t a_stride, int64_t k, const float *panel, VEC (*out)[2])
{
    VEC sums[MR][2];
    const float *group[GROUPS];
    for (int g = 0; g < GROUPS; g++)
        group[g] = a + ROWS_OF_GROUP * g * a_stride;
    _Pragma("GCC unroll 16") for (int r = 0; r < MR; r++) sums[r][0] = sums[r][1] = (VEC){0};
    for (int64_t i = 0; i < k; i++, panel += NR) {
        const VEC left = LOAD(panel), right = LOAD(panel + LANES);
        _Pragma("GCC unroll 16") for (int r = 0; r < MR; r++)
        {
            const float x = by_columns ? a[r] : group[r / ROWS_OF_GROUP][r % ROWS_OF_GROUP * a_stride];
            sums[r][0] += left * x;
            sums[r][1] += right * x;
        }
        if (by_columns)
            a += a_stride;
        else
            _Pragma("GCC unroll 4") for (int g = 0; g < GROUPS; g++) group[g]++;
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < MR; r++)
    {
        out[r][0] = sums[r][0];
        out[r][1] = sums[r][1];
    }
}

/* The last rows of a, fewer than MR: copied together first, up to DEPTH columns. */
static TARGET void SIMD(sum_rest)(const float *a, int64_t a_row, int64_t a_column, int64_t rows, int64_t k,
                                  const float *panel, VEC (*out)[2])
{
    float copy[DEPTH * MR];
    for (int64_t i = 0; i < k; i++)
        for (int64_t r = 0; r < MR; r++)
            copy[i * MR + r] = r < rows ? a[r * a_row + i * a_column] : 0;
    SIMD(sum_block)(1, copy, MR, k, panel, out);
}

/* c [m, n] = a [m, k] . panels; k at most DEPTH, panels panel_size floats apart. */
INLINE void SIMD(multiply_as)(int by_columns, const float *a, int64_t a_row, int64_t a_column, int64_t m, int64_t n,
                              int64_t k, const float *panels, int64_t panel_size, const struct SIMD(finish) *whole)
{
    for (int64_t column = 0; column < n; column += NR, panels += panel_size)
        for (int64_t row = 0; row < m; row += MR) {
            VEC sums[MR][2];
            const int64_t at = row * whole->row + column, rows = m - row < MR ? m - row : MR;
            const struct SIMD(finish) f = {whole->c + at, whole->init ? whole->init + at : NULL,
                                           whole->gate ? whole->gate + at : NULL, whole->row, whole->relu};
            if (rows == MR)
                SIMD(sum_block)(by_columns, a + row * a_row, by_columns ? a_column : a_row, k, panels, sums);
            else
                SIMD(sum_rest)(a + row * a_row, a_row, a_column, rows, k, panels, sums);
            if (column + NR <= n)
                SIMD(store_block)(sums, &f, rows);
            else
                SIMD(store_edge)(sums, &f, rows, n - column);
        }
}

static TARGET void SIMD(multiply)(const float *a, int64_t a_row, int64_t a_column, int64_t m, int64_t n, int64_t k,
                                  const float *panels, int64_t panel_size, const struct SIMD(finish) *whole)
{
    if (a_row == 1)
        SIMD(multiply_as)(1, a, 1, a_column, m, n, k, panels, panel_size, whole);
    else
        SIMD(multiply_as)(0, a, a_row, 1, m, n, k, panels, panel_size, whole);
}

/* One panel: columns 0 to `columns` of b [k, ..], filled up with zeros to NR. */
static TARGET void SIMD(pack)(const float *b, int64_t b_row, int64_t b_column, int64_t k, int64_t columns, float *panel)
{
    if (b_column == 1 && columns >= NR) {
        for (int64_t i = 0; i < k; i++, panel += NR) {
            STORE(panel, LOAD(b + i * b_row));
            STORE(panel + LANES, LOAD(b + i * b_row + LANES));
        }
        return;
    }
    columns = columns < NR ? columns : NR;
    if (columns < NR)
        memset(panel, 0, sizeof(float) * (size_t)(k * NR));
    for (int64_t first = 0; first < k; first += 16) { /* a line of each column at a time */
        const int64_t last = first + 16 < k ? first + 16 : k;
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = first; i < last; i++)
                panel[i * NR + c] = b[i * b_row + c * b_column];
    }
}
