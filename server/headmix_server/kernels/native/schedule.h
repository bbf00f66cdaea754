// Dividing a step's units among torch's threads: all on one thread, whole units on all, or every unit divided.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "share.h"
#include "terms.h"

namespace headmix {

constexpr int64_t SPLIT_RANKS = 8;  // per piece of a divided unit
constexpr int64_t SPLIT_COLUMNS = 128;

constexpr double PER_REGION = 4000;  // cost of starting and joining the threads, in nanoseconds as for the units

// kernels/adapters/native.py has the same values.
enum Schedule { CHOOSE, ONE_THREAD, WHOLE_SEGMENTS, DIVIDED_SEGMENTS };

inline void run_unit(const Step& step, const Unit& unit) {
  thread_local std::vector<float> z;
  z.resize(unit.count * unit.segment->z_size);
  run_terms(step, unit, z.data());
}

// A piece of a unit: some of its shrunk values, or some of its columns.
struct Piece {
  const Unit* unit;
  float* z;
  int64_t from, to;
};

inline void shrink_piece(const Step& step, const Piece& piece) {
  const auto& [unit, z, from, to] = piece;
  for (int64_t t = 0; t < unit->segment->num_terms; ++t) {
    const Term& term = unit->segment->terms[t];
    term.bf16 ? shrink_term<BFloat16>(step, *unit, term, from, to, z)
              : shrink_term<float>(step, *unit, term, from, to, z);
  }
}

inline void expand_piece(const Step& step, const Piece& piece) {
  const auto& [unit, z, from, to] = piece;
  for (int64_t t = 0; t < unit->segment->num_terms; ++t) {
    const Term& term = unit->segment->terms[t];
    term.bf16 ? expand_term<BFloat16>(step, *unit, term, from, to, z)
              : expand_term<float>(step, *unit, term, from, to, z);
  }
}

// Divide every unit: first its ranks, then, when all of them are computed, its columns.
inline void run_divided(const Step& step) {
  int64_t total = 0;
  for (const Unit& unit : step.units) total += unit.count * unit.segment->z_size;
  std::vector<float> z(total);
  std::vector<Piece> shrinks, expands;
  float* mine = z.data();
  for (const Unit& unit : step.units) {
    const int64_t ranks = unit.segment->z_size, columns = step.out.columns;
    for (int64_t from = 0; from < ranks; from += SPLIT_RANKS) {
      shrinks.push_back({&unit, mine, from, std::min(from + SPLIT_RANKS, ranks)});
    }
    for (int64_t from = 0; from < columns; from += SPLIT_COLUMNS) {
      expands.push_back({&unit, mine, from, std::min(from + SPLIT_COLUMNS, columns)});
    }
    mine += unit.count * ranks;
  }
  share(shrinks.size(), [&](int64_t index) { shrink_piece(step, shrinks[index]); });
  share(expands.size(), [&](int64_t index) { expand_piece(step, expands[index]); });
}

inline Schedule choose(const std::vector<Unit>& units) {
  const double threads = torch::stable::get_num_threads();
  double total = 0, largest = 0;
  for (const Unit& unit : units) total += unit.cost, largest = std::max(largest, unit.cost);
  const double rounds = std::ceil(units.size() / threads);
  const double whole = PER_REGION + std::max(largest, rounds * total / units.size());
  const double divided = 2 * PER_REGION + total / threads;
  if (total <= std::min(whole, divided)) return ONE_THREAD;
  return whole <= divided ? WHOLE_SEGMENTS : DIVIDED_SEGMENTS;
}

inline void run(const Step& step, int64_t schedule) {
  if (step.units.empty()) return;
  switch (schedule == CHOOSE ? choose(step.units) : static_cast<Schedule>(schedule)) {
    case ONE_THREAD:
      for (const Unit& unit : step.units) run_unit(step, unit);
      return;
    case WHOLE_SEGMENTS:
      share(step.units.size(), [&](int64_t index) { run_unit(step, step.units[index]); });
      return;
    case DIVIDED_SEGMENTS:
      run_divided(step);
      return;
    default:
      STD_TORCH_CHECK(false, "no such schedule: ", schedule);
  }
}

}  // namespace headmix
