#pragma once
// The slots of the attention kernels in which normalisers differ (ir/normalizer.h). A kernel knows
// blocks of rows and keys and their products; what a score weighs, it asks here. Scores come scaled
// and masked (minus infinity), and as logarithms to base 2: multiplied by log2(e), so that 2^score
// is the exponential of what the model calls a score. A row's lse is a natural logarithm.
#include <memory>

#include "codegen/emitter.h"
#include "ir/normalizer.h"

namespace weir {

constexpr double kLog2E = 1.4426950408889634;  ///< what scores are multiplied by
constexpr double kLn2 = 0.6931471805599453;

/// What rows carry from one block of keys to the next, a row a lane: the score that weights are
/// relative to, and their sum.
struct RowState {
  llvm::Value *reference, *sum;
};

class NormalizerCode {
 public:
  virtual ~NormalizerCode() = default;

  /// Rows before their first block of keys.
  virtual RowState start(Emitter& e, int lanes) const = 0;
  /// The reference after a block whose largest score is `largest`. What was summed so far is to be
  /// multiplied by `rescale`.
  struct Advance {
    llvm::Value *reference, *rescale;
  };
  virtual Advance advance(Emitter& e, llvm::Value* reference, llvm::Value* largest) const = 0;
  /// The weight of a score relative to a reference.
  virtual llvm::Value* relative_weight(Emitter& e, llvm::Value* score,
                                       llvm::Value* reference) const = 0;
  /// After the last block: what the weighted sum is divided by, and the row's lse.
  struct Finish {
    llvm::Value *divisor, *lse;
  };
  virtual Finish finish(Emitter& e, const RowState& state) const = 0;

  /// The weight of a score given the row's lse times log2(e), and its logarithm to base 2, which is
  /// finite where the weight is zero.
  struct Weight {
    llvm::Value *weight, *log2;
  };
  virtual Weight weight(Emitter& e, llvm::Value* score, llvm::Value* lse) const = 0;
  /// dL/dscore from dL/dweight, delta being the row's sum of weight times dL/dweight.
  virtual llvm::Value* score_gradient(Emitter& e, llvm::Value* weight, llvm::Value* gradient,
                                      llvm::Value* delta) const = 0;
  /// The sum of a row's weights, from its lse.
  virtual llvm::Value* row_sum(Emitter& e, llvm::Value* lse) const = 0;
};

std::unique_ptr<NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer);

/// The larger of two numbers; one that is no number does not count if it is `value`, so that a
/// running maximum stays one. (What depends on it is no number either, by its weight.)
llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum);

}  // namespace weir
