// The exponential function on vectors.
#pragma once

#include <cstdint>
#include <cstring>

#include "simd.h"

namespace headmix {

typedef int32_t IntVec __attribute__((vector_size(LANES * sizeof(int32_t))));

// exp of x <= 0 within 2 ulp (Cephes' polynomial), 0 where the result would not be a normal number; NaN stays NaN.
inline Vec exp_of_negative(Vec x) {
  const IntVec tiny = x < -87.0f;
  const Vec bounded = tiny ? Vec{} - 87.0f : x;
  const IntVec n = __builtin_convertvector(bounded * 1.44269504f - 0.5f, IntVec);
  const Vec whole = __builtin_convertvector(n, Vec);
  const Vec r = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vec y = Vec{} + 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const IntVec bits = (n + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return tiny ? Vec{} : y * power;
}

}  // namespace headmix
