#pragma once
// Rows that are used later, asked for beside arithmetic: a few at every turn, so that they come one
// behind the other. Results do not depend on it; addresses may lie outside of the arrays.
#include <vector>

#include "codegen/attention/block_product.h"

namespace weir {

/// Asks the second-level cache for the first rows of some matrices, in order.
class AskAhead {
 public:
  /// Rows from a matrix's origin on, and what of each is wanted, from its first column.
  struct Rows {
    BlockMatrix matrix;
    int64_t floats;
  };

  /// The counter of rows becomes a variable of the function that is being emitted.
  void begin(Emitter& e);

  /// From here on, turns ask for `count` rows of each matrix, `at_once` rows a turn.
  void start(llvm::Value* count, int64_t at_once, std::vector<Rows> rows);
  void turn();

 private:
  Emitter* e_ = nullptr;
  llvm::Value* asked_ = nullptr;  ///< address of the number of rows
  llvm::Value* count_ = nullptr;
  int64_t at_once_ = 1;
  std::vector<Rows> rows_;
};

}  // namespace weir
