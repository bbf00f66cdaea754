// Attention of a ragged batch in float32: headmix::attend_paged over a paged cache, read in place, and
// headmix::attend_whole within whole texts. See kernels/attention/native.py.
//
// Keys are processed in tiles, with a running maximum and sum for each query row (online softmax: Milakov and
// Gimelshein 2018, arXiv 1805.02867; FlashAttention, arXiv 2205.14135). The query heads of one kv head share each tile.
// Sequences with one row are bound by memory: their keys are read once for all heads together, and the next ones are
// prefetched. Sequences with more rows are bound by arithmetic: up to UNIT_ROWS of one kv head share a tile of
// transposed keys.
#include "attention.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <memory>
#include <vector>

#include "attention_tiles.h"

namespace headmix {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t UNIT_ROWS = 96;    // query rows per unit of work: what L2 holds with their scores and sums
constexpr int64_t STREAM_TILE = 32;  // keys of a single row scored while as many are prefetched
static_assert(STREAM_TILE <= TILE && STREAM_TILE % LANES == 0);
constexpr int64_t UNIT_KEYS = 512;  // keys of a single row that one unit reads; a constant, so that the
                                    // rounding of a result does not depend on the rest of the batch or on threads

// Rows of heads, float32, [rows, heads, P]: heads and their elements are contiguous, rows at any stride.
struct Heads {
  float* data;
  int64_t rows, heads, P, stride;

  Heads(const Tensor& tensor, const char* name) {
    STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == ScalarType::Float && tensor.dim() == 3, name,
                    " must be a float32 CPU tensor [rows, heads, head_dim]");
    rows = tensor.size(0), heads = tensor.size(1), P = tensor.size(2), stride = tensor.stride(0);
    STD_TORCH_CHECK((P <= 1 || tensor.stride(2) == 1) && (heads <= 1 || tensor.stride(1) == P), name,
                    " must have its heads side by side");
    STD_TORCH_CHECK(heads > 0 && P > 0 && (rows <= 1 || stride >= heads * P), name, " must have rows of heads apart");
    data = static_cast<float*>(tensor.data_ptr());
  }
  float* at(int64_t row, int64_t head) const { return data + row * stride + head * P; }
};

const int32_t* read_int32(const Tensor& tensor, const char* name, int64_t dim) {
  STD_TORCH_CHECK(
      tensor.is_cpu() && tensor.scalar_type() == ScalarType::Int && tensor.dim() == dim && tensor.is_contiguous(), name,
      " must be a contiguous int32 CPU tensor with ", dim, " dimensions");
  return static_cast<const int32_t*>(tensor.data_ptr());
}

// A part of a step that one thread computes alone.
struct Unit {
  int64_t sequence;
  int64_t first, count;  // queries of one kv head or, if the sequence has one row, keys for all heads
  int64_t kv_head;       // -1: all
  int64_t partial;       // index among the partial results; -1: the result is complete
};

struct Step {
  Heads q, k, v, keys, values, out;  // k and v are the rows' own, keys and values what is read
  const int32_t* rows;               // [n + 1] where each sequence's rows begin
  const int32_t* starts = nullptr;   // [n] position of its first row; null: 0
  const int32_t* blocks = nullptr;   // [n][max_blocks] its cache blocks; null: keys are laid out like its rows
  int64_t n = 0, max_blocks = 0, block_size = 1;
  int64_t window = 0;  // 0: none
  bool causal = false;
  float scale = 1;

  int64_t group() const { return q.heads / k.heads; }
  int64_t start(int64_t sequence) const { return starts == nullptr ? 0 : starts[sequence]; }
  int64_t count(int64_t sequence) const { return rows[sequence + 1] - rows[sequence]; }
  int64_t place(int64_t sequence, int64_t position) const {
    if (blocks == nullptr) return rows[sequence] + position;
    return blocks[sequence * max_blocks + position / block_size] * block_size + position % block_size;
  }
  void find(int64_t sequence, int64_t first, int64_t count, Offsets& at) const {
    at.n = count;
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = place(sequence, first + t);
      at.keys[t] = row * keys.stride;
      at.values[t] = row * values.stride;
    }
  }
};

void check(const Step& s) {
  const int64_t P = s.q.P, tokens = s.q.rows, G = s.k.heads;
  STD_TORCH_CHECK(s.k.rows == tokens && s.v.rows == tokens && s.out.rows == tokens,
                  "q, k, v and out must have the same rows");
  STD_TORCH_CHECK(s.k.P == P && s.v.P == P && s.out.P == P && s.keys.P == P && s.values.P == P,
                  "all heads must be of one size");
  STD_TORCH_CHECK(
      s.v.heads == G && s.keys.heads == G && s.values.heads == G && s.out.heads == s.q.heads && s.q.heads % G == 0,
      s.q.heads, " query heads cannot share ", G, " key heads");
  STD_TORCH_CHECK(s.keys.rows == s.values.rows, "the cache must have as many keys as values");
  STD_TORCH_CHECK(s.window >= 0, "a window cannot be negative");
  STD_TORCH_CHECK(s.rows[0] == 0 && s.rows[s.n] == tokens, "the sequences must cover the ", tokens, " rows");
  for (int64_t i = 0; i < s.n; ++i) STD_TORCH_CHECK(s.count(i) > 0, "sequence ", i, " has no row");
}

void check_blocks(const Step& s) {
  STD_TORCH_CHECK(s.block_size > 0, "a block must hold a position");
  const int64_t num_blocks = s.keys.rows / s.block_size;
  for (int64_t i = 0; i < s.n; ++i) {
    STD_TORCH_CHECK(s.starts[i] >= 0, "sequence ", i, " starts at ", s.starts[i]);
    const int64_t needed = (s.starts[i] + s.count(i) + s.block_size - 1) / s.block_size;
    STD_TORCH_CHECK(needed <= s.max_blocks, "sequence ", i, " needs ", needed, " blocks and has ", s.max_blocks);
    for (int64_t b = 0; b < needed; ++b) {
      const int32_t block = s.blocks[i * s.max_blocks + b];
      STD_TORCH_CHECK(block >= 0 && block < num_blocks, "sequence ", i, " names block ", block, " of ", num_blocks);
    }
  }
}

// What is kept of a row after all its keys: sums, highest score, weight; [H][P], [H], [H].
int64_t partial_floats(const Step& s) { return s.q.heads * (s.q.P + 2); }

int64_t scratch_floats(const Step& s) {
  const int64_t many = std::max(UNIT_ROWS, s.group()), rows = std::max(many, s.q.heads);
  return Rows::floats(rows, s.q.P) + rows * TILE + s.q.P * TILE;
}

void finish(const Rows& rows, int64_t r, int64_t P, float* out) {
  const float factor = 1 / rows.weight[r];
  for (int64_t p = 0; p < P; ++p) out[p] = rows.sums[r * P + p] * factor;
}

// One sequence's queries first..first + count under one kv head.
void attend_many(const Step& s, const Unit& unit, float* scratch) {
  const int64_t P = s.q.P, group = s.group(), count = unit.count * group;
  const Rows rows(scratch, count, P);
  float* scores = scratch + Rows::floats(count, P);
  float* tile = scores + count * TILE;
  const int64_t row = s.rows[unit.sequence] + unit.first;
  for (int64_t i = 0; i < count; ++i) {
    const float* q = s.q.at(row + i / group, unit.kv_head * group + i % group);
    for (int64_t p = 0; p < P; ++p) rows.q[i * P + p] = q[p] * s.scale;
  }
  const int64_t position = s.start(unit.sequence) + unit.first;
  const int64_t end = s.causal ? position + unit.count : s.count(unit.sequence);
  const int64_t begin = s.window ? std::max<int64_t>(0, position + 1 - s.window) : 0;
  const float* keys = s.keys.at(0, unit.kv_head);
  const float* values = s.values.at(0, unit.kv_head);
  Offsets at;
  for (int64_t first = begin; first < end; first += TILE) {
    s.find(unit.sequence, first, std::min(TILE, end - first), at);
    transpose(keys, at, P, tile);
    by_row_blocks(count,
                  [&](auto R, int64_t r) { score_transposed<R()>(rows.q + r * P, tile, at.n, P, scores + r * TILE); });
    for (int64_t r = 0; r < count; ++r) {
      const int64_t last = s.causal ? position + r / group + 1 : end;
      weigh(rows, r, scores + r * TILE, at.n, s.window ? last - s.window - first : 0, last - first, P);
    }
    by_row_blocks(count,
                  [&](auto R, int64_t r) { add_values<R()>(scores + r * TILE, values, at, P, rows.sums + r * P); });
  }
  for (int64_t i = 0; i < count; ++i) finish(rows, i, P, s.out.at(row + i / group, unit.kv_head * group + i % group));
}

// The only row of a sequence with its keys first..first + count; `following` is this thread's next unit.
void attend_one(const Step& s, const Unit& unit, const Unit* following, float* scratch, float* partials) {
  const int64_t P = s.q.P, H = s.q.heads, group = s.group(), row = s.rows[unit.sequence];
  const Rows rows(scratch, H, P);
  float* scores = scratch + Rows::floats(H, P);
  const float* q = s.q.at(row, 0);
  for (int64_t p = 0; p < H * P; ++p) rows.q[p] = q[p] * s.scale;
  const int64_t end = unit.first + unit.count;
  Offsets at, ahead;
  s.find(unit.sequence, unit.first, std::min(STREAM_TILE, unit.count), at);
  for (int64_t first = unit.first; first < end; first += STREAM_TILE, std::swap(at, ahead)) {
    if (first + STREAM_TILE < end) {
      s.find(unit.sequence, first + STREAM_TILE, std::min(STREAM_TILE, end - first - STREAM_TILE), ahead);
    } else if (following != nullptr && following->kv_head < 0) {
      s.find(following->sequence, following->first, std::min(STREAM_TILE, following->count), ahead);
    } else {
      ahead.n = 0;
    }
    Ahead fetch(s.keys.data, s.values.data, ahead, s.k.heads, P);
    for (int64_t g = 0, h = 0; g < s.k.heads; ++g, h += group) {
      const float *keys = s.keys.at(0, g), *values = s.values.at(0, g);
      by_row_blocks(group, [&](auto R, int64_t r) {
        score_in_place<R()>(rows.q + (h + r) * P, keys, at, fetch, P, scores + (h + r) * TILE);
      });
      for (int64_t r = h; r < h + group; ++r) weigh(rows, r, scores + r * TILE, at.n, 0, at.n, P);
      by_row_blocks(group, [&](auto R, int64_t r) {
        add_values<R()>(scores + (h + r) * TILE, values, at, P, rows.sums + (h + r) * P);
      });
    }
    fetch.rest();
  }
  if (unit.partial < 0) {
    for (int64_t h = 0; h < H; ++h) finish(rows, h, P, s.out.at(row, h));
  } else {
    std::copy_n(rows.sums, partial_floats(s), partials + unit.partial * partial_floats(s));
  }
}

// Combine the partial results of a sequence's only row.
void combine(const Step& s, const Unit* units, int64_t count, const float* partials) {
  const int64_t H = s.q.heads, P = s.q.P;
  for (int64_t h = 0; h < H; ++h) {
    const auto part = [&](int64_t i) { return partials + units[i].partial * partial_floats(s); };
    float highest = NOTHING, weight = 0;
    for (int64_t i = 0; i < count; ++i) highest = std::max(highest, part(i)[H * P + h]);
    float* out = s.out.at(s.rows[units->sequence], h);
    std::fill_n(out, P, 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      const float factor = std::exp(part(i)[H * P + h] - highest);
      weight += part(i)[H * P + H + h] * factor;
      for (int64_t p = 0; p < P; ++p) out[p] += part(i)[h * P + p] * factor;
    }
    for (int64_t p = 0; p < P; ++p) out[p] /= weight;
  }
}

std::vector<Unit> divide(const Step& s) {
  std::vector<Unit> units;
  const int64_t queries = std::max<int64_t>(1, UNIT_ROWS / s.group());
  for (int64_t i = 0, partials = 0; i < s.n; ++i) {
    const int64_t count = s.count(i);
    if (count == 1) {
      const int64_t end = s.start(i) + 1, begin = s.window ? std::max<int64_t>(0, end - s.window) : 0;
      const bool whole = end - begin <= UNIT_KEYS;
      for (int64_t first = begin; first < end; first += UNIT_KEYS)
        units.push_back({i, first, std::min(UNIT_KEYS, end - first), -1, whole ? -1 : partials++});
      continue;
    }
    for (int64_t first = 0; first < count; first += queries)
      for (int64_t g = 0; g < s.k.heads; ++g) units.push_back({i, first, std::min(queries, count - first), g, -1});
  }
  return units;
}

void run(const Step& s) {
  const std::vector<Unit> units = divide(s);
  const int64_t size = units.size(), workers = std::min<int64_t>(torch::stable::get_num_threads(), size);
  int64_t partials = 0;
  for (const Unit& unit : units) partials = std::max(partials, unit.partial + 1);
  const std::unique_ptr<float[]> parts(new float[partials * partial_floats(s)]);
  const std::unique_ptr<float[]> scratch(new float[workers * scratch_floats(s)]);
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      float* mine = scratch.get() + worker * scratch_floats(s);
      for (int64_t u = next++, after; u < size; u = after) {
        after = next++;
        if (units[u].kv_head < 0) {
          attend_one(s, units[u], after < size ? &units[after] : nullptr, mine, parts.get());
        } else {
          attend_many(s, units[u], mine);
        }
      }
    }
  });
  for (int64_t u = 0, end; u < size; u = end) {
    end = u + 1;
    if (units[u].partial < 0) continue;
    while (end < size && units[end].sequence == units[u].sequence) ++end;
    combine(s, &units[u], end - u, parts.get());
  }
}

// Return whether the numbers [count] contain an infinity or a NaN.
bool is_broken(const float* numbers, int64_t count) {
  Vec odd = {};  // 0 times a number that is not finite is NaN
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) odd += load(numbers + i) * 0.0f;
  float result = sum(odd);
  for (; i < count; ++i) result += numbers[i] * 0.0f;
  return std::isnan(result);
}

// A key of -inf may have weight 0 in its own row: set that row to NaN, so that the reader of the results sees it.
// Broken queries and values are always visible in their own row.
void spoil_broken_rows(const Step& s) {
  for (int64_t row = 0; row < s.k.rows; ++row)
    if (is_broken(s.k.at(row, 0), s.k.heads * s.k.P))
      std::fill_n(s.out.at(row, 0), s.out.heads * s.out.P, std::numeric_limits<float>::quiet_NaN());
}

void write(const Step& s) {
  const size_t bytes = s.k.heads * s.k.P * sizeof(float);
  for (int64_t i = 0; i < s.n; ++i)
    for (int64_t row = s.rows[i]; row < s.rows[i + 1]; ++row) {
      const int64_t place = s.place(i, s.starts[i] + row - s.rows[i]);
      std::memcpy(s.keys.at(place, 0), s.k.at(row, 0), bytes);
      std::memcpy(s.values.at(place, 0), s.v.at(row, 0), bytes);
    }
}

void attend_whole(Tensor q, Tensor k, Tensor v, Tensor rows, double scale, Tensor out) {
  Step s{{q, "q"}, {k, "k"}, {v, "v"}, {k, "k"}, {v, "v"}, {out, "out"}, read_int32(rows, "rows", 1)};
  STD_TORCH_CHECK(rows.size(0) > 0, "rows must end with their number");
  s.n = rows.size(0) - 1, s.scale = static_cast<float>(scale);
  check(s);
  run(s);
  spoil_broken_rows(s);
}

}  // namespace

void attend_paged(Tensor q, Tensor k, Tensor v, Tensor keys, Tensor values, Tensor rows, Tensor starts, Tensor blocks,
                  int64_t block_size, double scale, int64_t window, Tensor out) {
  Step s{{q, "q"}, {k, "k"}, {v, "v"}, {keys, "keys"}, {values, "values"}, {out, "out"}, read_int32(rows, "rows", 1)};
  s.starts = read_int32(starts, "starts", 1);
  s.blocks = read_int32(blocks, "blocks", 2);
  s.n = starts.size(0), s.max_blocks = blocks.size(1), s.block_size = block_size;
  s.window = window, s.causal = true, s.scale = static_cast<float>(scale);
  STD_TORCH_CHECK(rows.size(0) == s.n + 1 && blocks.size(0) == s.n, "rows, starts and blocks differ in sequences");
  check(s);
  check_blocks(s);
  write(s);
  run(s);
  spoil_broken_rows(s);
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def(
      "attend_paged(Tensor q, Tensor k, Tensor v, Tensor(a!) keys, Tensor(b!) values, Tensor rows, Tensor starts, "
      "Tensor blocks, int block_size, float scale, int window, Tensor(c!) out) -> ()");
  m.def("attend_whole(Tensor q, Tensor k, Tensor v, Tensor rows, float scale, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("attend_paged", TORCH_BOX(&headmix::attend_paged));
  m.impl("attend_whole", TORCH_BOX(&headmix::attend_whole));
}
