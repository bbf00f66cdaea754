// Products of whole-number codes with inputs in fixed point, on all threads: by vpdpbusd, or by AMX for more than a few
// rows.
//
// The sums of a block's digits times codes are exact integers, so both give the same bits. They are joined to a float,
// multiplied by the scale, and added to the sum of the blocks before: a row's result does not depend on the rows next
// to it.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "stored_amx.h"
#include "stored_vnni.h"

namespace headmix {

#if defined(HEADMIX_FIXED_POINT)

constexpr int64_t FEW_FIXED = 4;            // rows; above this, AMX tiles pay off
constexpr int64_t PANEL_BYTES = 1 << 18;    // of weights that all rows are multiplied with
constexpr int64_t THREAD_INPUTS = 1 << 14;  // the least rounding that is worth a thread

template <class F>
concept WholeNumbers = requires { F::CENTRE; };

// Call work(row, block, fixed) for every block of every row, on several threads if there are many.
template <typename Work>
void fix_rows(const StoredProduct& p, int64_t rows, const Work& work) {
  const int64_t grain = std::max<int64_t>(1, THREAD_INPUTS / (p.blocks * WIDTH));
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t b = 0; b < p.blocks; ++b) work(row, b);
  });
}

// All rows with the groups begin..end by vpdpbusd; weights that stay in L2 serve one row after another.
template <class F>
void multiply_by_vnni(const StoredProduct& p, const FixedBytes* x, int64_t begin, int64_t end) {
  const int64_t span = std::max<int64_t>(4, PANEL_BYTES / (p.blocks * F::BYTES) / 4 * 4);
  for (int64_t first = begin; first < end; first += span) {
    const int64_t last = std::min(end, first + span);
    for (int64_t row = 0; row < p.rows; row += FEW_FIXED) {
      const int64_t rows = std::min(FEW_FIXED, p.rows - row);
      if (rows == 1) multiply_bytes_of<F, 4, 1>(p, x, row, first, last);
      if (rows == 2) multiply_bytes_of<F, 2, 2>(p, x, row, first, last);
      if (rows == 3) multiply_bytes_of<F, 2, 3>(p, x, row, first, last);
      if (rows == 4) multiply_bytes_of<F, 1, 4>(p, x, row, first, last);
    }
  }
}

#if defined(HEADMIX_PAIRS)

constexpr int64_t CHUNK_BLOCKS = 3;  // of a tile's rows and the weights of SPAN groups: they stay in L1
constexpr int64_t SPAN = 4;
constexpr int64_t CHUNK_TILES = 8;  // of rows whose totals are kept at once

// The same by AMX, for some tiles of rows and up to SPAN groups; the rows and groups are those from `tile` and `group`
// on.
template <class F>
void multiply_panel(const StoredProduct& p, const FixedTile* x, int64_t tile, int64_t tiles, int64_t group,
                    int64_t groups) {
  CodeTile<F> panel[SPAN][CHUNK_BLOCKS];
  alignas(64) TileSums totals[CHUNK_TILES][SPAN];
  std::memset(totals, 0, tiles * sizeof totals[0]);
  for (int64_t b = 0; b < p.blocks; b += CHUNK_BLOCKS) {
    const int64_t blocks = std::min(CHUNK_BLOCKS, p.blocks - b);
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t i = 0; i < blocks; ++i) {
        const uint8_t* const block = block_at<F>(p, group + g, b + i);
        for (int64_t line = 0; line < F::BYTES; line += 64)
          __builtin_prefetch(block + SPAN * p.blocks * F::BYTES + line, 0, 2);  // the next groups' blocks
        panel[g][i].write(F(block));
      }
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t rows = p.rows - (tile + t) * AMX_ROWS;
      const auto multiply = rows > AMX_ROWS / 2 ? multiply_tile<F, AMX_ROWS> : multiply_tile<F, AMX_ROWS / 2>;
      for (int64_t g = 0; g < groups; ++g) multiply(x + (tile + t) * p.blocks + b, panel[g], blocks, totals[t][g]);
    }
  }
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t row = (tile + t) * AMX_ROWS, r = 0; r < std::min(AMX_ROWS, p.rows - row); ++r)
      for (int64_t g = 0; g < groups; ++g) write_sums(p, totals[t][g][r], row + r, group + g);
}

template <class F>
void multiply_by_amx(const StoredProduct& p, const FixedTile* x, int64_t begin, int64_t end) {
  const AmxTiles mine(std::min(AMX_ROWS, p.rows));
  const int64_t tiles = (p.rows + AMX_ROWS - 1) / AMX_ROWS;
  for (int64_t tile = 0; tile < tiles; tile += CHUNK_TILES)
    for (int64_t group = begin; group < end; group += SPAN)
      multiply_panel<F>(p, x, tile, std::min(CHUNK_TILES, tiles - tile), group, std::min(SPAN, end - group));
}

// Whether this processor has AMX, and the system lets programs use it.
inline bool amx_multiplies() {
  static const bool granted = pair_units() & AMX;
  return granted;
}

#endif

// The product in fixed-point numbers.
template <class F>
void multiply_fixed(const StoredProduct& p) {
  const auto fixed = [&](int64_t row, int64_t block) { return fix(p.x + row * p.x_stride + block * WIDTH); };
  const int64_t groups = p.groups(), products = p.rows * p.blocks * WIDTH * GROUP;
  const int64_t grain = std::max<int64_t>(1, THREAD_PRODUCTS / products);
#if defined(HEADMIX_PAIRS)
  if (p.rows > FEW_FIXED && amx_multiplies()) {
    const int64_t tiles = (p.rows + AMX_ROWS - 1) / AMX_ROWS;
    FixedTile* const x = kept_buffer<FixedTile>(tiles * p.blocks);
    fix_rows(p, tiles * AMX_ROWS, [&](int64_t row, int64_t b) {
      FixedTile& tile = x[row / AMX_ROWS * p.blocks + b];
      row < p.rows ? tile.write<F>(fixed(row, b), row % AMX_ROWS) : tile.clear(row % AMX_ROWS);
    });
    torch::stable::parallel_for(0, groups, grain,
                                [&](int64_t begin, int64_t end) { multiply_by_amx<F>(p, x, begin, end); });
    return;
  }
#endif
  FixedBytes* const x = kept_buffer<FixedBytes>(p.rows * p.blocks);
  fix_rows(p, p.rows, [&](int64_t row, int64_t b) { x[row * p.blocks + b].template write<F>(fixed(row, b)); });
  torch::stable::parallel_for(0, groups, grain,
                              [&](int64_t begin, int64_t end) { multiply_by_vnni<F>(p, x, begin, end); });
}

#else

template <class F>
concept WholeNumbers = false;

template <class F>
void multiply_fixed(const StoredProduct&) {}

#endif

}  // namespace headmix
