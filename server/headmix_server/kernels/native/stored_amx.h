// Products of fixed-point inputs with the codes of stored blocks by AMX, 16 rows at a time.
//
// Digits and codes are whole numbers that bfloat16 holds, and so are the float sums of products of one digit: AMX adds
// the low digit's exactly, then the middle one's and the high one's, each rounded once, as stored_vnni.h does.
#pragma once

#include "bfloat16_pairs.h"
#include "stored_codes.h"
#include "stored_product.h"

namespace headmix {

#if defined(HEADMIX_FIXED_POINT) && defined(HEADMIX_PAIRS)

constexpr int TILE_PAIRS = WIDTH / 2;
typedef uint16_t PairTile[AMX_ROWS][WIDTH];

// A block of 16 rows.
struct alignas(64) FixedTile {
  PairTile digits[DIGITS];  // times the scale, from the highest
  float sums[AMX_ROWS];

  // Write a row's numbers in the order of the inputs in a CodeTile of F's.
  template <class F>
  void write(const FixedNumbers& fixed, int64_t row) {
    const __m512i order = _mm512_load_si512(PLACES<F>.upper);
    float unit = fixed.scale * 65536;
    for (int digit = 0; digit < DIGITS; ++digit, unit *= 1.0f / 256) {
      const __m512 by = _mm512_set1_ps(unit);
      const __m512 first = _mm512_maskz_cvtepi32_ps(ALL_LANES, fixed.digits[digit][0]) * by;
      const __m512 second = _mm512_maskz_cvtepi32_ps(ALL_LANES, fixed.digits[digit][1]) * by;
      _mm512_store_si512(digits[digit][row],
                         _mm512_permutex2var_epi16(_mm512_castps_si512(first), order, _mm512_castps_si512(second)));
    }
    sums[row] = fixed.sum();
  }
  void clear(int64_t row) {
    for (PairTile& digit : digits) std::memset(digit[row], 0, sizeof digit[row]);
    sums[row] = 0;
  }

 private:
  // For each number of a row the place of its bfloat16, the upper half of a float, in WIDTH floats.
  struct alignas(64) Places {
    uint16_t upper[WIDTH];
    constexpr explicit Places(bool even_first) : upper() {
      for (int i = 0; i < WIDTH; ++i) {
        const int quad = i / 4, byte = i % 2 * 2 + i / 2 % 2;  // a quad's pairs: bytes 0 and 2, 1 and 3
        const int input = even_first ? quad / 2 * 8 + quad % 2 + byte * 2 : quad * 4 + byte;
        upper[i] = static_cast<uint16_t>(2 * input + 1);
      }
    }
  };
  template <class F>
  static constexpr Places PLACES{F::EVEN_FIRST};
};

// Whole numbers from 0 to below 64, less CENTRE, as bfloat16.
template <int CENTRE>
struct alignas(64) CentredTable {
  uint16_t numbers[32];
  constexpr CentredTable() : numbers() {
    for (int i = 0; i < 32; ++i) numbers[i] = __builtin_bit_cast(uint32_t, static_cast<float>(i - CENTRE)) >> 16;
  }
};

// Codes in words as bfloat16 numbers around zero.
template <class F>
__m512i centred(__m512i words) {
  if constexpr (F::CENTRE < 32) {
    static constexpr CentredTable<F::CENTRE> table;
    return _mm512_maskz_permutexvar_epi16(~__mmask32{0}, words, _mm512_load_si512(table.numbers));
  } else {
    const __m512i whole = _mm512_set1_epi32(0x4b000000), lower = _mm512_set1_epi32(0xffff);
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    const __m512 least = _mm512_set1_ps(0x1p23f + F::CENTRE);
    const __m512i low_word = _mm512_and_si512(words, lower), high_word = _mm512_maskz_srli_epi32(ALL_LANES, words, 16);
    const __m512 low = _mm512_castsi512_ps(_mm512_or_si512(low_word, whole)) - least;
    const __m512 high = _mm512_castsi512_ps(_mm512_or_si512(high_word, whole)) - least;
    return _mm512_or_si512(_mm512_maskz_srli_epi32(ALL_LANES, _mm512_castps_si512(low), 16),
                           _mm512_and_si512(_mm512_castps_si512(high), upper));
  }
}

// A block of weights: codes around zero, two inputs to a word, and their scales.
template <class F>
struct alignas(64) CodeTile {
  uint16_t pairs[TILE_PAIRS][2 * GROUP];
  float scale[GROUP], least[GROUP];

  void write(const F& block) {
    const __m512i bytes = _mm512_set1_epi16(255);
    for (int quad = 0; quad < QUADS; ++quad) {
      const __m512i codes = codes_at(block, quad);
      _mm512_store_si512(pairs[2 * quad], centred<F>(_mm512_and_si512(codes, bytes)));
      _mm512_store_si512(pairs[2 * quad + 1], centred<F>(_mm512_srli_epi16(codes, 8)));
    }
    const CentredScale<F> by(block);
    _mm512_store_ps(scale, by.scale), _mm512_store_ps(least, by.least);
  }
};

typedef float TileSums[AMX_ROWS][GROUP];

// The sums of a block of 16 rows times codes.
template <class F>
TARGET_AMX inline void sum_block(const FixedTile& x, const CodeTile<F>& weights, TileSums& sums) {
  __asm__ volatile("" ::: "memory");  // the compiler does not know that the loads below read what was written before
  _tile_zero(0);
  _tile_loadd(6, weights.pairs, 64);
  _tile_loadd(4, x.digits[2], 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(5, x.digits[1], 64);
  _tile_dpbf16ps(0, 5, 6);
  _tile_loadd(4, x.digits[0], 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_stored(0, sums, 64);
  __asm__ volatile("" ::: "memory");
}

// Add some blocks of up to ROWS rows of a tile and one group to their totals.
template <class F, int ROWS>
TARGET_AMX void multiply_tile(const FixedTile* x, const CodeTile<F>* weights, int64_t blocks, TileSums& totals) {
  alignas(64) TileSums sums[2];
  __m512 mine[ROWS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) mine[r] = _mm512_load_ps(totals[r]);
  sum_block(x[0], weights[0], sums[0]);
  for (int64_t b = 0; b < blocks; ++b) {
    if (b + 1 < blocks) sum_block(x[b + 1], weights[b + 1], sums[(b + 1) % 2]);
    const __m512 scale = _mm512_load_ps(weights[b].scale), least = _mm512_load_ps(weights[b].least);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      mine[r] = _mm512_fmadd_ps(_mm512_load_ps(sums[b % 2][r]), scale, mine[r]);
      if constexpr (F::HAS_LEAST) mine[r] = _mm512_fmadd_ps(least, _mm512_set1_ps(x[b].sums[r]), mine[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) _mm512_store_ps(totals[r], mine[r]);
}

#endif

}  // namespace headmix
