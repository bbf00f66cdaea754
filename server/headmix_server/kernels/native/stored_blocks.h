// Weights as a checkpoint stores them: blocks of 4 or 8 bits with a scale, or 16-bit floats, laid out for vectors.
//
// GROUP outputs lie side by side, WIDTH inputs at a time: a lane holds one output, so a product needs no sum across
// lanes, and a scale is a vector. `column` gives the weights of one input, the very float32 numbers that unpacking the
// checkpoint gives: scale * code is exact in every format, so only the last sum rounds. See kernels/stored_products.py.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "simd.h"

namespace headmix {

constexpr int GROUP = 16;
constexpr int PARTS = GROUP / LANES;  // vectors that a group's outputs fill
constexpr int WIDTH = 32;

typedef int32_t IVec __attribute__((vector_size(LANES * sizeof(int32_t))));

inline UVec load_words(const uint8_t* from) {
  UVec words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

inline Vec as_floats(UVec bits) {
  Vec value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// LANES halves as floats.
inline Vec load_halves(const uint8_t* from) {
#if defined(__AVX512F__)
  __m256i bits;
  std::memcpy(&bits, from, sizeof bits);
  return (Vec)_mm512_cvtph_ps(bits);
#elif defined(__F16C__) && defined(__AVX__)
  __m128i bits;
  std::memcpy(&bits, from, sizeof bits);
  return (Vec)_mm256_cvtph_ps(bits);
#else
  HalfVec halves;
  std::memcpy(&halves, from, sizeof halves);
  const UVec bits = __builtin_convertvector(halves, UVec), size = bits & 0x7fff;
  const Vec finite = as_floats(size << 13) * 0x1p112f;  // moves the exponent, of subnormal halves too
  const UVec odd = (size << 13) | 0x7f800000;           // infinities and NaNs
  UVec value;
  std::memcpy(&value, &finite, sizeof value);
  return as_floats((size >= 0x7c00 ? odd : value) | ((bits & 0x8000) << 16));
#endif
}

// The low four bits of each word as a float.
inline Vec low_nibbles(UVec words) {
#if defined(__AVX512F__)
  const __m512 numbers = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return (Vec)_mm512_permutexvar_ps((__m512i)words, numbers);  // one instruction; it looks at these bits alone
#else
  return __builtin_convertvector((IVec)(words & 15), Vec);
#endif
}

// LANES bytes as floats.
inline Vec load_codes(const uint8_t* from) {
#if defined(__AVX512F__)
  __m128i codes;
  std::memcpy(&codes, from, sizeof codes);
  return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
#elif defined(__AVX2__)
  return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
#else
  typedef int8_t Codes __attribute__((vector_size(LANES)));
  Codes codes;
  std::memcpy(&codes, from, sizeof codes);
  return __builtin_convertvector(__builtin_convertvector(codes, IVec), Vec);
#endif
}

// Codes of 4 bits, eight inputs to a word, then a scale and a least value for each output: GGUF's Q4_0 and Q4_1.
struct Nibbles {
  static constexpr int64_t BYTES = GROUP * (WIDTH / 2 + 4);
  const uint8_t* codes;
  Vec scales[PARTS], least[PARTS];

  explicit Nibbles(const uint8_t* block) : codes(block) {
    const uint8_t* rest = block + GROUP * WIDTH / 2;
    for (int part = 0; part < PARTS; ++part) {
      scales[part] = load_halves(rest + part * LANES * 2);
      least[part] = load_halves(rest + GROUP * 2 + part * LANES * 2);
    }
  }
  Vec column(int c, int part) const {
    const UVec words = load_words(codes + (c / 8 * GROUP + part * LANES) * 4);
    return low_nibbles(words >> (c % 8 * 4)) * scales[part] + least[part];
  }
};

// Codes of 8 bits, then a scale for each output: GGUF's Q8_0.
struct Bytes {
  static constexpr int64_t BYTES = GROUP * (WIDTH + 2);
  const uint8_t* codes;
  Vec scales[PARTS];

  explicit Bytes(const uint8_t* block) : codes(block) {
    for (int part = 0; part < PARTS; ++part) scales[part] = load_halves(block + GROUP * WIDTH + part * LANES * 2);
  }
  Vec column(int c, int part) const { return load_codes(codes + c * GROUP + part * LANES) * scales[part]; }
};

// bfloat16, two inputs to a word.
struct BFloats {
  static constexpr int64_t BYTES = GROUP * WIDTH * 2;
  const uint8_t* words;

  explicit BFloats(const uint8_t* block) : words(block) {}
  Vec column(int c, int part) const {
    const UVec pair = load_words(words + (c / 2 * GROUP + part * LANES) * 4);
    return as_floats(c % 2 ? pair & 0xffff0000 : pair << 16);
  }
};

// float16.
struct Halves {
  static constexpr int64_t BYTES = GROUP * WIDTH * 2;
  const uint8_t* numbers;

  explicit Halves(const uint8_t* block) : numbers(block) {}
  Vec column(int c, int part) const { return load_halves(numbers + (c * GROUP + part * LANES) * 2); }
};

}  // namespace headmix
