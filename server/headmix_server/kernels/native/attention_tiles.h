// Attention's inner loops: score a tile of keys for some query rows, turn scores into weights, and add up the weighted
// values.
//
// Scores are [rows][TILE]; queries and sums [rows][P]; keys and values are read in place, at one offset (in floats)
// each. Knows nothing of sequences, caches or threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "exponential.h"
#include "simd.h"

namespace headmix {

constexpr int64_t TILE = 64;  // keys scored at once
constexpr int64_t TILE_VECTORS = TILE / LANES;
constexpr int64_t LINE = 64 / sizeof(float);  // floats per cache line
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

// An outer product of ROW_BLOCK rows and COLUMN_BLOCK vectors is summed in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ROW_BLOCK = 6;
#else
constexpr int ROW_BLOCK = 3;
#endif
constexpr int COLUMN_BLOCK = 4;

inline int64_t round_up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

// Where the keys and values of one tile are.
struct Offsets {
  int64_t n = 0;
  int64_t keys[TILE];
  int64_t values[TILE];
};

// Prefetches a later tile's keys and values in memory order, one head of one key and its value per call.
class Ahead {
 public:
  Ahead(const float* keys, const float* values, const Offsets& at, int64_t heads, int64_t P)
      : keys_(keys), values_(values), at_(at), heads_(heads), P_(P) {}

  void one() {
    if (key_ >= at_.n) return;
    for (int64_t p = head_ * P_; p < (head_ + 1) * P_; p += LINE) {
      __builtin_prefetch(keys_ + at_.keys[key_] + p);
      __builtin_prefetch(values_ + at_.values[key_] + p);
    }
    if (++head_ == heads_) head_ = 0, ++key_;
  }
  void rest() {
    while (key_ < at_.n) one();
  }

 private:
  const float *keys_, *values_;
  const Offsets& at_;
  int64_t heads_, P_, key_ = 0, head_ = 0;
};

// scores[r][t] = q[r] . keys[t], dot products with the keys in place; prefetches along the way.
template <int R>
void score_in_place(const float* q, const float* keys, const Offsets& at, Ahead& ahead, int64_t P, float* scores) {
  for (int64_t t = 0; t < at.n; ++t) {
    const float* key = keys + at.keys[t];
    ahead.one();
    Vec acc[R] = {};
    int64_t p = 0;
    for (; p + LANES <= P; p += LANES) {
      const Vec k = load(key + p);
      for (int r = 0; r < R; ++r) acc[r] += load(q + r * P + p) * k;
    }
    for (int r = 0; r < R; ++r) {
      float dot = sum(acc[r]);
      for (int64_t rest = p; rest < P; ++rest) dot += q[r * P + rest] * key[rest];
      scores[r * TILE + t] = dot;
    }
  }
}

// Copy a tile's keys to [P][TILE]; the rest of the last vector of keys is 0.
inline void transpose(const float* keys, const Offsets& at, int64_t P, float* tile) {
  const int64_t width = round_up(at.n);
  for (int64_t t = 0; t < at.n; ++t) {
    const float* key = keys + at.keys[t];
    for (int64_t p = 0; p < P; ++p) tile[p * TILE + t] = key[p];
  }
  for (int64_t t = at.n; t < width; ++t)
    for (int64_t p = 0; p < P; ++p) tile[p * TILE + t] = 0;
}

template <int R, int C>
void score_columns(const float* q, const float* tile, int64_t P, float* scores) {
  Vec acc[R][C] = {};
  for (int64_t p = 0; p < P; ++p) {
    Vec k[C];
    for (int c = 0; c < C; ++c) k[c] = load(tile + p * TILE + c * LANES);
    for (int r = 0; r < R; ++r) {
      const float x = q[r * P + p];
      for (int c = 0; c < C; ++c) acc[r][c] += x * k[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(scores + r * TILE + c * LANES, acc[r][c]);
}

// scores[r][t] = q[r] . keys[t] for the first n keys of a transposed tile, rounded up to whole vectors.
template <int R>
void score_transposed(const float* q, const float* tile, int64_t n, int64_t P, float* scores) {
  int64_t t = 0;
  for (; t + COLUMN_BLOCK * LANES <= round_up(n); t += COLUMN_BLOCK * LANES)
    score_columns<R, COLUMN_BLOCK>(q, tile + t, P, scores + t);
  switch ((round_up(n) - t) / LANES) {
    case 3:
      return score_columns<R, 3>(q, tile + t, P, scores + t);
    case 2:
      return score_columns<R, 2>(q, tile + t, P, scores + t);
    case 1:
      return score_columns<R, 1>(q, tile + t, P, scores + t);
  }
}

template <int R, int C>
void add_columns(const float* weights, const float* values, const Offsets& at, int64_t P, float* sums) {
  Vec acc[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) acc[r][c] = load(sums + r * P + c * LANES);
  for (int64_t t = 0; t < at.n; ++t) {
    const float* value = values + at.values[t];
    Vec v[C];
    for (int c = 0; c < C; ++c) v[c] = load(value + c * LANES);
    for (int r = 0; r < R; ++r) {
      const float w = weights[r * TILE + t];
      for (int c = 0; c < C; ++c) acc[r][c] += w * v[c];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(sums + r * P + c * LANES, acc[r][c]);
}

// sums[r] += sum over t of weights[r][t] * values[t].
template <int R>
void add_values(const float* weights, const float* values, const Offsets& at, int64_t P, float* sums) {
  int64_t p = 0;
  for (; p + COLUMN_BLOCK * LANES <= P; p += COLUMN_BLOCK * LANES)
    add_columns<R, COLUMN_BLOCK>(weights, values + p, at, P, sums + p);
  for (; p + LANES <= P; p += LANES) add_columns<R, 1>(weights, values + p, at, P, sums + p);
  for (; p < P; ++p)
    for (int r = 0; r < R; ++r)
      for (int64_t t = 0; t < at.n; ++t) sums[r * P + p] += weights[r * TILE + t] * values[at.values[t] + p];
}

// Call act(size, first) with a compile-time size for blocks of at most ROW_BLOCK rows.
template <typename Act>
void by_row_blocks(int64_t rows, Act&& act) {
  int64_t r = 0;
  for (; r + ROW_BLOCK <= rows; r += ROW_BLOCK) act(std::integral_constant<int, ROW_BLOCK>{}, r);
  switch (rows - r) {
    case 1:
      return act(std::integral_constant<int, 1>{}, r);
    case 2:
      return act(std::integral_constant<int, 2>{}, r);
    case 3:
      return act(std::integral_constant<int, 3>{}, r);
    case 4:
      return act(std::integral_constant<int, 4>{}, r);
    case 5:
      return act(std::integral_constant<int, 5>{}, r);
  }
}

// Query rows of one kv head while their keys are processed; `sums` are divided by `weight` only at the end.
struct Rows {
  float* q;        // [count][P], scaled
  float* sums;     // [count][P]
  float* highest;  // [count] the highest score so far
  float* weight;   // [count] the sum of exp(score - highest)

  static int64_t floats(int64_t count, int64_t P) { return count * (2 * P + 2); }

  Rows(float* memory, int64_t count, int64_t P)
      : q(memory), sums(q + count * P), highest(sums + count * P), weight(highest + count) {
    std::fill_n(sums, count * P, 0.0f);
    std::fill_n(highest, count, NOTHING);
    std::fill_n(weight, count, 0.0f);
  }
};

// Turn row r's scores of a tile of n keys into weights and rescale the earlier sums. The row sees only the keys first
// <= t < last; scores up to the next whole vector are written.
inline void weigh(const Rows& rows, int64_t r, float* scores, int64_t n, int64_t first, int64_t last, int64_t P) {
  const int64_t width = round_up(n);
  first = std::clamp<int64_t>(first, 0, width);
  last = std::clamp<int64_t>(last, 0, n);
  std::fill(scores, scores + first, NOTHING);
  std::fill(scores + last, scores + width, NOTHING);
  Vec top = load(scores);
  for (int64_t t = LANES; t < width; t += LANES) {
    const Vec x = load(scores + t);
    top = x > top ? x : top;
  }
  float highest = rows.highest[r];
  for (int lane = 0; lane < LANES; ++lane) highest = std::max(highest, top[lane]);
  if (highest == NOTHING) {  // a window may begin after the whole tile
    std::fill(scores, scores + width, 0.0f);
    return;
  }
  Vec total{};
  for (int64_t t = 0; t < width; t += LANES) {
    const Vec weight = exp_of_negative(load(scores + t) - highest);
    store(scores + t, weight);
    total += weight;
  }
  const float kept = std::exp(rows.highest[r] - highest);
  rows.weight[r] = rows.weight[r] * kept + sum(total);
  rows.highest[r] = highest;
  if (kept != 1.0f)
    for (int64_t p = 0; p < P; ++p) rows.sums[r * P + p] *= kept;
}

}  // namespace headmix
