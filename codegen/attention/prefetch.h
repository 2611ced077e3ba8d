#pragma once
// Prefetch of rows that are used later, spread over the arithmetic in between: a few rows at a
// time. Results do not depend on it; addresses may lie outside of the arrays.
#include <vector>

#include "codegen/attention/block_product.h"

namespace weir {

/// How many rows a Prefetcher has fetched: a variable of the function that is being emitted, made
/// at its entry.
class PrefetchCounter {
 public:
  explicit PrefetchCounter(Emitter& e);
  llvm::Value* address() const { return address_; }

 private:
  llvm::Value* address_;
};

/// Prefetches the first rows of some matrices into the second-level cache, in order.
class Prefetcher {
 public:
  /// Rows from a matrix's origin on, and what of each is wanted, from its first column.
  struct Rows {
    BlockMatrix matrix;
    int64_t elements;
  };

  /// Sets the counter to zero where this is emitted. From there on issue() fetches `rows_per_issue`
  /// rows of each matrix, until `count` rows are fetched.
  Prefetcher(Emitter& e, const PrefetchCounter& counter, llvm::Value* count, int64_t rows_per_issue,
             std::vector<Rows> rows);
  void issue() const;

 private:
  Emitter& e_;
  llvm::Value *fetched_, *count_;
  int64_t rows_per_issue_;
  std::vector<Rows> rows_;
};

}  // namespace weir
