/*
 * The stochastic step of weights by AVX2, and sums of squares.
 */
#ifndef DRNN_UPDATE_AVX2_H
#define DRNN_UPDATE_AVX2_H

#include "drnn_random.h"
#include "drnn_vector_avx2.h"

#define DRNN_STEP_BLOCK 16u /* weights of a round: eight pairs */

static inline __m256i drnn_mix_avx2(__m256i x)
{
    x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
    x = _mm256_mullo_epi32(x, _mm256_set1_epi32((int32_t)DRNN_MIX_FIRST));
    x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 15));
    x = _mm256_mullo_epi32(x, _mm256_set1_epi32((int32_t)DRNN_MIX_SECOND));
    return _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
}

/* (sum * m) >> 32 >> shift of eight sums, m >= 0, plus 16 random bits each, >> 16: eight steps. */
static inline __m256i drnn_steps_avx2(const int32_t *sums, __m256i m, int shift, __m128i random)
{
    const __m256i values = drnn_load_avx2(sums);
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epi32(values, m), 32);
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(values, 32), m);
    const __m256i quotients = _mm256_srai_epi32(_mm256_blend_epi32(even, odd, 0xaa), shift);
    return _mm256_srai_epi32(_mm256_add_epi32(quotients, _mm256_cvtepu16_epi32(random)), 16);
}

/*
 * As many weights as fill rounds, w [rows] by sums [rows]; the pairs' counters begin at `counter`. Steps are below 2^15, as
 * |quotient| <= 2^30. Returns how many weights were stepped.
 */
static inline uint32_t drnn_step_avx2(int16_t *w, const int32_t *sums, uint32_t rows, uint32_t counter, int32_t quotient_m,
                                      int shift, uint32_t *saturated)
{
    const __m256i m = _mm256_set1_epi32(quotient_m);
    const __m256i stride = _mm256_set1_epi32((int32_t)DRNN_RANDOM_STRIDE);
    const __m256i round = _mm256_slli_epi32(stride, 3);
    const __m256i pairs = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i counters = _mm256_add_epi32(_mm256_set1_epi32((int32_t)counter), _mm256_mullo_epi32(pairs, stride));
    uint32_t row = 0;
    for (; row + DRNN_STEP_BLOCK <= rows; row += DRNN_STEP_BLOCK) {
        const __m256i random = drnn_mix_avx2(counters);
        counters = _mm256_add_epi32(counters, round);
        const __m256i first = drnn_steps_avx2(&sums[row], m, shift, _mm256_castsi256_si128(random));
        const __m256i second = drnn_steps_avx2(&sums[row + 8], m, shift, _mm256_extracti128_si256(random, 1));
        const __m256i steps = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
        const __m256i before = drnn_load_avx2(&w[row]);
        const __m256i after = _mm256_max_epi16(_mm256_subs_epi16(before, steps), _mm256_set1_epi16(-32767));
        const __m256i exact = _mm256_cmpeq_epi16(after, _mm256_sub_epi16(before, steps)); /* modulo 2^16 */
        const uint32_t kept = (uint32_t)_mm256_movemask_epi8(exact);
        if (kept != UINT32_MAX) {
            *saturated += (uint32_t)__builtin_popcount(~kept) / 2;
        }
        _mm256_storeu_si256((__m256i *)(void *)&w[row], after);
    }
    return row;
}

/* Sum of squares of values [n], n a multiple of 16 below 2^13; the square of -32768 twice is 2^31, unsigned. */
static inline uint64_t drnn_squares_avx2(const int16_t *values, uint32_t n)
{
    const __m256i low = _mm256_set1_epi64x(UINT32_MAX);
    __m256i sums = _mm256_setzero_si256();
    for (uint32_t i = 0; i < n; i += 16) {
        const __m256i v = drnn_load_avx2(&values[i]);
        const __m256i squares = _mm256_madd_epi16(v, v);
        sums = _mm256_add_epi64(sums, _mm256_add_epi64(_mm256_and_si256(squares, low), _mm256_srli_epi64(squares, 32)));
    }
    uint64_t totals[4];
    _mm256_storeu_si256((__m256i *)(void *)totals, sums);
    return totals[0] + totals[1] + totals[2] + totals[3];
}

#endif
