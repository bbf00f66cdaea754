// headmix::rms_norm, headmix::gated_silu and headmix::rotate: the operations between a layer's products, one pass over
// each row. See kernels/row_ops.py.
#include "row_ops.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "exponential.h"
#include "simd.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t THREAD_FLOATS = 16384;  // the least work that is worth a thread

void check(bool fits, const char* what) { STD_TORCH_CHECK(fits, what); }

bool is_floats(const Tensor& tensor) { return tensor.is_cpu() && tensor.scalar_type() == ScalarType::Float; }

// Rows of [rows, width] or [rows, heads, width], each contiguous, at any stride.
struct Rows {
  float* first;
  int64_t count, inner, outer_stride, inner_stride, width;

  float* at(int64_t row) const { return first + row / inner * outer_stride + row % inner * inner_stride; }
};

Rows rows_of(const Tensor& x) {
  check(is_floats(x) && (x.dim() == 2 || x.dim() == 3),
        "x and out must be floats on the CPU, [rows, width] or [rows, heads, width]");
  const int64_t width = x.size(x.dim() - 1);
  check(x.stride(x.dim() - 1) == 1 || width == 1, "the rows of x and out must be contiguous");
  const bool headed = x.dim() == 3;
  const int64_t inner = std::max<int64_t>(1, headed ? x.size(1) : 1);
  return {static_cast<float*>(x.data_ptr()),
          x.size(0) * (headed ? x.size(1) : 1),
          inner,
          x.stride(0),
          headed ? x.stride(1) : 0,
          width};
}

// The rows of x and of `out`, which may be the same.
std::pair<Rows, Rows> rows_of(const Tensor& x, const Tensor& out, int64_t width) {
  const Rows from = rows_of(x), to = rows_of(out);
  check(from.count == to.count && to.width == width, "out must have as many rows as x, of the result's width");
  return {from, to};
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

// x / (1 + exp(-x)), without an exponential that could overflow.
inline Vec silu(Vec x) {
  const Vec power = exp_of_negative(x < 0 ? x : -x);
  return x * (x < 0 ? power : Vec{} + 1.0f) / (1.0f + power);
}

// Two halves of a head [half] rotated by the angles of its position; the sines of the first half are negated.
void rotate_head(const float* from, const float* cos, const float* sin, int64_t half, float* to) {
  const float* second = from + half;
  int64_t i = 0;
  for (; i + LANES <= half; i += LANES) {
    const Vec a = load(from + i), b = load(second + i);
    store(to + i, a * load(cos + i) + b * load(sin + i));
    store(to + half + i, b * load(cos + half + i) + a * load(sin + half + i));
  }
  for (; i < half; ++i) {
    const float a = from[i], b = second[i];
    to[i] = a * cos[i] + b * sin[i];
    to[half + i] = b * cos[half + i] + a * sin[half + i];
  }
}

}  // namespace

void rms_norm(Tensor x, Tensor weight, double eps, Tensor out) {
  const int64_t width = x.size(x.dim() - 1);
  const auto [rows, into] = rows_of(x, out, width);
  check(is_floats(weight) && weight.dim() == 1 && weight.is_contiguous() && weight.size(0) == width,
        "weight must be contiguous floats [width]");
  const float* scale = static_cast<const float*>(weight.data_ptr());
  each_row(rows.count, width, [&, &rows = rows, &into = into](int64_t row) {
    const float* from = rows.at(row);
    float* to = into.at(row);
    float factor = 1 / std::sqrt(sum_of_squares(from, width) / width + static_cast<float>(eps));
    if (factor == 0) factor = std::numeric_limits<float>::quiet_NaN();  // the squares overflowed
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(to + i, load(from + i) * factor * load(scale + i));
    for (; i < width; ++i) to[i] = from[i] * factor * scale[i];
  });
}

void gated_silu(Tensor gate_up, Tensor out) {
  check(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0, "gate_up must be [rows, 2 width]");
  const int64_t width = gate_up.size(1) / 2;
  const auto [rows, into] = rows_of(gate_up, out, width);
  each_row(rows.count, width, [&, &rows = rows, &into = into](int64_t row) {
    const float *gate = rows.at(row), *up = gate + width;
    float* to = into.at(row);
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(to + i, silu(load(gate + i)) * load(up + i));
    if (i < width) {
      float rest[LANES] = {};
      std::copy(gate + i, gate + width, rest);
      store(rest, silu(load(rest)));
      for (int64_t lane = 0; i < width; ++i, ++lane) to[i] = rest[lane] * up[i];
    }
  });
}

void add_rows(Tensor x, Tensor out) {
  const auto [rows, into] = rows_of(x, out, x.size(x.dim() - 1));
  each_row(rows.count, rows.width, [&, &rows = rows, &into = into](int64_t row) {
    const float* from = rows.at(row);
    float* to = into.at(row);
    for (int64_t i = 0; i < rows.width; ++i) to[i] += from[i];
  });
}

void rotate(Tensor states, Tensor cos, Tensor sin, Tensor out) {
  check(states.dim() == 3 && states.size(2) % 2 == 0, "states must be [rows, heads, P], P even");
  const int64_t tokens = states.size(0), heads = states.size(1), P = states.size(2);
  const auto [rows, into] = rows_of(states, out, P);
  for (const Tensor& angles : {cos, sin})
    check(is_floats(angles) && angles.is_contiguous() && angles.numel() == tokens * P, "angles must be [rows, 1, P]");
  const float *cosines = static_cast<const float*>(cos.data_ptr()), *sines = static_cast<const float*>(sin.data_ptr());
  each_row(tokens, heads * P, [&, &rows = rows, &into = into](int64_t token) {
    for (int64_t row = token * heads; row < (token + 1) * heads; ++row)
      rotate_head(rows.at(row), cosines + token * P, sines + token * P, P / 2, into.at(row));
  });
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("rms_norm(Tensor x, Tensor weight, float eps, Tensor(a!) out) -> ()");
  m.def("gated_silu(Tensor gate_up, Tensor(a!) out) -> ()");
  m.def("rotate(Tensor states, Tensor cos, Tensor sin, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("rms_norm", TORCH_BOX(&headmix::rms_norm));
  m.impl("gated_silu", TORCH_BOX(&headmix::gated_silu));
  m.impl("rotate", TORCH_BOX(&headmix::rotate));
}
