#pragma once
// The slots of the attention kernels in which normalisers differ (ir/normalizer.h). A kernel knows
// blocks of rows and keys and their products; what a score weighs, it asks here. Scores are scaled
// and masked (minus infinity) before they come.
#include <memory>
#include <vector>

#include "codegen/emitter.h"
#include "ir/normalizer.h"

namespace weir {

/// What a row carries from one block of keys to the next: two f32 scalars.
struct RowState {
  llvm::Value *first, *second;
};

class NormalizerCode {
 public:
  virtual ~NormalizerCode() = default;

  /// A row before its first block of keys.
  virtual RowState start(Emitter& e) const = 0;
  /// Takes one block of a row: replaces its scores by weights relative to the new state. What was
  /// summed with earlier weights is to be multiplied by `rescale`, an f32 scalar.
  struct Update {
    RowState state;
    llvm::Value* rescale;
  };
  virtual Update update(Emitter& e, const RowState& state,
                        std::vector<llvm::Value*>& scores) const = 0;
  /// After the last block: what the weighted sum is divided by, and the row's lse.
  struct Finish {
    llvm::Value *divisor, *lse;
  };
  virtual Finish finish(Emitter& e, const RowState& state) const = 0;

  /// The weight of a score given the row's lse, and its logarithm.
  struct Weight {
    llvm::Value *weight, *log;
  };
  virtual Weight weight(Emitter& e, llvm::Value* score, llvm::Value* lse) const = 0;
  /// dL/dscore from dL/dweight, delta being the row's sum of weight times dL/dweight.
  virtual llvm::Value* score_gradient(Emitter& e, llvm::Value* weight, llvm::Value* gradient,
                                      llvm::Value* delta) const = 0;
  /// The sum of a row's weights, from its lse.
  virtual llvm::Value* row_sum(Emitter& e, llvm::Value* lse) const = 0;
};

std::unique_ptr<NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer);

}  // namespace weir
