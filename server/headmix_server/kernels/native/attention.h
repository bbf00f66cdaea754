// Attention of a ragged batch over a paged cache, into which the step's own keys and values are written first. See
// kernels/attention/native.py.
#pragma once

#include <torch/csrc/stable/tensor.h>

namespace headmix {

using torch::stable::Tensor;

void attend_paged(Tensor q, Tensor k, Tensor v, Tensor keys, Tensor values, Tensor rows, Tensor starts, Tensor blocks,
                  int64_t block_size, double scale, int64_t window, Tensor out);

}  // namespace headmix
