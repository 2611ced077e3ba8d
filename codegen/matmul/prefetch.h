#pragma once
// Software prefetch of a product. While a micro-kernel multiplies, it prefetches a share of what
// comes after it, so that each cache line is prefetched once:
// - the next packed block of A (the next steps of k behind the last one), into the second level;
// - the next block of B, unless it is prepacked, into the second level;
// - the tile of C of the next micro-kernel, or where its partial sums are spilled, and the
//   epilogue's operands, into the first level.
// A prefetch costs as much as a load, so none is issued more often than its data is used.
#include "codegen/matmul/context.h"

namespace weir {

/// Caches, as Emitter::prefetch counts them.
enum class CacheLevel { first = 3, second = 2 };

/// Prefetches `bytes` behind `base`, which may lie outside of the array.
void emit_prefetch(Emitter& e, llvm::Value* base, llvm::Value* bytes, CacheLevel level);

/// Steps of k between two calls of issue_prefetches: a cache line of a row of A.
int64_t prefetch_interval(const MatmulSpec& spec);

/// Where the micro-kernel of row panel `a_panel` and column panel `b_panel` stands in its tile.
struct PrefetchSite {
  llvm::Value *block_first, *block_last;  ///< micro-panels of the block of A that is multiplied
  llvm::Value *a_panel, *b_panel;
  llvm::Value *row, *column;
  int64_t columns;  ///< nr, or those of the ragged micro-panel
};

/// What one micro-kernel prefetches, as addresses.
struct PrefetchPlan {
  /// A tile of C, or of a matrix laid out as C.
  struct NextC {
    llvm::Value* at;
    int64_t row_stride;
    int64_t element_bytes;
    llvm::Value* wanted;  ///< i1: whether it is prefetched
  };
  llvm::Value* a = nullptr;
  std::vector<NextC> c;
  llvm::Value* b = nullptr;             ///< nullptr: B is prepacked
  llvm::Value* b_first_line = nullptr;  ///< the first line of B that this micro-kernel prefetches
};
PrefetchPlan plan_prefetch(const MatmulContext& context, const CTile& tile, const KBlock& block,
                           const PrefetchSite& site);

/// Emits the prefetches of a micro-kernel at step k, once an interval.
void issue_prefetches(const MatmulContext& context, const PrefetchPlan& plan, llvm::Value* k);

}  // namespace weir
