// headmix::stay_on_cores: each of torch's threads on cores of its own. See device/threads.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>

namespace headmix {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#ifdef __linux__
// Keep the calling thread on these CPUs. OpenMP may end a thread and start another one, which begins where the thread
// that started it has to stay, so every thread remembers by itself.
bool stay(const int64_t* cpus, int64_t count) {
  thread_local bool stays = false;
  if (stays && std::find(cpus, cpus + count, sched_getcpu()) != cpus + count) return true;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int64_t place = 0; place < count; ++place) {
    if (cpus[place] >= 0 && cpus[place] < CPU_SETSIZE) CPU_SET(cpus[place], &set);
  }
  stays = sched_setaffinity(0, sizeof(set), &set) == 0;
  return stays;
}
#else
bool stay(const int64_t*, int64_t) { return false; }
#endif

// cores: integers [threads, most CPUs of one], padded with -1. Returns how many threads stay on theirs.
int64_t stay_on_cores(const Tensor& cores) {
  STD_TORCH_CHECK(
      cores.is_cpu() && cores.scalar_type() == ScalarType::Long && cores.dim() == 2 && cores.is_contiguous(),
      "cores must be int64 on the CPU, [threads, cpus], contiguous");
  const int64_t* const cpus = cores.const_data_ptr<int64_t>();
  const int64_t width = cores.size(1);
  std::atomic<int64_t> staying{0};
  torch::stable::parallel_for(0, cores.size(0), 1, [&](int64_t begin, int64_t end) {
    if (end == begin + 1) staying += stay(cpus + begin * width, width);
  });
  return staying;
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) { m.def("stay_on_cores(Tensor cores) -> int"); }

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("stay_on_cores", TORCH_BOX(&headmix::stay_on_cores)); }
