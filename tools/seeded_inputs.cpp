#include "tools/seeded_inputs.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/optimizer_slots.h"
#include "runtime/random.h"

namespace weir {
namespace {

constexpr int64_t kOtherIntegers = 8;
constexpr int64_t kNoIds = std::numeric_limits<int64_t>::max();

// The number of things that an operand chooses from; kNoIds if it chooses nothing.
int64_t vocabulary_of(const Graph& graph, const Node& node, size_t operand) {
  auto extent = [&](size_t input) { return graph.type(node.inputs[input]).shape; };
  if (node.op == Op::embedding && operand == 1) return extent(0).front();
  if (node.op == Op::embedding_grad && operand == 0) return node.attrs.get_int("vocabulary");
  if (node.op == Op::cross_entropy && operand == 1) return extent(0).back();
  const bool head = node.op == Op::linear_cross_entropy || node.op == Op::linear_cross_entropy_grad;
  if (head && operand == 2) return extent(1).front();
  return kNoIds;
}

// The smallest vocabulary that users of `ids` choose from, through movement and into kernels.
int64_t smallest_vocabulary(const Graph& graph, Value ids) {
  int64_t smallest = kNoIds;
  for (int32_t id = ids.node + 1; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] != ids) continue;
      smallest = std::min(smallest, vocabulary_of(graph, node, i));
      if (node.op == Op::kernel)
        smallest =
            std::min(smallest, smallest_vocabulary(*node.region, {node.region->inputs()[i], 0}));
      if (info(node.op).op_class == OpClass::Movement || node.op == Op::identity)
        smallest = std::min(smallest, smallest_vocabulary(graph, {id, 0}));
    }
  }
  return smallest;
}

HostTensor random_floats(const Type& type, bool positive, Random random) {
  HostTensor tensor = zeros(type);
  const double scale = type.rank() >= 2 ? 1 / std::sqrt(static_cast<double>(type.shape.back())) : 1;
  for (double& value : tensor.data) {
    double drawn = scale * random.normal();
    // Through a float, so that compiled code and the interpreter start from the same numbers.
    value = round_to(type.dtype, static_cast<float>(positive ? drawn * drawn : drawn));
  }
  return tensor;
}

HostTensor random_integers(const Type& type, int64_t below, Random random) {
  HostTensor tensor = zeros(type);
  for (double& value : tensor.data)
    value = static_cast<double>(random.below(static_cast<uint64_t>(below)));
  return tensor;
}

}  // namespace

Tensors seeded_inputs(const Graph& graph, uint64_t seed) {
  Tensors inputs;
  uint64_t stream = 0;
  for (int32_t id : graph.inputs()) {
    const Type& type = graph.node(id).types[0];
    const std::string& name = graph.input_name(id);
    Random random(seed, stream++);
    if (is_float(type.dtype)) {
      inputs[name] =
          random_floats(type, type.rank() == 0 || name.starts_with(kSecondMoment), random);
      continue;
    }
    int64_t below = type.dtype == DType::boolean ? 2 : smallest_vocabulary(graph, {id, 0});
    inputs[name] = random_integers(type, below == kNoIds ? kOtherIntegers : below, random);
  }
  return inputs;
}

}  // namespace weir
