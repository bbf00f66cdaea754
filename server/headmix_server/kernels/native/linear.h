// The products that native layers are made of, one function for each form of the weights; all write x W^T + b to `out`.
//
// x [rows, in] and out [rows, out] are floats with contiguous rows; the bias [out] is empty if there is none. A row's
// result depends on that row alone.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace headmix {

using torch::stable::Tensor;

inline void check_matrix(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == torch::headeronly::ScalarType::Float &&
                      tensor.dim() == 2 && (tensor.size(1) <= 1 || tensor.stride(1) == 1) &&
                      (tensor.size(0) <= 1 || tensor.stride(0) >= tensor.size(1)),
                  name, " must be a float32 CPU tensor with contiguous rows");
}

inline void check_linear(const Tensor& x, const Tensor& bias, const Tensor& out) {
  check_matrix(x, "x");
  check_matrix(out, "out");
  STD_TORCH_CHECK(x.size(0) == out.size(0), "x has ", x.size(0), " rows and out ", out.size(0));
  STD_TORCH_CHECK(bias.is_cpu() && bias.scalar_type() == torch::headeronly::ScalarType::Float && bias.is_contiguous() &&
                      (bias.numel() == 0 || bias.numel() == out.size(1)),
                  "the bias must be contiguous floats, one an output or none");
}

inline const float* bias_of(const Tensor& bias) {
  return bias.numel() == 0 ? nullptr : static_cast<const float*>(bias.data_ptr());
}

// Weights in bytes, x quantised (kernels/int8_weights.py).
void int8_linear(Tensor x, Tensor weights, Tensor bias, Tensor out);

// Weights in bfloat16, x rounded to it, by one of the processor's units (kernels/stored/bfloat16.py).
void bfloat16_linear(Tensor x, Tensor weights, int64_t unit, Tensor bias, Tensor out);

// Weights in bfloat16 and x as it is, cut in three parts whose products AMX sums in float32; only where that is fast.
bool exact_bfloat16_is_fast();
void exact_bfloat16_linear(const Tensor& x, const Tensor& weights, const Tensor& bias, const Tensor& out);

// Weights as their checkpoint stores them (kernels/stored/).
void stored_linear(Tensor x, Tensor weights, int64_t kind, Tensor bias, Tensor out);

}  // namespace headmix
