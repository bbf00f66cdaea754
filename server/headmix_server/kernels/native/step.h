// One call of a step at one site: the rows of every adapter that has terms there, checked and split into units of work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "image.h"

namespace headmix {

constexpr int64_t CHUNK = 16;  // rows that go through all of an adapter's terms together: what L1 holds

// Costs for estimating a unit's time, in nanoseconds on one core; they affect only speed.
constexpr double PER_BYTE = 1.0 / 30;
constexpr double PER_PRODUCT = 1.0 / 64;

// A 2-D float32 tensor whose rows are contiguous, at any stride.
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

// The rows that run with the same adapters, and the terms of these adapters.
struct Segment {
  const int32_t* rows = nullptr;
  int64_t count = 0;
  const Term* terms = nullptr;
  int64_t num_terms = 0, z_size = 0, weights = 0, bytes = 0;
};

// Up to CHUNK rows of a segment; `cost` is its estimated time.
struct Unit {
  const Segment* segment;
  int64_t first, count;
  double cost;

  int64_t row(int64_t index) const { return segment->rows[first + index]; }
};

// Which rows run with which slots, as in `RowRoute`.
struct Route {
  const int32_t *slots, *slot_starts, *starts, *rows;
  const float* scales;
  int64_t num_slots, num_segments, num_rows;

  Route(const Tensor& all_slots, const Tensor& all_scales, const Tensor& slots_from, const Tensor& segment_starts,
        const Tensor& all_rows) {
    check_tensor(all_slots, ScalarType::Int, 1, "slots");
    check_tensor(all_scales, ScalarType::Float, 1, "scales");
    check_tensor(slots_from, ScalarType::Int, 1, "slot_starts");
    check_tensor(segment_starts, ScalarType::Int, 1, "segment_starts");
    check_tensor(all_rows, ScalarType::Int, 1, "rows");
    num_slots = all_slots.numel(), num_segments = segment_starts.numel() - 1, num_rows = all_rows.numel();
    STD_TORCH_CHECK(num_segments >= 0 && slots_from.numel() == num_segments + 1,
                    "segment_starts and slot_starts must have an entry for each segment and one more");
    STD_TORCH_CHECK(all_scales.numel() == num_slots, "scales must have ", num_slots, " entries");
    slots = static_cast<const int32_t*>(all_slots.const_data_ptr());
    scales = static_cast<const float*>(all_scales.const_data_ptr());
    slot_starts = static_cast<const int32_t*>(slots_from.const_data_ptr());
    starts = static_cast<const int32_t*>(segment_starts.const_data_ptr());
    rows = static_cast<const int32_t*>(all_rows.const_data_ptr());
  }
};

struct Step {
  Tables tables;
  Matrix in, out;
  std::vector<Segment> segments;
  std::vector<Term> terms;
  std::vector<Unit> units;

  Step(const Tables& all_tables, const Tensor& input, const Tensor& output)
      : tables(all_tables), in(input, "the input"), out(output, "the output") {
    STD_TORCH_CHECK(in.rows == out.rows, "the input has ", in.rows, " rows and the output ", out.rows);
    STD_TORCH_CHECK(in.end() <= out.data || out.end() <= in.data, "input and output overlap");
  }

  // Find the segments that have any of the site's terms in a layer. The forms must outlive the step.
  void read(const Route& route, int64_t layer, const std::vector<Form>& forms) {
    STD_TORCH_CHECK(layer >= 0 && layer < tables.layers, "there is no layer ", layer);
    for (int64_t i = 0; i < route.num_rows; ++i) {
      STD_TORCH_CHECK(route.rows[i] >= 0 && route.rows[i] < out.rows, "there is no row ", route.rows[i],
                      " in the batch");
    }
    for (int64_t i = 0; i < route.num_slots; ++i) {
      STD_TORCH_CHECK(route.slots[i] >= 0 && route.slots[i] < tables.slots, "there is no slot ", route.slots[i]);
    }
    segments.reserve(route.num_segments);           // units point into it
    terms.reserve(route.num_slots * forms.size());  // segments point into it
    for (int64_t s = 0; s < route.num_segments; ++s) {
      const int64_t start = route.starts[s], end = route.starts[s + 1];
      STD_TORCH_CHECK(start >= 0 && start <= end && end <= route.num_rows, "segment ", s, " lies outside the rows");
      Segment segment;
      segment.rows = route.rows + start, segment.count = end - start, segment.terms = terms.data() + terms.size();
      read_terms(route, s, layer, forms, segment);
      if (segment.num_terms > 0) add_units(segments.emplace_back(segment));
    }
  }

 private:
  // Append the terms of a segment's slots, form by form: whatever reads the raw key comes before all that add to it.
  void read_terms(const Route& route, int64_t s, int64_t layer, const std::vector<Form>& forms, Segment& segment) {
    const int64_t first = route.slot_starts[s], last = route.slot_starts[s + 1];
    STD_TORCH_CHECK(first >= 0 && first <= last && last <= route.num_slots, "segment ", s, " lies outside the slots");
    STD_TORCH_CHECK(terms.size() + (last - first) * forms.size() <= terms.capacity(), "segments share slots");
    for (const Form& form : forms) {
      for (int64_t i = first; i < last; ++i) {
        Term term;
        if (!read_term(tables, route.slots[i], layer, form, term)) continue;
        term.scale *= route.scales[i], term.z_column = segment.z_size;
        segment.z_size += term.z_size(), segment.weights += term.weights();
        segment.bytes += term.weights() * (term.bf16 ? 2 : 4);
        ++segment.num_terms;
        terms.push_back(term);
      }
    }
  }

  void add_units(const Segment& segment) {
    for (int64_t first = 0; first < segment.count; first += CHUNK) {
      const int64_t count = std::min(CHUNK, segment.count - first);
      units.push_back({&segment, first, count, segment.bytes * PER_BYTE + segment.weights * count * PER_PRODUCT});
    }
  }
};

}  // namespace headmix
