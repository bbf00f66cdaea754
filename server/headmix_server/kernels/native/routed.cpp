// The adapters' additions to a layer's projections, for all rows of a step at once: headmix::add_qkv, add_o,
// add_gate_up, add_down. See kernels/adapters/native.py for the operations and kernels/adapters/image_tables.py for the
// data.
#include "routed.h"

#include <torch/csrc/stable/library.h>

#include <vector>

#include "schedule.h"

namespace headmix {
namespace {

// Arguments that describe the adapters to every operation: the tables of their images and the route of the rows.
#define HEADMIX_TABLES f32, bf16, offsets, ranks, scales, stored_bf16
#define HEADMIX_ROUTE slots, scales_of_slots, slot_starts, segment_starts, rows
#define HEADMIX_PARAMETERS                                                                                \
  Tensor f32, Tensor bf16, Tensor offsets, Tensor ranks, Tensor scales, Tensor stored_bf16, Tensor slots, \
      Tensor scales_of_slots, Tensor slot_starts, Tensor segment_starts, Tensor rows, int64_t layer, int64_t schedule
#define HEADMIX_SCHEMA                                                                             \
  "(Tensor f32, Tensor bf16, Tensor offsets, Tensor ranks, Tensor scales, Tensor stored_bf16, "    \
  "Tensor slots, Tensor scales_of_slots, Tensor slot_starts, Tensor segment_starts, Tensor rows, " \
  "int layer, int schedule, "

void add_shared(const StepAdapters& adapters, int64_t layer, TermIndex term, const Tensor& in, const Tensor& out) {
  Step step(adapters.tables, in, out);
  const std::vector<Form> forms = {{term, false, 0, 1, step.in.columns, 0, 1, step.out.columns, 1, false}};
  step.read(adapters.route, layer, forms);
  run(step, adapters.schedule);
}

#define HEADMIX_ADAPTERS {{HEADMIX_TABLES}, {HEADMIX_ROUTE}, schedule}

void op_add_qkv(HEADMIX_PARAMETERS, int64_t heads, int64_t kv_heads, Tensor x, Tensor qkv) {
  add_qkv(HEADMIX_ADAPTERS, layer, heads, kv_heads, x, qkv);
}

void op_add_o(HEADMIX_PARAMETERS, int64_t heads, Tensor attention, Tensor out) {
  add_o(HEADMIX_ADAPTERS, layer, heads, attention, out);
}

void op_add_gate_up(HEADMIX_PARAMETERS, Tensor x, Tensor gate_up) { add_gate_up(HEADMIX_ADAPTERS, layer, x, gate_up); }

void op_add_down(HEADMIX_PARAMETERS, Tensor inner, Tensor out) { add_down(HEADMIX_ADAPTERS, layer, inner, out); }

}  // namespace

void add_qkv(const StepAdapters& adapters, int64_t layer, int64_t heads, int64_t kv_heads, const Tensor& x,
             const Tensor& qkv) {
  Step step(adapters.tables, x, qkv);
  const int64_t D = step.in.columns, all = heads + 2 * kv_heads;
  STD_TORCH_CHECK(heads > 0 && kv_heads > 0 && step.out.columns % all == 0, "qkv has ", step.out.columns,
                  " columns for ", heads, " and twice ", kv_heads, " heads");
  const int64_t P = step.out.columns / all, k = heads * P, v = k + kv_heads * P;
  const std::vector<Form> forms = {
      {Q_HEAD, false, 0, 1, D, 0, heads, P, heads, true},
      {Q_SHARED, false, 0, 1, D, 0, 1, heads * P, 1, false},
      {V_HEAD_K, true, k, kv_heads, P, v, kv_heads, P, kv_heads, true},  // reads the key before the next adds to it
      {K_SHARED, false, 0, 1, D, k, 1, kv_heads * P, 1, false},
      {V_HEAD_X, false, 0, 1, D, v, kv_heads, P, kv_heads, true},
      {V_SHARED, false, 0, 1, D, v, 1, kv_heads * P, 1, false},
  };
  step.read(adapters.route, layer, forms);
  run(step, adapters.schedule);
}

void add_o(const StepAdapters& adapters, int64_t layer, int64_t heads, const Tensor& attention, const Tensor& out) {
  Step step(adapters.tables, attention, out);
  const int64_t HP = step.in.columns, D = step.out.columns;
  STD_TORCH_CHECK(heads > 0 && HP % heads == 0, "attention has ", HP, " columns for ", heads, " heads");
  const std::vector<Form> forms = {
      {O_HEAD, false, 0, heads, HP / heads, 0, 1, D, heads, true},
      {O_SHARED, false, 0, 1, HP, 0, 1, D, 1, false},
  };
  step.read(adapters.route, layer, forms);
  run(step, adapters.schedule);
}

void add_gate_up(const StepAdapters& adapters, int64_t layer, const Tensor& x, const Tensor& gate_up) {
  add_shared(adapters, layer, GATE_UP, x, gate_up);
}

void add_down(const StepAdapters& adapters, int64_t layer, const Tensor& inner, const Tensor& out) {
  add_shared(adapters, layer, DOWN, inner, out);
}

}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def("add_qkv" HEADMIX_SCHEMA "int heads, int kv_heads, Tensor x, Tensor(a!) qkv) -> ()");
  m.def("add_o" HEADMIX_SCHEMA "int heads, Tensor attention, Tensor(a!) out) -> ()");
  m.def("add_gate_up" HEADMIX_SCHEMA "Tensor x, Tensor(a!) gate_up) -> ()");
  m.def("add_down" HEADMIX_SCHEMA "Tensor inner, Tensor(a!) out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) {
  m.impl("add_qkv", TORCH_BOX(&headmix::op_add_qkv));
  m.impl("add_o", TORCH_BOX(&headmix::op_add_o));
  m.impl("add_gate_up", TORCH_BOX(&headmix::op_add_gate_up));
  m.impl("add_down", TORCH_BOX(&headmix::op_add_down));
}
