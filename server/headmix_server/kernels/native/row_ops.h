// The operations between a layer's products (kernels/row_ops.py). Tensors are floats, [rows, width] or [rows, heads,
// width], the last dimension contiguous; except for gated_silu, the result may overwrite the input.
#pragma once

#include <torch/csrc/stable/tensor.h>

namespace headmix {

using torch::stable::Tensor;

void rms_norm(Tensor x, Tensor weight, double eps, Tensor out);
void gated_silu(Tensor gate_up, Tensor out);
void add_rows(Tensor x, Tensor out);  // out += x
void rotate(Tensor states, Tensor cos, Tensor sin, Tensor out);

}  // namespace headmix
