#include "codegen/attention/normalizer.h"

#include <limits>

#include "codegen/llvm/vector_math.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Numerators are exponentials of scores and are what the denominator sums. The reference is the
// largest score so far.
class Softmax : public NormalizerCode {
 public:
  explicit Softmax(double difference_scale) : log2_scale_(difference_scale * kLog2E) {}

  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(-std::numeric_limits<double>::infinity(), lanes), {e.f32(0, lanes)}};
  }

  Advance advance(Emitter& e, Emitted* reference, Emitted* largest) const override {
    Emitted* next = running_maximum(e, largest, reference);
    return {next, relative_exp(e, reference, next)};
  }

  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }

  Parts parts(Emitter& e, Emitted* score, Emitted* reference) const override {
    Emitted* numerator = relative_exp(e, score, reference);
    return {numerator, numerator};
  }

  Emitted* log2_numerator(Emitter& e, Emitted* score, Emitted* reference) const override {
    Emitted* difference = e.ir().CreateFSub(score, reference);
    Emitted* log2 = e.ir().CreateFMul(difference, e.f32_like(difference, log2_scale_));
    Emitted* least = e.f32_like(log2, -127);  // the numerator is zero from there on
    return e.select(e.ir().CreateFCmpOLT(log2, least), least, log2);
  }

  Emitted* divisor(Emitter&, const RowState& row) const override { return row.terms(); }
  Emitted* share_divisor(Emitter&, const RowState& row) const override { return row.numerators(); }

  // weight (gradient - delta), and exactly zero where the weight is one, that is, all of its row.
  Emitted* score_gradient(Emitter& e, const Weight& w, Emitted* gradient,
                          Emitted* delta) const override {
    Emitted* whole = e.ir().CreateFCmpOEQ(w.weight, e.f32_like(w.weight, 1));
    Emitted* other = e.select(whole, gradient, delta);
    return e.ir().CreateFMul(w.weight, e.ir().CreateFSub(gradient, other));
  }

  bool gradients_cancel() const override { return true; }

 protected:
  // exp(score - reference), scaled.
  Emitted* relative_exp(Emitter& e, Emitted* score, Emitted* reference) const {
    return emit_exp2(e, e.ir().CreateFSub(score, reference), log2_scale_);
  }

 private:
  double log2_scale_;  // 2^(log2_scale_ x) is the exponential of x, scaled
};

// Softmax with one more score, of zero, that has no value. It joins at the end only, by the
// divisor: a sum far below it would be lost beside it. The reference is finite even in a row of
// nothing but minus infinity, whose weights are zero.
class Softmax1 : public Softmax {
 public:
  using Softmax::Softmax;

  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(std::numeric_limits<float>::lowest(), lanes), {e.f32(0, lanes)}};
  }

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return e.ir().CreateFAdd(row.terms(), other_numerator(e, row));
  }

  Emitted* other_numerator(Emitter& e, const RowState& row) const override {
    return relative_exp(e, e.f32_like(row.reference, 0), row.reference);
  }
};

}  // namespace

std::unique_ptr<const NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer,
                                                           double difference_scale) {
  switch (normalizer) {
#define NORMALIZER(id, Class, ...) \
  case AttentionNormalizer::id:    \
    return std::make_unique<Class>(difference_scale);
#include "ir/normalizers.def"
  }
  internal_error_at("unknown normaliser");
}

llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum) {
  return e.select(e.ir().CreateFCmpOGT(value, maximum), value, maximum);
}

}  // namespace weir
