#include "passes/kernel_part.h"

#include <map>
#include <set>

#include "ir/edit.h"

namespace weir {
namespace {

// The schedule of what is left of a kernel's region.
Schedule schedule_of_part(Schedule whole, const Graph& region) {
  bool reduces = false, multiplies = false;
  for (const Node& node : region.nodes()) {
    reduces |= info(node.op).op_class == OpClass::Reduction;
    multiplies |= node.op == Op::matmul;
  }
  const bool without_core =
      (whole == Schedule::row && !reduces) || (whole == Schedule::matmul && !multiplies);
  return without_core ? Schedule::elementwise : whole;
}

}  // namespace

KernelPart kernel_part(const Graph& graph, int32_t kernel, const std::vector<int32_t>& wanted,
                       const std::vector<int32_t>& given) {
  const Node& whole = graph.node(kernel);
  const Graph& region = *whole.region;
  std::map<Value, int32_t> cuts;
  for (int32_t result : given) cuts[region.outputs()[result].value] = result;
  KernelPart part;
  std::vector<bool> needed(region.nodes().size());
  std::set<Value> read;
  for (int32_t result : wanted) needed[region.outputs()[result].value.node] = true;
  for (int32_t id = region.size() - 1; id >= 0; --id)
    if (needed[id])
      for (Value input : region.node(id).inputs) {
        read.insert(input);
        if (!cuts.contains(input)) needed[input.node] = true;
      }
  GraphEditor editor(region.name(), region.stage());
  std::map<Value, Value> map;
  const auto add_input = [&](Value inner, Value outer) {
    map[inner] = editor.input("x" + std::to_string(part.operands.size()), region.type(inner));
    part.operands.push_back(outer);
  };
  for (size_t i = 0; i < region.inputs().size(); ++i)
    if (const Value input{region.inputs()[i], 0}; needed[input.node])
      add_input(input, whole.inputs[i]);
  for (const auto& [value, result] : cuts)
    if (read.contains(value)) add_input(value, {kernel, result});
  for (int32_t id = 0; id < region.size(); ++id) {
    const Node& node = region.node(id);
    if (!needed[id] || node.op == Op::input || map.contains({id, 0})) continue;
    std::vector<Value> operands;
    for (Value input : node.inputs) operands.push_back(map.at(input));
    std::vector<Value> results;
    if (info(node.op).op_class == OpClass::Source)
      results = {editor.add_source(node.op, node.types[0], node.attrs, node.where)};
    else
      results = editor.add_node(node.op, operands, node.attrs, node.where);
    for (size_t r = 0; r < results.size(); ++r) map[{id, static_cast<int32_t>(r)}] = results[r];
  }
  for (int32_t result : wanted)
    editor.output(region.outputs()[result].name, map.at(region.outputs()[result].value));
  part.region = editor.finish();
  part.schedule = schedule_of_part(schedule_of(whole), *part.region);
  return part;
}

GraphPtr without_unread_results(const GraphPtr& fused) {
  const Graph& graph = *fused;
  std::set<Value> read;
  for (const Node& node : graph.nodes()) read.insert(node.inputs.begin(), node.inputs.end());
  for (const Output& output : graph.outputs()) read.insert(output.value);
  const auto read_of = [&](int32_t id) {
    std::vector<int32_t> results;
    for (size_t r = 0; r < graph.node(id).types.size(); ++r)
      if (read.contains({id, static_cast<int32_t>(r)})) results.push_back(static_cast<int32_t>(r));
    return results;
  };
  Rewriter rewriter(graph);
  bool changed = false;
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op == Op::input) continue;
    const std::vector<int32_t> wanted = read_of(id);
    if (node.op != Op::kernel || wanted.empty() || wanted.size() == node.types.size()) {
      rewriter.copy(id);
      continue;
    }
    changed = true;
    const KernelPart part = kernel_part(graph, id, wanted, {});
    Attrs attrs = node.attrs;
    attrs.set("schedule", schedule_name(part.schedule));
    const std::vector<Value> kept =
        rewriter.add_kernel(rewriter[part.operands], attrs, part.region, node.where);
    std::vector<Value> results(node.types.size());
    for (size_t i = 0; i < wanted.size(); ++i) results[wanted[i]] = kept[i];
    rewriter.replace(id, results);
  }
  if (!changed) return fused;
  for (const Output& output : graph.outputs()) rewriter.output(output.name, rewriter[output.value]);
  for (const auto& [text, value] : graph.names())
    if (const Value now = rewriter.find(value); now.valid()) rewriter.name(now, text);
  return rewriter.finish();
}

}  // namespace weir
