// headmix::quantize_rows: rows of floats to bytes around 128 with a scale each, after a blockwise Hadamard turn that
// spreads a row's outliers over its block. See kernels/quantize.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "simd.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr float LARGEST = 127;
constexpr float ZERO = 128;
constexpr float ROUND = 12582912;        // 1.5 * 2^23: adding and taking it away rounds to the nearest integer
constexpr int64_t THREAD_FLOATS = 8192;  // what is worth a thread

typedef uint8_t Codes __attribute__((vector_size(LANES)));

template <int H, int... I>
inline Vec swap_lanes(Vec value, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(value, value, (I ^ H)...);
}

// One butterfly between lanes that lie H apart: sums where the lane's bit H is clear, differences where it is set.
template <int H>
inline Vec butterfly(Vec value) {
  Vec sign;
  for (int lane = 0; lane < LANES; ++lane) sign[lane] = lane & H ? -1.0f : 1.0f;
  return value * sign + swap_lanes<H>(value, std::make_integer_sequence<int, LANES>());
}

// The unnormalised Walsh-Hadamard transform of `block` values, a power of two.
void transform(float* values, int64_t block) {
  if (block < LANES) {
    for (int64_t h = 1; h < block; h *= 2)
      for (int64_t i = 0; i < block; ++i)
        if (!(i & h)) {
          const float a = values[i], b = values[i + h];
          values[i] = a + b, values[i + h] = a - b;
        }
    return;
  }
  for (int64_t i = 0; i < block; i += LANES) {
    Vec value = butterfly<2>(butterfly<1>(load(values + i)));
    if constexpr (LANES > 4) value = butterfly<4>(value);
    if constexpr (LANES > 8) value = butterfly<8>(value);
    store(values + i, value);
  }
  for (int64_t h = LANES; h < block; h *= 2)
    for (int64_t first = 0; first < block; first += 2 * h)
      for (int64_t i = first; i < first + h; i += LANES) {
        const Vec a = load(values + i), b = load(values + i + h);
        store(values + i, a + b), store(values + i + h, a - b);
      }
}

// The largest size of a row's values; NaN where one of them is not finite, which a comparison would not tell.
float largest(const float* values, int64_t width) {
  Vec most = {}, odd = {};
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Vec value = load(values + i), size = value < 0 ? -value : value;
    most = size > most ? size : most;
    odd += value * 0.0f;
  }
  float result = 0, rest = sum(odd);
  for (int lane = 0; lane < LANES; ++lane) result = std::max(result, most[lane]);
  for (; i < width; ++i) {
    result = std::max(result, std::fabs(values[i]));
    rest += values[i] * 0.0f;
  }
  return result + rest;
}

void encode(const float* values, int64_t width, float factor, uint8_t* codes) {
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Codes code = __builtin_convertvector((load(values + i) * factor + ROUND) - ROUND + ZERO, Codes);
    std::memcpy(codes + i, &code, sizeof code);
  }
  for (; i < width; ++i) codes[i] = static_cast<uint8_t>((values[i] * factor + ROUND) - ROUND + ZERO);
}

void check(const Tensor& tensor, ScalarType type, int64_t rows, int64_t width, const char* name) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == type && tensor.dim() == 2 && tensor.is_contiguous() &&
                      tensor.size(0) == rows && tensor.size(1) == width,
                  name, " must be a contiguous CPU tensor of its type, [", rows, ", ", width, "]");
}

void quantize_rows(Tensor x, int64_t block, Tensor codes, Tensor scales) {
  STD_TORCH_CHECK(x.dim() == 2, "x must be [rows, width]");
  const int64_t rows = x.size(0), width = x.size(1);
  check(x, ScalarType::Float, rows, width, "x");
  check(codes, ScalarType::Byte, rows, width, "codes");
  check(scales, ScalarType::Float, rows, 1, "scales");
  STD_TORCH_CHECK(block > 0 && !(block & (block - 1)) && width % block == 0, "block must be a power of two in width");
  const float* from = static_cast<const float*>(x.data_ptr());
  uint8_t* to = static_cast<uint8_t*>(codes.data_ptr());
  float* factors = static_cast<float*>(scales.data_ptr());
  const float norm = 1 / std::sqrt(static_cast<float>(block));
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, THREAD_FLOATS / width), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<float[]> scratch(new float[width]);
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(scratch.get(), from + row * width, width * sizeof(float));
      for (int64_t first = 0; first < width; first += block) transform(scratch.get() + first, block);
      const float most = largest(scratch.get(), width);
      factors[row] = most / LARGEST * norm;
      if (std::isfinite(most)) {
        encode(scratch.get(), width, most > 0 ? LARGEST / most : 0, to + row * width);
      } else {
        std::fill_n(to + row * width, width, static_cast<uint8_t>(ZERO));  // no code is the scale's NaN
      }
    }
  });
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("quantize_rows(Tensor x, int block, Tensor(a!) codes, Tensor(b!) scales) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("quantize_rows", TORCH_BOX(&headmix::quantize_rows)); }
