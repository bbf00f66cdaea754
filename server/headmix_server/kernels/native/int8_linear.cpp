// headmix::int8_linear: x W^T + b with W in bytes and one scale per output, x rotated and quantised row by row.
//
// A row's result depends on that row alone: integer sums are exact. A few rows are multiplied while the weights stream
// from memory; many are multiplied in AMX tiles if the processor has them. See kernels/int8_weights.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "int8_amx.h"
#include "linear.h"
#include "row_codes.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

constexpr int TILE_ROWS = 12;                 // with two groups, what the registers hold
constexpr int64_t FEW_ROWS = 4;               // above this, AMX tiles pay off
constexpr int64_t BLOCK_BYTES = 1 << 18;      // of weights that all rows are multiplied with
constexpr int64_t THREAD_FLOATS = 8192;       // of quantised input: the least work that is worth a thread
constexpr int64_t THREAD_PRODUCTS = 1 << 17;  // the least work that is worth a thread

struct Product {
  const uint8_t* groups;
  const float* bias;
  int64_t depth, outputs, rows;
  const uint8_t* codes;  // [rows, rounded up to whole AMX tiles][depth]
  const float* scales;   // [rows]
  float* out;
  int64_t out_stride;

  const uint8_t* group(int64_t index) const { return groups + index * group_bytes(depth); }
};

// Write the results of ROWS rows from `first` on for a group whose sums are complete.
void write(const Product& p, const Sums* sums, int64_t first, int64_t rows, int64_t group) {
  const int64_t column = group * GROUP, count = std::min<int64_t>(GROUP, p.outputs - column);
  for (int64_t r = 0; r < rows; ++r) {
    const Scales values = scaled(sums[r], p.group(group), p.depth) * p.scales[first + r];
    float* to = p.out + (first + r) * p.out_stride + column;
    if (p.bias == nullptr) {
      std::memcpy(to, &values, count * sizeof(float));
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = values[i] + p.bias[column + i];
    }
  }
}

template <int GROUPS, int ROWS>
void multiply_tile(const Product& p, int64_t row, int64_t group) {
  Sums sums[GROUPS * ROWS];
  sum_tile<GROUPS, ROWS>(p.codes + row * p.depth, p.depth, p.group(group), sums);
  for (int g = 0; g < GROUPS; ++g) write(p, sums + g * ROWS, row, ROWS, group + g);
}

using Tile = void (*)(const Product&, int64_t, int64_t);

template <int GROUPS, int... I>
constexpr auto tiles_of(std::integer_sequence<int, I...>) {
  return std::array<Tile, sizeof...(I)>{&multiply_tile<GROUPS, I + 1>...};
}

// The product of all rows with groups begin..end, in registers.
template <int GROUPS, int ROWS>
void multiply_groups(const Product& p, int64_t begin, int64_t end) {
  static constexpr auto whole = tiles_of<GROUPS>(std::make_integer_sequence<int, ROWS>());
  static constexpr auto single = tiles_of<1>(std::make_integer_sequence<int, ROWS>());
  for (int64_t row = 0; row < p.rows; row += ROWS)
    for (int64_t group = begin; group < end; group += GROUPS) {
      const int64_t rows = std::min<int64_t>(ROWS, p.rows - row);
      if (group + GROUPS <= end) {
        whole[rows - 1](p, row, group);
      } else {
        for (int64_t rest = group; rest < end; ++rest) single[rows - 1](p, row, rest);
      }
    }
}

#if defined(HEADMIX_AMX_INT8)
// The same in AMX tiles.
void multiply_by_amx(const Product& p, int64_t begin, int64_t end) {
  const AmxTiles tiles;
  alignas(64) Sums sums[4 * AMX_ROWS];
  for (int64_t row = 0; row < p.rows; row += 2 * AMX_ROWS)
    for (int64_t group = begin; group + 2 <= end; group += 2) {
      const int64_t rows = std::min(2 * AMX_ROWS, p.rows - row);
      (rows > AMX_ROWS ? sum_32_rows : sum_16_rows)(p.codes + row * p.depth, p.depth, p.group(group), sums);
      for (int64_t part = 0; part < rows; part += AMX_ROWS)
        for (int64_t g = 0; g < 2; ++g)
          write(p, sums + (part / AMX_ROWS * 2 + g) * AMX_ROWS, row + part, std::min(AMX_ROWS, rows - part), group + g);
    }
  if ((end - begin) % 2) multiply_groups<1, TILE_ROWS>(p, end - 1, end);
}
#endif

// The product of all rows with groups begin..end, which stay in L2.
void multiply_block(const Product& p, int64_t begin, int64_t end) {
  if (p.rows <= FEW_ROWS) return multiply_groups<4, FEW_ROWS>(p, begin, end);
#if defined(HEADMIX_AMX_INT8)
  if (amx_is_granted()) return multiply_by_amx(p, begin, end);
#endif
  multiply_groups<2, TILE_ROWS>(p, begin, end);
}

// All rows are multiplied with one block of weights after another, so that a row's results are written contiguously.
void multiply_some(const Product& p, int64_t begin, int64_t end) {
  const int64_t span = std::max<int64_t>(4, BLOCK_BYTES / group_bytes(p.depth) / 4 * 4);
  for (int64_t group = begin; group < end; group += span) multiply_block(p, group, std::min(end, group + span));
}

void multiply(const Product& p) {
  constexpr int64_t SPAN = 4;  // groups
  const int64_t groups = (p.outputs + GROUP - 1) / GROUP;
  const int64_t grain = std::max<int64_t>(1, THREAD_PRODUCTS / (p.rows * p.depth * GROUP * SPAN));
  torch::stable::parallel_for(0, (groups + SPAN - 1) / SPAN, grain, [&](int64_t begin, int64_t end) {
    multiply_some(p, begin * SPAN, std::min(groups, end * SPAN));
  });
}

// Write the codes [rows][depth] and scales [rows] of x; codes beyond its width are multiplied by zeros.
void quantize(const Tensor& x, int64_t depth, uint8_t* codes, float* scales) {
  const int64_t rows = x.size(0), width = x.size(1), stride = x.stride(0), block = turning_block(width);
  const float* from = static_cast<const float*>(x.data_ptr());
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, THREAD_FLOATS / width), [&](int64_t begin, int64_t end) {
    const std::unique_ptr<float[]> scratch(new float[width]);
    for (int64_t row = begin; row < end; ++row) {
      scales[row] = quantize_row(from + row * stride, width, block, scratch.get(), codes + row * depth);
      std::fill_n(codes + row * depth + width, depth - width, static_cast<uint8_t>(ZERO));
    }
  });
}

bool int8_is_fast() { return FAST_INT8; }

}  // namespace

void int8_linear(Tensor x, Tensor weights, Tensor bias, Tensor out) {
  check_linear(x, bias, out);
  STD_TORCH_CHECK(
      weights.is_cpu() && weights.scalar_type() == ScalarType::Byte && weights.dim() == 2 && weights.is_contiguous(),
      "weights must be contiguous bytes on the CPU [groups, bytes]");
  const int64_t rows = x.size(0), width = x.size(1), outputs = out.size(1);
  const int64_t depth = (width + DEPTH - 1) / DEPTH * DEPTH;
  STD_TORCH_CHECK(
      width > 0 && weights.size(0) == (outputs + GROUP - 1) / GROUP && weights.size(1) == group_bytes(depth),
      "weights are not those of ", outputs, " outputs and ", width, " inputs");
  if (rows == 0) return;
  const int64_t whole = (rows + AMX_ROWS - 1) / AMX_ROWS * AMX_ROWS;
  const std::unique_ptr<uint8_t[]> codes(new uint8_t[whole * depth]);
  const std::unique_ptr<float[]> scales(new float[rows]);
  quantize(x, depth, codes.get(), scales.get());
  std::fill_n(codes.get() + rows * depth, (whole - rows) * depth, static_cast<uint8_t>(0));
  multiply({static_cast<const uint8_t*>(weights.data_ptr()), bias_of(bias), depth, outputs, rows, codes.get(),
            scales.get(), static_cast<float*>(out.data_ptr()), out.stride(0)});
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("int8_linear(Tensor x, Tensor weights, Tensor bias, Tensor(a!) out) -> ()");
  m.def("int8_is_fast() -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("int8_linear", TORCH_BOX(&headmix::int8_linear)); }

STABLE_TORCH_LIBRARY_IMPL(headmix, CompositeExplicitAutograd, m) {
  m.impl("int8_is_fast", TORCH_BOX(&headmix::int8_is_fast));
}
