// Products of fixed-point inputs with the codes of stored blocks by vpdpbusd, a few rows at a time.
#pragma once

#include <utility>

#include "stored_codes.h"
#include "stored_product.h"

namespace headmix {

#if defined(HEADMIX_FIXED_POINT)

constexpr int64_t WEIGHTS_AHEAD = 2048;  // bytes that a single row prefetches ahead

// high * 65536 + middle * 256 + low, rounded as AMX rounds it: the lower two, then all.
inline __m512 joined(__m512i high, __m512i middle, __m512i low) {
  const __m512i lower = _mm512_add_epi32(_mm512_maskz_slli_epi32(ALL_LANES, middle, 8), low);
  return _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(ALL_LANES, high), _mm512_set1_ps(65536),
                         _mm512_maskz_cvtepi32_ps(ALL_LANES, lower));
}

// GROUPS groups for ROWS rows of fixed-point numbers [rows][blocks] from `row` on.
template <class F, int GROUPS, int ROWS>
void multiply_bytes(const StoredProduct& p, const FixedBytes* x, int64_t row, int64_t group) {
  __m512 totals[GROUPS][ROWS];
#pragma GCC unroll 4
  for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) totals[g][r] = _mm512_setzero_ps();
  x += row * p.blocks;
  for (int64_t b = 0; b < p.blocks; ++b, ++x) {
    __m512i sums[GROUPS][ROWS][DIGITS];
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        sums[g][r][0] = _mm512_set1_epi32(x[r * p.blocks].high_start);
        sums[g][r][1] = _mm512_setzero_si512();
        sums[g][r][2] = _mm512_set1_epi32(x[r * p.blocks].low_start);
      }
    [&]<int... G>(std::integer_sequence<int, G...>) {
      const F blocks[GROUPS] = {F(block_at<F>(p, group + G, b))...};
#pragma GCC unroll 8
      for (int quad = 0; quad < QUADS; ++quad)
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; ++g) {
          if (ROWS == 1 && quad % 2 == 0) __builtin_prefetch(blocks[g].codes + quad * GROUP * 4 + WEIGHTS_AHEAD);
          const __m512i codes = codes_at(blocks[g], quad);
#pragma GCC unroll 4
          for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 3
            for (int digit = 0; digit < DIGITS; ++digit) {
              int32_t four;
              std::memcpy(&four, x[r * p.blocks].digits[digit] + quad * 4, sizeof four);
              sums[g][r][digit] = _mm512_dpbusd_epi32(sums[g][r][digit], codes, _mm512_set1_epi32(four));
            }
        }
#pragma GCC unroll 4
      for (int g = 0; g < GROUPS; ++g) {
        const CentredScale<F> scale(blocks[g]);
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; ++r) {
          const FixedBytes& mine = x[r * p.blocks];
          const __m512 whole = joined(sums[g][r][0], sums[g][r][1], sums[g][r][2]) * _mm512_set1_ps(mine.scale);
          totals[g][r] = scale.add(totals[g][r], whole, mine.sum);
        }
      }
    }(std::make_integer_sequence<int, GROUPS>());
  }
  float result[GROUP];
  for (int g = 0; g < GROUPS; ++g)
    for (int r = 0; r < ROWS; ++r) {
      _mm512_storeu_ps(result, totals[g][r]);
      write_sums(p, result, row + r, group + g);
    }
}

// Groups first..last of ROWS rows, GROUPS at once.
template <class F, int GROUPS, int ROWS>
void multiply_bytes_of(const StoredProduct& p, const FixedBytes* x, int64_t row, int64_t first, int64_t last) {
  for (; first + GROUPS <= last; first += GROUPS) multiply_bytes<F, GROUPS, ROWS>(p, x, row, first);
  if constexpr (GROUPS > 1) multiply_bytes_of<F, GROUPS / 2, ROWS>(p, x, row, first, last);
}

#endif

}  // namespace headmix
