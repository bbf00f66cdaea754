// Vectors of floats as wide as the processor's registers, in the compilers' own vector extension: no intrinsics, so
// the same source serves AVX-512, AVX2 and NEON.
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

// A bfloat16 as it lies in memory: the upper half of a float.
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

inline float sum(Vec value) {
  float total = 0;
  for (int lane = 0; lane < LANES; ++lane) total += value[lane];
  return total;
}

}  // namespace headmix
