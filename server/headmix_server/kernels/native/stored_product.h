// One product with weights as their checkpoint stores them: x W^T + b.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "stored_blocks.h"

namespace headmix {

constexpr int64_t THREAD_PRODUCTS = 1 << 15;  // the least work that is worth a thread

struct StoredProduct {
  const uint8_t* weights;
  const float* bias;  // may be null
  int64_t blocks, outputs, rows;
  const float* x;
  float* out;
  int64_t x_stride, out_stride;

  int64_t groups() const { return (outputs + GROUP - 1) / GROUP; }
};

template <class F>
const uint8_t* block_at(const StoredProduct& p, int64_t group, int64_t block) {
  return p.weights + (group * p.blocks + block) * F::BYTES;
}

// Write the sums [GROUP] of a row and a group, with the bias.
inline void write_sums(const StoredProduct& p, const float* sums, int64_t row, int64_t group) {
  const int64_t first = group * GROUP, count = std::min<int64_t>(GROUP, p.outputs - first);
  float* to = p.out + row * p.out_stride + first;
  if (p.bias == nullptr) {
    std::memcpy(to, sums, count * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = sums[i] + p.bias[first + i];
}

}  // namespace headmix
