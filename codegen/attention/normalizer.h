#pragma once
// The slots of the attention kernels in which normalisers differ (ir/normalizer.h). A kernel knows
// blocks of rows and keys and their products; what a score weighs, it asks here. Scores are not
// scaled: the scale multiplies their difference from the reference of the row.
#include <memory>
#include <vector>

#include "codegen/llvm/emitter.h"
#include "ir/normalizer.h"

namespace weir {

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

/// What rows carry from one block of keys to the next and hand on at the end, a row a lane: the
/// score that numerators and terms are relative to, and as many sums as NormalizerInfo::sums says;
/// at the end also what NormalizerInfo::extra says, else null.
struct RowState {
  llvm::Value* reference;
  std::vector<llvm::Value*> sums;
  llvm::Value* extra = nullptr;

  llvm::Value* terms() const { return sums.front(); }
  llvm::Value* numerators() const { return sums.back(); }
};

class NormalizerCode {
 public:
  virtual ~NormalizerCode() = default;

  /// Rows before their first block of keys. `keys`: how many a row sees, in f32.
  virtual RowState start(Emitter& e, llvm::Value* keys) const = 0;
  /// Whether references follow the scores. Else advance() is not called.
  virtual bool moves_reference() const { return true; }
  /// The reference after a block whose largest score is `largest`. What was summed so far is to be
  /// multiplied by `rescale`.
  struct Advance {
    llvm::Value *reference, *rescale;
  };
  virtual Advance advance(Emitter& e, llvm::Value* reference, llvm::Value* largest) const = 0;
  /// A score whose numerator and term are zero, and which raises no reference.
  virtual double masked_score() const = 0;

  /// What a score adds to the numerators and to the denominator of its row; they may be one.
  struct Parts {
    llvm::Value *numerator, *term;
  };
  virtual Parts parts(Emitter& e, llvm::Value* score, llvm::Value* reference) const = 0;
  /// Whether the logarithm of a numerator is a by-product. Where it is not, logarithms of shares
  /// are taken, and shares are divided, so that a row with all its weight on one key has a share of
  /// exactly one.
  virtual bool has_log2_numerator() const { return false; }
  /// That logarithm, to base 2, finite where the numerator is zero; null where it is no by-product.
  virtual llvm::Value* log2_numerator(Emitter&, llvm::Value* /*score*/,
                                      llvm::Value* /*reference*/) const {
    return nullptr;
  }
  /// What numerators, and sums of them, are divided by.
  virtual llvm::Value* divisor(Emitter& e, const RowState& row) const = 0;
  /// What numerators are divided by to be shares of their row: their sum, but not zero.
  virtual llvm::Value* share_divisor(Emitter& e, const RowState& row) const = 0;

  /// One weight with what it was computed from; `factor` is 1 / divisor.
  struct Weight {
    llvm::Value *weight, *score, *reference, *factor;
  };
  /// dL/dscore from dL/dweight, delta being the row's sum of weight times dL/dweight:
  ///   (numerator' dL/dweight - term' delta) / divisor.
  virtual llvm::Value* score_gradient(Emitter& e, const Weight& weight, llvm::Value* gradient,
                                      llvm::Value* delta) const = 0;

  /// Whether numerators and terms are exponentials of scores, so that a row's score gradients,
  /// together with that of other_numerator(), sum to zero but for rounding.
  virtual bool gradients_cancel() const = 0;
  /// The numerator of what takes part in the denominator and is no key, and so has a value of zero;
  /// null where there is none.
  virtual llvm::Value* other_numerator(Emitter&, const RowState&) const { return nullptr; }
};

/// `difference_scale`: of ScoreTransform.
std::unique_ptr<const NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer,
                                                           double difference_scale);

/// The larger of two numbers; one that is no number does not count if it is `value`, so that a
/// running maximum stays one. (What depends on it is no number either, by its weight.)
llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum);

}  // namespace weir
