#include "passes/fuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "ir/alias.h"
#include "ir/edit.h"
#include "passes/dead_code.h"
#include "passes/kernel_group.h"
#include "support/error.h"

namespace weir {
namespace {

class Fuser {
 public:
  Fuser(const Graph& graph, const FuseOptions& options)
      : graph_(graph),
        options_(options),
        main_mask_(needed_by_outputs(graph)),
        main_(graph, main_mask_, options),
        probe_(graph, probe_mask(), options) {}

  GraphPtr run() {
    add_groups(main_, false);
    add_groups(probe_, true);
    join_statistics(graph_, grouping_);
    join_reductions(graph_, options_, grouping_);
    for (size_t group = 0; group < groups_.size(); ++group)
      if (groups_[group].cluster >= 0) find_loads(static_cast<int32_t>(group));
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (graph_.node(id).op == Op::probe) require(graph_.node(id).inputs[0], true);
    for (const Output& output : graph_.outputs()) require(output.value, false);
    for (KernelGroup& group : groups_) std::sort(group.results.begin(), group.results.end());
    return emit();
  }

 private:
  // The nodes that only probes need, and those of the main part that no kernel of it can store:
  // values that column kernels recompute, or that a movement evaluates at other indices.
  std::vector<bool> probe_mask() const {
    std::vector<bool> needed(graph_.nodes().size()), mask(graph_.nodes().size());
    for (int32_t id = graph_.size() - 1; id >= 0; --id) {
      if (graph_.node(id).op == Op::probe) needed[id] = true;
      mask[id] = needed[id] && (!main_mask_[id] || !storable(id));
      if (mask[id])
        for (Value input : graph_.node(id).inputs)
          needed[strip_reshapes(graph_, input).node] = true;
    }
    return mask;
  }

  bool storable(int32_t id) const {
    const Node& node = graph_.node(id);
    if (node.op == Op::reshape || info(node.op).op_class == OpClass::Source) return true;
    int32_t cluster = main_.cluster_of(id);
    if (cluster < 0) return false;
    const Cluster& home = main_.clusters()[cluster];
    if (home.kind == ClusterKind::anchor || home.kind == ClusterKind::column) return true;
    Shape row = home.space;
    if (!row.empty()) row.back() = 1;
    const Shape& shape = node.types[0].shape;
    return shape == home.space || (home.kind == ClusterKind::row && shape == row);
  }

  void add_groups(const Clustering& clustering, bool is_probe) {
    for (size_t c = 0; c < clustering.clusters().size(); ++c) {
      const Cluster& cluster = clustering.clusters()[c];
      if (cluster.nodes.empty()) continue;
      // What both parts compute, the main part cannot store (probe_mask).
      for (int32_t node : cluster.nodes) group_of_[node] = groups_.size();
      groups_.push_back({&clustering,
                         static_cast<int32_t>(c),
                         schedule_of(graph_, cluster),
                         cluster.nodes,
                         cluster.nodes.back(),
                         {},
                         {},
                         is_probe});
    }
  }

  bool is_anchor_node(const KernelGroup& group, int32_t id) const {
    return group.cluster >= 0 &&
           group.clustering->clusters()[group.cluster].kind == ClusterKind::anchor &&
           info(graph_.node(id).op).op_class != OpClass::Elementwise;
  }

  // Whether the group computes the operand itself rather than loading it.
  bool inside(const KernelGroup& group, int32_t user, Value operand) const {
    if (std::binary_search(group.nodes.begin(), group.nodes.end(), operand.node)) return true;
    if (graph_.node(operand).op == Op::reshape || is_anchor_node(group, user)) return false;
    return group.clustering->recomputed(operand, group.cluster);
  }

  void find_loads(int32_t index) {
    std::set<Value> seen;
    for (int32_t node : groups_[index].nodes) find_loads_of(index, node, seen);
  }
  void find_loads_of(int32_t index, int32_t node, std::set<Value>& seen) {
    for (Value operand : graph_.node(node).inputs) {
      const KernelGroup& group = groups_[index];
      if (std::binary_search(group.nodes.begin(), group.nodes.end(), operand.node)) continue;
      if (!seen.insert(operand).second) continue;
      if (inside(group, node, operand)) {
        find_loads_of(index, operand.node, seen);
      } else {
        bool is_probe = group.is_probe;
        groups_[index].loads.push_back(operand);
        require(operand, is_probe);
      }
    }
  }

  // Makes the kernel that has the value store it.
  void require(Value value, bool by_probe) {
    value = strip_reshapes(graph_, value);
    const Node& node = graph_.node(value);
    if (node.op == Op::input) return;
    auto found = group_of_.find(value.node);
    if (found == group_of_.end()) {
      WEIR_CHECK(info(node.op).op_class == OpClass::Source, "{} (node {}) belongs to no kernel",
                 op_name(node.op), value.node);
      found = group_of_.emplace(value.node, groups_.size()).first;
      groups_.push_back(
          {&main_, -1, Schedule::elementwise, {value.node}, value.node, {}, {}, by_probe});
    }
    KernelGroup& group = groups_[found->second];
    if (!by_probe) group.is_probe = false;
    if (std::find(group.results.begin(), group.results.end(), value) == group.results.end())
      group.results.push_back(value);
  }

  GraphPtr region(const KernelGroup& group) {
    GraphEditor editor("region", Stage::lowered);
    std::map<Value, Value> map;
    for (size_t i = 0; i < group.loads.size(); ++i)
      map[group.loads[i]] = editor.input(fmt::format("x{}", i), graph_.type(group.loads[i]));
    for (int32_t node : group.nodes) copy_into(editor, group, node, map);
    for (Value result : group.results) editor.output("", map.at(result));
    return editor.finish();
  }
  void copy_into(GraphEditor& editor, const KernelGroup& group, int32_t id,
                 std::map<Value, Value>& map) {
    const Node& node = graph_.node(id);
    if (map.contains({id, 0})) return;
    if (info(node.op).op_class == OpClass::Source) {
      map[{id, 0}] = editor.add_source(node.op, node.types[0], node.attrs);
      return;
    }
    std::vector<Value> operands;
    for (Value operand : node.inputs) {
      if (!map.contains(operand)) copy_into(editor, group, operand.node, map);
      operands.push_back(map.at(operand));
    }
    std::vector<Value> results = editor.add_node(node.op, operands, node.attrs);
    for (size_t r = 0; r < results.size(); ++r) map[{id, static_cast<int32_t>(r)}] = results[r];
  }

  std::set<int32_t> dependencies(const KernelGroup& group) const {
    std::set<int32_t> result;
    for (Value load : group.loads) {
      auto found = group_of_.find(strip_reshapes(graph_, load).node);
      if (found != group_of_.end()) result.insert(static_cast<int32_t>(found->second));
    }
    return result;
  }

  GraphPtr emit() {
    GraphEditor editor(graph_.name(), Stage::fused);
    std::map<Value, Value> map;
    for (int32_t id : graph_.inputs())
      map[{id, 0}] = editor.input(graph_.input_name(id), graph_.node(id).types[0],
                                  graph_.node(id).attrs.get_bool("state"));
    auto mapped = [&](auto& self, Value value) -> Value {
      if (auto found = map.find(value); found != map.end()) return found->second;
      const Node& node = graph_.node(value);
      WEIR_CHECK(node.op == Op::reshape, "{} (node {}) was not stored", op_name(node.op),
                 value.node);
      return map[value] = editor.add(Op::reshape, {self(self, node.inputs[0])}, node.attrs);
    };
    std::map<Value, std::vector<int32_t>> probes_of;
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (graph_.node(id).op == Op::probe)
        probes_of[strip_reshapes(graph_, graph_.node(id).inputs[0])].push_back(id);
    auto emit_probes_of = [&](const std::vector<Value>& values) {
      std::vector<int32_t> probes;
      for (Value value : values)
        if (auto found = probes_of.find(value); found != probes_of.end())
          probes.insert(probes.end(), found->second.begin(), found->second.end());
      std::sort(probes.begin(), probes.end());
      for (int32_t id : probes)
        editor.add_node(Op::probe, {mapped(mapped, graph_.node(id).inputs[0])},
                        graph_.node(id).attrs);
    };
    std::vector<Value> inputs;
    for (int32_t id : graph_.inputs()) inputs.push_back({id, 0});
    emit_probes_of(inputs);
    std::vector<std::set<int32_t>> needed;
    for (const KernelGroup& group : groups_) needed.push_back(dependencies(group));
    for (int32_t index : running_order(groups_, needed)) {
      const KernelGroup& group = groups_[index];
      std::vector<Value> operands;
      for (Value load : group.loads) operands.push_back(mapped(mapped, load));
      std::vector<Value> results =
          editor.add_kernel(operands, {{"schedule", schedule_name(group.schedule)}}, region(group),
                            graph_.node(group.rank).where);
      for (size_t r = 0; r < results.size(); ++r) map[group.results[r]] = results[r];
      emit_probes_of(group.results);
    }
    for (const Output& output : graph_.outputs())
      editor.output(output.name, mapped(mapped, output.value));
    for (const auto& [name, value] : graph_.names())
      if (auto found = map.find(value); found != map.end()) editor.name(found->second, name);
    // A kernel all of whose values are recomputed by their users has nothing to store.
    return live_graph(editor.finish(), false);
  }

  const Graph& graph_;
  FuseOptions options_;
  std::vector<bool> main_mask_;
  Clustering main_;
  Clustering probe_;
  Grouping grouping_;
  std::vector<KernelGroup>& groups_ = grouping_.groups;
  std::map<int32_t, size_t>& group_of_ = grouping_.of_node;
};

}  // namespace

GraphPtr fuse(const GraphPtr& lowered, const FuseOptions& options) {
  return Fuser(*lowered, options).run();
}

}  // namespace weir
