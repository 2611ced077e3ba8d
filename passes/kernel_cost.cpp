#include "passes/kernel_cost.h"

#include <algorithm>

#include "support/error.h"

namespace weir {
namespace {

double elements_of(const Graph& region, Value value) {
  return static_cast<double>(region.type(value).elements());
}

double matmul(const Graph& region, const Node& node) {
  const Shape& a = region.type(node.inputs[0]).shape;
  const bool transposed = node.attrs.get_bool("transpose_a");
  const int64_t depth = a[a.size() - (transposed ? 2 : 1)];
  return 2.0 * static_cast<double>(node.types[0].elements()) * static_cast<double>(depth);
}

// Of one product of all queries with all keys, over the pairs that the mask leaves.
double attention_product(const Graph& region, const Node& node) {
  const Shape& q = region.type(node.inputs[0]).shape;
  const double keys = static_cast<double>(region.type(node.inputs[1]).shape[1]);
  const double all = 2 * elements_of(region, node.inputs[0]) * keys;
  return node.attrs.get_bool("causal") && q[1] > 1 ? all / 2 : all;
}

double loss_head_product(const Graph& region, const Node& node) {
  const double rows = static_cast<double>(region.type(node.inputs[0]).shape[0]);
  return 2 * rows * elements_of(region, node.inputs[1]);
}

// The logits, and of the two gradients those that are wanted.
double loss_head_gradient(const Graph& region, const Node& node) {
  const auto wanted = std::ranges::count_if(region.outputs(), [&](const Output& output) {
    return &region.node(output.value) == &node && output.value.result > 0;
  });
  return static_cast<double>(1 + wanted) * loss_head_product(region, node);
}

// Operations of products in one node of a region.
double products(const Graph& region, const Node& node, bool has_gradient) {
  switch (node.op) {
    case Op::matmul:
      return matmul(region, node);
    case Op::attention:
      return 2 * attention_product(region, node);
    case Op::attention_grad:
      return 4 * attention_product(region, node);
    case Op::attention_stats:
      return has_gradient ? 0 : attention_product(region, node);
    case Op::attention_map:
      return attention_product(region, node);
    case Op::attention_identities:  // two products of a pair, and six sums of vectors
      return 8 * attention_product(region, node);
    case Op::linear_cross_entropy:
      return loss_head_product(region, node);
    case Op::linear_cross_entropy_grad:
      return loss_head_gradient(region, node);
    // Look-ups move, and add a row an id at most.
    case Op::embedding:
    case Op::embedding_grad:
    // These are decomposed before there are kernels.
    case Op::reduce_mean:
    case Op::relu:
    case Op::silu:
    case Op::gelu:
    case Op::swiglu:
    case Op::softmax:
    case Op::rms_norm:
    case Op::layer_norm:
    case Op::rope:
    case Op::attention_lse:
    case Op::attention_head_gate:
    case Op::attention_score_grad:
    case Op::attention_scores:
    case Op::attention_pattern:
    case Op::v_scale:
    case Op::cross_entropy:
    case Op::adamw:
    case Op::sgd:
    case Op::muon:
#define OP(name, ...) case Op::name:
#define CONTRACTION(...)
#define COMPOSITE(...)
#include "ir/ops.def"
      return 0;
  }
  internal_error_at("unknown op");
}

// Bytes read of an input: none where nothing uses it, looked-up rows of a table.
int64_t bytes_read(const Graph& region, Value input) {
  int64_t bytes = 0;
  for (const Node& node : region.nodes()) {
    if (std::find(node.inputs.begin(), node.inputs.end(), input) == node.inputs.end()) continue;
    const bool is_table = node.op == Op::embedding && node.inputs[0] == input;
    bytes = std::max(bytes, is_table ? node.types[0].bytes() : region.type(input).bytes());
  }
  return bytes;
}

}  // namespace

KernelCost region_cost(const Graph& region) {
  KernelCost cost;
  const bool has_gradient = std::ranges::any_of(
      region.nodes(), [](const Node& node) { return node.op == Op::attention_grad; });
  for (const Node& node : region.nodes()) {
    switch (info(node.op).op_class) {
      case OpClass::Elementwise:
        if (node.op != Op::identity && node.op != Op::stop_gradient)
          cost.others += static_cast<double>(node.types[0].elements());
        break;
      case OpClass::Reduction:
        cost.others += elements_of(region, node.inputs[0]);
        break;
      case OpClass::Contraction:
      case OpClass::Composite:
        cost.products += products(region, node, has_gradient);
        break;
      case OpClass::Source:
      case OpClass::Movement:
      case OpClass::Effect:
      case OpClass::Kernel:
        break;
    }
  }
  for (int32_t id : region.inputs()) cost.bytes += bytes_read(region, {id, 0});
  for (const Output& output : region.outputs()) cost.bytes += region.type(output.value).bytes();
  return cost;
}

KernelCost kernel_cost(const Node& kernel) {
  WEIR_CHECK(kernel.op == Op::kernel && kernel.region, "the cost of a node that is no kernel");
  return region_cost(*kernel.region);
}

double training_operations(int64_t multiplying_parameters, int64_t layers, int64_t B, int64_t T,
                           int64_t D) {
  const auto tokens = static_cast<double>(B * T);
  return 6 * static_cast<double>(multiplying_parameters) * tokens +
         6 * static_cast<double>(layers) * tokens * static_cast<double>(T * D);
}

}  // namespace weir
