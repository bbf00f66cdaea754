// The two products of a low-rank term for a few rows at once: shrink (dot products with A's rows) and expand (summing
// B's rows), with each weight loaded and widened once per tile of rows. Weights are contiguous rows of either type.
//
// An image is read from front to back, so each load of a weight prefetches the one PREFETCH bytes further on: rows are
// too short, and pages too small, for the hardware prefetcher.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "simd.h"

namespace headmix {

constexpr int TILE = 4;  // rows times ranks held in registers: 16 sums, 4 weights and a row fit AVX-512's 32

#ifndef HEADMIX_PREFETCH
#define HEADMIX_PREFETCH 8192
#endif
constexpr int64_t PREFETCH = HEADMIX_PREFETCH;

// z[i][k] = scale * dot(a[k], x[i])
template <typename W, int ROWS, int RANKS>
void shrink_tile(const W* a, int64_t ahead, int64_t in, float scale, const float* const* x, float* z,
                 int64_t z_stride) {
  Vec sums[ROWS][RANKS] = {};
  int64_t c = 0;
  for (; c + LANES <= in; c += LANES) {
    Vec weights[RANKS];
    for (int k = 0; k < RANKS; ++k) {
      __builtin_prefetch(a + k * in + c + ahead);
      weights[k] = load(a + k * in + c);
    }
    for (int i = 0; i < ROWS; ++i) {
      const Vec values = load(x[i] + c);
      for (int k = 0; k < RANKS; ++k) sums[i][k] += values * weights[k];
    }
  }
  for (int i = 0; i < ROWS; ++i) {
    for (int k = 0; k < RANKS; ++k) {
      float total = sum(sums[i][k]);
      for (int64_t rest = c; rest < in; ++rest) total += x[i][rest] * widen(a[k * in + rest]);
      z[i * z_stride + k] = scale * total;
    }
  }
}

// out[i][c] += sum_k z[i][k] * b[k][c] for the first `columns` of b's rows, which are `stride` apart
template <typename W, int ROWS, int RANKS>
void expand_tile(const W* b, int64_t ahead, int64_t stride, int64_t columns, const float* z, int64_t z_stride,
                 float* const* out) {
  float factors[ROWS][RANKS];
  for (int i = 0; i < ROWS; ++i) {
    for (int k = 0; k < RANKS; ++k) factors[i][k] = z[i * z_stride + k];
  }
  int64_t c = 0;
  for (; c + LANES <= columns; c += LANES) {
    Vec weights[RANKS];
    for (int k = 0; k < RANKS; ++k) {
      __builtin_prefetch(b + k * stride + c + ahead);
      weights[k] = load(b + k * stride + c);
    }
    for (int i = 0; i < ROWS; ++i) {
      Vec total = load(out[i] + c);
      for (int k = 0; k < RANKS; ++k) total += factors[i][k] * weights[k];
      store(out[i] + c, total);
    }
  }
  for (; c < columns; ++c) {
    for (int k = 0; k < RANKS; ++k) {
      const float weight = widen(b[k * stride + c]);
      for (int i = 0; i < ROWS; ++i) out[i][c] += factors[i][k] * weight;
    }
  }
}

template <typename W>
using ShrinkTile = void (*)(const W*, int64_t, int64_t, float, const float* const*, float*, int64_t);
template <typename W>
using ExpandTile = void (*)(const W*, int64_t, int64_t, int64_t, const float*, int64_t, float* const*);

// The tile functions of every size up to TILE x TILE, at [(rows - 1) * TILE + ranks - 1].
template <typename W, int... I>
constexpr auto shrink_tiles(std::integer_sequence<int, I...>) {
  return std::array<ShrinkTile<W>, sizeof...(I)>{&shrink_tile<W, I / TILE + 1, I % TILE + 1>...};
}
template <typename W, int... I>
constexpr auto expand_tiles(std::integer_sequence<int, I...>) {
  return std::array<ExpandTile<W>, sizeof...(I)>{&expand_tile<W, I / TILE + 1, I % TILE + 1>...};
}

// z [rows][ranks] = scale * x [rows][in] * a [ranks][in] transposed
template <typename W>
void shrink(const W* a, int64_t ranks, int64_t in, float scale, const float* const* x, int64_t rows, float* z,
            int64_t z_stride) {
  static constexpr auto tiles = shrink_tiles<W>(std::make_integer_sequence<int, TILE * TILE>());
  for (int64_t k = 0; k < ranks; k += TILE) {
    const int64_t few_ranks = std::min<int64_t>(TILE, ranks - k);
    for (int64_t i = 0; i < rows; i += TILE) {
      const int64_t few_rows = std::min<int64_t>(TILE, rows - i);
      const int64_t ahead = i == 0 ? PREFETCH / static_cast<int64_t>(sizeof(W)) : 0;
      tiles[(few_rows - 1) * TILE + few_ranks - 1](a + k * in, ahead, in, scale, x + i, z + i * z_stride + k, z_stride);
    }
  }
}

// out [rows][columns] += z [rows][ranks] * b [ranks][columns of stride]
template <typename W>
void expand(const W* b, int64_t ranks, int64_t stride, int64_t columns, const float* z, int64_t z_stride, int64_t rows,
            float* const* out) {
  static constexpr auto tiles = expand_tiles<W>(std::make_integer_sequence<int, TILE * TILE>());
  for (int64_t k = 0; k < ranks; k += TILE) {
    const int64_t few_ranks = std::min<int64_t>(TILE, ranks - k);
    for (int64_t i = 0; i < rows; i += TILE) {
      const int64_t few_rows = std::min<int64_t>(TILE, rows - i);
      const int64_t ahead = i == 0 ? PREFETCH / static_cast<int64_t>(sizeof(W)) : 0;
      tiles[(few_rows - 1) * TILE + few_ranks - 1](b + k * stride, ahead, stride, columns, z + i * z_stride + k,
                                                   z_stride, out + i);
    }
  }
}

}  // namespace headmix
