// The adapters' additions to a layer's projections, for all rows of a step at once: headmix::add_qkv, add_o,
// add_gate_up, add_down. See kernels/native_adapters.py for what they compute and kernels/image_tables.py for the data.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "image.h"
#include "low_rank.h"

namespace headmix {
namespace {

constexpr int64_t CHUNK = 16;         // rows that go through all of an adapter's terms together: what L1 holds
constexpr int64_t MAX_TERMS = 6;      // of one site call
constexpr int64_t SPLIT_RANKS = 8;    // shrunk values of one piece of a divided segment
constexpr int64_t SPLIT_COLUMNS = 128;

// What the choice of a schedule is estimated from, in nanoseconds on one core; only speed depends on it.
constexpr double PER_BYTE = 1.0 / 30;
constexpr double PER_PRODUCT = 1.0 / 64;
constexpr double PER_REGION = 4000;  // starting and joining the threads

enum Schedule { CHOOSE, ONE_THREAD, WHOLE_SEGMENTS, DIVIDED_SEGMENTS };

// A 2-D float32 tensor whose rows are contiguous and any distance apart.
struct Matrix {
  float* data;
  int64_t rows, columns, stride;

  Matrix(const Tensor& tensor, const char* name) {
    STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == ScalarType::Float && tensor.dim() == 2, name,
                    " must be a float32 CPU tensor [tokens, dim]");
    rows = tensor.size(0), columns = tensor.size(1), stride = tensor.stride(0);
    STD_TORCH_CHECK((columns <= 1 || tensor.stride(1) == 1) && (rows <= 1 || stride >= columns), name,
                    " must have contiguous rows that do not overlap");
    data = static_cast<float*>(tensor.data_ptr());
  }
  float* row(int64_t index) const { return data + index * stride; }
  const float* end() const { return rows == 0 ? data : row(rows - 1) + columns; }
};

struct Segment {
  const int32_t* rows = nullptr;
  int64_t count = 0;
  bool bf16 = false;
  int64_t num_terms = 0, z_size = 0, weights = 0;
  Term terms[MAX_TERMS] = {};
};

// A piece of work: up to CHUNK rows of a segment.
struct Unit {
  const Segment* segment;
  int64_t first, count;
  double cost;

  int64_t row(int64_t index) const { return segment->rows[first + index]; }
};

struct Step {
  Tables tables;
  Matrix in, out;
  std::vector<Segment> segments;
  std::vector<Unit> units;
};

template <typename W>
const W* arena(const Tables& tables);
template <>
const float* arena<float>(const Tables& tables) { return tables.f32; }
template <>
const BFloat16* arena<BFloat16>(const Tables& tables) { return tables.bf16; }

// Compute a term's shrunk values [from, to), counted among the segment's: z [count][z_size].
template <typename W>
void shrink_term(const Step& step, const Unit& unit, const Term& term, int64_t from, int64_t to, float* z) {
  const Form& form = *term.form;
  const Matrix& source = form.from_output ? step.out : step.in;
  const int64_t ranks = term.z_size() / form.in_heads;  // of one group of columns
  const float* inputs[CHUNK];
  for (int64_t head = 0; head < form.in_heads; ++head) {
    const int64_t begin = std::max(from - term.z_column, head * ranks);
    const int64_t end = std::min(to - term.z_column, (head + 1) * ranks);
    if (begin >= end) continue;
    for (int64_t i = 0; i < unit.count; ++i) {
      inputs[i] = source.row(unit.row(i)) + form.in_column + head * form.in;
    }
    shrink(arena<W>(step.tables) + term.A + begin * form.in, end - begin, form.in, term.scale, inputs, unit.count,
           z + term.z_column + begin, unit.segment->z_size);
  }
}

// Add a term's shrunk values, expanded, and its bias to columns [from, to) of the unit's rows.
template <typename W>
void expand_term(const Step& step, const Unit& unit, const Term& term, int64_t from, int64_t to, const float* z) {
  const Form& form = *term.form;
  const int64_t ranks = term.z_size() / form.out_heads;
  float* outputs[CHUNK];
  float scales[CHUNK];
  std::fill_n(scales, unit.count, term.scale);
  for (int64_t head = 0; head < form.out_heads; ++head) {
    const int64_t column = form.out_column + head * form.out;
    const int64_t begin = std::max(from, column), end = std::min(to, column + form.out);
    if (begin >= end) continue;
    for (int64_t i = 0; i < unit.count; ++i) outputs[i] = step.out.row(unit.row(i)) + begin;
    const W* b = arena<W>(step.tables) + term.B + head * ranks * form.out + (begin - column);
    expand(b, ranks, form.out, end - begin, z + term.z_column + head * ranks, unit.segment->z_size, unit.count, outputs);
    if (term.bias != ABSENT) {
      const W* bias = arena<W>(step.tables) + term.bias + (begin - form.out_column);
      expand(bias, 1, form.out, end - begin, scales, 1, unit.count, outputs);
    }
  }
}

// One term after the other, as they lie in memory.
template <typename W>
void run_terms(const Step& step, const Unit& unit, float* z) {
  for (int64_t t = 0; t < unit.segment->num_terms; ++t) {
    const Term& term = unit.segment->terms[t];
    shrink_term<W>(step, unit, term, 0, unit.segment->z_size, z);
    expand_term<W>(step, unit, term, 0, step.out.columns, z);
  }
}

void run_unit(const Step& step, const Unit& unit) {
  thread_local std::vector<float> z;
  z.resize(unit.count * unit.segment->z_size);
  unit.segment->bf16 ? run_terms<BFloat16>(step, unit, z.data()) : run_terms<float>(step, unit, z.data());
}

// Call work(index) for every index, on as many threads as torch has; each takes the next one when it is done.
template <typename Work>
void share(int64_t count, const Work& work) {
  std::atomic<int64_t> next{0};
  const int64_t workers = std::min<int64_t>(count, torch::stable::get_num_threads());
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t index = next++; index < count; index = next++) work(index);
    }
  });
}

// A piece of a unit: some of its shrunk values, or some of its columns.
struct Piece {
  const Unit* unit;
  float* z;
  int64_t from, to;
};

template <typename W>
void shrink_piece(const Step& step, const Piece& piece) {
  const Segment& segment = *piece.unit->segment;
  for (int64_t t = 0; t < segment.num_terms; ++t) {
    shrink_term<W>(step, *piece.unit, segment.terms[t], piece.from, piece.to, piece.z);
  }
}

template <typename W>
void expand_piece(const Step& step, const Piece& piece) {
  const Segment& segment = *piece.unit->segment;
  for (int64_t t = 0; t < segment.num_terms; ++t) {
    expand_term<W>(step, *piece.unit, segment.terms[t], piece.from, piece.to, piece.z);
  }
}

// Divide every unit: first its ranks, then, when all of them are there, its columns.
void run_divided(const Step& step) {
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
  share(shrinks.size(), [&](int64_t index) {
    const Piece& piece = shrinks[index];
    piece.unit->segment->bf16 ? shrink_piece<BFloat16>(step, piece) : shrink_piece<float>(step, piece);
  });
  share(expands.size(), [&](int64_t index) {
    const Piece& piece = expands[index];
    piece.unit->segment->bf16 ? expand_piece<BFloat16>(step, piece) : expand_piece<float>(step, piece);
  });
}

Schedule choose(const std::vector<Unit>& units) {
  const double threads = torch::stable::get_num_threads();
  double total = 0, largest = 0;
  for (const Unit& unit : units) total += unit.cost, largest = std::max(largest, unit.cost);
  const double rounds = std::ceil(units.size() / threads);
  const double whole = PER_REGION + std::max(largest, rounds * total / units.size());
  const double divided = 2 * PER_REGION + total / threads;
  if (total <= std::min(whole, divided)) return ONE_THREAD;
  return whole <= divided ? WHOLE_SEGMENTS : DIVIDED_SEGMENTS;
}

void run(const Step& step, int64_t schedule) {
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

// The segments of a step that have any of the site's terms, and their units.
void read_segments(Step& step, const Tensor& slots, const Tensor& starts, const Tensor& rows, int64_t layer,
                   const std::vector<Form>& forms) {
  check_tensor(slots, ScalarType::Int, 1, "segment_slots");
  check_tensor(starts, ScalarType::Int, 1, "segment_starts");
  check_tensor(rows, ScalarType::Int, 1, "rows");
  STD_TORCH_CHECK(starts.numel() == slots.numel() + 1, "segment_starts must have one entry more than segment_slots");
  STD_TORCH_CHECK(layer >= 0 && layer < step.tables.layers, "there is no layer ", layer);
  const auto* slot_of = static_cast<const int32_t*>(slots.const_data_ptr());
  const auto* start_of = static_cast<const int32_t*>(starts.const_data_ptr());
  const auto* all_rows = static_cast<const int32_t*>(rows.const_data_ptr());
  for (int64_t i = 0; i < rows.numel(); ++i) {
    STD_TORCH_CHECK(all_rows[i] >= 0 && all_rows[i] < step.out.rows, "there is no row ", all_rows[i], " in the batch");
  }
  step.segments.reserve(slots.numel());  // units point into it
  for (int64_t s = 0; s < slots.numel(); ++s) {
    STD_TORCH_CHECK(slot_of[s] >= 0 && slot_of[s] < step.tables.slots, "there is no slot ", slot_of[s]);
    STD_TORCH_CHECK(start_of[s] >= 0 && start_of[s] <= start_of[s + 1] && start_of[s + 1] <= rows.numel(),
                    "segment ", s, " lies outside the rows");
    Segment segment;
    segment.rows = all_rows + start_of[s], segment.count = start_of[s + 1] - start_of[s];
    segment.bf16 = step.tables.stored_bf16[slot_of[s]];
    for (const Form& form : forms) {
      Term& term = segment.terms[segment.num_terms];
      if (!read_term(step.tables, slot_of[s], layer, form, term)) continue;
      term.z_column = segment.z_size;
      segment.z_size += term.z_size(), segment.weights += term.weights();
      ++segment.num_terms;
    }
    if (segment.num_terms == 0) continue;
    step.segments.push_back(segment);
    for (int64_t first = 0; first < segment.count; first += CHUNK) {
      const int64_t count = std::min(CHUNK, segment.count - first);
      const double bytes = segment.weights * (segment.bf16 ? 2 : 4);
      const double cost = bytes * PER_BYTE + segment.weights * count * PER_PRODUCT;
      step.units.push_back({&step.segments.back(), first, count, cost});
    }
  }
}

// A step's call at one site: everything its arguments say, checked.
struct Call {
  Step step;

  Call(const Tensor& f32, const Tensor& bf16, const Tensor& offsets, const Tensor& ranks, const Tensor& scales,
       const Tensor& stored_bf16, const Tensor& in, const Tensor& out)
      : step{Tables(f32, bf16, offsets, ranks, scales, stored_bf16), Matrix(in, "the input"), Matrix(out, "the output"), {}, {}} {
    STD_TORCH_CHECK(step.in.rows == step.out.rows, "the input has ", step.in.rows, " rows and the output ", step.out.rows);
    STD_TORCH_CHECK(step.in.end() <= step.out.data || step.out.end() <= step.in.data, "input and output overlap");
  }
};

#define HEADMIX_TABLES                                                                                             \
  Tensor f32, Tensor bf16, Tensor offsets, Tensor ranks, Tensor scales, Tensor stored_bf16, Tensor segment_slots, \
      Tensor segment_starts, Tensor rows, int64_t layer, int64_t schedule

void add_qkv(HEADMIX_TABLES, int64_t heads, int64_t kv_heads, Tensor x, Tensor qkv) {
  Call call(f32, bf16, offsets, ranks, scales, stored_bf16, x, qkv);
  const int64_t D = call.step.in.columns, all = heads + 2 * kv_heads;
  STD_TORCH_CHECK(heads > 0 && kv_heads > 0 && call.step.out.columns % all == 0, "qkv has ", call.step.out.columns,
                  " columns for ", heads, " and twice ", kv_heads, " heads");
  const int64_t P = call.step.out.columns / all, k = heads * P, v = k + kv_heads * P;
  const std::vector<Form> forms = {
      {Q_HEAD, false, 0, 1, D, 0, heads, P, heads, true},
      {Q_SHARED, false, 0, 1, D, 0, 1, heads * P, 1, false},
      {V_HEAD_K, true, k, kv_heads, P, v, kv_heads, P, kv_heads, true},  // reads the key before the next adds to it
      {K_SHARED, false, 0, 1, D, k, 1, kv_heads * P, 1, false},
      {V_HEAD_X, false, 0, 1, D, v, kv_heads, P, kv_heads, true},
      {V_SHARED, false, 0, 1, D, v, 1, kv_heads * P, 1, false},
  };
  read_segments(call.step, segment_slots, segment_starts, rows, layer, forms);
  run(call.step, schedule);
}

void add_o(HEADMIX_TABLES, int64_t heads, Tensor attention, Tensor out) {
  Call call(f32, bf16, offsets, ranks, scales, stored_bf16, attention, out);
  const int64_t HP = call.step.in.columns, D = call.step.out.columns;
  STD_TORCH_CHECK(heads > 0 && HP % heads == 0, "attention has ", HP, " columns for ", heads, " heads");
  const std::vector<Form> forms = {
      {O_HEAD, false, 0, heads, HP / heads, 0, 1, D, heads, true},
      {O_SHARED, false, 0, 1, HP, 0, 1, D, 1, false},
  };
  read_segments(call.step, segment_slots, segment_starts, rows, layer, forms);
  run(call.step, schedule);
}

void add_shared(HEADMIX_TABLES, TermIndex term, const Tensor& in, const Tensor& out) {
  Call call(f32, bf16, offsets, ranks, scales, stored_bf16, in, out);
  const std::vector<Form> forms = {{term, false, 0, 1, call.step.in.columns, 0, 1, call.step.out.columns, 1, false}};
  read_segments(call.step, segment_slots, segment_starts, rows, layer, forms);
  run(call.step, schedule);
}

void add_gate_up(HEADMIX_TABLES, Tensor x, Tensor gate_up) {
  add_shared(f32, bf16, offsets, ranks, scales, stored_bf16, segment_slots, segment_starts, rows, layer, schedule, GATE_UP,
             x, gate_up);
}

void add_down(HEADMIX_TABLES, Tensor inner, Tensor out) {
  add_shared(f32, bf16, offsets, ranks, scales, stored_bf16, segment_slots, segment_starts, rows, layer, schedule, DOWN,
             inner, out);
}

}  // namespace
}  // namespace headmix

#define HEADMIX_TABLES_SCHEMA                                                                                     \
  "(Tensor f32, Tensor bf16, Tensor offsets, Tensor ranks, Tensor scales, Tensor stored_bf16, Tensor segment_slots, " \
  "Tensor segment_starts, Tensor rows, int layer, int schedule, "

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("add_qkv" HEADMIX_TABLES_SCHEMA "int heads, int kv_heads, Tensor x, Tensor(a!) qkv) -> ()");
  m.def("add_o" HEADMIX_TABLES_SCHEMA "int heads, Tensor attention, Tensor(a!) out) -> ()");
  m.def("add_gate_up" HEADMIX_TABLES_SCHEMA "Tensor x, Tensor(a!) gate_up) -> ()");
  m.def("add_down" HEADMIX_TABLES_SCHEMA "Tensor inner, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("add_qkv", TORCH_BOX(&headmix::add_qkv));
  m.impl("add_o", TORCH_BOX(&headmix::add_o));
  m.impl("add_gate_up", TORCH_BOX(&headmix::add_gate_up));
  m.impl("add_down", TORCH_BOX(&headmix::add_down));
}
