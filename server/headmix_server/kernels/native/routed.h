// What a step's adapters add to a layer's projections: the functions behind headmix::add_qkv and the others. See
// kernels/adapters/native.py.
#pragma once

#include "step.h"

namespace headmix {

// The images of all slots, the route of the rows, and the division of work among threads (schedule.h).
struct StepAdapters {
  Tables tables;
  Route route;
  int64_t schedule;
};

void add_qkv(const StepAdapters& adapters, int64_t layer, int64_t heads, int64_t kv_heads, const Tensor& x,
             const Tensor& qkv);
void add_o(const StepAdapters& adapters, int64_t layer, int64_t heads, const Tensor& attention, const Tensor& out);
void add_gate_up(const StepAdapters& adapters, int64_t layer, const Tensor& x, const Tensor& gate_up);
void add_down(const StepAdapters& adapters, int64_t layer, const Tensor& inner, const Tensor& out);

}  // namespace headmix
