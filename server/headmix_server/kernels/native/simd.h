// Vectors of floats as wide as the processor's registers, in the compilers' own vector extension: no intrinsics, so the
// same source serves AVX-512, AVX2 and NEON.
#pragma once

#include <cstdint>
#include <cstring>

namespace headmix {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t UVec __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef uint16_t HalfVec __attribute__((vector_size(LANES * sizeof(uint16_t))));

// A bfloat16 as stored in memory: the upper half of a float.
struct BFloat16 {
  uint16_t bits;
};

inline Vec load(const float* from) {
  Vec value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline Vec load(const BFloat16* from) {
  HalfVec bits;
  std::memcpy(&bits, from, sizeof bits);
  const UVec wide = __builtin_convertvector(bits, UVec) << 16;
  Vec value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

inline void store(float* to, Vec value) { std::memcpy(to, &value, sizeof value); }

inline float widen(float value) { return value; }

inline float widen(BFloat16 value) {
  const uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &wide, sizeof result);
  return result;
}

// The sum of a vector's lanes: halves are folded onto each other if the compiler can, else lanes are added in turn.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HEADMIX_FOLDS
#endif
#endif

#ifdef HEADMIX_FOLDS
typedef float Quad __attribute__((vector_size(4 * sizeof(float))));

inline float sum(Quad value) {
  value += __builtin_shufflevector(value, value, 2, 3, 0, 1);
  return value[0] + value[1];
}

#if defined(__AVX__)
typedef float Octet __attribute__((vector_size(8 * sizeof(float))));

inline float sum(Octet value) {
  return sum(__builtin_shufflevector(value, value, 0, 1, 2, 3) + __builtin_shufflevector(value, value, 4, 5, 6, 7));
}
#endif

#if defined(__AVX512F__)
inline float sum(Vec value) {
  const Octet low = __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7);
  return sum(low + __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15));
}
#endif
#else
inline float sum(Vec value) {
  float total = 0;
  for (int lane = 0; lane < LANES; ++lane) total += value[lane];
  return total;
}
#endif

}  // namespace headmix
