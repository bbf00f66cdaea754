// A row of floats as bytes around 128 with one scale, after a blockwise Hadamard rotation that spreads the row's
// outliers over its block. See kernels/quantize.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace headmix {

constexpr float LARGEST = 127;
constexpr float ZERO = 128;
constexpr int64_t LARGEST_BLOCK = 512;
constexpr float ROUND = 12582912;  // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer

typedef uint8_t Codes __attribute__((vector_size(LANES)));

// The block width by which rows are rotated: the largest power of two that divides the width, at most 512.
inline int64_t turning_block(int64_t width) { return std::min(width & -width, LARGEST_BLOCK); }

template <int H, int... I>
inline Vec swap_lanes(Vec value, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(value, value, (I ^ H)...);
}

// One butterfly between lanes that are H apart: sums where the lane's bit H is clear, differences where it is set.
template <int H>
inline Vec butterfly(Vec value) {
  Vec sign;
  for (int lane = 0; lane < LANES; ++lane) sign[lane] = lane & H ? -1.0f : 1.0f;
  return value * sign + swap_lanes<H>(value, std::make_integer_sequence<int, LANES>());
}

// The transform within a vector's lanes.
inline Vec transform_lanes(Vec value) {
  value = butterfly<2>(butterfly<1>(value));
  if constexpr (LANES > 4) value = butterfly<4>(value);
  if constexpr (LANES > 8) value = butterfly<8>(value);
  return value;
}

// Butterflies between values that are h and then 2 h apart, in a block of 4 h; LANES_FIRST: after each vector's lanes.
template <bool LANES_FIRST>
void transform_fours(float* values, int64_t h) {
  for (int64_t i = 0; i < h; i += LANES) {
    Vec v[4];
    for (int part = 0; part < 4; ++part) v[part] = load(values + part * h + i);
    if (LANES_FIRST)
      for (Vec& part : v) part = transform_lanes(part);
    const Vec a = v[0] + v[1], b = v[0] - v[1], c = v[2] + v[3], d = v[2] - v[3];
    store(values + i, a + c), store(values + h + i, b + d);
    store(values + 2 * h + i, a - c), store(values + 3 * h + i, b - d);
  }
}

// The unnormalised Walsh-Hadamard transform of `block` values, a power of two.
inline void transform(float* values, int64_t block) {
  if (block < LANES) {
    for (int64_t h = 1; h < block; h *= 2)
      for (int64_t i = 0; i < block; ++i)
        if (!(i & h)) {
          const float a = values[i], b = values[i + h];
          values[i] = a + b, values[i + h] = a - b;
        }
    return;
  }
  int64_t h = LANES;
  if (block >= 4 * LANES) {
    for (int64_t first = 0; first < block; first += 4 * h) transform_fours<true>(values + first, h);
    h *= 4;
  } else {
    for (int64_t i = 0; i < block; i += LANES) store(values + i, transform_lanes(load(values + i)));
  }
  for (; 2 * h < block; h *= 4)
    for (int64_t first = 0; first < block; first += 4 * h) transform_fours<false>(values + first, h);
  if (h < block)
    for (int64_t i = 0; i < h; i += LANES) {
      const Vec a = load(values + i), b = load(values + i + h);
      store(values + i, a + b), store(values + i + h, a - b);
    }
}

// The largest magnitude in a row; NaN if a value is not finite, which a comparison would not detect.
inline float largest(const float* values, int64_t width) {
  Vec most = {}, odd = {};
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Vec value = load(values + i), size = value < 0 ? -value : value;
    most = size > most ? size : most;
    odd += value * 0.0f;
  }
  float result = 0, rest = sum(odd);
  for (int lane = 0; lane < LANES; ++lane) result = std::max(result, most[lane]);
  for (; i < width; ++i) {
    result = std::max(result, std::fabs(values[i]));
    rest += values[i] * 0.0f;
  }
  return result + rest;
}

// Write whole numbers 0 to 255 as bytes.
inline void store_codes(uint8_t* to, Vec numbers) {
#if defined(__AVX512F__)
  _mm512_mask_cvtepi32_storeu_epi8(to, 0xffff, _mm512_maskz_cvttps_epi32(0xffff, (__m512)numbers));
#else
  const Codes codes = __builtin_convertvector(numbers, Codes);
  std::memcpy(to, &codes, sizeof codes);
#endif
}

inline void encode(const float* values, int64_t width, float factor, uint8_t* codes) {
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) store_codes(codes + i, (load(values + i) * factor + ROUND) - ROUND + ZERO);
  for (; i < width; ++i) codes[i] = static_cast<uint8_t>((values[i] * factor + ROUND) - ROUND + ZERO);
}

// Write the codes of a row [width] and return its scale; `scratch` holds as many floats.
inline float quantize_row(const float* row, int64_t width, int64_t block, float* scratch, uint8_t* codes) {
  std::memcpy(scratch, row, width * sizeof(float));
  for (int64_t first = 0; first < width; first += block) transform(scratch + first, block);
  const float most = largest(scratch, width);
  if (std::isfinite(most)) {
    encode(scratch, width, most > 0 ? LARGEST / most : 0, codes);
  } else {
    std::fill_n(codes, width, static_cast<uint8_t>(ZERO));  // no code could represent NaN, so the scale does
  }
  return most / LARGEST * (1 / std::sqrt(static_cast<float>(block)));
}

}  // namespace headmix
