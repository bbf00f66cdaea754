// The library `headmix` itself: its namespace of operations and the target it was built for.
#include <torch/csrc/stable/library.h>

#include "simd.h"

namespace {

int64_t vector_lanes() { return headmix::LANES; }

}  // namespace

STABLE_TORCH_LIBRARY(headmix, m) { m.def("vector_lanes() -> int"); }

STABLE_TORCH_LIBRARY_IMPL(headmix, CompositeExplicitAutograd, m) { m.impl("vector_lanes", TORCH_BOX(&vector_lanes)); }
