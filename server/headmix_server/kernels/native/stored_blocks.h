// Weights as a checkpoint stores them: blocks of 4 or 8 bits with a scale, or 16-bit floats, laid out for vectors.
//
// GROUP outputs are next to each other, WIDTH inputs at a time: a lane holds one output, so a product needs no sum
// across lanes, and a scale is a vector. `column` returns the weights of input first + c, exactly the float32 numbers
// that unpacking the checkpoint gives: scale * code is exact in every format, so only the last sum rounds. See
// kernels/stored/.
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
constexpr int WORD = 8;  // inputs whose 4-bit codes share a word

typedef int32_t IVec __attribute__((vector_size(LANES * sizeof(int32_t))));

#if defined(__AVX512F__)
constexpr __mmask16 ALL_LANES = 0xffff;  // without a mask, g++ 12 warns inside its own header
#endif

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
  return (Vec)_mm512_maskz_cvtph_ps(ALL_LANES, bits);
#elif defined(__F16C__) && defined(__AVX__)
  __m128i bits;
  std::memcpy(&bits, from, sizeof bits);
  return (Vec)_mm256_cvtph_ps(bits);
#else
  HalfVec halves;
  std::memcpy(&halves, from, sizeof halves);
  const UVec bits = __builtin_convertvector(halves, UVec), size = bits & 0x7fff;
  const Vec finite = as_floats(size << 13) * 0x1p112f;  // shifts the exponent, also for subnormal halves
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
  return (Vec)_mm512_maskz_permutexvar_ps(ALL_LANES, (__m512i)words,
                                          numbers);  // one instruction, which reads only these bits
#else
  return __builtin_convertvector((IVec)(words & 15), Vec);
#endif
}

// LANES bytes as floats.
inline Vec load_codes(const uint8_t* from) {
#if defined(__AVX512F__)
  __m128i codes;
  std::memcpy(&codes, from, sizeof codes);
  return (Vec)_mm512_maskz_cvtepi32_ps(ALL_LANES, _mm512_maskz_cvtepi8_epi32(ALL_LANES, codes));
#elif defined(__AVX2__)
  return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
#else
  typedef int8_t Codes __attribute__((vector_size(LANES)));
  Codes codes;
  std::memcpy(&codes, from, sizeof codes);
  return __builtin_convertvector(__builtin_convertvector(codes, IVec), Vec);
#endif
}

// A scale and a minimum for each output, in halves.
struct HalfScales {
  static constexpr int64_t BYTES = GROUP * 4;
  Vec scales[PARTS], least[PARTS];

  explicit HalfScales(const uint8_t* from) {
    for (int part = 0; part < PARTS; ++part) {
      scales[part] = load_halves(from + part * LANES * 2);
      least[part] = load_halves(from + GROUP * 2 + part * LANES * 2);
    }
  }
};

// The same as products: a half times a byte for the scale, another half times another byte for the negated minimum.
struct ByteScales {
  static constexpr int64_t BYTES = GROUP * 6;
  Vec scales[PARTS], least[PARTS];

  explicit ByteScales(const uint8_t* from) : ByteScales(HalfScales(from), from + HalfScales::BYTES) {}

 private:
  ByteScales(const HalfScales& halves, const uint8_t* bytes) {
    for (int part = 0; part < PARTS; ++part) {
      scales[part] = halves.scales[part] * load_codes(bytes + part * LANES);
      least[part] = -(halves.least[part] * load_codes(bytes + GROUP + part * LANES));
    }
  }
};

// Codes of 4 bits, eight inputs to a word, then the scales: GGUF's Q4_0, Q4_1 and Q4_K.
template <class Scales>
struct FourBits {
  static constexpr int64_t BYTES = GROUP * WIDTH / 2 + Scales::BYTES;
  static constexpr int CENTRE = 8;  // of the codes; this and the next two are for stored_codes.h
  static constexpr bool HAS_LEAST = true, EVEN_FIRST = true;
  const uint8_t* codes;
  Scales by;

  explicit FourBits(const uint8_t* block) : codes(block), by(block + GROUP * WIDTH / 2) {}
  Vec column(int first, int c, int part) const {
    const UVec words = load_words(codes + (first / WORD * GROUP + part * LANES) * 4);
    return low_nibbles(words >> (c * 4)) * by.scales[part] + by.least[part];
  }
};
using Nibbles = FourBits<HalfScales>;
using ScaledNibbles = FourBits<ByteScales>;

// Codes of 5 bits: the low four as above, then a word of the fifth bits of all inputs: GGUF's Q5_0, Q5_1 and Q5_K.
template <class Scales>
struct FiveBits {
  static constexpr int64_t HIGH = GROUP * WIDTH / 2, REST = HIGH + GROUP * 4, BYTES = REST + Scales::BYTES;
  static constexpr int CENTRE = 16;
  static constexpr bool HAS_LEAST = true, EVEN_FIRST = true;
  const uint8_t* codes;
  Scales by;

  explicit FiveBits(const uint8_t* block) : codes(block), by(block + REST) {}
  Vec column(int first, int c, int part) const {
    const UVec low = load_words(codes + (first / WORD * GROUP + part * LANES) * 4) >> (c * 4);
    const UVec high = load_words(codes + HIGH + part * LANES * 4) >> (first + c);
    return __builtin_convertvector((IVec)((low & 15) | (high & 1) << 4), Vec) * by.scales[part] + by.least[part];
  }
};
using Fives = FiveBits<HalfScales>;
using ScaledFives = FiveBits<ByteScales>;

// Codes of 6 bits above -32: the low four, two words of the high two, then a half and a byte for each half of the
// inputs, whose product is the scale: GGUF's Q6_K.
struct Sixes {
  static constexpr int64_t HIGH = GROUP * WIDTH / 2, REST = HIGH + GROUP * 8, BYTES = REST + GROUP * 4;
  const uint8_t* codes;
  Vec scales[2][PARTS];

  explicit Sixes(const uint8_t* block) : codes(block) {
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < PARTS; ++part)
        scales[half][part] =
            load_halves(block + REST + part * LANES * 2) * load_codes(block + REST + GROUP * (2 + half) + part * LANES);
  }
  Vec column(int first, int c, int part) const {
    const int half = first / (WIDTH / 2);
    const UVec low = load_words(codes + (first / WORD * GROUP + part * LANES) * 4) >> (c * 4);
    const UVec high = load_words(codes + HIGH + (half * GROUP + part * LANES) * 4) >> ((first % 16 + c) * 2);
    const IVec code = (IVec)((low & 15) | (high & 3) << 4) - 32;
    return __builtin_convertvector(code, Vec) * scales[half][part];
  }
};

// Codes of 8 bits, four inputs to a word, then a scale for each output: GGUF's Q8_0.
struct Bytes {
  static constexpr int64_t BYTES = GROUP * (WIDTH + 2);
  static constexpr int CENTRE = 128;
  static constexpr bool HAS_LEAST = false, EVEN_FIRST = false;
  const uint8_t* codes;
  Vec scales[PARTS];

  explicit Bytes(const uint8_t* block) : codes(block) {
    for (int part = 0; part < PARTS; ++part) scales[part] = load_halves(block + GROUP * WIDTH + part * LANES * 2);
  }
  Vec column(int first, int c, int part) const {
    const UVec words = load_words(codes + (first / 4 * GROUP + c / 4 * GROUP + part * LANES) * 4);
    return __builtin_convertvector((IVec)(words << (24 - c % 4 * 8)) >> 24, Vec) * scales[part];
  }
};

// bfloat16, two inputs to a word.
struct BFloats {
  static constexpr int64_t BYTES = GROUP * WIDTH * 2;
  const uint8_t* words;

  explicit BFloats(const uint8_t* block) : words(block) {}
  Vec column(int first, int c, int part) const {
    const UVec pair = load_words(words + ((first + c) / 2 * GROUP + part * LANES) * 4);
    return as_floats(c % 2 ? pair & 0xffff0000 : pair << 16);
  }
};

// float16.
struct Halves {
  static constexpr int64_t BYTES = GROUP * WIDTH * 2;
  const uint8_t* numbers;

  explicit Halves(const uint8_t* block) : numbers(block) {}
  Vec column(int first, int c, int part) const {
    return load_halves(numbers + ((first + c) * GROUP + part * LANES) * 2);
  }
};

}  // namespace headmix
