#pragma once
// Which nodes run in one kernel. Used by fuse; no other pass looks at clusters.
#include <optional>
#include <set>
#include <vector>

#include "ir/graph.h"
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
  /// Clusters the nodes with `take[node]`; nodes of `fixed` (an earlier clustering) are outside.
  Clustering(const Graph& graph, std::vector<bool> take, const FuseOptions& options);

  int32_t cluster_of(int32_t node) const { return cluster_of_[node]; }
  const std::vector<Cluster>& clusters() const { return clusters_; }
  /// Whether a kernel other than the value's own computes it anew instead of loading it, for a loop
  /// or an epilogue of its: it costs a few cheap operations on at most one large operand, or dear
  /// ones on one that the kernel loads anyway, or only column reductions use it.
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
  bool may_follow(int32_t cluster, int32_t product) const;
  // What a value is computed from when it is computed anew.
  struct Roots {
    bool dear;         ///< whether by moderately dear operations, too
    bool from_stored;  ///< whether to stop at what lies in memory anyway
    std::set<Value> values;
    bool goes_through(Op op) const;
  };
  void find_roots(Value value, int depth, Roots& roots) const;
  bool at_hand(Value value, int32_t cluster) const;
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

/// The schedule's name as kernels carry it.
std::string schedule_of(const Graph& graph, const Cluster& cluster);

}  // namespace weir
