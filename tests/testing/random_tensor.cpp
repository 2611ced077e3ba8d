#include "testing/random_tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace weir::test {
namespace {

// What the users of an integer input demand of its elements.
struct IdRange {
  int64_t vocabulary = std::numeric_limits<int64_t>::max();
  bool negative_ignored = true;
  bool is_ids() const { return vocabulary != std::numeric_limits<int64_t>::max(); }
};

void narrow(IdRange& range, int64_t vocabulary, bool negative_ignored) {
  range.vocabulary = std::min(range.vocabulary, vocabulary);
  range.negative_ignored = range.negative_ignored && negative_ignored;
}

void follow(const Graph& graph, Value ids, IdRange& range) {
  for (int32_t id = ids.node + 1; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] != ids) continue;
      auto extent = [&](size_t operand, size_t axis) {
        return graph.type(node.inputs[operand]).shape[axis];
      };
      if (node.op == Op::embedding && i == 1) narrow(range, extent(0, 0), false);
      if (node.op == Op::embedding_grad && i == 0)
        narrow(range, node.attrs.get_int("vocabulary"), false);
      if (node.op == Op::cross_entropy && i == 1) narrow(range, extent(0, 1), true);
      if ((node.op == Op::linear_cross_entropy || node.op == Op::linear_cross_entropy_grad) &&
          i == 2)
        narrow(range, extent(1, 0), true);
      if (node.op == Op::kernel) follow(*node.region, {node.region->inputs()[i], 0}, range);
      if (info(node.op).op_class == OpClass::Movement || node.op == Op::identity)
        follow(graph, {id, 0}, range);
    }
  }
}

}  // namespace

uint64_t Random::bits() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

double Random::uniform(double low, double high) {
  return low + (high - low) * std::ldexp(static_cast<double>(bits() >> 11), -53);
}

int64_t Random::integer(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
}

HostTensor random_tensor(const Type& type, double low, double high, Random& random) {
  HostTensor tensor = zeros(type);
  for (double& value : tensor.data) {
    if (type.dtype == DType::boolean)
      value = static_cast<double>(random.integer(0, 1));
    else if (is_float(type.dtype))
      value = round_to(type.dtype, random.uniform(low, high));
    else
      value = round_to(type.dtype,
                       static_cast<double>(random.integer(static_cast<int64_t>(std::ceil(low)),
                                                          static_cast<int64_t>(std::floor(high)))));
  }
  return tensor;
}

HostTensor random_tensor(const Type& type, double low, double high, uint64_t seed) {
  Random random(seed);
  return random_tensor(type, low, high, random);
}

Tensors random_inputs(const Graph& graph, uint64_t seed, double low, double high) {
  Tensors inputs;
  Random random(seed);
  for (int32_t id : graph.inputs()) {
    const Type& type = graph.node(id).types[0];
    IdRange range;
    if (!is_float(type.dtype) && type.dtype != DType::boolean) follow(graph, {id, 0}, range);
    if (range.is_ids())
      inputs[graph.input_name(id)] = random_tensor(
          type, range.negative_ignored ? -1 : 0, static_cast<double>(range.vocabulary - 1), random);
    else
      inputs[graph.input_name(id)] = random_tensor(type, low, high, random);
  }
  return inputs;
}

}  // namespace weir::test
