// Sums of products of bytes: rows of unsigned codes with groups of outputs, whose signed weights are next to each
// other.
//
// A group has GROUP outputs: their weights [depth / 4][GROUP][4], four inputs of an output per word; then the term
// added to every output's sum, int32, -128 times the sum of its weights, because codes are centred on 128; then its
// scale. Integer sums are exact, so neither the order nor the instruction changes a result. The depth is a multiple of
// DEPTH.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace headmix {

constexpr int GROUP = 16;
constexpr int64_t DEPTH = 64;  // inputs of an AMX tile
constexpr int64_t TAIL = GROUP * 8;

#if defined(__AVX512VNNI__)
constexpr bool FAST_INT8 = true;
#else
constexpr bool FAST_INT8 = false;
#endif

typedef int32_t Sums __attribute__((vector_size(GROUP * sizeof(int32_t))));
typedef float Scales __attribute__((vector_size(GROUP * sizeof(float))));

inline int64_t group_bytes(int64_t depth) { return depth * GROUP + TAIL; }

// The products of GROUP outputs, from a row's complete sums with the group.
inline Scales scaled(Sums sums, const uint8_t* group, int64_t depth) {
  Sums shift;
  Scales scales;
  std::memcpy(&shift, group + depth * GROUP, sizeof shift);
  std::memcpy(&scales, group + depth * GROUP + sizeof shift, sizeof scales);
  return __builtin_convertvector(sums + shift, Scales) * scales;
}

// Add four inputs' products of a row's codes and the group's weights [GROUP][4].
inline Sums add_products(Sums sums, const uint8_t* codes, const uint8_t* weights) {
#if defined(__AVX512VNNI__)
  int32_t word;
  std::memcpy(&word, codes, sizeof word);
  return (Sums)_mm512_dpbusd_epi32((__m512i)sums, _mm512_set1_epi32(word), _mm512_loadu_si512(weights));
#else
  const int8_t* signed_weights = reinterpret_cast<const int8_t*>(weights);
  for (int output = 0; output < GROUP; ++output)
    for (int i = 0; i < 4; ++i) sums[output] += codes[i] * signed_weights[output * 4 + i];
  return sums;
#endif
}

// sums [GROUPS][ROWS] of rows of codes [ROWS][depth] with neighbouring groups.
template <int GROUPS, int ROWS>
void sum_tile(const uint8_t* codes, int64_t depth, const uint8_t* groups, Sums* sums) {
  Sums totals[GROUPS][ROWS] = {};
  for (int64_t i = 0; i < depth; i += 4) {
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g) {
      const uint8_t* weights = groups + g * group_bytes(depth) + i * GROUP;
#pragma GCC unroll 12
      for (int r = 0; r < ROWS; ++r) totals[g][r] = add_products(totals[g][r], codes + r * depth + i, weights);
    }
  }
  std::memcpy(sums, totals, sizeof totals);
}

}  // namespace headmix
