// Blocks of inputs as 24-bit fixed-point numbers, whose products with whole-number codes have exact sums.
//
// Each block of WIDTH inputs of a row has a power of two of its own: an input is scale * n, with n rounded to the
// nearest and at most LARGEST. Its error is at most 2^-23 of the block's largest input. A block with NaN, an infinity
// or a number from TOO_LARGE on has NaN as its scale. Numbers are cut in three digits of a signed byte, n = high *
// 65536 + middle * 256 + low: bytes for vpdpbusd, bfloat16 numbers (digit * scale) for AMX. See
// kernels/stored/fixed_point.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "stored_blocks.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define HEADMIX_FIXED_POINT
#endif

namespace headmix {

#if defined(HEADMIX_FIXED_POINT)

constexpr uint32_t LARGEST = 0x7f7f7f;             // the largest number of three signed bytes
constexpr uint32_t TOO_LARGE = (127 + 112) << 23;  // the bits of 2^112: no sum of a block's products overflows below it
constexpr int DIGITS = 3;

// A block's numbers, as digits from the highest.
struct FixedNumbers {
  __m512i digits[DIGITS][2];
  int32_t high_total, low_total;  // the sums of high, and of middle * 256 + low
  float scale;

  float sum() const { return static_cast<float>(high_total * 65536 + low_total) * scale; }
};

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The largest and the sum of all lanes. (g++ 12's own reductions warn inside its header.)
inline uint32_t largest_lane(__m512i lanes) {
  const __m256i half = _mm256_max_epu32(_mm512_maskz_extracti64x4_epi64(0xff, lanes, 0),
                                        _mm512_maskz_extracti64x4_epi64(0xff, lanes, 1));
  __m128i four = _mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline int32_t sum_of_lanes(__m512i lanes) {
  const __m256i half = _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xff, lanes, 0),
                                        _mm512_maskz_extracti64x4_epi64(0xff, lanes, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// The numbers of WIDTH inputs.
inline FixedNumbers fix(const float* x) {
  constexpr uint32_t SMALLEST = 24;                        // the exponent from which factor and scale are normal floats
  constexpr uint32_t CARRY = 0x1000000 - 2 * LARGEST - 1;  // what would be rounded above LARGEST has the next exponent
  const __m512i sign = _mm512_set1_epi32(INT32_MIN), half = _mm512_set1_epi32(128);
  const __m512 inputs[2] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
  const __m512i sizes =
      _mm512_maskz_max_epu32(ALL_LANES, _mm512_maskz_andnot_epi32(ALL_LANES, sign, _mm512_castps_si512(inputs[0])),
                             _mm512_maskz_andnot_epi32(ALL_LANES, sign, _mm512_castps_si512(inputs[1])));
  const uint32_t most = largest_lane(sizes), exponent = std::max((most + CARRY) >> 23, SMALLEST);
  const __m512 factor = _mm512_set1_ps(float_of((276 - exponent) << 23));
  const bool usable = most < TOO_LARGE;
  FixedNumbers fixed;
  fixed.scale = usable ? float_of((exponent - 22) << 23) : std::numeric_limits<float>::quiet_NaN();
  for (int i = 0; i < 2; ++i) {
    const __m512i numbers = _mm512_maskz_cvtps_epi32(usable ? ALL_LANES : 0, inputs[i] * factor);
    const __m512i upper = _mm512_maskz_srai_epi32(ALL_LANES, _mm512_add_epi32(numbers, half), 8);
    fixed.digits[0][i] = _mm512_maskz_srai_epi32(ALL_LANES, _mm512_add_epi32(upper, half), 8);
    fixed.digits[1][i] = _mm512_sub_epi32(upper, _mm512_maskz_slli_epi32(ALL_LANES, fixed.digits[0][i], 8));
    fixed.digits[2][i] = _mm512_sub_epi32(numbers, _mm512_maskz_slli_epi32(ALL_LANES, upper, 8));
  }
  const auto total = [&](int digit) { return _mm512_add_epi32(fixed.digits[digit][0], fixed.digits[digit][1]); };
  fixed.high_total = sum_of_lanes(total(0));
  fixed.low_total = sum_of_lanes(_mm512_add_epi32(_mm512_maskz_slli_epi32(ALL_LANES, total(1), 8), total(2)));
  return fixed;
}

// A block of a row for vpdpbusd. The starts are what sums of products with codes begin with: -CENTRE times the numbers.
struct alignas(64) FixedBytes {
  int8_t digits[DIGITS][WIDTH];
  int32_t high_start, low_start;
  float scale, sum;

  // Write the numbers in the order of the inputs in F's codes.
  template <class F>
  void write(const FixedNumbers& fixed) {
    const __m128i order = F::EVEN_FIRST ? _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15)
                                        : _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int digit = 0; digit < DIGITS; ++digit) {
      const __m256i bytes = _mm256_set_m128i(_mm512_maskz_cvtepi32_epi8(ALL_LANES, fixed.digits[digit][1]),
                                             _mm512_maskz_cvtepi32_epi8(ALL_LANES, fixed.digits[digit][0]));
      const __m256i ordered = _mm256_shuffle_epi8(bytes, _mm256_set_m128i(order, order));
      std::memcpy(digits[digit], &ordered, sizeof ordered);
    }
    high_start = -F::CENTRE * fixed.high_total, low_start = -F::CENTRE * fixed.low_total;
    scale = fixed.scale, sum = fixed.sum();
  }
};

// A buffer that is kept for this thread's next call: a step makes a hundred of them.
template <class T>
T* kept_buffer(int64_t size) {
  thread_local std::vector<T> kept;
  if (static_cast<int64_t>(kept.size()) < size) kept.resize(size);
  return kept.data();
}

#endif

}  // namespace headmix
