// headmix::stored_linear: x W^T + b in float32 with W as its checkpoint stores it, and headmix::stored_rows: rows of W.
//
// A row's result does not depend on the rows next to it, whatever the number of rows and threads. Where the processor
// has VNNI, whole-number codes are multiplied with inputs in fixed point (stored_fixed.h); everything else is unpacked
// to floats (stored_floats.h). See kernels/stored/.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "linear.h"
#include "stored_fixed.h"
#include "stored_floats.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

template <class F>
void multiply(const StoredProduct& p) {
  if (p.rows == 0) return;
  if constexpr (WholeNumbers<F>)
    multiply_fixed<F>(p);
  else
    multiply_floats<F>(p);
}

// Write the row of each output as floats: out [outputs][blocks * WIDTH].
template <class F>
void unpack(const StoredProduct& p, const int64_t* wanted) {
  for (int64_t i = 0; i < p.rows; ++i) {
    float* to = p.out + i * p.out_stride;
    const int64_t group = wanted[i] / GROUP, lane = wanted[i] % GROUP;
    for (int64_t b = 0; b < p.blocks; ++b) {
      const F block(block_at<F>(p, group, b));
      for (int first = 0; first < WIDTH; first += WORD)
#pragma GCC unroll 8
        for (int c = 0; c < WORD; ++c) to[b * WIDTH + first + c] = block.column(first, c, lane / LANES)[lane % LANES];
    }
  }
}

// The kinds, in the order of kernels/stored/.
enum Kind : int64_t { NIBBLES, BYTES, BFLOATS, HALVES, SCALED_NIBBLES, FIVES, SCALED_FIVES, SIXES };

template <typename Work>
void of_kind(int64_t kind, const Work& work) {
  if (kind == NIBBLES) return work.template operator()<Nibbles>();
  if (kind == BYTES) return work.template operator()<Bytes>();
  if (kind == BFLOATS) return work.template operator()<BFloats>();
  if (kind == HALVES) return work.template operator()<Halves>();
  if (kind == SCALED_NIBBLES) return work.template operator()<ScaledNibbles>();
  if (kind == FIVES) return work.template operator()<Fives>();
  if (kind == SCALED_FIVES) return work.template operator()<ScaledFives>();
  if (kind == SIXES) return work.template operator()<Sixes>();
  STD_TORCH_CHECK(false, "there is no kind ", kind);
}

// Check the weights and fill in the product's fields that depend on them.
StoredProduct read_weights(const Tensor& weights, int64_t kind, int64_t outputs) {
  STD_TORCH_CHECK(
      weights.is_cpu() && weights.scalar_type() == ScalarType::Byte && weights.dim() == 3 && weights.is_contiguous(),
      "weights must be contiguous bytes on the CPU [groups, blocks, bytes]");
  of_kind(kind, [&]<class F>() {
    STD_TORCH_CHECK(weights.size(2) == F::BYTES, "a block of this kind has ", F::BYTES, " bytes, not ",
                    weights.size(2));
  });
  STD_TORCH_CHECK((outputs + GROUP - 1) / GROUP == weights.size(0), outputs, " outputs are not ", weights.size(0),
                  " groups");
  StoredProduct product = {};
  product.weights = static_cast<const uint8_t*>(weights.data_ptr());
  product.blocks = weights.size(1), product.outputs = outputs;
  return product;
}

// What multiplies codes, as kernels/stored/products.py numbers it.
int64_t code_unit() {
#if defined(HEADMIX_FIXED_POINT) && defined(HEADMIX_PAIRS)
  if (amx_multiplies()) return 2;
#endif
#if defined(HEADMIX_FIXED_POINT)
  return 1;
#else
  return 0;
#endif
}

void stored_rows(Tensor weights, int64_t kind, int64_t outputs, Tensor wanted, Tensor out) {
  StoredProduct product = read_weights(weights, kind, outputs);
  STD_TORCH_CHECK(
      wanted.is_cpu() && wanted.scalar_type() == ScalarType::Long && wanted.dim() == 1 && wanted.is_contiguous(),
      "the rows wanted must be contiguous integers [rows]");
  check_matrix(out, "out");
  STD_TORCH_CHECK(out.size(1) == product.blocks * WIDTH, "out must have rows of ", product.blocks * WIDTH);
  STD_TORCH_CHECK(out.size(0) == wanted.numel(), wanted.numel(), " rows are wanted and out has ", out.size(0));
  const int64_t* rows = static_cast<const int64_t*>(wanted.data_ptr());
  for (int64_t i = 0; i < wanted.numel(); ++i)
    STD_TORCH_CHECK(rows[i] >= 0 && rows[i] < outputs, "there is no row ", rows[i]);
  product.rows = wanted.numel(), product.out_stride = out.stride(0), product.out = static_cast<float*>(out.data_ptr());
  of_kind(kind, [&]<class F>() { unpack<F>(product, rows); });
}

}  // namespace

void stored_linear(Tensor x, Tensor weights, int64_t kind, Tensor bias, Tensor out) {
  if (kind == BFLOATS && exact_bfloat16_is_fast()) return exact_bfloat16_linear(x, weights, bias, out);
  check_linear(x, bias, out);
  StoredProduct product = read_weights(weights, kind, out.size(1));
  STD_TORCH_CHECK(x.size(1) == product.blocks * WIDTH, "x must have rows of ", product.blocks * WIDTH);
  product.rows = x.size(0), product.x_stride = x.stride(0), product.out_stride = out.stride(0);
  product.x = static_cast<const float*>(x.data_ptr()), product.out = static_cast<float*>(out.data_ptr());
  product.bias = bias_of(bias);
  of_kind(kind, [&]<class F>() { multiply<F>(product); });
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("stored_linear(Tensor x, Tensor weights, int kind, Tensor bias, Tensor(a!) out) -> ()");
  m.def("code_unit() -> int");
  m.def("stored_rows(Tensor weights, int kind, int outputs, Tensor wanted, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("stored_linear", TORCH_BOX(&headmix::stored_linear));
  m.impl("stored_rows", TORCH_BOX(&headmix::stored_rows));
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CompositeExplicitAutograd, m) {
  m.impl("code_unit", TORCH_BOX(&headmix::code_unit));
}
