#pragma once
// The slots of the attention kernels in which normalisers differ (ir/normalizer.h). A kernel knows
// blocks of rows and keys and their products; what a score weighs, it asks here. Scores come as
// products of queries and keys, masked (minus infinity) and not scaled: the scale multiplies their
// difference from the reference of the row, on the way to an exponential to base 2.
#include <memory>

#include "codegen/llvm/emitter.h"
#include "ir/normalizer.h"

namespace weir {

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

/// What rows carry from one block of keys to the next and hand on at the end, a row a lane: the
/// score that weights are relative to, and the sum of relative weights.
struct RowState {
  llvm::Value *reference, *sum;
};

class NormalizerCode {
 public:
  /// `difference_scale`: of ScoreScale.
  explicit NormalizerCode(double difference_scale) : log2_scale_(difference_scale * kLog2E) {}
  virtual ~NormalizerCode() = default;

  /// Rows before their first block of keys.
  virtual RowState start(Emitter& e, int lanes) const = 0;
  /// The reference after a block whose largest score is `largest`. What was summed so far is to be
  /// multiplied by `rescale`.
  struct Advance {
    llvm::Value *reference, *rescale;
  };
  virtual Advance advance(Emitter& e, llvm::Value* reference, llvm::Value* largest) const = 0;
  /// The relative weight of what takes part in the divisor and is no key, and so has a value of
  /// zero; null where there is none.
  virtual llvm::Value* other_weight(Emitter& e, const RowState& row) const = 0;
  /// What relative weights, and sums of them, are divided by.
  llvm::Value* divisor(Emitter& e, const RowState& row) const;

  /// The weight of a score relative to a reference.
  llvm::Value* relative_weight(Emitter& e, llvm::Value* score, llvm::Value* reference) const;
  /// Its logarithm to base 2, which is finite where the weight is zero.
  llvm::Value* log2_weight(Emitter& e, llvm::Value* score, llvm::Value* reference) const;
  /// dL/dscore from dL/dweight, delta being the row's sum of weight times dL/dweight. Exactly zero
  /// where the weight is one, that is, all of its row.
  llvm::Value* score_gradient(Emitter& e, llvm::Value* weight, llvm::Value* gradient,
                              llvm::Value* delta) const;

 private:
  double log2_scale_;  ///< 2^(log2_scale_ x) is the exponential of x, scaled
};

std::unique_ptr<NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer,
                                                     double difference_scale);

/// The larger of two numbers; one that is no number does not count if it is `value`, so that a
/// running maximum stays one. (What depends on it is no number either, by its weight.)
llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum);

}  // namespace weir
