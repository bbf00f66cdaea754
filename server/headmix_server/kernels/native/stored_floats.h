// Products with stored weights unpacked to floats: every result is the sum of its products in the order of the inputs.
//
// Few rows unpack the weights in registers; many share a panel of unpacked weights that stays in L1.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "stored_product.h"

namespace headmix {

constexpr int64_t FEW_ROWS = 8;
constexpr int TILE_ROWS = LANES == 16 ? 12 : 4;  // with two groups, what the registers hold
constexpr int TILE_GROUPS = LANES == 16 ? 2 : 1;
constexpr int64_t PANEL_BLOCKS = 4;  // a panel is 16 KiB
constexpr int64_t MANY_ROWS = 512;   // rows whose sums are kept at once

// The whole product of ROWS rows and GROUPS groups.
template <class F, int GROUPS, int ROWS>
void few_rows(const StoredProduct& p, int64_t first_group) {
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
      write_sums(p, row, r, first_group + g);
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
void many_rows(const StoredProduct& p, int64_t first_group, float* sums) {
  static constexpr auto tiles = panel_tiles(std::make_integer_sequence<int, TILE_ROWS>());
  constexpr int SPAN = TILE_GROUPS * GROUP;
  const int64_t groups = std::min<int64_t>(TILE_GROUPS, p.groups() - first_group);
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
      for (int64_t g = 0; g < groups; ++g) write_sums(p, sums + r * SPAN + g * GROUP, first + r, first_group + g);
  }
}

template <class F, int GROUPS, int ROWS>
void few_groups(const StoredProduct& p, int64_t begin, int64_t end) {
  for (; begin + GROUPS <= end; begin += GROUPS) few_rows<F, GROUPS, ROWS>(p, begin);
  float sums[FEW_ROWS * TILE_GROUPS * GROUP];
  for (; begin < end; begin += TILE_GROUPS) many_rows<F>(p, begin, sums);  // the same sums, and less to compile
}

using FewGroups = void (*)(const StoredProduct&, int64_t, int64_t);

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
void multiply_floats(const StoredProduct& p) {
  static constexpr auto tiles = few_tiles<F>(std::make_integer_sequence<int, FEW_ROWS>());
  const int64_t groups = p.groups();
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

}  // namespace headmix
