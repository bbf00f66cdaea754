// headmix::quantize_rows: rows of floats to bytes around 128, with one scale per row. See kernels/quantize.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <memory>

#include "row_codes.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t THREAD_FLOATS = 8192;  // the least work that is worth a thread

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
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, THREAD_FLOATS / width), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<float[]> scratch(new float[width]);
    for (int64_t row = begin; row < end; ++row)
      factors[row] = quantize_row(from + row * width, width, block, scratch.get(), to + row * width);
  });
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("quantize_rows(Tensor x, int block, Tensor(a!) codes, Tensor(b!) scales) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("quantize_rows", TORCH_BOX(&headmix::quantize_rows)); }
