// Finding the large values among a row's scores without sorting the vocabulary.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "exponential.h"
#include "philox.h"

namespace headmix {

constexpr int64_t BLOCK = NOISE_BLOCK;  // tokens that share one maximum
constexpr float MINUS_INFINITY = -std::numeric_limits<float>::infinity();

// A row's scores in whole blocks, padded with -inf; each block's maximum, and the largest of them.
struct Scores {
  const float* values;
  int64_t width, blocks;
  std::vector<float> maxima;
  float peak;  // NaN where any score is

  bool finite() const { return std::isfinite(peak); }

  int64_t first_peak() const {
    const int64_t block = std::find(maxima.begin(), maxima.end(), peak) - maxima.begin();
    const float* from = values + block * BLOCK;
    return std::find(from, from + BLOCK, peak) - values;
  }
};

inline void find_maxima(Scores& scores) {
  scores.maxima.resize(scores.blocks);
  IntVec odd = {};
  float peak = MINUS_INFINITY;
  for (int64_t block = 0; block < scores.blocks; ++block) {
    const float* from = scores.values + block * BLOCK;
    Vec largest = load(from);
    odd |= largest != largest;
    for (int64_t i = LANES; i < BLOCK; i += LANES) {
      const Vec value = load(from + i);
      odd |= value != value;
      largest = value > largest ? value : largest;
    }
    float maximum = largest[0];
    for (int lane = 1; lane < LANES; ++lane) maximum = std::max(maximum, largest[lane]);
    scores.maxima[block] = maximum;
    peak = std::max(peak, maximum);
  }
  for (int lane = 0; lane < LANES; ++lane) {
    if (odd[lane]) peak = std::numeric_limits<float>::quiet_NaN();
  }
  scores.peak = peak;
}

// Call take(token) for every score of at least `least`.
template <typename Take>
void each_from(const Scores& scores, float least, const Take& take) {
  for (int64_t block = 0; block < scores.blocks; ++block) {
    if (scores.maxima[block] < least) continue;
    const float* from = scores.values + block * BLOCK;
    for (int64_t i = 0; i < BLOCK; ++i) {
      if (from[i] >= least) take(block * BLOCK + i);
    }
  }
}

// Collect the scores of at least `least`, without a branch for each.
inline void collect(const Scores& scores, float least, std::vector<float>& into) {
  into.resize(scores.blocks * BLOCK);
  int64_t count = 0;
  for (int64_t block = 0; block < scores.blocks; ++block) {
    if (scores.maxima[block] < least) continue;
    const float* from = scores.values + block * BLOCK;
    for (int64_t i = 0; i < BLOCK; ++i) {
      into[count] = from[i];
      count += from[i] >= least;
    }
  }
  into.resize(count);
}

// A bound that at least `count` scores reach, because that many blocks have maxima that do.
inline float bound_of(const Scores& scores, int64_t count) {
  if (count > scores.blocks) return MINUS_INFINITY;
  thread_local std::vector<float> maxima;
  maxima.assign(scores.maxima.begin(), scores.maxima.end());
  std::nth_element(maxima.begin(), maxima.begin() + (count - 1), maxima.end(), std::greater<float>());
  return maxima[count - 1];
}

// The `count`-th largest score.
inline float nth_largest(const Scores& scores, int64_t count) {
  if (count >= scores.width) return MINUS_INFINITY;
  thread_local std::vector<float> found;
  collect(scores, bound_of(scores, count), found);
  std::nth_element(found.begin(), found.begin() + (count - 1), found.end(), std::greater<float>());
  return found[count - 1];
}

// The sum of exp(score - peak); terms equal to the peak's are summed apart in float, where they would swamp small ones.
inline double sum_of_odds(const Scores& scores) {
  constexpr int64_t SUMMED = 64;  // blocks that are summed in float
  double total = 0;
  for (int64_t first = 0; first < scores.blocks; first += SUMMED) {
    Vec below = {}, peaks = {};
    const int64_t last = std::min(first + SUMMED, scores.blocks);
    for (int64_t i = first * BLOCK; i < last * BLOCK; i += LANES) {
      const Vec x = load(scores.values + i) - scores.peak;
      below += x < 0 ? exp_of_negative(x) : Vec{};
      peaks += x < 0 ? Vec{} : Vec{} + 1.0f;
    }
    total += static_cast<double>(sum(below)) + sum(peaks);
  }
  return total;
}

constexpr float NO_ODDS = -88;  // exp of anything lower counts as 0

// Logarithms of odds, the largest 0, in whole vectors: values after the last have no odds.
struct Logs {
  std::vector<float> values;
  int64_t count = 0;

  void make_room(int64_t most) { values.resize(most + LANES); }
  void close() { std::fill_n(values.begin() + count, LANES, MINUS_INFINITY); }
};

// The total odds of the values at or above each bound.
template <int BOUNDS>
void sum_from(const Logs& logs, const float (&bounds)[BOUNDS], double (&mass)[BOUNDS]) {
  constexpr int64_t SUMMED = 64 * BLOCK;  // what is summed in float
  std::fill_n(mass, BOUNDS, 0);
  for (int64_t first = 0; first < logs.count; first += SUMMED) {
    Vec part[BOUNDS] = {};
    const int64_t last = std::min(first + SUMMED, logs.count);
    for (int64_t i = first; i < last; i += LANES) {
      const Vec x = load(logs.values.data() + i), odds = exp_of_negative(x);
      for (int bound = 0; bound < BOUNDS; ++bound) part[bound] += x >= bounds[bound] ? odds : Vec{};
    }
    for (int bound = 0; bound < BOUNDS; ++bound) mass[bound] += sum(part[bound]);
  }
}

// The largest x such that all values at or above it have odds of `mass` together; the smallest value if there is none.
inline float select_cut(float* first, float* last, double mass) {
  for (;;) {
    const float a = *first, b = first[(last - first) / 2], c = last[-1];
    const float pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    float* const equal = std::partition(first, last, [&](float x) { return x > pivot; });
    float* const below = std::partition(equal, last, [&](float x) { return x == pivot; });
    double above = 0;
    for (const float* x = first; x != equal; ++x) above += std::exp(*x);
    const double here = std::exp(pivot) * static_cast<double>(below - equal);
    if (above >= mass) {
      last = equal;
    } else if (above + here >= mass || below == last) {
      return pivot;
    } else {
      mass -= above + here;
      first = below;
    }
  }
}

// The same for logarithms in [low, high): bounds in between narrow the interval as long as that removes many values, so
// that only few of them need a branch each.
inline float find_cut(Logs& logs, float low, float high, double mass) {
  constexpr int BOUNDS = 7;
  constexpr int64_t FEW = 256;
  low = std::max(low, NO_ODDS);
  for (int64_t before = 2 * logs.count + 1; logs.count > FEW && 2 * logs.count < before;) {
    float bounds[BOUNDS];
    double above[BOUNDS];
    for (int bound = 0; bound < BOUNDS; ++bound) bounds[bound] = high - (high - low) * (bound + 1) / (BOUNDS + 1);
    sum_from(logs, bounds, above);
    int bound = 0;
    while (bound < BOUNDS && above[bound] < mass) ++bound;
    if (bound > 0) mass -= above[bound - 1], high = bounds[bound - 1];
    if (bound < BOUNDS) low = bounds[bound];
    before = logs.count;
    int64_t count = 0;
    const float least = bound < BOUNDS ? low : MINUS_INFINITY;
    for (int64_t i = 0; i < before; ++i) {
      const float x = logs.values[i];
      logs.values[count] = x;
      count += int64_t{x < high} & int64_t{x >= least};
    }
    logs.count = count;
    logs.close();
  }
  if (logs.count == 0) return high;
  return select_cut(logs.values.data(), logs.values.data() + logs.count, mass);
}

}  // namespace headmix
