/*
 * The sparse products by AVX2. VPMADDWD multiplies pairs of int16 and adds the two products: of one row in two columns (sums
 * over entries), or of two rows of a column and dM (dot products). In memory everything may lie anywhere.
 */
#ifndef DRNN_KERNELS_AVX2_H
#define DRNN_KERNELS_AVX2_H

#include "drnn_kernels.h"
#include "drnn_vector_avx2.h"

#define DRNN_TILE 16u             /* rows of a tile: a register of int16, or of sums two */
#define DRNN_WIDE_TILES 4u        /* that are summed at a time, so that an entry is looked up once for all of them */

/*
 * Sums of a tile: rows 0-3 and 8-11 in `low`, 4-7 and 12-15 in `high`. A sum of two products, |w| <= 2^15 and
 * |factor| < 2^15 each, is below 2^31.
 */
typedef struct {
    __m256i low, high;
} drnn_tile_t;

/* += a[row] * factor_a + b[row] * factor_b; the two factors stand in the halves of each lane. */
static inline void drnn_tile_add(drnn_tile_t *sums, const int16_t *a, const int16_t *b, __m256i factors)
{
    const __m256i of_a = drnn_load_avx2(a);
    const __m256i of_b = drnn_load_avx2(b);
    sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(_mm256_unpacklo_epi16(of_a, of_b), factors));
    sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(_mm256_unpackhi_epi16(of_a, of_b), factors));
}

/* Eight of its sums, those of rows 0-7 or 8-15. */
static inline __m256i drnn_tile_rows(const drnn_tile_t *sums, int upper)
{
    return upper ? _mm256_permute2x128_si256(sums->low, sums->high, 0x31)
                 : _mm256_permute2x128_si256(sums->low, sums->high, 0x20);
}

static inline __m256i drnn_factors_avx2(int32_t low, int32_t high)
{
    return _mm256_set1_epi32((int32_t)(((uint32_t)low & 0xffffu) | (uint32_t)high << 16));
}

/* One tile of all entries. */
static inline drnn_tile_t drnn_tile(const int16_t *base, uint32_t row, const drnn_entry_t *entries, uint32_t n)
{
    drnn_tile_t sums = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint32_t a = 0; a < n; a += 2) { /* a lone last one meets itself, times 0 */
        const drnn_entry_t *other = &entries[a + 1 < n ? a + 1 : a];
        const __m256i factors = drnn_factors_avx2(entries[a].factor, a + 1 < n ? other->factor : 0);
        drnn_tile_add(&sums, drnn_rows_at(base, entries[a].place) + row, drnn_rows_at(base, other->place) + row, factors);
    }
    return sums;
}

/* The same of four tiles, one after the other. */
static inline void drnn_wide_tiles(drnn_tile_t tiles[DRNN_WIDE_TILES], const int16_t *base, uint32_t row,
                                   const drnn_entry_t *entries, uint32_t n)
{
    const drnn_tile_t zero = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    drnn_tile_t first = zero;
    drnn_tile_t second = zero;
    drnn_tile_t third = zero;
    drnn_tile_t fourth = zero;
    for (uint32_t a = 0; a < n; a += 2) {
        const drnn_entry_t *other = &entries[a + 1 < n ? a + 1 : a];
        const __m256i factors = drnn_factors_avx2(entries[a].factor, a + 1 < n ? other->factor : 0);
        const int16_t *rows_a = drnn_rows_at(base, entries[a].place) + row;
        const int16_t *rows_b = drnn_rows_at(base, other->place) + row;
        drnn_tile_add(&first, rows_a, rows_b, factors);
        drnn_tile_add(&second, rows_a + DRNN_TILE, rows_b + DRNN_TILE, factors);
        drnn_tile_add(&third, rows_a + 2 * DRNN_TILE, rows_b + 2 * DRNN_TILE, factors);
        drnn_tile_add(&fourth, rows_a + 3 * DRNN_TILE, rows_b + 3 * DRNN_TILE, factors);
    }
    tiles[0] = first;
    tiles[1] = second;
    tiles[2] = third;
    tiles[3] = fourth;
}

/* sums[0..7] += addend; the sign bits of *exceeds where that took more than 32 bits. */
static inline void drnn_add_avx2(int32_t *sums, __m256i addend, __m256i *exceeds)
{
    const __m256i before = drnn_load_avx2(sums);
    const __m256i after = _mm256_add_epi32(before, addend);
    *exceeds = _mm256_or_si256(*exceeds,
                               _mm256_and_si256(_mm256_xor_si256(after, before), _mm256_xor_si256(after, addend)));
    drnn_v_store32(sums, after);
}

static inline void drnn_add_tile_avx2(int32_t *sums, const drnn_tile_t *tile, __m256i *exceeds)
{
    drnn_add_avx2(sums, drnn_tile_rows(tile, 0), exceeds);
    drnn_add_avx2(sums + 8, drnn_tile_rows(tile, 1), exceeds);
}

/* drnn_add_columns of entries of one run, as many whole tiles as there are; returns the row after them. */
static inline uint32_t drnn_add_tiles_avx2(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end,
                                           const drnn_entry_t *entries, uint32_t n, int *exceeds)
{
    __m256i beyond = _mm256_setzero_si256();
    uint32_t row = first;
    for (; row + DRNN_WIDE_TILES * DRNN_TILE <= end; row += DRNN_WIDE_TILES * DRNN_TILE) {
        drnn_tile_t tiles[DRNN_WIDE_TILES];
        drnn_wide_tiles(tiles, base, row, entries, n);
        for (uint32_t tile = 0; tile < DRNN_WIDE_TILES; ++tile) {
            drnn_add_tile_avx2(&sums[row + tile * DRNN_TILE], &tiles[tile], &beyond);
        }
    }
    for (; row + DRNN_TILE <= end; row += DRNN_TILE) {
        const drnn_tile_t tile = drnn_tile(base, row, entries, n);
        drnn_add_tile_avx2(&sums[row], &tile, &beyond);
    }
    *exceeds |= _mm256_movemask_ps(_mm256_castsi256_ps(beyond)) != 0;
    return row;
}

static inline void drnn_store_tile_avx2(int32_t *sums, const drnn_tile_t *tile)
{
    drnn_v_store32(sums, drnn_tile_rows(tile, 0));
    drnn_v_store32(sums + 8, drnn_tile_rows(tile, 1));
}

/* drnn_sum_columns, likewise. */
static inline uint32_t drnn_sum_tiles_avx2(int32_t *sums, const int16_t *base, uint32_t rows, const drnn_entry_t *entries,
                                           uint32_t n)
{
    uint32_t row = 0;
    for (; row + DRNN_WIDE_TILES * DRNN_TILE <= rows; row += DRNN_WIDE_TILES * DRNN_TILE) {
        drnn_tile_t tiles[DRNN_WIDE_TILES];
        drnn_wide_tiles(tiles, base, row, entries, n);
        for (uint32_t tile = 0; tile < DRNN_WIDE_TILES; ++tile) {
            drnn_store_tile_avx2(&sums[row + tile * DRNN_TILE], &tiles[tile]);
        }
    }
    for (; row + DRNN_TILE <= rows; row += DRNN_TILE) {
        const drnn_tile_t tile = drnn_tile(base, row, entries, n);
        drnn_store_tile_avx2(&sums[row], &tile);
    }
    return row;
}

/* The lanes of a vector, added up in 64 bits by pairs; then all those of four vectors. */
static inline __m256i drnn_total_avx2(__m256i sums)
{
    return _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums)),
                            _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1)));
}

static inline __m256i drnn_totals_avx2(__m256i a, __m256i b, __m256i c, __m256i d)
{
    const __m256i wide_a = drnn_total_avx2(a);
    const __m256i wide_b = drnn_total_avx2(b);
    const __m256i wide_c = drnn_total_avx2(c);
    const __m256i wide_d = drnn_total_avx2(d);
    const __m256i ab = _mm256_add_epi64(_mm256_unpacklo_epi64(wide_a, wide_b), _mm256_unpackhi_epi64(wide_a, wide_b));
    const __m256i cd = _mm256_add_epi64(_mm256_unpacklo_epi64(wide_c, wide_d), _mm256_unpackhi_epi64(wide_c, wide_d));
    return _mm256_add_epi64(_mm256_permute2x128_si256(ab, cd, 0x20), _mm256_permute2x128_si256(ab, cd, 0x31));
}

/*
 * A dot product while it is formed. `low` is the sum modulo 2^32. Two products of -32768 by itself add up to 2^31, so `high` is
 * the sum of all pairs less 1, over 2^16 and rounded down, each of which has 16 bits: of k pairs, sum - k lies in
 * [high, high + k) * 2^16, and k <= 2^8 in a lane.
 */
typedef struct {
    __m256i low, high;
} drnn_dot_t;

static inline void drnn_dot_add(drnn_dot_t *dot, __m256i dm, const int16_t *w)
{
    const __m256i pairs = _mm256_madd_epi16(dm, drnn_load_avx2(w));
    dot->low = _mm256_add_epi32(dot->low, pairs);
    dot->high = _mm256_add_epi32(dot->high, _mm256_srai_epi32(_mm256_sub_epi32(pairs, _mm256_set1_epi32(1)), 16));
}

/* What a lane's sum of k pairs is beyond high * 2^16. */
static inline __m256i drnn_dot_rest(const drnn_dot_t *dot)
{
    return _mm256_sub_epi32(dot->low, _mm256_slli_epi32(dot->high, 16));
}

/* products[c] = dot product of w[c] with dm [n], c < 4. */
static inline void drnn_dot_four_avx2(int64_t products[4], const int16_t *const w[4], const int16_t *dm, uint32_t n)
{
    const drnn_dot_t zero = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    drnn_dot_t a = zero;
    drnn_dot_t b = zero;
    drnn_dot_t c = zero;
    drnn_dot_t d = zero;
    for (uint32_t i = 0; i < n; i += DRNN_TILE) {
        const __m256i values = drnn_load_avx2(&dm[i]);
        drnn_dot_add(&a, values, &w[0][i]);
        drnn_dot_add(&b, values, &w[1][i]);
        drnn_dot_add(&c, values, &w[2][i]);
        drnn_dot_add(&d, values, &w[3][i]);
    }
    const __m256i high = drnn_totals_avx2(a.high, b.high, c.high, d.high);
    const __m256i rest = drnn_totals_avx2(drnn_dot_rest(&a), drnn_dot_rest(&b), drnn_dot_rest(&c), drnn_dot_rest(&d));
    _mm256_storeu_si256((__m256i *)(void *)products, _mm256_add_epi64(_mm256_slli_epi64(high, 16), rest));
}

/* drnn_dot_columns over the first n_rows rows, a multiple of DRNN_TILE. */
static inline void drnn_dots_avx2(int64_t *products, const int16_t *base, uint32_t n_rows, const int16_t *dm,
                                  const drnn_entry_t *entries, uint32_t n)
{
    for (uint32_t a = 0; a < n; a += 4) { /* of the last four, those beyond the end are the last one once more */
        const int16_t *w[4];
        for (uint32_t i = 0; i < 4; ++i) {
            w[i] = drnn_rows_at(base, entries[a + i < n ? a + i : n - 1].place);
        }
        int64_t four[4];
        drnn_dot_four_avx2(four, w, dm, n_rows);
        for (uint32_t i = 0; i < 4 && a + i < n; ++i) {
            products[a + i] = four[i];
        }
    }
}

#endif
