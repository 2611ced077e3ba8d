#include "passes/fuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "ir/alias.h"
#include "ir/edit.h"
#include "passes/clusters.h"
#include "passes/dead_code.h"
#include "support/error.h"

namespace weir {
namespace {

// One kernel in the making: a cluster, or a single source that has to lie in memory.
struct Unit {
  const Clustering* clustering = nullptr;
  int32_t cluster = -1;  ///< -1 for a source
  std::string schedule;
  std::vector<int32_t> nodes;
  int32_t rank = 0;            ///< decides the order of running; of the main part's last node
  std::vector<Value> loads;    ///< what the kernel reads, as old values (perhaps behind a reshape)
  std::vector<Value> results;  ///< what it stores, ascending
  bool is_probe = false;
};

class Fuser {
 public:
  Fuser(const Graph& graph, const FuseOptions& options)
      : graph_(graph),
        options_(options),
        main_mask_(needed_by_outputs(graph)),
        main_(graph, main_mask_, options),
        probe_(graph, probe_mask(), options) {}

  GraphPtr run() {
    add_units(main_, false);
    add_units(probe_, true);
    join_statistics();
    join_reductions();
    for (size_t unit = 0; unit < units_.size(); ++unit)
      if (units_[unit].cluster >= 0) find_loads(static_cast<int32_t>(unit));
    for (int32_t id = 0; id < graph_.size(); ++id)
      if (graph_.node(id).op == Op::probe) require(graph_.node(id).inputs[0], true);
    for (const Output& output : graph_.outputs()) require(output.value, false);
    for (Unit& unit : units_) std::sort(unit.results.begin(), unit.results.end());
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
        for (Value input : graph_.node(id).inputs) needed[root(graph_, input).node] = true;
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

  void add_units(const Clustering& clustering, bool is_probe) {
    for (size_t c = 0; c < clustering.clusters().size(); ++c) {
      const Cluster& cluster = clustering.clusters()[c];
      if (cluster.nodes.empty()) continue;
      for (int32_t node : cluster.nodes) unit_of_.emplace(node, units_.size());
      units_.push_back({&clustering,
                        static_cast<int32_t>(c),
                        schedule_of(graph_, cluster),
                        cluster.nodes,
                        cluster.nodes.back(),
                        {},
                        {},
                        is_probe});
    }
  }

  // Statistics of attention weights come from the backward kernel of the same attention, where the
  // weights exist anyway; without one they are a kernel of their own. Those of the main part have
  // to stand behind it, or the gradient could depend on them.
  void join_statistics() {
    std::map<std::vector<Value>, std::vector<size_t>> gradients_of;  // units, by q, k and lse
    for (size_t u = 0; u < units_.size(); ++u) {
      if (units_[u].schedule != op_name(Op::attention_grad)) continue;
      const std::vector<Value>& of = graph_.node(units_[u].nodes[0]).inputs;
      gradients_of[{of[0], of[1], of[4]}].push_back(u);
    }
    for (Unit& statistics : units_) {
      if (statistics.schedule != op_name(Op::attention_stats)) continue;
      const Node& node = graph_.node(statistics.nodes[0]);
      Attrs attrs = node.attrs;
      attrs.erase("sink");
      for (size_t u : gradients_of[node.inputs]) {
        Unit& unit = units_[u];
        if (!statistics.is_probe && statistics.nodes[0] < unit.nodes[0]) continue;
        if (unit.nodes.size() > 1 || attrs != graph_.node(unit.nodes[0]).attrs) continue;
        unit.nodes.push_back(statistics.nodes[0]);
        unit_of_[statistics.nodes[0]] = u;
        statistics.nodes.clear();
        break;
      }
    }
  }

  // Reductions of a probe that need nothing but what a loop over the same elements has at hand - it
  // makes or reads them anyway - are computed there, which costs no pass over memory.
  void join_reductions() {
    for (size_t u = 0; u < units_.size(); ++u) list_home(u);
    for (size_t p = 0; p < units_.size(); ++p) {
      Unit& probe = units_[p];
      if (!probe.is_probe || probe.nodes.empty() || !only_reduces(probe)) continue;
      const std::optional<size_t> home = home_of(probe);
      if (!home) continue;
      Unit& unit = units_[*home];
      for (int32_t node : probe.nodes) unit_of_[node] = *home;
      unit.nodes.insert(unit.nodes.end(), probe.nodes.begin(), probe.nodes.end());
      std::sort(unit.nodes.begin(), unit.nodes.end());
      unit.schedule = "row";
      probe.nodes.clear();
      list_home(*home);
    }
  }

  // A loop of the main part under every value that it makes or reads.
  void list_home(size_t u) {
    const Unit& unit = units_[u];
    if (unit.is_probe || unit.cluster < 0 ||
        (unit.schedule != "row" && unit.schedule != "elementwise"))
      return;
    for (int32_t id : unit.nodes) {
      const Node& node = graph_.node(id);
      for (size_t r = 0; r < node.types.size(); ++r)
        homes_[{id, static_cast<int32_t>(r)}].insert(u);
      for (Value operand : node.inputs) homes_[operand].insert(u);
    }
  }

  // A row kernel without movements, all of whose results are values of rows.
  bool only_reduces(const Unit& probe) const {
    if (probe.schedule != "row") return false;
    const Shape& space = probe.clustering->clusters()[probe.cluster].space;
    return std::all_of(probe.nodes.begin(), probe.nodes.end(), [&](int32_t id) {
      const Node& node = graph_.node(id);
      const bool loop = info(node.op).op_class == OpClass::Elementwise ||
                        info(node.op).op_class == OpClass::Reduction;
      return loop && (node.types[0].shape == space || node.types[0].shape.back() == 1);
    });
  }

  // The loop of the main part that has all that the reductions read.
  std::optional<size_t> home_of(const Unit& probe) const {
    const Shape& space = probe.clustering->clusters()[probe.cluster].space;
    std::set<Value> read;
    for (int32_t id : probe.nodes)
      for (Value operand : graph_.node(id).inputs)
        if (!std::binary_search(probe.nodes.begin(), probe.nodes.end(), operand.node) &&
            (info(graph_.node(operand).op).op_class != OpClass::Source ||
             graph_.node(operand).op == Op::input))
          read.insert(operand);
    // A kernel that writes over an input must not read it twice.
    if (std::any_of(read.begin(), read.end(),
                    [&](Value value) { return graph_.node(root(graph_, value)).op == Op::input; }))
      return std::nullopt;
    if (read.empty()) return std::nullopt;
    const auto homes = homes_.find(*read.begin());
    if (homes == homes_.end()) return std::nullopt;
    for (size_t u : homes->second) {
      const Unit& unit = units_[u];
      if (unit.nodes.empty() || unit.clustering->clusters()[unit.cluster].space != space ||
          unit.nodes.size() + probe.nodes.size() > static_cast<size_t>(options_.max_nodes))
        continue;
      std::set<Value> there;
      bool moves = false;
      for (int32_t id : unit.nodes) {
        const Node& node = graph_.node(id);
        moves |= info(node.op).op_class == OpClass::Movement;
        for (size_t r = 0; r < node.types.size(); ++r) there.insert({id, static_cast<int32_t>(r)});
        there.insert(node.inputs.begin(), node.inputs.end());
      }
      if (!moves && std::includes(there.begin(), there.end(), read.begin(), read.end())) return u;
    }
    return std::nullopt;
  }

  bool is_anchor_node(const Unit& unit, int32_t id) const {
    return unit.cluster >= 0 &&
           unit.clustering->clusters()[unit.cluster].kind == ClusterKind::anchor &&
           info(graph_.node(id).op).op_class != OpClass::Elementwise;
  }

  // Whether the unit computes the operand itself rather than loading it.
  bool inside(const Unit& unit, int32_t user, Value operand) const {
    if (std::binary_search(unit.nodes.begin(), unit.nodes.end(), operand.node)) return true;
    if (graph_.node(operand).op == Op::reshape || is_anchor_node(unit, user)) return false;
    return unit.clustering->recomputed(operand, unit.cluster);
  }

  void find_loads(int32_t index) {
    std::set<Value> seen;
    for (int32_t node : units_[index].nodes) find_loads_of(index, node, seen);
  }
  void find_loads_of(int32_t index, int32_t node, std::set<Value>& seen) {
    for (Value operand : graph_.node(node).inputs) {
      const Unit& unit = units_[index];
      if (std::binary_search(unit.nodes.begin(), unit.nodes.end(), operand.node)) continue;
      if (!seen.insert(operand).second) continue;
      if (inside(unit, node, operand)) {
        find_loads_of(index, operand.node, seen);
      } else {
        bool is_probe = unit.is_probe;
        units_[index].loads.push_back(operand);
        require(operand, is_probe);
      }
    }
  }

  // Makes the kernel that has the value store it.
  void require(Value value, bool by_probe) {
    value = root(graph_, value);
    const Node& node = graph_.node(value);
    if (node.op == Op::input) return;
    auto found = unit_of_.find(value.node);
    if (found == unit_of_.end()) {
      WEIR_CHECK(info(node.op).op_class == OpClass::Source, "{} (node {}) belongs to no kernel",
                 op_name(node.op), value.node);
      found = unit_of_.emplace(value.node, units_.size()).first;
      units_.push_back({&main_, -1, "elementwise", {value.node}, value.node, {}, {}, by_probe});
    }
    Unit& unit = units_[found->second];
    if (!by_probe) unit.is_probe = false;
    if (std::find(unit.results.begin(), unit.results.end(), value) == unit.results.end())
      unit.results.push_back(value);
  }

  GraphPtr region(const Unit& unit) {
    GraphEditor editor("region", Stage::lowered);
    std::map<Value, Value> map;
    for (size_t i = 0; i < unit.loads.size(); ++i)
      map[unit.loads[i]] = editor.input(fmt::format("x{}", i), graph_.type(unit.loads[i]));
    for (int32_t node : unit.nodes) copy_into(editor, unit, node, map);
    for (Value result : unit.results) editor.output("", map.at(result));
    return editor.finish();
  }
  void copy_into(GraphEditor& editor, const Unit& unit, int32_t id, std::map<Value, Value>& map) {
    const Node& node = graph_.node(id);
    if (map.contains({id, 0})) return;
    if (info(node.op).op_class == OpClass::Source) {
      map[{id, 0}] = editor.add_source(node.op, node.types[0], node.attrs);
      return;
    }
    std::vector<Value> operands;
    for (Value operand : node.inputs) {
      if (!map.contains(operand)) copy_into(editor, unit, operand.node, map);
      operands.push_back(map.at(operand));
    }
    std::vector<Value> results = editor.add_node(node.op, operands, node.attrs);
    for (size_t r = 0; r < results.size(); ++r) map[{id, static_cast<int32_t>(r)}] = results[r];
  }

  std::set<int32_t> dependencies(const Unit& unit) const {
    std::set<int32_t> result;
    for (Value load : unit.loads) {
      auto found = unit_of_.find(root(graph_, load).node);
      if (found != unit_of_.end()) result.insert(static_cast<int32_t>(found->second));
    }
    return result;
  }

  // The main kernels in the order of their last nodes, dependencies first; each probe kernel as
  // soon as what it reads is there.
  std::vector<int32_t> order() const {
    std::vector<int32_t> ranked(units_.size()), sequence;
    for (size_t i = 0; i < ranked.size(); ++i) ranked[i] = static_cast<int32_t>(i);
    std::stable_sort(ranked.begin(), ranked.end(),
                     [&](int32_t a, int32_t b) { return units_[a].rank < units_[b].rank; });
    std::vector<bool> done(units_.size());
    std::function<void(int32_t)> visit = [&](int32_t unit) {
      if (done[unit]) return;
      done[unit] = true;
      for (int32_t dependency : dependencies(units_[unit])) visit(dependency);
      sequence.push_back(unit);
    };
    for (int32_t unit : ranked)
      if (!units_[unit].is_probe) visit(unit);
    return with_probe_units(sequence, ranked);
  }
  std::vector<int32_t> with_probe_units(const std::vector<int32_t>& main,
                                        const std::vector<int32_t>& ranked) const {
    std::vector<std::set<int32_t>> waiting(units_.size());
    std::vector<std::vector<int32_t>> users(units_.size());
    std::vector<int32_t> sequence, ready;
    for (int32_t unit : ranked) {
      if (!units_[unit].is_probe) continue;
      waiting[unit] = dependencies(units_[unit]);
      for (int32_t dependency : waiting[unit]) users[dependency].push_back(unit);
      if (waiting[unit].empty()) ready.push_back(unit);
    }
    auto drain = [&] {
      for (size_t i = 0; i < ready.size(); ++i) {
        sequence.push_back(ready[i]);
        for (int32_t user : users[ready[i]])
          if (waiting[user].erase(ready[i]) && waiting[user].empty()) ready.push_back(user);
      }
      ready.clear();
    };
    drain();
    for (int32_t unit : main) {
      sequence.push_back(unit);
      for (int32_t user : users[unit])
        if (waiting[user].erase(unit) && waiting[user].empty()) ready.push_back(user);
      drain();
    }
    WEIR_CHECK(sequence.size() == units_.size(), "{} of {} kernels could be ordered",
               sequence.size(), units_.size());
    return sequence;
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
        probes_of[root(graph_, graph_.node(id).inputs[0])].push_back(id);
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
    for (int32_t index : order()) {
      const Unit& unit = units_[index];
      std::vector<Value> operands;
      for (Value load : unit.loads) operands.push_back(mapped(mapped, load));
      std::vector<Value> results = editor.add_kernel(operands, {{"schedule", unit.schedule}},
                                                     region(unit), graph_.node(unit.rank).where);
      for (size_t r = 0; r < results.size(); ++r) map[unit.results[r]] = results[r];
      emit_probes_of(unit.results);
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
  std::vector<Unit> units_;
  std::map<int32_t, size_t> unit_of_;
  std::map<Value, std::set<size_t>> homes_;  // loops that have a value at hand
};

}  // namespace

GraphPtr fuse(const GraphPtr& lowered, const FuseOptions& options) {
  return Fuser(*lowered, options).run();
}

}  // namespace weir
