#pragma once
// A task of the backward kernel: a sequence and a key head, with all its queries, and what the main
// sweep over its scores (backward.cpp) and the correction (backward_correction) have in common:
// loops over blocks of queries and keys, addresses, and products of blocks.
#include "codegen/attention/backward_prefetch.h"
#include "codegen/attention/memory.h"
#include "codegen/attention/plan.h"

namespace weir {

/// A block of queries of one head, and the first of them among the rows of the task.
struct QueryBlock {
  llvm::Value *h, *t0, *rows, *in_task;
};
/// A block of keys: its number in the panel, its first key, how many it has.
struct KeyBlock {
  llvm::Value *i, *j0, *count;
};

class BackwardTask {
 public:
  BackwardTask(const KernelMemory& memory, const BackwardPlan& plan, llvm::Value* b, llvm::Value* g)
      : e(memory.e), memory(memory), p(plan), use(plan.use), at(plan.scratch), b(b), g(g) {}

  Emitter& e;
  const KernelMemory& memory;
  const BackwardPlan& p;
  const BackwardBuffers& use;
  const BackwardScratch& at;
  llvm::Value *b, *g;

  KernelArray scratch(int64_t offset) const { return memory.scratch(offset); }
  BlockMatrix matrix(int64_t offset, int64_t row_stride) const {
    return memory.scratch_matrix(offset, row_stride);
  }
  /// The `i`-th block of keys of a panel in a part with `rows` rows a block.
  BlockMatrix in_panel(int64_t offset, llvm::Value* i, int64_t rows, int64_t row_stride) const {
    return {scratch(offset), e.mul(i, rows * row_stride), row_stride, 1};
  }
  KernelArray buffer(int position) const { return memory.buffer(position); }
  BlockMatrix rows_of_keys(int position, llvm::Value* j0) const {
    return head_rows(e, buffer(position), b, g, j0, p.S, p.G, p.d);
  }
  BlockMatrix rows_of_queries(int position, llvm::Value* h, llvm::Value* t0) const {
    return head_rows(e, buffer(position), b, h, t0, p.T, p.H, p.d);
  }
  /// Index of row t of head h in a [B,H,T] array.
  llvm::Value* statistic_row(llvm::Value* h, llvm::Value* t) const;
  /// Index of its reference in [B,H,2 or more,T]; its other numbers lie T behind each other.
  llvm::Value* reference_at(llvm::Value* h, llvm::Value* t) const;
  /// What the forward pass handed on of rows from an index of reference_at() on.
  RowState load_row(llvm::Value* at_row, int lanes, llvm::Value* mask = nullptr) const;
  /// One of the numbers kept by row, in every lane.
  llvm::Value* by_row(int64_t part, llvm::Value* in_task, int lanes) const {
    return e.load_broadcast(kScratch, scratch(part).base, in_task, lanes);
  }

  void for_each_head(const std::function<void(llvm::Value* in_group, llvm::Value* h)>& body) const;
  /// First keys of panels.
  void for_each_panel(const std::function<void(llvm::Value* panel)>& body) const;
  void for_each_block(llvm::Value* panel, const std::function<void(const KeyBlock&)>& body) const;
  /// From query `first` of every head on.
  void for_each_queries(
      llvm::Value* first,
      const std::function<void(llvm::Value* in_group, const QueryBlock&)>& body) const;
  /// The blocks of keys of a panel that some of the queries see.
  void for_each_pair(const QueryBlock& queries, llvm::Value* panel,
                     const std::function<void(const KeyBlock&)>& body) const;
  /// With a causal mask the queries before a panel see none of its keys.
  llvm::Value* first_query(llvm::Value* panel) const;
  /// Lanes of the block's keys from the c-th on that a query sees.
  llvm::Value* seen(const KeyBlock& keys, int64_t c, llvm::Value* query, int lanes) const;

  /// Keys, transposed for scores and as they are for gradients of queries.
  void pack_keys_transposed(const KeyBlock& keys) const;
  void copy_keys_in(const KeyBlock& keys) const;
  void copy_key_sums_out(const KeyBlock& keys) const;
  void copy_queries_in(const QueryBlock& queries, int position, int64_t part) const;
  void copy_query_sums_out(const QueryBlock& queries) const;

  // Products of blocks, with prefetches between register blocks unless `prefetch` is null.
  /// Rows of `part` times the transposed keys or values of a block: [query][key].
  void emit_scores(const QueryBlock& queries, const KeyBlock& keys, int64_t part,
                   int64_t transposed, int64_t to, const BackwardPrefetch* prefetch) const;
  /// Adds to rows of keys: the chains go over the queries that see a register block's first key.
  void add_by_key(const QueryBlock& queries, const KeyBlock& keys, int64_t part, int64_t other,
                  int64_t to, const BackwardPrefetch* prefetch) const;
  /// Adds to rows of queries: the chains go over the keys that a register block's last query sees.
  void add_by_query(const QueryBlock& queries, const KeyBlock& keys,
                    const BackwardPrefetch* prefetch) const;

 private:
  void emit_product(BlockProduct& product, const BackwardPrefetch* prefetch) const;
  llvm::Value* at_least_zero(llvm::Value* index) const;
};

}  // namespace weir
