#include "codegen/attention/prefetch.h"

namespace weir {

void AskAhead::begin(Emitter& e) {
  e_ = &e;
  llvm::BasicBlock& entry = e.ir().GetInsertBlock()->getParent()->getEntryBlock();
  llvm::IRBuilder<> at_entry(&entry, entry.begin());
  asked_ = at_entry.CreateAlloca(at_entry.getInt64Ty());
}

void AskAhead::start(llvm::Value* count, int64_t at_once, std::vector<Rows> rows) {
  count_ = count;
  at_once_ = at_once;
  rows_ = std::move(rows);
  e_->ir().CreateStore(e_->index(0), asked_);
}

void AskAhead::turn() {
  constexpr int64_t line = 64;
  Emitter& e = *e_;
  llvm::Value* asked = e.ir().CreateLoad(e.ir().getInt64Ty(), asked_);
  e.if_then(e.ir().CreateICmpSLT(asked, count_), [&] {
    e.ir().CreateStore(e.add(asked, at_once_), asked_);
    for (const Rows& rows : rows_)
      for (int64_t i = 0; i < at_once_; ++i) {
        const BlockMatrix& m = rows.matrix;
        llvm::Value* at = e.add(m.origin, e.mul(e.add(asked, i), m.row_stride));
        // No promise that the address is inside of an array, unlike an Emitter's addresses.
        llvm::Value* row = e.ir().CreateGEP(e.ir().getFloatTy(), m.base, at);
        for (int64_t byte = 0; byte < 4 * rows.floats; byte += line)
          e.prefetch(e.ir().CreateGEP(e.ir().getInt8Ty(), row, e.index(byte)), false, 2);
      }
  });
}

}  // namespace weir
