// headmix::decoder_layers: every layer of a pre-norm decoder for all rows of a step, in one call. It computes what
// models/layers/block.py defines, with the same functions that block.py calls one by one through torch, so results are
// bit for bit the same. See kernels/decoder_layers.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "routed.h"
#include "row_ops.h"

namespace headmix {
namespace {

constexpr int64_t INT8 = -1;  // a kind; lower values are bfloat16 by a unit, higher ones the kinds of stored weights

// The layers' tensors and numbers, in the order in which they are read.
struct Reader {
  const std::vector<Tensor>& tensors;
  const int64_t* numbers;
  int64_t count;
  size_t next_tensor = 0;
  int64_t next_number = 0;

  const Tensor& tensor() {
    STD_TORCH_CHECK(next_tensor < tensors.size(), "the layers lack a tensor");
    return tensors[next_tensor++];
  }
  int64_t number() {
    STD_TORCH_CHECK(next_number < count, "the layers lack a number");
    return numbers[next_number++];
  }
};

// x W^T + b where W is one matrix, or several of different kinds whose results are concatenated.
class Linear {
 public:
  explicit Linear(Reader& reader) {
    for (int64_t count = reader.number(); count > 0; --count) {
      const Tensor &weights = reader.tensor(), &bias = reader.tensor();
      const int64_t kind = reader.number();
      parts_.push_back({weights, bias, kind, reader.number()});
      outputs += parts_.back().outputs;
    }
  }

  void operator()(const Tensor& x, const Tensor& out) const {
    if (parts_.size() == 1) return parts_[0].multiply(x, out);
    int64_t first = 0;
    for (const Part& part : parts_) {
      Tensor whole = out;
      part.multiply(x, torch::stable::narrow(whole, 1, first, part.outputs));
      first += part.outputs;
    }
  }

  int64_t outputs = 0;

 private:
  struct Part {
    Tensor weights, bias;
    int64_t kind, outputs;

    void multiply(const Tensor& x, const Tensor& out) const {
      if (kind == INT8) return int8_linear(x, weights, bias, out);
      if (kind < INT8) return bfloat16_linear(x, weights, INT8 - kind, bias, out);
      stored_linear(x, weights, kind, bias, out);
    }
  };
  std::vector<Part> parts_;
};

struct Layer {
  Tensor attention_norm, mlp_norm;
  std::optional<Tensor> q_norm, k_norm;
  int64_t window;  // 0: none
  Linear qkv, o, gate_up, down;

  explicit Layer(Reader& reader)
      : attention_norm(reader.tensor()),
        mlp_norm(reader.tensor()),
        q_norm(norm(reader)),
        k_norm(norm(reader)),
        window(reader.number()),
        qkv(reader),
        o(reader),
        gate_up(reader),
        down(reader) {}

 private:
  static std::optional<Tensor> norm(Reader& reader) {
    const Tensor& weight = reader.tensor();
    return weight.numel() == 0 ? std::nullopt : std::optional(weight);
  }
};

// What all layers share.
struct Shape {
  int64_t heads, kv_heads;
  double scale, eps;
};

// Buffers for a step's intermediate results, which every layer overwrites.
struct Scratch {
  Tensor x, qkv, q, k, v, turned, attended, flat, gate_up, inner, added;

  Scratch(const Tensor& hidden, const Layer& layer, const Shape& shape) {
    const int64_t rows = hidden.size(0), width = hidden.size(1), all = shape.heads + 2 * shape.kv_heads;
    STD_TORCH_CHECK(shape.heads > 0 && shape.kv_heads > 0 && layer.qkv.outputs % all == 0, layer.qkv.outputs,
                    " outputs are not ", all, " heads");
    const int64_t P = layer.qkv.outputs / all;
    const auto make = [&](int64_t columns) { return torch::stable::new_empty(hidden, {rows, columns}); };
    x = make(width), added = make(width), qkv = make(layer.qkv.outputs), flat = make(shape.heads * P);
    gate_up = make(layer.gate_up.outputs), inner = make(layer.gate_up.outputs / 2);
    attended = torch::stable::view(flat, {rows, shape.heads, P});
    Tensor states = torch::stable::view(qkv, {rows, all, P});
    turned = torch::stable::narrow(states, 1, 0, shape.heads + shape.kv_heads);
    q = torch::stable::narrow(states, 1, 0, shape.heads);
    k = torch::stable::narrow(states, 1, shape.heads, shape.kv_heads);
    v = torch::stable::narrow(states, 1, shape.heads + shape.kv_heads, shape.kv_heads);
  }
};

// The location of the rows and cached keys of the step's sequences.
struct Cache {
  const std::vector<Tensor>& layers;  // keys and values of each
  Tensor rows, starts, blocks;
  int64_t block_size;
};

// Compute one layer: add its attention and its MLP to the hidden states.
void compute(const Layer& layer, int64_t index, const Shape& shape, const Cache& cache, const Tensor& cos,
             const Tensor& sin, const StepAdapters* adapters, Scratch& s, const Tensor& hidden) {
  rms_norm(hidden, layer.attention_norm, shape.eps, s.x);
  layer.qkv(s.x, s.qkv);
  if (adapters) add_qkv(*adapters, index, shape.heads, shape.kv_heads, s.x, s.qkv);
  if (layer.q_norm) rms_norm(s.q, *layer.q_norm, shape.eps, s.q);
  if (layer.k_norm) rms_norm(s.k, *layer.k_norm, shape.eps, s.k);
  rotate(s.turned, cos, sin, s.turned);
  attend_paged(s.q, s.k, s.v, cache.layers[2 * index], cache.layers[2 * index + 1], cache.rows, cache.starts,
               cache.blocks, cache.block_size, shape.scale, layer.window, s.attended);
  layer.o(s.flat, s.added);
  if (adapters) add_o(*adapters, index, shape.heads, s.flat, s.added);
  add_rows(s.added, hidden);
  rms_norm(hidden, layer.mlp_norm, shape.eps, s.x);
  layer.gate_up(s.x, s.gate_up);
  if (adapters) add_gate_up(*adapters, index, s.x, s.gate_up);
  gated_silu(s.gate_up, s.inner);
  layer.down(s.inner, s.added);
  if (adapters) add_down(*adapters, index, s.inner, s.added);
  add_rows(s.added, hidden);
}

void decoder_layers(Tensor hidden, Tensor cos, Tensor sin, std::vector<Tensor> tensors, Tensor numbers, int64_t heads,
                    int64_t kv_heads, double scale, double eps, std::vector<Tensor> caches, Tensor rows, Tensor starts,
                    Tensor blocks, int64_t block_size, std::vector<Tensor> adapters, int64_t schedule) {
  check_matrix(hidden, "hidden");
  check_tensor(numbers, ScalarType::Long, 1, "numbers");
  STD_TORCH_CHECK(adapters.empty() || adapters.size() == 11, "adapters are six tables and five of their rows");
  const Shape shape{heads, kv_heads, scale, eps};
  const Cache cache{caches, rows, starts, blocks, block_size};
  std::optional<StepAdapters> routed;
  if (!adapters.empty())
    routed = {{adapters[0], adapters[1], adapters[2], adapters[3], adapters[4], adapters[5]},
              {adapters[6], adapters[7], adapters[8], adapters[9], adapters[10]},
              schedule};
  std::optional<Scratch> scratch;
  Reader reader{tensors, static_cast<const int64_t*>(numbers.data_ptr()), numbers.numel()};
  for (size_t index = 0; 2 * index < caches.size(); ++index) {
    STD_TORCH_CHECK(2 * index + 1 < caches.size(), "a layer has keys and no values");
    const Layer layer(reader);
    if (!scratch) scratch.emplace(hidden, layer, shape);
    compute(layer, index, shape, cache, cos, sin, routed ? &*routed : nullptr, *scratch, hidden);
  }
}

}  // namespace
}  // namespace headmix

STABLE_TORCH_LIBRARY_FRAGMENT(headmix, m) {
  m.def(
      "decoder_layers(Tensor(a!) hidden, Tensor cos, Tensor sin, Tensor[] tensors, Tensor numbers, int heads, "
      "int kv_heads, float scale, float eps, Tensor(b!)[] caches, Tensor rows, Tensor starts, Tensor blocks, "
      "int block_size, Tensor[] adapters, int schedule) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(headmix, CPU, m) { m.impl("decoder_layers", TORCH_BOX(&headmix::decoder_layers)); }
