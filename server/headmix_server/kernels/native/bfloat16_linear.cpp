// headmix::bfloat16_linear: x W^T + b with W in bfloat16, x rounded to it once, and sums in float32; and
// headmix::bfloat16_units: which of the processor's instructions are available for it. See kernels/stored/bfloat16.py.
// Also the product of the same weights with x as it is, cut in three parts: as exact as float32's own.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>
#include <vector>

#include "bfloat16_pairs.h"
#include "linear.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t THREAD_PRODUCTS = 1 << 15;  // the least work that is worth a thread
constexpr int64_t THREAD_FLOATS = 1 << 17;    // the same, for rounding
constexpr int64_t CHUNK_ROWS = 128;           // rows that stay in L2 while the weights stream past

#ifdef HEADMIX_PAIRS

constexpr int64_t FEW_PAIRS = 6;  // rows of four groups whose sums fit in the registers
constexpr int64_t FOUR_GROUPS = 4;

using PairRows = void (*)(const PairProduct&, int64_t, int64_t);

template <int GROUPS, int... I>
constexpr auto pair_rows(std::integer_sequence<int, I...>) {
  return std::array<PairRows, sizeof...(I)>{&multiply_pairs<GROUPS, I + 1>...};
}

// Some groups of some rows, by dot products of pairs.
void run_pairs(const PairProduct& p, int64_t group, int64_t last_group, int64_t row, int64_t last_row) {
  static constexpr auto four = pair_rows<FOUR_GROUPS>(std::make_integer_sequence<int, FEW_PAIRS>());
  static constexpr auto one = pair_rows<1>(std::make_integer_sequence<int, FEW_PAIRS>());
  for (int64_t r = row; r < last_row; r += FEW_PAIRS) {
    const int64_t few = std::min(FEW_PAIRS, last_row - r);
    int64_t g = group;
    for (; g + FOUR_GROUPS <= last_group; g += FOUR_GROUPS) four[few - 1](p, g, r);
    for (; g < last_group; ++g) one[few - 1](p, g, r);
  }
}

// The same, by tiles.
void run_tiles(const PairProduct& p, int64_t group, int64_t last_group, int64_t row, int64_t last_row) {
  int64_t r = row;
  for (; r + PAIR_TILE < last_row; r += 2 * PAIR_TILE) {
    int64_t g = group;
    for (; g + 2 <= last_group; g += 2) multiply_square<1>(p, g, r);
    if (g < last_group) multiply_tile<1>(p, g, r), multiply_tile<1>(p, g, r + PAIR_TILE);
  }
  if (r >= last_row) return;
  int64_t g = group;
  for (; g + FOUR_GROUPS <= last_group; g += FOUR_GROUPS) multiply_tile<FOUR_GROUPS>(p, g, r);
  for (; g < last_group; ++g) multiply_tile<1>(p, g, r);
}

// The same for rows in parts.
void run_parts(const PairProduct& p, int64_t group, int64_t last_group, int64_t row, int64_t last_row) {
  if (p.rows == 1) {
    const TinyAreZeros mine;
    if (group + FOUR_GROUPS <= last_group) return multiply_parts_of_row<FOUR_GROUPS>(p, group, row);
    for (; group < last_group; ++group) multiply_parts_of_row<1>(p, group, row);
    return;
  }
  for (int64_t r = row; r < last_row; r += 2 * PAIR_TILE) {
    const bool one = r + PAIR_TILE >= last_row;
    int64_t g = group;
    for (; g + 2 <= last_group; g += 2) (one ? multiply_parts_of_tile<2> : multiply_square<EXACT_PARTS>)(p, g, r);
    if (g == last_group) continue;
    multiply_parts_of_tile<1>(p, g, r);
    if (!one) multiply_parts_of_tile<1>(p, g, r + PAIR_TILE);
  }
}

using Pieces = void (*)(const PairProduct&, int64_t, int64_t, int64_t, int64_t);

// The whole product: pieces of four groups and a chunk of rows, which threads take from a counter.
void run(const PairProduct& p, Pieces multiply) {
  const int64_t groups = (p.outputs + PAIR_OUTPUTS - 1) / PAIR_OUTPUTS;
  const int64_t spans = (groups + FOUR_GROUPS - 1) / FOUR_GROUPS, chunks = (p.rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
  const int64_t worth = p.rows * p.blocks * PAIR_INPUTS * p.outputs / THREAD_PRODUCTS;
  const int64_t workers =
      std::clamp<int64_t>(std::min<int64_t>(worth, torch::stable::get_num_threads()), 1, std::max<int64_t>(1, spans));
  std::atomic<int64_t> next{0};
  const auto work = [&]() {
    for (int64_t piece = next++; piece < spans * chunks; piece = next++) {
      const int64_t group = piece % spans * FOUR_GROUPS, row = piece / spans * CHUNK_ROWS;
      multiply(p, group, std::min(groups, group + FOUR_GROUPS), row, std::min(p.rows, row + CHUNK_ROWS));
    }
  };
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin) {
      if (multiply == run_pairs) {
        work();
        continue;
      }
      const AmxTiles mine(std::min(PAIR_TILE, p.rows));
      work();
    }
  });
}

// Round x, or cut it in parts, and multiply. The buffer is kept for the next call: a step makes a hundred of them.
void multiply(const Tensor& x, PairProduct p, int64_t parts, Pieces pieces) {
  thread_local std::vector<uint16_t> kept;
  const int64_t inputs = x.size(1), filled = p.blocks * PAIR_INPUTS, stride = filled + PAIR_INPUTS;
  const int64_t rows =
      pieces != run_pairs && p.rows > PAIR_TILE ? (p.rows + PAIR_TILE - 1) / PAIR_TILE * PAIR_TILE : p.rows;
  const int64_t apart = rows * stride;
  kept.resize(parts * apart + PAIR_INPUTS);
  uint16_t* const rounded = kept.data() + (64 - reinterpret_cast<uintptr_t>(kept.data()) % 64) % 64 / 2;
  const float* const from = static_cast<const float*>(x.data_ptr());
  torch::stable::parallel_for(0, rows, std::max<int64_t>(1, THREAD_FLOATS / filled), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* const mine = from + std::min(row, p.rows - 1) * x.stride(0);
      const int64_t count = row < p.rows ? inputs : 0;
      if (parts == 1)
        round_row(mine, count, rounded + row * stride, filled);
      else
        split_row(mine, count, rounded + row * stride, filled, apart);
    }
  });
  p.x = rounded, p.x_stride = stride, p.apart = apart;
  run(p, pieces);
}

void multiply_by(int64_t unit, const Tensor& x, const PairProduct& p) {
  multiply(x, p, 1, unit == AMX ? run_tiles : run_pairs);
}

void multiply_parts(const Tensor& x, const PairProduct& p) { multiply(x, p, EXACT_PARTS, run_parts); }

#else

int64_t pair_units() { return 0; }

void multiply_by(int64_t, const Tensor&, const PairProduct&) {}

void multiply_parts(const Tensor&, const PairProduct&) {}

#endif

int64_t bfloat16_units() {
  static const int64_t units = pair_units();
  return units;
}

// Check the tensors and describe their product; it has no rows of x yet.
PairProduct read_product(const Tensor& x, const Tensor& weights, const Tensor& bias, const Tensor& out) {
  STD_TORCH_CHECK(weights.is_cpu() && weights.scalar_type() == ScalarType::Byte && weights.dim() == 3 &&
                      weights.is_contiguous() && weights.size(2) == PAIR_BLOCK,
                  "weights must be contiguous bytes on the CPU [groups, blocks, ", PAIR_BLOCK, "]");
  check_linear(x, bias, out);
  const int64_t blocks = weights.size(1), outputs = out.size(1);
  STD_TORCH_CHECK((x.size(1) + PAIR_INPUTS - 1) / PAIR_INPUTS == blocks, x.size(1), " inputs are not ", blocks,
                  " blocks");
  STD_TORCH_CHECK((outputs + PAIR_OUTPUTS - 1) / PAIR_OUTPUTS == weights.size(0), outputs, " outputs are not ",
                  weights.size(0), " groups");
  PairProduct product = {};
  product.weights = static_cast<const uint8_t*>(weights.data_ptr());
  product.bias = bias_of(bias);
  product.out = static_cast<float*>(out.data_ptr());
  product.rows = x.size(0), product.blocks = blocks, product.outputs = outputs, product.out_stride = out.stride(0);
  return product;
}

}  // namespace

void bfloat16_linear(Tensor x, Tensor weights, int64_t unit, Tensor bias, Tensor out) {
  STD_TORCH_CHECK((unit == AVX512 || unit == AMX) && (bfloat16_units() & unit), "this processor has no unit ", unit);
  const PairProduct product = read_product(x, weights, bias, out);
  if (product.rows > 0) multiply_by(unit, x, product);
}

bool exact_bfloat16_is_fast() { return bfloat16_units() & AMX; }

void exact_bfloat16_linear(const Tensor& x, const Tensor& weights, const Tensor& bias, const Tensor& out) {
  const PairProduct product = read_product(x, weights, bias, out);
  if (product.rows > 0) multiply_parts(x, product);
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("bfloat16_linear(Tensor x, Tensor weights, int unit, Tensor bias, Tensor(a!) out) -> ()");
  m.def("bfloat16_units() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("bfloat16_linear", TORCH_BOX(&headmix::bfloat16_linear)); }

STABLE_TORCH_LIBRARY_IMPL(headmix, CompositeExplicitAutograd, m) {
  m.impl("bfloat16_units", TORCH_BOX(&headmix::bfloat16_units));
}
