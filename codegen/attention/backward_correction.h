#pragma once
// The correction of score gradients whose rounding counts.
//
// The gradient of a score is ds = a (da - delta) with delta = <dout, out>. Where nearly all weight
// of a row is on one key, it is a small difference of two numbers that were rounded apart: da in
// this kernel's products, delta in those of the forward kernel, in out, and in its own. With
// delta = sum_s a da, of the same da, their errors cancel, but that is known only after all keys.
// So each row's residual sum_s a (da - delta), which is zero but for rounding, is added up beside
// its gradients, and blocks of queries that have a row in which it counts are corrected at the
// end: ds -= a residual. That is rare in training: it takes a row whose gradients are hundreds of
// thousand times smaller than the products that they are differences of.
//
// It is made for normalisers whose gradients cancel (NormalizerCode::gradients_cancel).
#include "codegen/attention/backward_task.h"

namespace weir {

class BackwardCorrection {
 public:
  explicit BackwardCorrection(const BackwardTask& task)
      : task_(task), e_(task.e), p_(task.p), use_(task.use), at_(task.at) {}

  /// Zeros in the sums of a vector of rows, from query t of a head on.
  void clear_rows(llvm::Value* in_task, llvm::Value* t) const;
  /// Of one row and a block of keys, by lane: sums of the score gradients and of their sizes.
  struct RowSums {
    llvm::Value *grads, *sizes;
  };
  RowSums start_row() const { return {e_.f32(0, p_.lanes), e_.f32(0, p_.lanes)}; }
  /// Adds gradients, of one vector or more.
  void add(RowSums& sums, llvm::Value* grad) const;
  /// Adds a row's block to its sums; both are reduced as one vector.
  void finish_row(const RowSums& sums, llvm::Value* in_task) const;

  /// Looks at the residuals of all rows, and corrects the blocks of queries where they count.
  void emit() const;

 private:
  llvm::Value* residual_counts(const QueryBlock& queries, llvm::Value* row) const;
  void pack_keys(const KeyBlock& keys) const;
  void correct_queries(const QueryBlock& queries, llvm::Value* panel) const;
  void correct_row(const QueryBlock& queries, llvm::Value* row, const KeyBlock& keys) const;

  const BackwardTask& task_;
  Emitter& e_;
  const BackwardPlan& p_;
  const BackwardBuffers& use_;
  const BackwardScratch& at_;
};

}  // namespace weir
