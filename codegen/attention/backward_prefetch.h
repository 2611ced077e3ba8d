#pragma once
// What the backward kernel prefetches beside the products of a block of queries.
#include "codegen/attention/prefetch.h"

namespace weir {

class BackwardTask;
struct QueryBlock;

struct BackwardCounters {
  PrefetchCounter queries, keys;
};

struct BackwardPrefetch {
  Prefetcher queries, keys;

  void issue() const {
    queries.issue();
    keys.issue();
  }
};

/// Where the sweep over a task is: a block of queries of the in_group-th head, with a panel of keys
/// whose first query is `first`; then the task that comes next, as sequence and key head.
struct BackwardPosition {
  const QueryBlock& queries;
  llvm::Value *panel, *in_group, *first;
  llvm::Value *next_b, *next_g;
};

/// Emits the choice of what comes next: a block of queries, and with each of them a part of the
/// next panel of keys; and where the results of this one go.
BackwardPrefetch plan_prefetch(const BackwardTask& task, const BackwardCounters& counters,
                               const BackwardPosition& position);

}  // namespace weir
