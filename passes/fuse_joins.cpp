// What of one kernel is computed in another.
#include <algorithm>
#include <optional>

#include "ir/alias.h"
#include "passes/kernel_group.h"

namespace weir {

void join_statistics(const Graph& graph, Grouping& grouping) {
  std::map<std::vector<Value>, std::vector<size_t>> gradients_of;  // groups, by q, k and lse
  for (size_t u = 0; u < grouping.groups.size(); ++u) {
    if (grouping.groups[u].schedule != Schedule::attention_grad) continue;
    const std::vector<Value>& of = graph.node(grouping.groups[u].nodes[0]).inputs;
    gradients_of[{of[0], of[1], of[4]}].push_back(u);
  }
  for (KernelGroup& statistics : grouping.groups) {
    if (statistics.schedule != Schedule::attention_stats) continue;
    const Node& node = graph.node(statistics.nodes[0]);
    Attrs attrs = node.attrs;
    attrs.erase("sink");
    for (size_t u : gradients_of[node.inputs]) {
      KernelGroup& group = grouping.groups[u];
      if (!statistics.is_probe && statistics.nodes[0] < group.nodes[0]) continue;
      if (group.nodes.size() > 1 || attrs != graph.node(group.nodes[0]).attrs) continue;
      group.nodes.push_back(statistics.nodes[0]);
      grouping.of_node[statistics.nodes[0]] = u;
      statistics.nodes.clear();
      break;
    }
  }
}

namespace {

class ReductionJoiner {
 public:
  ReductionJoiner(const Graph& graph, const FuseOptions& options, Grouping& grouping)
      : graph_(graph), options_(options), grouping_(grouping), groups_(grouping.groups) {}

  void run() {
    for (size_t u = 0; u < groups_.size(); ++u) index_loop(u);
    for (size_t p = 0; p < groups_.size(); ++p) {
      KernelGroup& probe = groups_[p];
      if (!probe.is_probe || probe.nodes.empty() || !only_reduces(probe)) continue;
      const std::optional<size_t> host = host_of(probe);
      if (!host) continue;
      KernelGroup& group = groups_[*host];
      for (int32_t node : probe.nodes) grouping_.of_node[node] = *host;
      group.nodes.insert(group.nodes.end(), probe.nodes.begin(), probe.nodes.end());
      std::sort(group.nodes.begin(), group.nodes.end());
      group.schedule = Schedule::row;
      probe.nodes.clear();
      index_loop(*host);
    }
  }

 private:
  // Enters a loop of the main part under every value that it computes or loads.
  void index_loop(size_t u) {
    const KernelGroup& group = groups_[u];
    if (group.is_probe || group.cluster < 0 ||
        (group.schedule != Schedule::row && group.schedule != Schedule::elementwise))
      return;
    for (int32_t id : group.nodes) {
      const Node& node = graph_.node(id);
      for (size_t r = 0; r < node.types.size(); ++r)
        loops_with_[{id, static_cast<int32_t>(r)}].insert(u);
      for (Value operand : node.inputs) loops_with_[operand].insert(u);
    }
  }

  // A row kernel without movements, all of whose results are values of rows.
  bool only_reduces(const KernelGroup& probe) const {
    if (probe.schedule != Schedule::row) return false;
    const Shape& space = probe.clustering->clusters()[probe.cluster].space;
    return std::all_of(probe.nodes.begin(), probe.nodes.end(), [&](int32_t id) {
      const Node& node = graph_.node(id);
      const bool loop = info(node.op).op_class == OpClass::Elementwise ||
                        info(node.op).op_class == OpClass::Reduction;
      return loop && (node.types[0].shape == space || node.types[0].shape.back() == 1);
    });
  }

  // The loop of the main part that has all that the reductions read.
  std::optional<size_t> host_of(const KernelGroup& probe) const {
    const Shape& space = probe.clustering->clusters()[probe.cluster].space;
    std::set<Value> read;
    for (int32_t id : probe.nodes)
      for (Value operand : graph_.node(id).inputs)
        if (!std::binary_search(probe.nodes.begin(), probe.nodes.end(), operand.node) &&
            (info(graph_.node(operand).op).op_class != OpClass::Source ||
             graph_.node(operand).op == Op::input))
          read.insert(operand);
    // A kernel that writes over an input must not read it twice.
    if (std::any_of(read.begin(), read.end(), [&](Value value) {
          return graph_.node(strip_reshapes(graph_, value)).op == Op::input;
        }))
      return std::nullopt;
    if (read.empty()) return std::nullopt;
    const auto hosts = loops_with_.find(*read.begin());
    if (hosts == loops_with_.end()) return std::nullopt;
    for (size_t u : hosts->second) {
      const KernelGroup& group = groups_[u];
      if (group.nodes.empty() || group.clustering->clusters()[group.cluster].space != space ||
          group.nodes.size() + probe.nodes.size() > static_cast<size_t>(options_.max_nodes))
        continue;
      std::set<Value> there;
      bool moves = false;
      for (int32_t id : group.nodes) {
        const Node& node = graph_.node(id);
        moves |= info(node.op).op_class == OpClass::Movement;
        for (size_t r = 0; r < node.types.size(); ++r) there.insert({id, static_cast<int32_t>(r)});
        there.insert(node.inputs.begin(), node.inputs.end());
      }
      if (!moves && std::includes(there.begin(), there.end(), read.begin(), read.end())) return u;
    }
    return std::nullopt;
  }

  const Graph& graph_;
  const FuseOptions& options_;
  Grouping& grouping_;
  std::vector<KernelGroup>& groups_;
  std::map<Value, std::set<size_t>> loops_with_;  ///< by value: the loops that compute or load it
};

}  // namespace

void join_reductions(const Graph& graph, const FuseOptions& options, Grouping& grouping) {
  ReductionJoiner(graph, options, grouping).run();
}

}  // namespace weir
