// A term on the rows of a unit: gathers its inputs and outputs, head by head, for the low-rank products.
#pragma once

#include <algorithm>

#include "low_rank.h"
#include "step.h"

namespace headmix {

template <typename W>
const W* arena(const Tables& tables);
template <>
inline const float* arena<float>(const Tables& tables) {
  return tables.f32;
}
template <>
inline const BFloat16* arena<BFloat16>(const Tables& tables) {
  return tables.bf16;
}

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
    expand(b, ranks, form.out, end - begin, z + term.z_column + head * ranks, unit.segment->z_size, unit.count,
           outputs);
    if (term.bias != ABSENT) {
      const W* bias = arena<W>(step.tables) + term.bias + (begin - form.out_column);
      expand(bias, 1, form.out, end - begin, scales, 1, unit.count, outputs);
    }
  }
}

template <typename W>
void run_term(const Step& step, const Unit& unit, const Term& term, float* z) {
  shrink_term<W>(step, unit, term, 0, unit.segment->z_size, z);
  expand_term<W>(step, unit, term, 0, step.out.columns, z);
}

// One term after another, in memory order if the unit has one adapter.
inline void run_terms(const Step& step, const Unit& unit, float* z) {
  for (int64_t t = 0; t < unit.segment->num_terms; ++t) {
    const Term& term = unit.segment->terms[t];
    term.bf16 ? run_term<BFloat16>(step, unit, term, z) : run_term<float>(step, unit, term, z);
  }
}

}  // namespace headmix
