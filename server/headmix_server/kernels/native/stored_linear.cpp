// headmix::stored_linear: x W^T + b in float32 with W as its checkpoint stores it, and headmix::stored_rows: rows of W.
//
// Every result is the sum of its products in the order of the inputs, whatever the number of rows and threads: a row's
// result does not depend on the rows next to it. Few rows unpack the weights in registers; many share a panel of
// unpacked weights that stays in L1. See kernels/stored/.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "linear.h"
#include "stored_blocks.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t FEW_ROWS = 8;
constexpr int TILE_ROWS = LANES == 16 ? 12 : 4;  // with two groups, what the registers hold
constexpr int TILE_GROUPS = LANES == 16 ? 2 : 1;
constexpr int64_t PANEL_BLOCKS = 4;           // a panel is 16 KiB
constexpr int64_t MANY_ROWS = 512;            // rows whose sums are kept at once
constexpr int64_t THREAD_PRODUCTS = 1 << 15;  // the least work that is worth a thread

struct Product {
  const uint8_t* weights;
  const float* bias;
  int64_t blocks, outputs, rows;
  const float* x;
  float* out;
  int64_t x_stride, out_stride;
};

template <class F>
const uint8_t* block_at(const Product& p, int64_t group, int64_t block) {
  return p.weights + (group * p.blocks + block) * F::BYTES;
}

// Write the sums [GROUP] of a row and a group, with the bias.
void write(const Product& p, const float* sums, int64_t row, int64_t group) {
  const int64_t first = group * GROUP, count = std::min<int64_t>(GROUP, p.outputs - first);
  float* to = p.out + row * p.out_stride + first;
  if (p.bias == nullptr) {
    std::memcpy(to, sums, count * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = sums[i] + p.bias[first + i];
}

// The whole product of ROWS rows and GROUPS groups.
template <class F, int GROUPS, int ROWS>
void few_rows(const Product& p, int64_t first_group) {
  Vec sums[GROUPS][PARTS][ROWS] = {};
  const float* x = p.x;
  for (int64_t b = 0; b < p.blocks; ++b, x += WIDTH) {
    [&]<int... G>(std::integer_sequence<int, G...>) {
      const F blocks[GROUPS] = {F(block_at<F>(p, first_group + G, b))...};
      for (int first = 0; first < WIDTH; first += WORD)
#pragma GCC unroll 8
        for (int c = 0; c < WORD; ++c)
#pragma GCC unroll 8
          for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; ++part) {
              const Vec weights = blocks[g].column(first, c, part);
#pragma GCC unroll 16
              for (int r = 0; r < ROWS; ++r) sums[g][part][r] += weights * x[r * p.x_stride + first + c];
            }
    }(std::make_integer_sequence<int, GROUPS>());
  }
  float row[GROUP];
  for (int g = 0; g < GROUPS; ++g)
    for (int r = 0; r < ROWS; ++r) {
      for (int part = 0; part < PARTS; ++part) store(row + part * LANES, sums[g][part][r]);
      write(p, row, r, first_group + g);
    }
}

// Add a panel's products [columns][TILE_GROUPS * GROUP] to the sums [rows][TILE_GROUPS * GROUP] of ROWS rows.
template <int ROWS>
void panel_rows(const float* panel, int64_t columns, const float* x, int64_t x_stride, float* sums) {
  constexpr int VECS = TILE_GROUPS * PARTS, SPAN = TILE_GROUPS * GROUP;
  Vec totals[ROWS][VECS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) totals[r][v] = load(sums + r * SPAN + v * LANES);
  for (int64_t c = 0; c < columns; ++c) {
    Vec weights[VECS];
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) weights[v] = load(panel + c * SPAN + v * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const float value = x[r * x_stride + c];
#pragma GCC unroll 8
      for (int v = 0; v < VECS; ++v) totals[r][v] += weights[v] * value;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < VECS; ++v) store(sums + r * SPAN + v * LANES, totals[r][v]);
}

using PanelRows = void (*)(const float*, int64_t, const float*, int64_t, float*);

template <int... I>
constexpr auto panel_tiles(std::integer_sequence<int, I...>) {
  return std::array<PanelRows, sizeof...(I)>{&panel_rows<I + 1>...};
}

// The product of all rows with up to TILE_GROUPS groups, one panel of unpacked weights after another.
template <class F>
void many_rows(const Product& p, int64_t first_group, float* sums) {
  static constexpr auto tiles = panel_tiles(std::make_integer_sequence<int, TILE_ROWS>());
  constexpr int SPAN = TILE_GROUPS * GROUP;
  const int64_t groups = std::min<int64_t>(TILE_GROUPS, (p.outputs + GROUP - 1) / GROUP - first_group);
  alignas(64) float panel[PANEL_BLOCKS * WIDTH * SPAN] = {};
  for (int64_t first = 0; first < p.rows; first += MANY_ROWS) {
    const int64_t rows = std::min(MANY_ROWS, p.rows - first);
    std::fill_n(sums, rows * SPAN, 0.0f);
    for (int64_t b = 0; b < p.blocks; b += PANEL_BLOCKS) {
      const int64_t blocks = std::min(PANEL_BLOCKS, p.blocks - b);
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t i = 0; i < blocks; ++i) {
          const F block(block_at<F>(p, first_group + g, b + i));
          float* to = panel + i * WIDTH * SPAN + g * GROUP;
          for (int first = 0; first < WIDTH; first += WORD)
#pragma GCC unroll 8
            for (int c = 0; c < WORD; ++c)
              for (int part = 0; part < PARTS; ++part)
                store(to + (first + c) * SPAN + part * LANES, block.column(first, c, part));
        }
      for (int64_t r = 0; r < rows; r += TILE_ROWS) {
        const int64_t few = std::min<int64_t>(TILE_ROWS, rows - r);
        const float* x = p.x + (first + r) * p.x_stride + b * WIDTH;
        tiles[few - 1](panel, blocks * WIDTH, x, p.x_stride, sums + r * SPAN);
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t g = 0; g < groups; ++g) write(p, sums + r * SPAN + g * GROUP, first + r, first_group + g);
  }
}

template <class F, int GROUPS, int ROWS>
void few_groups(const Product& p, int64_t begin, int64_t end) {
  for (; begin + GROUPS <= end; begin += GROUPS) few_rows<F, GROUPS, ROWS>(p, begin);
  float sums[FEW_ROWS * TILE_GROUPS * GROUP];
  for (; begin < end; begin += TILE_GROUPS) many_rows<F>(p, begin, sums);  // the same sums, and less to compile
}

using FewGroups = void (*)(const Product&, int64_t, int64_t);

// How many groups are multiplied at once: enough sums in flight, and no more than the registers hold.
constexpr int groups_at_once(int rows) {
  if (LANES == 16) return rows <= 4 ? 4 : 2;
  return rows <= 2 ? 2 : 1;
}

template <class F, int... I>
constexpr auto few_tiles(std::integer_sequence<int, I...>) {
  return std::array<FewGroups, sizeof...(I)>{&few_groups<F, groups_at_once(I + 1), I + 1>...};
}

template <class F>
void multiply(const Product& p) {
  static constexpr auto tiles = few_tiles<F>(std::make_integer_sequence<int, FEW_ROWS>());
  if (p.rows == 0) return;
  const int64_t groups = (p.outputs + GROUP - 1) / GROUP;
  const bool few = p.rows <= FEW_ROWS;
  const int64_t span = few ? groups_at_once(static_cast<int>(p.rows)) : TILE_GROUPS;
  const int64_t products = p.rows * p.blocks * WIDTH * GROUP * span;
  const int64_t grain = std::max<int64_t>(1, THREAD_PRODUCTS / products);
  torch::stable::parallel_for(0, (groups + span - 1) / span, grain, [&](int64_t begin, int64_t end) {
    if (few) {
      tiles[p.rows - 1](p, begin * span, std::min(groups, end * span));
      return;
    }
    const std::unique_ptr<float[]> sums(new float[std::min(MANY_ROWS, p.rows) * TILE_GROUPS * GROUP]);
    for (int64_t tile = begin; tile < end; ++tile) many_rows<F>(p, tile * span, sums.get());
  });
}

// Write the row of each output as floats: out [outputs][blocks * WIDTH].
template <class F>
void unpack(const Product& p, const int64_t* wanted) {
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
Product read_weights(const Tensor& weights, int64_t kind, int64_t outputs) {
  STD_TORCH_CHECK(
      weights.is_cpu() && weights.scalar_type() == ScalarType::Byte && weights.dim() == 3 && weights.is_contiguous(),
      "weights must be contiguous bytes on the CPU [groups, blocks, bytes]");
  of_kind(kind, [&]<class F>() {
    STD_TORCH_CHECK(weights.size(2) == F::BYTES, "a block of this kind has ", F::BYTES, " bytes, not ",
                    weights.size(2));
  });
  STD_TORCH_CHECK((outputs + GROUP - 1) / GROUP == weights.size(0), outputs, " outputs are not ", weights.size(0),
                  " groups");
  Product product = {};
  product.weights = static_cast<const uint8_t*>(weights.data_ptr());
  product.blocks = weights.size(1), product.outputs = outputs;
  return product;
}

void stored_rows(Tensor weights, int64_t kind, int64_t outputs, Tensor wanted, Tensor out) {
  Product product = read_weights(weights, kind, outputs);
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
  check_linear(x, bias, out);
  Product product = read_weights(weights, kind, out.size(1));
  STD_TORCH_CHECK(x.size(1) == product.blocks * WIDTH, "x must have rows of ", product.blocks * WIDTH);
  product.rows = x.size(0), product.x_stride = x.stride(0), product.out_stride = out.stride(0);
  product.x = static_cast<const float*>(x.data_ptr()), product.out = static_cast<float*>(out.data_ptr());
  product.bias = bias_of(bias);
  of_kind(kind, [&]<class F>() { multiply<F>(product); });
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("stored_linear(Tensor x, Tensor weights, int kind, Tensor bias, Tensor(a!) out) -> ()");
  m.def("stored_rows(Tensor weights, int kind, int outputs, Tensor wanted, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("stored_linear", TORCH_BOX(&headmix::stored_linear));
  m.impl("stored_rows", TORCH_BOX(&headmix::stored_rows));
}
