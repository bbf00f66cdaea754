// headmix::rms_norm and headmix::gated_silu: what stands between a layer's products, one pass over each row. See
// kernels/row_ops.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "exponential.h"
#include "simd.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t THREAD_FLOATS = 16384;  // what is worth a thread

void check(bool fits, const char* what) { STD_TORCH_CHECK(fits, what); }

bool is_floats(const Tensor& tensor) { return tensor.is_cpu() && tensor.scalar_type() == ScalarType::Float; }

// Rows of [rows, width] or [rows, heads, width], each contiguous, wherever they begin.
struct Rows {
  const float* first;
  int64_t count, inner, outer_stride, inner_stride;

  const float* at(int64_t row) const { return first + row / inner * outer_stride + row % inner * inner_stride; }
};

Rows rows_of(const Tensor& x) {
  check(is_floats(x) && (x.dim() == 2 || x.dim() == 3),
        "x must be floats on the CPU, [rows, width] or [rows, heads, width]");
  check(x.stride(x.dim() - 1) == 1 || x.size(x.dim() - 1) == 1, "the rows of x must be contiguous");
  const bool headed = x.dim() == 3;
  const int64_t inner = std::max<int64_t>(1, headed ? x.size(1) : 1);
  return {static_cast<const float*>(x.data_ptr()), x.size(0) * (headed ? x.size(1) : 1), inner, x.stride(0),
          headed ? x.stride(1) : 0};
}

template <typename Work>
void each_row(int64_t count, int64_t width, const Work& work) {
  const int64_t grain = std::max<int64_t>(1, THREAD_FLOATS / std::max<int64_t>(1, width));
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) work(row);
  });
}

float sum_of_squares(const float* x, int64_t width) {
  Vec total = {};
  int64_t i = 0;
  for (; i + LANES <= width; i += LANES) {
    const Vec value = load(x + i);
    total += value * value;
  }
  float result = sum(total);
  for (; i < width; ++i) result += x[i] * x[i];
  return result;
}

void rms_norm(Tensor x, Tensor weight, double eps, Tensor out) {
  const Rows rows = rows_of(x);
  const int64_t width = x.size(x.dim() - 1);
  check(is_floats(weight) && weight.dim() == 1 && weight.is_contiguous() && weight.size(0) == width,
        "weight must be contiguous floats [width]");
  check(is_floats(out) && out.is_contiguous() && out.numel() == rows.count * width,
        "out must be contiguous, as large as x");
  const float* scale = static_cast<const float*>(weight.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  each_row(rows.count, width, [&](int64_t row) {
    const float* from = rows.at(row);
    float* into = to + row * width;
    float factor = 1 / std::sqrt(sum_of_squares(from, width) / width + static_cast<float>(eps));
    if (factor == 0) factor = std::numeric_limits<float>::quiet_NaN();  // the squares overflowed
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(into + i, load(from + i) * factor * load(scale + i));
    for (; i < width; ++i) into[i] = from[i] * factor * scale[i];
  });
}

// x / (1 + exp(-x)), without an exponential that could overflow.
inline Vec silu(Vec x) {
  const Vec power = exp_of_negative(x < 0 ? x : -x);
  return x * (x < 0 ? power : Vec{} + 1.0f) / (1.0f + power);
}

void gated_silu(Tensor gate_up, Tensor out) {
  const Rows rows = rows_of(gate_up);
  check(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0, "gate_up must be [rows, 2 width]");
  const int64_t width = gate_up.size(1) / 2;
  check(is_floats(out) && out.is_contiguous() && out.numel() == rows.count * width,
        "out must be contiguous [rows, width]");
  float* to = static_cast<float*>(out.data_ptr());
  each_row(rows.count, width, [&](int64_t row) {
    const float *gate = rows.at(row), *up = gate + width;
    float* into = to + row * width;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(into + i, silu(load(gate + i)) * load(up + i));
    if (i < width) {
      float rest[LANES] = {};
      std::copy(gate + i, gate + width, rest);
      store(rest, silu(load(rest)));
      for (int64_t lane = 0; i < width; ++i, ++lane) into[i] = rest[lane] * up[i];
    }
  });
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps, Tensor(a!) out) -> ()");
  m.def("gated_silu(Tensor gate_up, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("rms_norm", TORCH_BOX(&headmix::rms_norm));
  m.impl("gated_silu", TORCH_BOX(&headmix::gated_silu));
}
