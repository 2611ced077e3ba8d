#include "codegen/attention/prefetch.h"

namespace weir {

PrefetchCounter::PrefetchCounter(Emitter& e) {
  llvm::BasicBlock& entry = e.ir().GetInsertBlock()->getParent()->getEntryBlock();
  llvm::IRBuilder<> at_entry(&entry, entry.begin());
  address_ = at_entry.CreateAlloca(at_entry.getInt64Ty());
}

Prefetcher::Prefetcher(Emitter& e, const PrefetchCounter& counter, llvm::Value* count,
                       int64_t rows_per_issue, std::vector<Rows> rows)
    : e_(e),
      fetched_(counter.address()),
      count_(count),
      rows_per_issue_(rows_per_issue),
      rows_(std::move(rows)) {
  e.ir().CreateStore(e.index(0), fetched_);
}

void Prefetcher::issue() const {
  constexpr int64_t line = 64;
  Emitter& e = e_;
  llvm::Value* fetched = e.ir().CreateLoad(e.ir().getInt64Ty(), fetched_);
  e.if_then(e.ir().CreateICmpSLT(fetched, count_), [&] {
    e.ir().CreateStore(e.add(fetched, rows_per_issue_), fetched_);
    for (const Rows& rows : rows_)
      for (int64_t i = 0; i < rows_per_issue_; ++i) {
        const BlockMatrix& m = rows.matrix;
        llvm::Value* at = e.add(m.origin, e.mul(e.add(fetched, i), m.row_stride));
        // No promise that the address is inside of an array, unlike an Emitter's addresses.
        llvm::Value* row = e.ir().CreateGEP(e.memory_type(m.array.element), m.array.base, at);
        const int64_t bytes = storage_bytes(m.array.element) * rows.elements;
        for (int64_t byte = 0; byte < bytes; byte += line)
          e.prefetch(e.ir().CreateGEP(e.ir().getInt8Ty(), row, e.index(byte)), false, 2);
      }
  });
}

}  // namespace weir
