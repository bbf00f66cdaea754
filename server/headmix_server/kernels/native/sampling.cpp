// headmix::sample: the next token of every row, and log-probabilities where requested, in one pass over each row. See
// kernels/sampling: `plan.py` defines the columns, `reference.py` is what this is tested against.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "philox.h"
#include "selection.h"
#include "share.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// kernels/sampling/plan.py defines the same columns.
enum Real { INVERSE_TEMPERATURE, TOP_P, LOG_MIN_P, PRESENCE, FREQUENCY, REPETITION, REALS };
enum Number {
  SEED,
  POSITION,
  TOP_K,
  ALTERNATIVES,
  GIVEN,
  SEEN_FROM,
  SEEN_TO,
  ADDED,
  MASK,
  BIAS_FROM,
  BIAS_TO,
  NUMBERS
};

constexpr int64_t NO_TOKEN = -1, NOTHING_ALLOWED = -2;
constexpr int64_t WORD_BITS = 32;
constexpr float UNSCORED = -9999;
constexpr float LARGEST_NOISE = 22.9f;  // -log(-log(1 - 2^-33)), rounded up

void check(bool fits, const char* what) { STD_TORCH_CHECK(fits, what); }

struct Step {
  const void* logits;
  bool bf16;
  int64_t rows, vocabulary, stride;
  const float* added;  // [rows, added_width], or null
  int64_t added_width;
  const float* reals;      // [rows, REALS]
  const int64_t* numbers;  // [rows, NUMBERS]
  const int32_t* seen;     // [entries, 2]: a token of a row's history, and its count in the answer
  const int32_t* masks;    // [masks, words]: a bit per token, set if it is allowed
  int64_t words;
  const int32_t* biased;  // [entries]: tokens
  const float* biases;    // [entries]
  int64_t* tokens;        // [rows]
  float* logprobs;        // [rows]
  int64_t* top_tokens;    // [rows, alternatives]
  float* top_logprobs;
  int64_t alternatives;

  float real(int64_t row, Real column) const { return reals[row * REALS + column]; }
  int64_t number(int64_t row, Number column) const { return numbers[row * NUMBERS + column]; }
};

// Copy a row into whole blocks, with the scores of its added tokens after the vocabulary's.
void gather(const Step& step, int64_t row, int64_t width, std::vector<float>& into) {
  into.resize((width + BLOCK - 1) / BLOCK * BLOCK);
  if (step.bf16) {
    const BFloat16* from = static_cast<const BFloat16*>(step.logits) + row * step.stride;
    int64_t i = 0;
    for (; i + LANES <= step.vocabulary; i += LANES) store(into.data() + i, load(from + i));
    for (; i < step.vocabulary; ++i) into[i] = widen(from[i]);
  } else {
    const float* from = static_cast<const float*>(step.logits) + row * step.stride;
    std::copy(from, from + step.vocabulary, into.begin());
  }
  const float* extra = step.added + row * step.added_width;
  std::copy(extra, extra + (width - step.vocabulary), into.begin() + step.vocabulary);
  std::fill(into.begin() + width, into.end(), MINUS_INFINITY);
}

void read_scores(const Step& step, int64_t row, std::vector<float>& scratch, Scores& scores) {
  scores.width = step.vocabulary + step.number(row, ADDED);
  scores.blocks = (scores.width + BLOCK - 1) / BLOCK;
  if (step.bf16 || scores.width != step.vocabulary || scores.width % BLOCK) {
    gather(step, row, scores.width, scratch);
    scores.values = scratch.data();
  } else {
    scores.values = static_cast<const float*>(step.logits) + row * step.stride;
  }
  find_maxima(scores);
}

// Ban what a mask does not allow; it allows nothing beyond its end.
void ban(const int32_t* mask, int64_t words, float* scores, int64_t width) {
  for (int64_t first = 0, word = 0; first < width; first += WORD_BITS, ++word) {
    const uint32_t allowed = word < words ? static_cast<uint32_t>(mask[word]) : 0;
    if (allowed == ~uint32_t{0}) continue;
    const int64_t count = std::min(WORD_BITS, width - first);
    for (int64_t i = 0; i < count; ++i) scores[first + i] = allowed >> i & 1 ? scores[first + i] : MINUS_INFINITY;
  }
}

void add_biases(const Step& step, int64_t row, float* scores, int64_t width) {
  for (int64_t entry = step.number(row, BIAS_FROM); entry < step.number(row, BIAS_TO); ++entry) {
    if (step.biased[entry] < width) scores[step.biased[entry]] += step.biases[entry];
  }
}

// Penalise seen tokens: CTRL's repetition penalty for all of them, OpenAI's penalties for those in the answer.
void penalise(const Step& step, int64_t row, float* scores, int64_t width) {
  const double repetition = step.real(row, REPETITION), presence = step.real(row, PRESENCE);
  const double frequency = step.real(row, FREQUENCY);
  for (int64_t entry = step.number(row, SEEN_FROM); entry < step.number(row, SEEN_TO); ++entry) {
    const int64_t token = step.seen[2 * entry], said = step.seen[2 * entry + 1];
    if (token >= width) continue;  // an input only, never chosen
    double score = scores[token];
    score = score > 0 ? score / repetition : score * repetition;
    if (said) score -= presence + frequency * said;
    scores[token] = static_cast<float>(score);
  }
}

double noise_of(uint32_t word) { return -std::log(-std::log((word + 0.5) * 0x1p-32)); }

// One row's choice, from its filters and its noise.
struct Draw {
  const Scores& scores;
  float inverse_temperature;
  float least_score = MINUS_INFINITY, least_x = MINUS_INFINITY;

  Vec x_of(Vec score) const { return (score - scores.peak) * inverse_temperature; }
  float x_of(float score) const { return (score - scores.peak) * inverse_temperature; }
  bool keeps(float score) const { return score >= least_score && x_of(score) >= least_x; }

  float cut_few(double share) const;
  float cut_all(double share) const;
  int64_t race(uint64_t seed, uint32_t position) const;
};

constexpr float ABOVE_ALL = 0x1p-20f;  // the largest x is 0

// The cut of top-p among what top-k has kept.
float Draw::cut_few(double share) const {
  thread_local std::vector<float> kept;
  thread_local Logs logs;
  collect(scores, least_score, kept);
  logs.count = kept.size();
  logs.make_room(logs.count);
  for (int64_t i = 0; i < logs.count; ++i) logs.values[i] = x_of(kept[i]);
  logs.close();
  double total[1];
  sum_from(logs, {MINUS_INFINITY}, total);
  return find_cut(logs, MINUS_INFINITY, ABOVE_ALL, share * total[0]);
}

// The cut of top-p among all scores: the odds above some levels show between which two levels it is.
float Draw::cut_all(double share) const {
  constexpr int LEVELS = 6;
  constexpr int64_t SUMMED = 64;  // blocks that are summed in float
  constexpr float levels[LEVELS] = {-1, -2, -4, -8, -16, MINUS_INFINITY};
  double mass[LEVELS] = {};
  for (int64_t first = 0; first < scores.blocks; first += SUMMED) {
    Vec part[LEVELS] = {};
    for (int64_t block = first; block < std::min(first + SUMMED, scores.blocks); ++block) {
      const float highest = x_of(scores.maxima[block]);
      int level = 0;
      while (highest < levels[level]) ++level;
      for (int64_t i = 0; i < BLOCK; i += LANES) {
        const Vec x = x_of(load(scores.values + block * BLOCK + i)), odds = exp_of_negative(x);
        for (int l = level; l < LEVELS - 1; ++l) part[l] += x >= levels[l] ? odds : Vec{};
        part[LEVELS - 1] += odds;
      }
    }
    for (int l = 0; l < LEVELS; ++l) mass[l] += sum(part[l]);
  }
  const double wanted = share * mass[LEVELS - 1];
  int level = 0;
  while (level < LEVELS - 1 && mass[level] < wanted) ++level;
  thread_local Logs logs;
  logs.make_room(scores.blocks * BLOCK);
  logs.count = 0;
  const float low = levels[level], high = level == 0 ? ABOVE_ALL : levels[level - 1];
  for (int64_t block = 0; block < scores.blocks; ++block) {
    if (x_of(scores.maxima[block]) < low) continue;
    for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK; ++i) {
      const float x = x_of(scores.values[i]);
      logs.values[logs.count] = x;
      logs.count += int64_t{x >= low} & int64_t{x < high};
    }
  }
  logs.close();
  return find_cut(logs, low, high, wanted - (level == 0 ? 0 : mass[level - 1]));
}

bool any(IntVec hits) {
  uint64_t parts[sizeof hits / sizeof(uint64_t)], all = 0;
  std::memcpy(parts, &hits, sizeof hits);
  for (const uint64_t part : parts) all |= part;
  return all != 0;
}

// The token with the largest sum of x and Gumbel noise, which is each token with the probability that its odds give it.
// Nearly all are ruled out by a bound: -log(-log u) is at most -log(1 - u), and a float's exponent and mantissa bound
// its logarithm.
int64_t Draw::race(uint64_t seed, uint32_t position) const {
  constexpr float LOG2E = 1.44269504f, MARGIN = 1e-3f, ONE = 0x1p23f;
  uint32_t words[BLOCK];
  int32_t hits[BLOCK];
  int64_t token = scores.first_peak();
  draw_words(seed, position, token / BLOCK, words);
  double best = noise_of(words[token % BLOCK]);
  for (int64_t block = 0; block < scores.blocks; ++block) {
    const float highest = scores.maxima[block];
    if (!keeps(highest) || x_of(highest) + LARGEST_NOISE < best) continue;
    draw_words(seed, position, block, words);
    const float* from = scores.values + block * BLOCK;
    const float bound = static_cast<float>(best);
    IntVec found = {};
    for (int64_t i = 0; i < BLOCK; i += LANES) {
      UVec word;
      std::memcpy(&word, words + i, sizeof word);
      const Vec score = load(from + i), x = x_of(score);
      const UVec mantissa = (~word >> 9) | 0x3f800000u;
      const Vec rest = (Vec)mantissa - 1.0f;  // 1 - u, cut to 23 bits
      const Vec log2 = __builtin_convertvector((IntVec)rest, Vec);
      const IntVec hit =
          (log2 <= (x - bound) * (LOG2E * ONE) + (127 + MARGIN) * ONE) & (score >= least_score) & (x >= least_x);
      std::memcpy(hits + i, &hit, sizeof hit);
      found |= hit;
    }
    if (!any(found)) continue;
    for (int64_t i = 0; i < BLOCK; ++i) {
      if (!hits[i]) continue;
      const double key = x_of(from[i]) + noise_of(words[i]);
      const int64_t mine = block * BLOCK + i;
      if (key > best || (key == best && mine < token)) best = key, token = mine;
    }
  }
  return token;
}

int64_t choose(const Step& step, int64_t row, const Scores& scores) {
  if (!scores.finite()) return NO_TOKEN;
  const float inverse = step.real(row, INVERSE_TEMPERATURE);
  if (inverse == 0) return scores.first_peak();
  Draw draw{scores, inverse};
  const int64_t top_k = step.number(row, TOP_K);
  const bool few = top_k > 0 && top_k < scores.width;
  if (few) draw.least_score = nth_largest(scores, top_k);
  const float top_p = step.real(row, TOP_P);
  if (top_p < 1) draw.least_x = few ? draw.cut_few(top_p) : draw.cut_all(top_p);
  draw.least_x = std::max(draw.least_x, step.real(row, LOG_MIN_P));
  return draw.race(static_cast<uint64_t>(step.number(row, SEED)), static_cast<uint32_t>(step.number(row, POSITION)));
}

// Write the log-probabilities of a token and of the row's most probable ones, ties in the order of their ids.
void describe(const Step& step, int64_t row, const Scores& scores, int64_t token) {
  const double whole = std::log(sum_of_odds(scores));
  const auto logprob = [&](int64_t of) { return static_cast<float>(scores.values[of] - scores.peak - whole); };
  step.logprobs[row] = token < scores.width ? logprob(token) : UNSCORED;
  const int64_t count = std::min(step.number(row, ALTERNATIVES), scores.width);
  if (count == 0) return;
  thread_local std::vector<int64_t> found;
  found.clear();
  each_from(scores, bound_of(scores, count), [&](int64_t of) { found.push_back(of); });
  const auto comes_first = [&](int64_t one, int64_t other) {
    return scores.values[one] > scores.values[other] || (scores.values[one] == scores.values[other] && one < other);
  };
  std::partial_sort(found.begin(), found.begin() + count, found.end(), comes_first);
  for (int64_t i = 0; i < count; ++i) {
    step.top_tokens[row * step.alternatives + i] = found[i];
    step.top_logprobs[row * step.alternatives + i] = logprob(found[i]);
  }
}

bool changes_scores(const Step& step, int64_t row) {
  return step.number(row, SEEN_FROM) < step.number(row, SEEN_TO) || step.number(row, MASK) >= 0 ||
         step.number(row, BIAS_FROM) < step.number(row, BIAS_TO);
}

// The choice from a copy of the scores, changed by masks, biases and penalties.
int64_t choose_changed(const Step& step, int64_t row, const Scores& scores) {
  thread_local std::vector<float> changed;
  thread_local Scores lowered;
  changed.assign(scores.values, scores.values + scores.blocks * BLOCK);
  const int64_t mask = step.number(row, MASK);
  if (mask >= 0) ban(step.masks + mask * step.words, step.words, changed.data(), scores.width);
  add_biases(step, row, changed.data(), scores.width);
  penalise(step, row, changed.data(), scores.width);
  lowered.values = changed.data(), lowered.width = scores.width, lowered.blocks = scores.blocks;
  find_maxima(lowered);
  return lowered.peak == MINUS_INFINITY ? NOTHING_ALLOWED : choose(step, row, lowered);
}

void run_row(const Step& step, int64_t row) {
  thread_local std::vector<float> gathered;
  thread_local Scores scores;
  read_scores(step, row, gathered, scores);
  int64_t token = step.number(row, GIVEN);
  if (!scores.finite()) {
    token = NO_TOKEN;
  } else if (token == NO_TOKEN) {
    token = changes_scores(step, row) ? choose_changed(step, row, scores) : choose(step, row, scores);
  }
  step.tokens[row] = token;
  if (token >= 0 && step.number(row, ALTERNATIVES) >= 0) describe(step, row, scores, token);
}

bool is_matrix(const Tensor& x, ScalarType type, int64_t rows, int64_t columns) {
  return x.is_cpu() && x.scalar_type() == type && x.dim() == 2 && x.is_contiguous() && x.size(0) == rows &&
         x.size(1) == columns;
}

bool is_vector(const Tensor& x, ScalarType type, int64_t length) {
  return x.is_cpu() && x.scalar_type() == type && x.dim() == 1 && x.is_contiguous() && x.size(0) == length;
}

void check_numbers(const Step& step, int64_t entries, int64_t masks, int64_t biases) {
  for (int64_t row = 0; row < step.rows; ++row) {
    const int64_t added = step.number(row, ADDED), from = step.number(row, SEEN_FROM), to = step.number(row, SEEN_TO);
    check(added >= 0 && added <= step.added_width, "a row has more added tokens than there are scores of");
    check(from >= 0 && from <= to && to <= entries, "a row's history lies outside the table");
    check(step.number(row, ALTERNATIVES) <= step.alternatives, "there is no room for a row's alternatives");
    check(step.number(row, GIVEN) >= NO_TOKEN, "a given token is negative");
    const int64_t bias_from = step.number(row, BIAS_FROM), bias_to = step.number(row, BIAS_TO);
    check(step.number(row, MASK) < masks, "a row's mask lies outside the table");
    check(bias_from >= 0 && bias_from <= bias_to && bias_to <= biases, "a row's biases lie outside the table");
    check(step.real(row, TOP_P) > 0, "a row's top-p keeps no token");
    check(step.real(row, INVERSE_TEMPERATURE) >= 0, "a row's temperature is no number");
  }
  for (int64_t entry = 0; entry < entries; ++entry) check(step.seen[2 * entry] >= 0, "a token seen is negative");
  for (int64_t entry = 0; entry < biases; ++entry) check(step.biased[entry] >= 0, "a biased token is negative");
}

void sample(Tensor logits, Tensor added, Tensor reals, Tensor numbers, Tensor seen, Tensor masks, Tensor biased,
            Tensor biases, Tensor tokens, Tensor logprobs, Tensor top_tokens, Tensor top_logprobs) {
  const bool bf16 = logits.scalar_type() == ScalarType::BFloat16;
  check(logits.is_cpu() && logits.dim() == 2 && (bf16 || logits.scalar_type() == ScalarType::Float),
        "logits must be floats or bfloat16 on the CPU, [rows, vocabulary]");
  check(logits.size(1) > 0 && logits.stride(1) == 1, "the rows of logits must be contiguous");
  const int64_t rows = logits.size(0), alternatives = top_tokens.dim() == 2 ? top_tokens.size(1) : -1;
  check(added.dim() == 2 && is_matrix(added, ScalarType::Float, rows, added.size(1)), "added must be floats [rows, n]");
  check(is_matrix(reals, ScalarType::Float, rows, REALS), "reals must be floats [rows, REALS]");
  check(is_matrix(numbers, ScalarType::Long, rows, NUMBERS), "numbers must be int64 [rows, NUMBERS]");
  check(seen.dim() == 2 && is_matrix(seen, ScalarType::Int, seen.size(0), 2), "seen must be int32 [entries, 2]");
  check(masks.dim() == 2 && is_matrix(masks, ScalarType::Int, masks.size(0), masks.size(1)),
        "masks must be int32 [masks, words]");
  check(biased.dim() == 1 && is_vector(biased, ScalarType::Int, biased.size(0)), "biased must be int32 [entries]");
  check(is_vector(biases, ScalarType::Float, biased.size(0)), "biases must be as many floats");
  check(is_vector(tokens, ScalarType::Long, rows), "tokens must be int64 [rows]");
  check(is_vector(logprobs, ScalarType::Float, rows), "logprobs must be floats [rows]");
  check(is_matrix(top_tokens, ScalarType::Long, rows, alternatives), "top_tokens must be int64 [rows, alternatives]");
  check(is_matrix(top_logprobs, ScalarType::Float, rows, alternatives), "top_logprobs must be as many floats");
  const Step step{logits.data_ptr(),
                  bf16,
                  rows,
                  logits.size(1),
                  logits.stride(0),
                  static_cast<const float*>(added.data_ptr()),
                  added.size(1),
                  static_cast<const float*>(reals.data_ptr()),
                  static_cast<const int64_t*>(numbers.data_ptr()),
                  static_cast<const int32_t*>(seen.data_ptr()),
                  static_cast<const int32_t*>(masks.data_ptr()),
                  masks.size(1),
                  static_cast<const int32_t*>(biased.data_ptr()),
                  static_cast<const float*>(biases.data_ptr()),
                  static_cast<int64_t*>(tokens.data_ptr()),
                  static_cast<float*>(logprobs.data_ptr()),
                  static_cast<int64_t*>(top_tokens.data_ptr()),
                  static_cast<float*>(top_logprobs.data_ptr()),
                  alternatives};
  check_numbers(step, seen.size(0), masks.size(0), biased.size(0));
  share(rows, [&](int64_t row) { run_row(step, row); });
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def(
      "sample(Tensor logits, Tensor added, Tensor reals, Tensor numbers, Tensor seen, Tensor masks, Tensor biased, "
      "Tensor biases, Tensor(a!) tokens, Tensor(b!) logprobs, Tensor(c!) top_tokens, Tensor(d!) top_logprobs) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("sample", TORCH_BOX(&headmix::sample)); }
