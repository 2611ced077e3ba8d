#pragma once
// Statistics of the weights, which the backward kernel computes beside gradients or alone: sums of
// columns, entropy, the sink's column, the largest weight and the sum of each row. All but the last
// are of a[t,s] / r[t], here called shares.
#include "codegen/attention/backward_task.h"

namespace weir {

class AttentionStatistics {
 public:
  explicit AttentionStatistics(const BackwardTask& task)
      : task_(task), e_(task.e), p_(task.p), use_(task.use) {}

  /// Zeros in the statistics of a vector of rows, from the index `row` of a [B,H,T] array on.
  void clear_rows(llvm::Value* row, llvm::Value* present) const;
  /// Zeros in the sums of a head's columns.
  void clear_columns(llvm::Value* h) const;
  /// Of a vector of rows what follows from their sums; `in_task` is the first of them there.
  void start_rows(const RowState& state, llvm::Value* divisor, llvm::Value* row,
                  llvm::Value* in_task, llvm::Value* present) const;

  /// Where the shares of a pair of blocks lie.
  int64_t shares() const { return p_.divides ? task_.at.shares : task_.at.weights; }

  /// Of one row and a block of keys, by lane.
  struct RowAccumulators {
    llvm::Value *entropy_acc, *largest;
  };
  RowAccumulators start_row() const;
  /// Numerators to shares, where these are no weights.
  llvm::Value* share(llvm::Value* numerator, llvm::Value* in_task) const;
  /// The logarithm to base 2 of shares, finite where these are zero; zero where entropy is not
  /// wanted.
  llvm::Value* log2_share(llvm::Value* share, llvm::Value* score, llvm::Value* reference,
                          llvm::Value* in_task, llvm::Value* mask) const;
  /// Adds shares and their logarithms, of one vector or more.
  void add(RowAccumulators& row, llvm::Value* share, llvm::Value* log2) const;
  /// Adds a row's block to the statistics at index `at`; `row` is its number in the block.
  void finish_row(const RowAccumulators& acc, llvm::Value* at, llvm::Value* row,
                  const KeyBlock& keys) const;

  /// Column sums: one chain over ascending queries for each key.
  void add_columns(const QueryBlock& queries, const KeyBlock& keys) const;

 private:
  const BackwardTask& task_;
  Emitter& e_;
  const BackwardPlan& p_;
  const BackwardBuffers& use_;
};

}  // namespace weir
