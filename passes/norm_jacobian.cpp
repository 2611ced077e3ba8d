#include "passes/norm_jacobian.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "ir/hook_name.h"
#include "passes/op_builder.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// The norms of the stream, with their block where they belong to one: a value that is the output of
// one block and the input of the last norm is named by the former, hence `.hook_in` decides.
std::map<int32_t, std::optional<int64_t>> norms_of_the_stream(const Graph& graph) {
  constexpr int64_t most_axes = 3;
  const auto names = graph.names_by_value();
  std::map<int32_t, std::optional<int64_t>> norms;
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op != Op::rms_norm || graph.type(node.inputs[0]).rank() > most_axes) continue;
    std::optional<int64_t>& block = norms[id];
    if (auto found = names.find(node.inputs[0]); found != names.end())
      for (const std::string& name : found->second)
        if (name.ends_with(".hook_in")) block = block_of(name);
  }
  return norms;
}

std::set<int32_t> chosen_norms(const Graph& graph, const NormJacobianOptions& options) {
  if (graph.stage() != Stage::built)
    user_error("norm_jacobian",
               "graph {} is {} already; the rewrite has a gradient, so it is applied to built "
               "graphs only.",
               graph.name(), stage_name(graph.stage()));
  const auto norms = norms_of_the_stream(graph);
  if (norms.empty())
    user_error("norm_jacobian",
               "graph {} has no RMSNorm on its residual stream. Use it on a model that has one, or "
               "leave norm_jacobian at exact.",
               graph.name());
  std::set<int32_t> chosen;
  std::set<int64_t> blocks, lacking(options.layers.begin(), options.layers.end());
  for (const auto& [id, block] : norms) {
    if (block) blocks.insert(*block);
    if (options.layers.empty() || (block && lacking.contains(*block))) chosen.insert(id);
  }
  for (int64_t block : blocks) lacking.erase(block);
  Problems problems("norm_jacobian");
  for (int64_t block : lacking)
    problems.add(fmt::format(
        "layer {} is asked for, but graph {} has no RMSNorm whose input is "
        "named blocks.{}.*.hook_in.{}",
        block, graph.name(), block,
        blocks.empty() ? "" : fmt::format(" Blocks that have one: {}.", fmt::join(blocks, ", "))));
  problems.raise();
  return chosen;
}

}  // namespace

const std::vector<NormJacobian>& norm_jacobians() {
  static const std::vector<NormJacobian> all = {NormJacobian::exact, NormJacobian::without_rms};
  return all;
}

const char* norm_jacobian_name(NormJacobian variant) {
  switch (variant) {
    case NormJacobian::exact:
      return "exact";
    case NormJacobian::without_rms:
      return "without-rms";
  }
  internal_error_at("unknown norm Jacobian");
}

NormJacobian parse_norm_jacobian(const std::string& text) {
  std::vector<std::string> known;
  for (NormJacobian variant : norm_jacobians()) {
    known.emplace_back(norm_jacobian_name(variant));
    if (text == known.back()) return variant;
  }
  user_error("norm_jacobian", "unknown variant '{}'.{} The variants are {}.", text,
             did_you_mean(text, known), join(known, ", "));
}

GraphPtr apply_norm_jacobian(const GraphPtr& graph, const NormJacobianOptions& options) {
  if (options.variant == NormJacobian::exact) return graph;
  const std::set<int32_t> chosen = chosen_norms(*graph, options);
  return rewrite(graph, [&](Rewriter& rewriter, int32_t id) -> std::optional<std::vector<Value>> {
    if (!chosen.contains(id)) return std::nullopt;
    const Node& node = graph->node(id);
    std::vector<Value> inputs = rewriter[node.inputs];
    OpBuilder e(rewriter, node.where);
    const Value x = inputs[0];
    const double eps = node.attrs.get_float("eps");
    const Value rms = e.sqrt(e.add(e.mean_square_last(x, eps), eps));
    inputs[0] = e.straight_through(x, e.mul(x, e.frozen(rms)));
    return rewriter.add_node(Op::rms_norm, inputs, node.attrs, node.where);
  });
}

}  // namespace weir
