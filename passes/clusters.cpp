#include "passes/clusters.h"

#include <algorithm>

#include "ir/alias.h"
#include "support/error.h"

namespace weir {
namespace {

bool is_source(const Node& node) { return info(node.op).op_class == OpClass::Source; }
bool is_elementwise(const Node& node) { return info(node.op).op_class == OpClass::Elementwise; }
bool is_reduction(const Node& node) { return info(node.op).op_class == OpClass::Reduction; }
bool is_movement(const Node& node) {
  return info(node.op).op_class == OpClass::Movement && node.op != Op::reshape;
}

bool reduces_last_axis(const Graph& graph, const Node& node) {
  return is_reduction(node) &&
         node.attrs.get_ints("axes").back() == graph.type(node.inputs[0]).rank() - 1;
}
bool is_column_reduction(const Graph& graph, const Node& node) {
  return is_reduction(node) && !reduces_last_axis(graph, node);
}

Shape row_shape(Shape space) {
  if (!space.empty()) space.back() = 1;
  return space;
}

}  // namespace

Schedule schedule_of(const Graph& graph, const Cluster& cluster) {
  switch (cluster.kind) {
    case ClusterKind::elementwise:
      return Schedule::elementwise;
    case ClusterKind::row:
      return Schedule::row;
    case ClusterKind::column:
      return Schedule::column;
    case ClusterKind::anchor:
      break;
  }
  for (int32_t id : cluster.nodes)
    if (const auto schedule = schedule_of_anchor(graph.node(id).op)) return *schedule;
  internal_error_at("an anchor cluster without an anchor");
}

Clustering::Clustering(const Graph& graph, std::vector<bool> take, const FuseOptions& options)
    : graph_(graph),
      options_(options),
      take_(std::move(take)),
      column_only_(graph.nodes().size()),
      users_(graph.nodes().size()),
      is_output_(graph.nodes().size()),
      cluster_of_(graph.nodes().size(), -1),
      stored_(graph.nodes().size()) {
  for (int32_t id = 0; id < graph.size(); ++id) {
    if (!take_[id] || graph.node(id).op == Op::reshape) continue;
    for (Value input : graph.node(id).inputs)
      users_[strip_reshapes(graph, input).node].push_back(id);
  }
  for (const Output& output : graph.outputs())
    is_output_[strip_reshapes(graph, output.value).node] = true;
  find_column_only();
  for (int32_t id = 0; id < graph.size(); ++id)
    if (take_[id] && !column_only_[id]) place(id);
  attach_epilogues();
}

bool Clustering::is_loop(int32_t node) const {
  int32_t cluster = cluster_of_[node];
  return cluster >= 0 && (clusters_[cluster].kind == ClusterKind::elementwise ||
                          clusters_[cluster].kind == ClusterKind::row);
}

void Clustering::find_column_only() {
  for (int32_t id = graph_.size() - 1; id >= 0; --id) {
    const Node& node = graph_.node(id);
    if (!take_[id] || !is_elementwise(node) || is_output_[id] || users_[id].empty()) continue;
    column_only_[id] = std::all_of(users_[id].begin(), users_[id].end(), [&](int32_t user) {
      // A use behind a reshape needs the value in memory.
      const auto& inputs = graph_.node(user).inputs;
      bool direct = std::find(inputs.begin(), inputs.end(), Value{id, 0}) != inputs.end();
      return direct && (column_only_[user] || is_column_reduction(graph_, graph_.node(user)));
    });
  }
}

void Clustering::place(int32_t id) {
  const Node& node = graph_.node(id);
  if (is_source(node) || node.op == Op::reshape || info(node.op).has(op_trait::Effect)) return;
  if (is_movement(node)) return place_movement(id);
  if (is_column_reduction(graph_, node)) {
    new_cluster(ClusterKind::column, graph_.type(node.inputs[0]).shape, id);
    return;
  }
  if (is_elementwise(node) || is_reduction(node)) {
    const Shape& space =
        is_reduction(node) ? graph_.type(node.inputs[0]).shape : node.types[0].shape;
    int32_t cluster = merge_operands(id, space);
    if (cluster < 0)
      cluster = new_cluster(ClusterKind::elementwise, space, id);
    else
      add_to(cluster, id);
    if (is_reduction(node)) clusters_[cluster].kind = ClusterKind::row;
    return;
  }
  new_cluster(ClusterKind::anchor, node.types[0].shape, id);
}

// A movement node evaluates its operand at other indices. It takes its operand's cluster along if
// that has no reduction, serves nobody else, and leaves the kernel within its operands; otherwise
// it loads the operand.
void Clustering::place_movement(int32_t id) {
  const Node& node = graph_.node(id);
  int32_t cluster = new_cluster(ClusterKind::elementwise, node.types[0].shape, id);
  for (Value input : node.inputs) {
    int32_t producer = cluster_of_[input.node];
    if (producer < 0 || producer == cluster || clusters_[producer].nodes.empty() ||
        clusters_[producer].kind != ClusterKind::elementwise)
      continue;
    const std::vector<int32_t>& nodes = clusters_[producer].nodes;
    bool private_use = std::all_of(nodes.begin(), nodes.end(), [&](int32_t member) {
      return !is_output_[member] &&
             std::all_of(users_[member].begin(), users_[member].end(), [&](int32_t user) {
               const auto& inputs = graph_.node(user).inputs;
               bool direct =
                   std::find(inputs.begin(), inputs.end(), Value{member, 0}) != inputs.end();
               return direct && (cluster_of_[user] == producer || cluster_of_[user] == cluster);
             });
    });
    int32_t total = static_cast<int32_t>(nodes.size() + clusters_[cluster].nodes.size());
    if (!private_use || total > options_.max_nodes) continue;
    std::set<Value> operands = loads(nodes, producer);
    operands.merge(loads(clusters_[cluster].nodes, cluster));
    // The producer's own value is no operand any more.
    std::erase_if(operands, [&](Value value) { return cluster_of_[value.node] == producer; });
    if (static_cast<int>(operands.size()) <= info(Op::kernel).inputs_max) merge(cluster, producer);
  }
}

// The cluster that `id` joins: the union of its operands' clusters over the same space, as far as
// no cycle arises; -1 if there is none.
int32_t Clustering::merge_operands(int32_t id, const Shape& space) {
  int32_t target = -1;
  const std::vector<Value>& inputs = graph_.node(id).inputs;
  for (auto input = inputs.rbegin(); input != inputs.rend(); ++input) {
    if (!is_loop(input->node)) continue;
    int32_t candidate = cluster_of_[input->node];
    if (candidate == target) continue;
    const Cluster& cluster = clusters_[candidate];
    bool row_value = cluster.kind == ClusterKind::row && space == row_shape(cluster.space) &&
                     !is_reduction(graph_.node(id));
    if (cluster.space != space && !row_value) continue;
    std::set<Value> operands = loads({id}, candidate);
    operands.merge(loads(cluster.nodes, candidate));
    if (static_cast<int>(cluster.nodes.size()) >= options_.max_nodes ||
        static_cast<int>(operands.size()) > options_.max_operands ||
        !joins_without_cycle(id, candidate))
      continue;
    if (target < 0) {
      target = candidate;
    } else if (cluster.space == clusters_[target].space && mergeable(target, candidate)) {
      merge(target, candidate);
      if (!joins_without_cycle(id, target)) internal_error_at("a merge closed a cycle");
    }
  }
  return target;
}

bool Clustering::mergeable(int32_t a, int32_t b) const {
  size_t nodes = clusters_[a].nodes.size() + clusters_[b].nodes.size();
  if (static_cast<int>(nodes) > options_.max_nodes) return false;
  std::set<Value> operands = loads(clusters_[a].nodes, a);
  operands.merge(loads(clusters_[b].nodes, b));
  if (static_cast<int>(operands.size()) > options_.max_operands) return false;
  const auto reads = [&](int32_t reader, int32_t read) {
    const std::vector<int32_t>& members = clusters_[reader].nodes;
    return std::any_of(members.begin(), members.end(),
                       [&](int32_t member) { return reads_elsewhere(member, read); });
  };
  return !reads(a, b) && !reads(b, a) && !depends_through_others(a, b) &&
         !depends_through_others(b, a);
}

// Whether a node reads a value of a cluster at other places than its own: behind a reshape, or in a
// column that is computed again. A kernel cannot load what it computes itself.
bool Clustering::reads_elsewhere(int32_t node, int32_t cluster) const {
  for (Value input : graph_.node(node).inputs) {
    const Value value = strip_reshapes(graph_, input);
    if (cluster_of_[value.node] == cluster && value != input) return true;
    if (cluster_of_[value.node] >= 0 || !column_only_[value.node]) continue;
    std::set<int32_t> read;
    dependencies_of_node(value.node, read);
    if (read.contains(cluster)) return true;
  }
  return false;
}

bool Clustering::joins_without_cycle(int32_t node, int32_t cluster) const {
  if (reads_elsewhere(node, cluster)) return false;
  std::set<int32_t> others;
  dependencies_of_node(node, others);
  others.erase(cluster);
  return !reaches(others, cluster);
}

// Whether `from` depends on `on` by way of a third cluster.
bool Clustering::depends_through_others(int32_t from, int32_t on) const {
  std::set<int32_t> others = dependencies(from);
  others.erase(on);
  return reaches(others, on);
}

// Whether one of several clusters depends on another. It is looked for from both ends, from the one
// that took less work so far: a gradient's way back to the forward pass is short at one end, the
// way from a gradient through the norm of all to an update at the other.
bool Clustering::reaches(const std::set<int32_t>& from, int32_t target) const {
  ++search_;
  met_from_.resize(clusters_.size());
  met_to_.resize(clusters_.size());
  std::vector<int32_t> back, forth = {target};
  // Marks and stores a cluster; true if the other end has met it.
  const auto meet = [&](int32_t cluster, std::vector<uint32_t>& own, std::vector<uint32_t>& other,
                        std::vector<int32_t>& stack) {
    if (other[cluster] == search_) return true;
    if (own[cluster] == search_) return false;
    own[cluster] = search_;
    stack.push_back(cluster);
    return false;
  };
  met_to_[target] = search_;
  for (int32_t cluster : from)
    if (meet(cluster, met_from_, met_to_, back)) return true;
  for (size_t back_work = 0, forth_work = 0; !back.empty() && !forth.empty();) {
    const bool goes_back = back_work <= forth_work;
    std::vector<int32_t>& stack = goes_back ? back : forth;
    const int32_t current = stack.back();
    stack.pop_back();
    const std::set<int32_t> next = goes_back ? dependencies(current) : dependents(current);
    (goes_back ? back_work : forth_work) += 1 + next.size();
    // The oldest is taken up first.
    for (auto cluster = next.rbegin(); cluster != next.rend(); ++cluster)
      if (goes_back ? meet(*cluster, met_from_, met_to_, back)
                    : meet(*cluster, met_to_, met_from_, forth))
        return true;
  }
  return false;
}

std::set<int32_t> Clustering::dependencies(int32_t cluster) const {
  std::set<int32_t> result;
  for (int32_t node : clusters_[cluster].nodes) dependencies_of_node(node, result);
  result.erase(cluster);
  return result;
}

void Clustering::dependencies_of_node(int32_t node, std::set<int32_t>& result) const {
  for (Value input : graph_.node(node).inputs) {
    Value value = strip_reshapes(graph_, input);
    if (cluster_of_[value.node] >= 0)
      result.insert(cluster_of_[value.node]);
    else if (column_only_[value.node])
      dependencies_of_node(value.node, result);
  }
}

// The inverse of dependencies.
std::set<int32_t> Clustering::dependents(int32_t cluster) const {
  std::set<int32_t> result;
  for (int32_t node : clusters_[cluster].nodes) dependents_of_node(node, result);
  result.erase(cluster);
  return result;
}

void Clustering::dependents_of_node(int32_t node, std::set<int32_t>& result) const {
  for (int32_t user : users_[node]) {
    if (cluster_of_[user] >= 0)
      result.insert(cluster_of_[user]);
    else if (column_only_[user])
      dependents_of_node(user, result);
  }
}

// What nodes of a cluster read from outside it, constants aside.
std::set<Value> Clustering::loads(const std::vector<int32_t>& nodes, int32_t cluster) const {
  std::set<Value> result;
  for (int32_t node : nodes)
    for (Value input : graph_.node(node).inputs)
      if (cluster_of_[input.node] != cluster || cluster < 0)
        if (graph_.node(input).op == Op::input || !is_source(graph_.node(input)))
          result.insert(input);
  return result;
}

void Clustering::merge(int32_t into, int32_t from) {
  Cluster& a = clusters_[into];
  Cluster& b = clusters_[from];
  for (int32_t node : b.nodes) cluster_of_[node] = into;
  std::vector<int32_t> nodes;
  std::merge(a.nodes.begin(), a.nodes.end(), b.nodes.begin(), b.nodes.end(),
             std::back_inserter(nodes));
  a.nodes = std::move(nodes);
  if (b.kind == ClusterKind::row) a.kind = ClusterKind::row;
  b.nodes.clear();
}

// Elementwise clusters that read a product become its epilogue. What others read of it is stored as
// well, so an epilogue saves a pass over memory at least.
void Clustering::attach_epilogues() {
  for (int32_t id = 0; id < graph_.size(); ++id) {
    if (!take_[id] || graph_.node(id).op != Op::matmul) continue;
    const int32_t anchor = cluster_of_[id];
    for (int32_t user : users_[id]) {
      const int32_t cluster = cluster_of_[user];
      if (cluster >= 0 && cluster != anchor && can_fuse_into(cluster, id) &&
          mergeable(anchor, cluster))
        merge(anchor, cluster);
    }
  }
}

// Whether a cluster computes element by element over the product's elements.
bool Clustering::can_fuse_into(int32_t cluster, int32_t product) const {
  const Shape& space = graph_.node(product).types[0].shape;
  if (clusters_[cluster].kind != ClusterKind::elementwise || clusters_[cluster].space != space)
    return false;
  const std::vector<int32_t>& nodes = clusters_[cluster].nodes;
  return std::all_of(nodes.begin(), nodes.end(), [&](int32_t member) {
    const Node& node = graph_.node(member);
    return is_elementwise(node) && node.types[0].shape == space;
  });
}

bool Clustering::recomputed(Value value, int32_t consumer) const {
  const Node& node = graph_.node(value);
  if (is_source(node)) return node.op != Op::input;
  if (column_only_[value.node]) return true;
  if (!is_elementwise(node) || is_output_[value.node] || cluster_of_[value.node] < 0 ||
      cluster_of_[value.node] == consumer)
    return false;
  for (const OpCost most : {OpCost::Cheap, OpCost::Moderate})
    for (const bool from_stored : {false, true})
      if (recompute_pays(value, consumer, {most, from_stored})) return true;
  return false;
}

// Whether computing a value again in one way takes less time than storing and loading it: one large
// operand is loaded in its place at most, and operations that are not cheap need one that costs no
// load at all.
bool Clustering::recompute_pays(Value value, int32_t consumer, Recipe recipe) const {
  const Node& node = graph_.node(value);
  if (info(node.op).cost > recipe.most) return false;
  constexpr int kDepth = 3;
  std::set<Value> operands;
  for (Value input : node.inputs) find_operands(input, kDepth, recipe, operands);
  std::erase_if(operands, [&](Value operand) {
    return graph_.type(operand).elements() * 8 <= graph_.type(value).elements();
  });
  if (operands.size() > 1) return false;
  if (recipe.most == OpCost::Cheap) return true;
  return operands.size() == 1 && available_in(*operands.begin(), consumer);
}

// What a value is computed from by a recipe, itself if the recipe does not compute it. Operations
// that are repeated go at most `depth` steps back.
void Clustering::find_operands(Value value, int depth, Recipe recipe,
                               std::set<Value>& operands) const {
  const Node& node = graph_.node(value);
  if (is_source(node) && node.op != Op::input) return;
  const bool is_repeated = depth > 0 && cluster_of_[value.node] >= 0 && is_elementwise(node) &&
                           info(node.op).cost <= recipe.most &&
                           !(recipe.from_stored && is_stored(value));
  if (!is_repeated) {
    operands.insert(value);
    return;
  }
  for (Value input : node.inputs) find_operands(input, depth - 1, recipe, operands);
}

// Whether a cluster computes a value or loads it in any case.
bool Clustering::available_in(Value value, int32_t cluster) const {
  if (cluster < 0) return false;
  const std::vector<int32_t>& nodes = clusters_[cluster].nodes;
  return cluster_of_[value.node] == cluster ||
         std::any_of(nodes.begin(), nodes.end(), [&](int32_t member) {
           const std::vector<Value>& inputs = graph_.node(member).inputs;
           return is_elementwise(graph_.node(member)) &&
                  std::find(inputs.begin(), inputs.end(), value) != inputs.end();
         });
}

// Whether a kernel other than its own loads the value, so that it lies in memory anyway.
bool Clustering::is_stored(Value value) const {
  if (is_output_[value.node]) return true;
  if (const std::optional<bool> found = stored_[value.node]) return *found;
  const bool stored =
      std::any_of(users_[value.node].begin(), users_[value.node].end(), [&](int32_t user) {
        const int32_t cluster = cluster_of_[user];
        if (cluster < 0 || cluster == cluster_of_[value.node]) return false;
        const std::vector<Value>& inputs = graph_.node(user).inputs;
        const bool direct = std::find(inputs.begin(), inputs.end(), value) != inputs.end();
        const bool by_anchor =
            clusters_[cluster].kind == ClusterKind::anchor && !is_elementwise(graph_.node(user));
        return !direct || by_anchor || !recomputed(value, cluster);
      });
  stored_[value.node] = stored;
  return stored;
}

int32_t Clustering::new_cluster(ClusterKind kind, Shape space, int32_t node) {
  clusters_.push_back({kind, std::move(space), {node}});
  cluster_of_[node] = static_cast<int32_t>(clusters_.size()) - 1;
  return cluster_of_[node];
}

void Clustering::add_to(int32_t cluster, int32_t node) {
  clusters_[cluster].nodes.push_back(node);
  cluster_of_[node] = cluster;
}

}  // namespace weir
