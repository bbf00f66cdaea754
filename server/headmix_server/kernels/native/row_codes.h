// A row of floats as bytes around 128 with one scale, after a blockwise Hadamard turn that spreads the row's outliers
// over its block. See kernels/quantize.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "simd.h"

namespace headmix {

constexpr float LARGEST = 127;
constexpr float ZERO = 128;
constexpr int64_t LARGEST_BLOCK = 512;
constexpr float ROUND = 12582912;  // 1.5 * 2^23: adding and taking it away rounds to the nearest integer

typedef uint8_t Codes __attribute__((vector_size(LANES)));

// The block that rows of a width are turned by: the largest power of two that divides it, 512 at most.
inline int64_t turning_block(int64_t width) { return std::min(width & -width, LARGEST_BLOCK); }

template <int H, int... I>
inline Vec swap_lanes(Vec value, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(value, value, (I ^ H)...);
}

// One butterfly between lanes that lie H apart: sums where the lane's bit H is clear, differences where it is set.
template <int H>
inline Vec butterfly(Vec value) {
  Vec sign;
  for (int lane = 0; lane < LANES; ++lane) sign[lane] = lane & H ? -1.0f : 1.0f;
  return value * sign + swap_lanes<H>(value, std::make_integer_sequence<int, LANES>());
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
  for (int64_t i = 0; i < block; i += LANES) {
    Vec value = butterfly<2>(butterfly<1>(load(values + i)));
    if constexpr (LANES > 4) value = butterfly<4>(value);
    if constexpr (LANES > 8) value = butterfly<8>(value);
    store(values + i, value);
  }
  for (int64_t h = LANES; h < block; h *= 2)
    for (int64_t first = 0; first < block; first += 2 * h)
      for (int64_t i = first; i < first + h; i += LANES) {
        const Vec a = load(values + i), b = load(values + i + h);
        store(values + i, a + b), store(values + i + h, a - b);
      }
}

// The largest size of a row's values; NaN where one of them is not finite, which a comparison would not tell.
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

inline void encode(const float* values, int64_t width, float factor, uint8_t* codes) {
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Codes code = __builtin_convertvector((load(values + i) * factor + ROUND) - ROUND + ZERO, Codes);
    std::memcpy(codes + i, &code, sizeof code);
  }
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
    std::fill_n(codes, width, static_cast<uint8_t>(ZERO));  // no code is the scale's NaN
  }
  return most / LARGEST * (1 / std::sqrt(static_cast<float>(block)));
}

}  // namespace headmix
