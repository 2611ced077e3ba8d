#pragma once
// The rows of a slice of queries in the forward kernel: their running maximum, reference and sums,
// and how a block of scores becomes weights.
#include "codegen/attention/memory.h"
#include "codegen/attention/plan.h"

namespace weir {

/// A slice's queries and its part of the scratch memory.
struct QuerySlice {
  llvm::Value *first, *h;  ///< query, head
  KernelArray queries, out_sums, reference, sums;
};

class ForwardRows {
 public:
  using Values = std::vector<llvm::Value*>;
  ForwardRows(const KernelMemory& memory, const ForwardPlan& plan, const QuerySlice& slice)
      : e_(memory.e), memory_(memory), p_(plan), slice_(slice) {}

  /// Before all keys.
  void start() const;
  /// Before a block of keys: no score was seen.
  void start_maximum() const;
  /// Raises the maximum by a register block of scores, [key][query].
  void raise_maximum(const Values& scores) const;
  /// The scores of `count` keys to numerators; references and sums go on. Returns what output sums
  /// are to be multiplied by; nothing where the reference stays.
  Values weigh(llvm::Value* count) const;
  /// Hands on reference and sums of the slice's `rows` rows of sequence b where they are wanted,
  /// and returns 1 / divisor.
  Values finish(llvm::Value* rows, llvm::Value* b) const;

  void store(const KernelArray& array, const Values& row) const;

 private:
  Values load(const KernelArray& array, int64_t offset = 0) const;
  Values sum_of(Values a, const Values& b) const;
  Values weigh_keys(int keys, const Values& reference, llvm::Value* key,
                    const Values& carried) const;
  Values weigh_all(llvm::Value* count, const Values& reference) const;
  size_t sum_count() const { return static_cast<size_t>(p_.sums); }
  /// How many keys the rows see, in f32.
  Values keys_of_rows() const;
  /// What the v-th vector of rows hands on beside reference and sums, or null; they lie at `at` of
  /// a [B,H,T] array.
  llvm::Value* extra(int v, llvm::Value* at, llvm::Value* present) const;

  Emitter& e_;
  const KernelMemory& memory_;
  const ForwardPlan& p_;
  const QuerySlice& slice_;
};

}  // namespace weir
