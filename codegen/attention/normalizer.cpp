#include "codegen/attention/normalizer.h"

#include <limits>

#include "codegen/llvm/vector_math.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// The reference is the largest score so far.
class Softmax : public NormalizerCode {
 public:
  using NormalizerCode::NormalizerCode;

  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(-std::numeric_limits<double>::infinity(), lanes), e.f32(0, lanes)};
  }

  Advance advance(Emitter& e, Emitted* reference, Emitted* largest) const override {
    Emitted* next = running_maximum(e, largest, reference);
    return {next, relative_weight(e, reference, next)};
  }

  Emitted* other_weight(Emitter&, const RowState&) const override { return nullptr; }
};

// Softmax with one more score, of zero, that has no value. It joins at the end only, by the
// divisor: a sum far below it would be lost beside it. The reference is finite even in a row of
// nothing but minus infinity, whose weights are zero.
class Softmax1 : public Softmax {
 public:
  using Softmax::Softmax;

  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(std::numeric_limits<float>::lowest(), lanes), e.f32(0, lanes)};
  }

  Emitted* other_weight(Emitter& e, const RowState& row) const override {
    return relative_weight(e, e.f32_like(row.reference, 0), row.reference);
  }
};

}  // namespace

llvm::Value* NormalizerCode::divisor(Emitter& e, const RowState& row) const {
  Emitted* other = other_weight(e, row);
  return other ? e.ir().CreateFAdd(row.sum, other) : row.sum;
}

llvm::Value* NormalizerCode::relative_weight(Emitter& e, Emitted* score, Emitted* reference) const {
  return emit_exp2(e, e.ir().CreateFSub(score, reference), log2_scale_);
}

llvm::Value* NormalizerCode::log2_weight(Emitter& e, Emitted* score, Emitted* reference) const {
  Emitted* difference = e.ir().CreateFSub(score, reference);
  Emitted* log2 = e.ir().CreateFMul(difference, e.f32_like(difference, log2_scale_));
  Emitted* least = e.f32_like(log2, -127);  // the weight is zero from there on
  return e.select(e.ir().CreateFCmpOLT(log2, least), least, log2);
}

llvm::Value* NormalizerCode::score_gradient(Emitter& e, Emitted* weight, Emitted* gradient,
                                            Emitted* delta) const {
  Emitted* whole = e.ir().CreateFCmpOEQ(weight, e.f32_like(weight, 1));
  Emitted* other = e.select(whole, gradient, delta);
  return e.ir().CreateFMul(weight, e.ir().CreateFSub(gradient, other));
}

std::unique_ptr<NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer,
                                                     double difference_scale) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return std::make_unique<Softmax>(difference_scale);
    case AttentionNormalizer::softmax_1:
      return std::make_unique<Softmax1>(difference_scale);
  }
  internal_error_at("unknown normaliser");
}

llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum) {
  return e.select(e.ir().CreateFCmpOGT(value, maximum), value, maximum);
}

}  // namespace weir
