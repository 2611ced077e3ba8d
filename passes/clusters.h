#pragma once
// Which nodes run in one kernel. Used by fuse; no other pass looks at clusters.
//
// A cluster is a set of nodes that one kernel computes in one pass over its iteration space. They
// are found in three steps:
//
//   1. Elementwise values that only column reductions use belong to no cluster: each column kernel
//      computes them itself (find_column_only).
//   2. In topological order, each node joins the clusters of its operands that have its iteration
//      space, which become one; a node that can join none starts a cluster (place). A cluster does
//      not grow beyond FuseOptions, and never so that two clusters would depend on each other
//      (joins_without_cycle, mergeable).
//   3. Elementwise clusters that read a product and have its shape become its epilogue
//      (attach_epilogues).
//
// What kernels of other clusters need of a value is then either stored and loaded, or computed
// again where it is needed (`recomputed`): a load costs more than a few operations on something
// that is loaded anyway.
#include <optional>
#include <set>
#include <vector>

#include "ir/schedule.h"
#include "passes/fuse.h"

namespace weir {

/// The schedule of a cluster; `matmul`, `attention` ... hold one anchor and, for matmul, an
/// elementwise epilogue, which may read other large values, too.
enum class ClusterKind : uint8_t { elementwise, row, column, anchor };

struct Cluster {
  ClusterKind kind = ClusterKind::elementwise;
  Shape space;                 ///< iteration space
  std::vector<int32_t> nodes;  ///< ascending
};

/// The assignment of nodes to clusters. Sources and column-only values belong to none: each kernel
/// that needs one computes it.
class Clustering {
 public:
  /// Clusters the nodes with `take[node]`; all others are outside, and what they compute is loaded.
  Clustering(const Graph& graph, std::vector<bool> take, const FuseOptions& options);

  int32_t cluster_of(int32_t node) const { return cluster_of_[node]; }
  const std::vector<Cluster>& clusters() const { return clusters_; }
  /// Whether the kernel of another cluster, `consumer`, computes a value again in its loop or
  /// epilogue instead of loading it: cheap operations (OpCost) on one large operand at most, or
  /// moderate ones on one that the kernel loads or computes in any case, or what only column
  /// reductions use.
  bool recomputed(Value value, int32_t consumer) const;

 private:
  bool is_loop(int32_t node) const;
  void find_column_only();
  void place(int32_t node);
  void place_movement(int32_t node);
  int32_t merge_operands(int32_t node, const Shape& space);
  bool mergeable(int32_t a, int32_t b) const;
  bool reads_elsewhere(int32_t node, int32_t cluster) const;
  bool joins_without_cycle(int32_t node, int32_t cluster) const;
  bool depends_through_others(int32_t from, int32_t on) const;
  bool reaches(const std::set<int32_t>& from, int32_t target) const;
  std::set<int32_t> dependencies(int32_t cluster) const;
  void dependencies_of_node(int32_t node, std::set<int32_t>& result) const;
  std::set<int32_t> dependents(int32_t cluster) const;
  void dependents_of_node(int32_t node, std::set<int32_t>& result) const;
  std::set<Value> loads(const std::vector<int32_t>& nodes, int32_t cluster) const;
  void merge(int32_t into, int32_t from);
  void attach_epilogues();
  bool can_fuse_into(int32_t cluster, int32_t product) const;
  // A way of computing a value again.
  struct Recipe {
    OpCost most;       ///< the most expensive operations that are repeated
    bool from_stored;  ///< whether to stop at what lies in memory in any case
  };
  bool recompute_pays(Value value, int32_t consumer, Recipe recipe) const;
  void find_operands(Value value, int depth, Recipe recipe, std::set<Value>& operands) const;
  bool available_in(Value value, int32_t cluster) const;
  bool is_stored(Value value) const;
  int32_t new_cluster(ClusterKind kind, Shape space, int32_t node);
  void add_to(int32_t cluster, int32_t node);

  const Graph& graph_;
  FuseOptions options_;
  std::vector<bool> take_;
  std::vector<bool> column_only_;
  std::vector<std::vector<int32_t>> users_;  ///< taken users of each node, behind reshapes
  std::vector<bool> is_output_;
  std::vector<int32_t> cluster_of_;
  std::vector<Cluster> clusters_;
  mutable std::vector<std::optional<bool>> stored_;  ///< what is_stored found
  mutable std::vector<uint32_t> met_from_, met_to_;  ///< the last search that met each cluster
  mutable uint32_t search_ = 0;
};

Schedule schedule_of(const Graph& graph, const Cluster& cluster);

}  // namespace weir
