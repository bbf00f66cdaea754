// Products of bfloat16 numbers by the processor's own instructions: AVX-512's dot product of pairs and AMX's tiles.
//
// Weights are the blocks of stored_blocks.h's BFloats: GROUP outputs next to each other, two inputs per word, the
// layout that both instructions read. Sums are floats in the order of the inputs, one per row and output, so a row's
// result does not depend on the rows next to it. The processor's support is detected at run time, so one build serves
// processors with and without it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && __has_include(<avx512bf16intrin.h>) && __has_include(<amxbf16intrin.h>)
#define HEADMIX_PAIRS
#include <cpuid.h>
#include <immintrin.h>

#include "amx.h"
#endif

namespace headmix {

constexpr int64_t PAIR_OUTPUTS = 16;  // per group
constexpr int64_t PAIR_INPUTS = 32;   // per block
constexpr int64_t PAIR_BLOCK = PAIR_OUTPUTS * PAIR_INPUTS * 2;
constexpr int64_t PAIR_TILE = 16;  // rows of an AMX tile

// kernels/stored/bfloat16.py has the same values.
enum PairUnit : int64_t { AVX512 = 1, AMX = 2 };

// Rows of bfloat16 [rows][x_stride], zero from the last input to the end of its block, times a matrix of blocks. For an
// exact product there are three parts of each row, `apart` numbers from one to the next.
struct PairProduct {
  const uint8_t* weights;
  const float* bias;  // may be null
  const uint16_t* x;
  float* out;
  int64_t rows, blocks, outputs, x_stride, apart, out_stride;

  const uint8_t* group(int64_t index) const { return weights + index * blocks * PAIR_BLOCK; }
};

// Write a row's sums for a group, with the bias.
inline void write_sums(const PairProduct& p, const float* sums, int64_t row, int64_t group) {
  const int64_t first = group * PAIR_OUTPUTS, count = std::min(PAIR_OUTPUTS, p.outputs - first);
  const float* bias = p.bias == nullptr ? nullptr : p.bias + first;
  float* to = p.out + row * p.out_stride + first;
  if (bias == nullptr && count == PAIR_OUTPUTS) {
    std::memcpy(to, sums, PAIR_OUTPUTS * sizeof(float));  // the size is known at compile time: one instruction
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = bias == nullptr ? sums[i] : sums[i] + bias[i];
}

#ifdef HEADMIX_PAIRS

#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define TARGET_AMX __attribute__((target("amx-tile,amx-bf16")))

constexpr int64_t EXACT_PARTS = 3;
constexpr int64_t PAIRS_AHEAD = 4096;  // bytes that a single row prefetches ahead

// Round `count` floats to bfloat16 and pad with zeros.
TARGET_AVX512 inline void round_row(const float* from, int64_t count, uint16_t* to, int64_t filled) {
  for (int64_t i = 0; i < filled; i += 16) {
    const int64_t left = std::clamp<int64_t>(count - i, 0, 16);
    const __m512 numbers = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << left) - 1), from + i);
    const __m256bh rounded = _mm512_cvtneps_pbh(numbers);
    std::memcpy(to + i, &rounded, sizeof rounded);
  }
}

// Cut `count` floats into three bfloat16 numbers whose sum each is, the smallest first, and pad with zeros. A number
// that is not finite leaves NaN in a part.
TARGET_AVX512 inline void split_row(const float* from, int64_t count, uint16_t* to, int64_t filled, int64_t apart) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  for (int64_t i = 0; i < filled; i += 16) {
    const int64_t left = std::clamp<int64_t>(count - i, 0, 16);
    __m512 rest = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << left) - 1), from + i);
    for (int64_t part = EXACT_PARTS - 1; part >= 0; --part) {
      const __m512i head = _mm512_and_si512(_mm512_castps_si512(rest), upper);
      const __m256i bits = _mm512_maskz_cvtepi32_epi16(0xffff, _mm512_maskz_srli_epi32(0xffff, head, 16));
      std::memcpy(to + part * apart + i, &bits, sizeof bits);
      rest = rest - _mm512_castsi512_ps(head);
    }
  }
}

inline float widened(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

// This thread's floats below 2^-126 are zeros during its lifetime, as AMX takes them.
class TinyAreZeros {
 public:
  TinyAreZeros() { _mm_setcsr(before_ | 0x8040); }
  ~TinyAreZeros() { _mm_setcsr(before_); }
  TinyAreZeros(const TinyAreZeros&) = delete;
  TinyAreZeros& operator=(const TinyAreZeros&) = delete;

 private:
  const unsigned before_ = _mm_getcsr();
};

// GROUPS groups for ROWS rows from `row` on.
template <int GROUPS, int ROWS>
TARGET_AVX512 void multiply_pairs(const PairProduct& p, int64_t group, int64_t row) {
  __m512 sums[GROUPS][ROWS];
#pragma GCC unroll 8
  for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) sums[g][r] = _mm512_setzero_ps();
  const uint8_t* weights = p.group(group);
  const uint16_t* x = p.x + row * p.x_stride;
  const int64_t apart = p.blocks * PAIR_BLOCK;
  for (int64_t at = 0; at < apart; at += PAIR_OUTPUTS * 4, x += 2) {
    __m512bh columns[GROUPS];
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; ++g) {
      if (ROWS == 1) __builtin_prefetch(weights + g * apart + at + PAIRS_AHEAD);
      columns[g] = (__m512bh)_mm512_loadu_si512(weights + g * apart + at);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + r * p.x_stride, sizeof pair);
      const __m512bh numbers = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
      for (int g = 0; g < GROUPS; ++g) sums[g][r] = _mm512_dpbf16_ps(sums[g][r], numbers, columns[g]);
    }
  }
  float result[PAIR_OUTPUTS];
  for (int g = 0; g < GROUPS; ++g)
    for (int r = 0; r < ROWS; ++r) {
      _mm512_storeu_ps(result, sums[g][r]);
      write_sums(p, result, row + r, group + g);
    }
}

// Write the sums that a tile stored in `sums`.
inline void write_tile(const PairProduct& p, const float* sums, int64_t row, int64_t group) {
  for (int64_t r = 0; r < std::min(PAIR_TILE, p.rows - row); ++r) write_sums(p, sums + r * PAIR_TILE, row + r, group);
}

// One tile of rows and up to four groups.
template <int GROUPS>
TARGET_AMX void multiply_tile(const PairProduct& p, int64_t group, int64_t row) {
  const uint8_t* weights = p.group(group);
  const uint16_t* x = p.x + row * p.x_stride;
  const int64_t apart = p.blocks * PAIR_BLOCK, stride = p.x_stride * 2;
  _tile_zero(0);
  if constexpr (GROUPS > 1) _tile_zero(1);
  if constexpr (GROUPS > 2) _tile_zero(2);
  if constexpr (GROUPS > 2) _tile_zero(3);
  __asm__ volatile("" ::: "memory");  // the compiler does not know that the loads below read what was written before
  for (int64_t at = 0; at < apart; at += PAIR_BLOCK, x += PAIR_INPUTS) {
    _tile_loadd(4, x, stride);
    _tile_loadd(6, weights + at, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (GROUPS > 1) {
      _tile_loadd(7, weights + apart + at, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (GROUPS > 2) {
      _tile_loadd(6, weights + 2 * apart + at, 64);
      _tile_dpbf16ps(2, 4, 6);
      _tile_loadd(7, weights + 3 * apart + at, 64);
      _tile_dpbf16ps(3, 4, 7);
    }
  }
  alignas(64) float sums[4][PAIR_TILE * PAIR_TILE];
  _tile_stored(0, sums[0], 64);
  if constexpr (GROUPS > 1) _tile_stored(1, sums[1], 64);
  if constexpr (GROUPS > 2) _tile_stored(2, sums[2], 64);
  if constexpr (GROUPS > 2) _tile_stored(3, sums[3], 64);
  for (int g = 0; g < GROUPS; ++g) write_tile(p, sums[g], row, group + g);
}

// One tile of rows in three parts and up to two groups.
template <int GROUPS>
TARGET_AMX void multiply_parts_of_tile(const PairProduct& p, int64_t group, int64_t row) {
  const uint8_t* weights = p.group(group);
  const uint16_t* x = p.x + row * p.x_stride;
  const int64_t apart = p.blocks * PAIR_BLOCK, stride = p.x_stride * 2;
  _tile_zero(0);
  if constexpr (GROUPS > 1) _tile_zero(1);
  __asm__ volatile("" ::: "memory");
  for (int64_t at = 0; at < apart; at += PAIR_BLOCK, x += PAIR_INPUTS) {
    for (int64_t line = 0; line < GROUPS * PAIR_BLOCK; line += 64)
      __builtin_prefetch(weights + line / PAIR_BLOCK * apart + at + PAIRS_AHEAD + line % PAIR_BLOCK);
    _tile_loadd(6, weights + at, 64);
    if constexpr (GROUPS > 1) _tile_loadd(7, weights + apart + at, 64);
    _tile_loadd(3, x, stride);
    _tile_loadd(4, x + p.apart, stride);
    _tile_loadd(5, x + 2 * p.apart, stride);
    _tile_dpbf16ps(0, 3, 6);
    if constexpr (GROUPS > 1) _tile_dpbf16ps(1, 3, 7);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (GROUPS > 1) _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(0, 5, 6);
    if constexpr (GROUPS > 1) _tile_dpbf16ps(1, 5, 7);
  }
  alignas(64) float sums[2][PAIR_TILE * PAIR_TILE];
  _tile_stored(0, sums[0], 64);
  if constexpr (GROUPS > 1) _tile_stored(1, sums[1], 64);
  for (int g = 0; g < GROUPS; ++g) write_tile(p, sums[g], row, group + g);
}

// One row in three parts and some groups, with the sums that AMX makes, in its order: of a block's inputs at even
// places and of the others, then of both.
template <int GROUPS>
TARGET_AVX512 void multiply_parts_of_row(const PairProduct& p, int64_t group, int64_t row) {
  const uint8_t* weights = p.group(group);
  const uint16_t* x = p.x + row * p.x_stride;
  const int64_t apart = p.blocks * PAIR_BLOCK;
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  __m512 totals[GROUPS];
  for (__m512& total : totals) total = _mm512_setzero_ps();
  for (int64_t at = 0; at < apart; at += PAIR_BLOCK, x += PAIR_INPUTS) {
    __m512 even[GROUPS][EXACT_PARTS] = {}, odd[GROUPS][EXACT_PARTS] = {};
    for (int64_t pair = 0; pair < PAIR_INPUTS / 2; ++pair) {
      __m512 first[EXACT_PARTS], second[EXACT_PARTS];
#pragma GCC unroll 3
      for (int64_t part = 0; part < EXACT_PARTS; ++part) {
        first[part] = _mm512_set1_ps(widened(x[part * p.apart + 2 * pair]));
        second[part] = _mm512_set1_ps(widened(x[part * p.apart + 2 * pair + 1]));
      }
#pragma GCC unroll 4
      for (int g = 0; g < GROUPS; ++g) {
        const uint8_t* const line = weights + g * apart + at + pair * PAIR_OUTPUTS * 4;
        __builtin_prefetch(line + PAIRS_AHEAD);
        const __m512i words = _mm512_loadu_si512(line);
        const __m512 low = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16));
        const __m512 high = _mm512_castsi512_ps(_mm512_and_si512(words, upper));
#pragma GCC unroll 3
        for (int64_t part = 0; part < EXACT_PARTS; ++part) {
          even[g][part] = _mm512_fmadd_ps(first[part], low, even[g][part]);
          odd[g][part] = _mm512_fmadd_ps(second[part], high, odd[g][part]);
        }
      }
    }
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 3
      for (int64_t part = 0; part < EXACT_PARTS; ++part) totals[g] = totals[g] + (even[g][part] + odd[g][part]);
  }
  float sums[PAIR_OUTPUTS];
  for (int g = 0; g < GROUPS; ++g) {
    _mm512_storeu_ps(sums, totals[g]);
    write_sums(p, sums, row, group + g);
  }
}

// Two tiles of rows and two groups: each loaded tile serves two products, a tile of weights those of all parts.
template <int64_t PARTS>
TARGET_AMX void multiply_square(const PairProduct& p, int64_t group, int64_t row) {
  const uint8_t* weights = p.group(group);
  const uint16_t *x = p.x + row * p.x_stride, *below = x + PAIR_TILE * p.x_stride;
  const int64_t apart = p.blocks * PAIR_BLOCK, stride = p.x_stride * 2;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  __asm__ volatile("" ::: "memory");
  for (int64_t at = 0; at < apart; at += PAIR_BLOCK, x += PAIR_INPUTS, below += PAIR_INPUTS) {
    _tile_loadd(6, weights + at, 64);
    _tile_loadd(7, weights + apart + at, 64);
    for (int64_t part = 0; part < PARTS; ++part) {
      _tile_loadd(4, x + part * p.apart, stride);
      _tile_loadd(5, below + part * p.apart, stride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float sums[4][PAIR_TILE * PAIR_TILE];
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  for (int part = 0; part < 4; ++part) write_tile(p, sums[part], row + part / 2 * PAIR_TILE, group + part % 2);
}

// The units that this processor has and the system lets programs use, as bits.
inline int64_t pair_units() {
  unsigned a, b, c, d, units = 0;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return 0;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return 0;  // AVX512-BF16
  units |= AVX512;
  const bool tiles =
      __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);  // AMX-BF16, AMX-PAIR_TILE
  if (tiles && amx_is_granted()) units |= AMX;
  return units;
}

#endif

}  // namespace headmix
