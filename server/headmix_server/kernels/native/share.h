// Work that torch's threads take piece by piece, so that uneven pieces balance out.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace headmix {

// Call work(index) for every index, on as many threads as torch has; each takes the next index when it is done.
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

}  // namespace headmix
