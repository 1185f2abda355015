/*
 * drnn_vector.h by AVX2.
 */
#ifndef DRNN_VECTOR_AVX2_H
#define DRNN_VECTOR_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define DRNN_LANES 8u
#define DRNN_ENCODE_LANES 16u

typedef __m256i drnn_v32_t;

static inline __m256i drnn_load_avx2(const void *from) /* 32 bytes, wherever they are */
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline drnn_v32_t drnn_v_set(int32_t value)
{
    return _mm256_set1_epi32(value);
}

static inline drnn_v32_t drnn_v_load16(const int16_t *from)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline drnn_v32_t drnn_v_load32(const int32_t *from)
{
    return drnn_load_avx2(from);
}

static inline void drnn_v_store16(int16_t *to, drnn_v32_t v)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

static inline void drnn_v_store32(int32_t *to, drnn_v32_t v)
{
    _mm256_storeu_si256((__m256i *)(void *)to, v);
}

static inline drnn_v32_t drnn_v_add(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_add_epi32(a, b);
}

static inline drnn_v32_t drnn_v_sub(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_sub_epi32(a, b);
}

static inline drnn_v32_t drnn_v_and(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_and_si256(a, b);
}

static inline drnn_v32_t drnn_v_or(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_or_si256(a, b);
}

static inline drnn_v32_t drnn_v_xor(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_xor_si256(a, b);
}

static inline drnn_v32_t drnn_v_min(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_min_epi32(a, b);
}

static inline drnn_v32_t drnn_v_max(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_max_epi32(a, b);
}

static inline drnn_v32_t drnn_v_abs(drnn_v32_t v)
{
    return _mm256_abs_epi32(v);
}

static inline drnn_v32_t drnn_v_shift_left(drnn_v32_t v, int bits)
{
    return _mm256_slli_epi32(v, bits);
}

static inline drnn_v32_t drnn_v_shift_right(drnn_v32_t v, int bits)
{
    return _mm256_srai_epi32(v, bits);
}

static inline drnn_v32_t drnn_v_round_shift(drnn_v32_t v, int bits)
{
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_srai_epi32(v, bits - 1), _mm256_set1_epi32(1)), 1);
}

static inline drnn_v32_t drnn_v_mul_halves(drnn_v32_t a, drnn_v32_t b)
{
    return _mm256_madd_epi16(a, b);
}

/* Odd lanes in the even ones' place. */
static inline __m256i drnn_odd_avx2(__m256i v)
{
    return _mm256_shuffle_epi32(v, 0xf5);
}

static inline drnn_v32_t drnn_v_mul_high(drnn_v32_t a, drnn_v32_t b)
{
    const __m256i half = _mm256_set1_epi64x((int64_t)1 << 31);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(drnn_odd_avx2(a), drnn_odd_avx2(b)), half);
    return _mm256_blend_epi32(drnn_odd_avx2(even), odd, 0xaa);
}

static inline drnn_v32_t drnn_v_with_sign(drnn_v32_t v, drnn_v32_t of)
{
    return _mm256_sign_epi32(v, of);
}

static inline drnn_v32_t drnn_v_gather(const uint32_t *table, drnn_v32_t index)
{
    return _mm256_i32gather_epi32((const int *)(const void *)table, index, 4);
}

/* A bit for each lane of a comparison's result, and how many are set. */
static inline uint32_t drnn_count_avx2(__m256i lanes)
{
    return (uint32_t)__builtin_popcount((uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
}

static inline uint32_t drnn_v_count_unlike(uint32_t count, drnn_v32_t a, drnn_v32_t b)
{
    return count + DRNN_LANES - drnn_count_avx2(_mm256_cmpeq_epi32(a, b));
}

typedef __m256i drnn_v_count_t; /* by lane */

static inline drnn_v_count_t drnn_v_no_count(void)
{
    return _mm256_setzero_si256();
}

static inline void drnn_v_count_lost(drnn_v_count_t *count, drnn_v32_t rounded, drnn_v32_t exact)
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i lost = _mm256_andnot_si256(_mm256_cmpeq_epi32(exact, zero), _mm256_cmpeq_epi32(rounded, zero));
    *count = _mm256_sub_epi32(*count, lost);
}

static inline uint32_t drnn_v_counted(drnn_v_count_t count)
{
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(count), _mm256_extracti128_si256(count, 1));
    sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 8));
    sum = _mm_add_epi32(sum, _mm_srli_si128(sum, 4));
    return (uint32_t)_mm_cvtsi128_si32(sum);
}

static inline uint32_t drnn_v_any(drnn_v32_t v)
{
    __m128i bits = _mm_or_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    bits = _mm_or_si128(bits, _mm_srli_si128(bits, 8));
    bits = _mm_or_si128(bits, _mm_srli_si128(bits, 4));
    return (uint32_t)_mm_cvtsi128_si32(bits);
}

static inline int drnn_v_is_zero(drnn_v32_t v)
{
    return _mm256_testz_si256(v, v);
}

static inline uint32_t drnn_v_beyond(const int16_t *v, const int16_t *v_hat, int32_t below)
{
    const __m256i distance = _mm256_abs_epi16(_mm256_sub_epi16(drnn_load_avx2(v), drnn_load_avx2(v_hat)));
    const __m256i lanes = _mm256_cmpgt_epi16(distance, _mm256_set1_epi16((int16_t)below));
    const __m256i bytes = _mm256_packs_epi16(lanes, _mm256_setzero_si256()); /* of each half of eight lanes */
    const uint32_t bits = (uint32_t)_mm256_movemask_epi8(bytes);
    return (bits | bits >> 8) & 0xffffu;
}

#endif
