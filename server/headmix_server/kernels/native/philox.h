// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC'11):
// kernels/sampling/philox.py is the same in torch.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace headmix {

constexpr int64_t NOISE_GROUP = 16;               // counters, and therefore words of each of the four results
constexpr int64_t NOISE_BLOCK = 4 * NOISE_GROUP;  // tokens whose words are drawn together

typedef uint64_t WideVec __attribute__((vector_size(LANES * sizeof(uint32_t))));

// The products of the lower halves of 64-bit lanes; the compilers' own vectors would multiply whole lanes. Uses a mask,
// because without one GCC 12 warns about its own header.
inline WideVec multiply_lower(WideVec x, uint32_t factor) {
#if defined(__AVX512F__)
  return (WideVec)_mm512_maskz_mul_epu32(0xff, (__m512i)x, _mm512_set1_epi64(factor));
#elif defined(__AVX2__)
  return (WideVec)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
#else
  return (x & 0xffffffffu) * static_cast<uint64_t>(factor);
#endif
}

struct Product {
  UVec high, low;
};

inline Product multiply(UVec x, uint32_t factor) {
  const WideVec even = multiply_lower((WideVec)x, factor), odd = multiply_lower((WideVec)x >> 32, factor);
  return {(UVec)((even >> 32) | (odd & 0xffffffff00000000u)), (UVec)((even & 0xffffffffu) | (odd << 32))};
}

// The words of a block of tokens: token 64 block + 16 j + i has word j of counter (16 block + i, position, 0, 0) under
// the seed as the key.
inline void draw_words(uint64_t seed, uint32_t position, uint32_t block, uint32_t* words) {
  UVec lanes;
  for (int lane = 0; lane < LANES; ++lane) lanes[lane] = lane;
  for (int64_t from = 0; from < NOISE_GROUP; from += LANES) {
    UVec a = lanes + static_cast<uint32_t>(block * NOISE_GROUP + from), b = UVec{} + position, c = {}, d = {};
    uint32_t key = static_cast<uint32_t>(seed), other_key = static_cast<uint32_t>(seed >> 32);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 10
#endif
    for (int round = 0; round < 10; ++round) {
      const Product first = multiply(a, 0xD2511F53u), second = multiply(c, 0xCD9E8D57u);
      a = second.high ^ b ^ key;
      c = first.high ^ d ^ other_key;
      b = second.low;
      d = first.low;
      key += 0x9E3779B9u;
      other_key += 0xBB67AE85u;
    }
    std::memcpy(words + from, &a, sizeof a);
    std::memcpy(words + NOISE_GROUP + from, &b, sizeof b);
    std::memcpy(words + 2 * NOISE_GROUP + from, &c, sizeof c);
    std::memcpy(words + 3 * NOISE_GROUP + from, &d, sizeof d);
  }
}

}  // namespace headmix
