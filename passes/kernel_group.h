#pragma once
// Kernels in the making: what fuse and its helpers pass to each other.
#include <map>
#include <set>
#include <vector>

#include "passes/clusters.h"

namespace weir {

/// The nodes of one kernel: a cluster, or a single source that has to lie in memory.
struct KernelGroup {
  const Clustering* clustering = nullptr;
  int32_t cluster = -1;  ///< -1 for a source
  Schedule schedule = Schedule::elementwise;
  std::vector<int32_t> nodes;
  int32_t rank = 0;            ///< decides the order of running; of the main part's last node
  std::vector<Value> loads;    ///< what the kernel loads, as old values (perhaps behind a reshape)
  std::vector<Value> results;  ///< what it stores, ascending
  bool is_probe = false;
};

struct Grouping {
  std::vector<KernelGroup> groups;  ///< one without nodes has been joined to another
  std::map<int32_t, size_t> of_node;
};

/// Statistics of attention weights come from the backward kernel of the same attention, where the
/// weights exist anyway; without one they are a kernel of their own. Those of the main part have to
/// stand behind it, or the gradient could depend on them.
void join_statistics(const Graph& graph, Grouping& grouping);

/// Reductions of a probe that need nothing but what a loop over the same elements computes or loads
/// in any case are computed there, which costs no pass over memory.
void join_reductions(const Graph& graph, const FuseOptions& options, Grouping& grouping);

/// The main kernels in the order of their last nodes, dependencies first; each probe kernel as soon
/// as what it reads is there. `dependencies`: of each group, the groups whose results it loads.
std::vector<int32_t> running_order(const std::vector<KernelGroup>& groups,
                                   const std::vector<std::set<int32_t>>& dependencies);

}  // namespace weir
