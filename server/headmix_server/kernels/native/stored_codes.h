// The codes of stored blocks as bytes, four inputs of an output to a word: what vpdpbusd and AMX multiply.
//
// A weight is scale * (code - CENTRE) + the least of centred codes. With EVEN_FIRST the inputs at even places of every
// eight come first, as the bytes of a word hold them; else inputs are in order.
#pragma once

#include "fixed_point.h"
#include "stored_blocks.h"

namespace headmix {

#if defined(HEADMIX_FIXED_POINT)

constexpr int QUADS = WIDTH / 4;

inline __m512i load_bytes(const uint8_t* from) { return _mm512_loadu_si512(from); }

inline __m512i nibbles_at(const uint8_t* codes, int quad) {
  const __m512i words = load_bytes(codes + quad / 2 * GROUP * 4);
  return _mm512_and_si512(quad % 2 ? _mm512_maskz_srli_epi32(ALL_LANES, words, 4) : words, _mm512_set1_epi8(15));
}

template <class Scales>
__m512i codes_at(const FourBits<Scales>& block, int quad) {
  return nibbles_at(block.codes, quad);
}

template <class Scales>
__m512i codes_at(const FiveBits<Scales>& block, int quad) {
  const __m512i low = nibbles_at(block.codes, quad), bits = load_bytes(block.codes + FiveBits<Scales>::HIGH);
  const __m512i lane = _mm512_maskz_broadcast_i32x4(ALL_LANES, _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
  const __m512i eight = _mm512_shuffle_epi8(bits, _mm512_or_si512(lane, _mm512_set1_epi8(quad / 2)));
  const __m512i places = _mm512_set1_epi32(quad % 2 ? static_cast<int>(0x80200802) : 0x40100401);
  return _mm512_mask_add_epi8(low, _mm512_test_epi8_mask(eight, places), low, _mm512_set1_epi8(16));
}

inline __m512i codes_at(const Bytes& block, int quad) {
  return _mm512_xor_si512(load_bytes(block.codes + quad * GROUP * 4), _mm512_set1_epi8(INT8_MIN));
}

// A block's scales, and what its codes' CENTRE adds to each weight.
template <class F>
struct CentredScale {
  __m512 scale, least;

  explicit CentredScale(const F& block) {
    if constexpr (F::HAS_LEAST) {
      scale = (__m512)block.by.scales[0];
      least = _mm512_fmadd_ps(scale, _mm512_set1_ps(F::CENTRE), (__m512)block.by.least[0]);
    } else {
      scale = (__m512)block.scales[0];
      least = _mm512_setzero_ps();
    }
  }
  // Add a row's products with a block, from the sum of its inputs times codes and that of its inputs.
  __m512 add(__m512 total, __m512 products, float inputs) const {
    total = _mm512_fmadd_ps(products, scale, total);
    return F::HAS_LEAST ? _mm512_fmadd_ps(least, _mm512_set1_ps(inputs), total) : total;
  }
};

#endif

}  // namespace headmix
