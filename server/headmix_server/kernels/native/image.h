// Reading adapter images (kernels/adapters/image_tables.py): which terms a slot has in a layer, where their weights are
// and how they are split into heads. Every offset is checked against its arena before anything is read.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

#include "simd.h"

namespace headmix {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The order of headmix_adapters.sites.TERMS.
enum TermIndex { Q_HEAD, Q_SHARED, K_SHARED, V_HEAD_K, V_HEAD_X, V_SHARED, O_HEAD, O_SHARED, GATE_UP, DOWN, TERMS };

inline void check_tensor(const Tensor& tensor, ScalarType type, int64_t dims, const char* name) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == type && tensor.dim() == dims && tensor.is_contiguous(),
                  name, " must be a contiguous CPU tensor of its documented type and ", dims, " dimensions");
}

struct Tables {
  const float* f32;
  const BFloat16* bf16;
  int64_t f32_size, bf16_size;
  const int64_t* offsets;
  const int32_t* ranks;
  const float* scales;
  const bool* stored_bf16;
  int64_t slots, layers;

  Tables(const Tensor& f32_arena, const Tensor& bf16_arena, const Tensor& offset_table, const Tensor& rank_table,
         const Tensor& scale_table, const Tensor& stored) {
    check_tensor(f32_arena, ScalarType::Float, 1, "f32");
    check_tensor(bf16_arena, ScalarType::BFloat16, 1, "bf16");
    check_tensor(offset_table, ScalarType::Long, 4, "offsets");
    check_tensor(rank_table, ScalarType::Int, 2, "ranks");
    check_tensor(scale_table, ScalarType::Float, 2, "scales");
    check_tensor(stored, ScalarType::Bool, 1, "stored_bf16");
    slots = offset_table.size(0), layers = offset_table.size(1);
    STD_TORCH_CHECK(offset_table.size(2) == TERMS && offset_table.size(3) == 3, "offsets must be [slots, layers, ",
                    static_cast<int64_t>(TERMS), ", 3]");
    STD_TORCH_CHECK(rank_table.size(0) == slots && rank_table.size(1) == TERMS && scale_table.size(0) == slots &&
                        scale_table.size(1) == TERMS && stored.size(0) == slots,
                    "the tables differ in their slots or terms");
    f32 = static_cast<const float*>(f32_arena.const_data_ptr()), f32_size = f32_arena.numel();
    bf16 = static_cast<const BFloat16*>(bf16_arena.const_data_ptr()), bf16_size = bf16_arena.numel();
    offsets = static_cast<const int64_t*>(offset_table.const_data_ptr());
    ranks = static_cast<const int32_t*>(rank_table.const_data_ptr());
    scales = static_cast<const float*>(scale_table.const_data_ptr());
    stored_bf16 = static_cast<const bool*>(stored.const_data_ptr());
  }
};

// How a term of one site is split into heads: the part that does not depend on the adapter.
struct Form {
  TermIndex term;
  bool from_output;   // reads columns of the tensor it is added to (the value's head part reads the raw key)
  int64_t in_column;  // first column read
  int64_t in_heads;   // A is [in_heads][ranks][in]; 1 if all heads read the same columns
  int64_t in;
  int64_t out_column;  // first column added to
  int64_t out_heads;   // B is [out_heads][ranks][out]; 1 if all heads add to the same columns
  int64_t out;
  int64_t heads;  // heads with their own ranks
  bool has_bias;
};

// One term of one slot and layer.
struct Term {
  const Form* form;
  int64_t rank;
  float scale;
  int64_t z_column;    // where its shrunk values begin among the segment's
  int64_t A, B, bias;  // offsets; bias is ABSENT if there is none
  bool bf16;           // which arena they are in

  int64_t z_size() const { return form->heads * rank; }
  int64_t weights() const { return z_size() * (form->in + form->out); }
};

constexpr int64_t ABSENT = -1;

// Fill in a slot's term; return false if its adapter has none in the layer.
inline bool read_term(const Tables& tables, int64_t slot, int64_t layer, const Form& form, Term& term) {
  const int64_t* at = tables.offsets + ((slot * tables.layers + layer) * TERMS + form.term) * 3;
  if (at[0] == ABSENT) return false;
  const int64_t row = slot * TERMS + form.term;
  const bool bf16 = tables.stored_bf16[slot];
  const int64_t size = bf16 ? tables.bf16_size : tables.f32_size;
  term = {&form, tables.ranks[row], tables.scales[row], 0, at[0], at[1], at[2], bf16};
  const auto inside = [size](int64_t offset, int64_t count) { return offset >= 0 && count <= size - offset; };
  STD_TORCH_CHECK(term.rank > 0 && inside(term.A, term.z_size() * form.in) && inside(term.B, term.z_size() * form.out),
                  "term ", static_cast<int64_t>(form.term), " of slot ", slot, " in layer ", layer,
                  " lies outside its arena");
  STD_TORCH_CHECK(term.bias == ABSENT || (form.has_bias && inside(term.bias, form.out_heads * form.out)),
                  "the bias of term ", static_cast<int64_t>(form.term), " of slot ", slot, " in layer ", layer,
                  " lies outside its arena");
  return true;
}

}  // namespace headmix
