#include "codegen/attention_normalizer.h"

#include <limits>

#include "codegen/vector_math.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// The reference is the largest score so far.
class Softmax : public NormalizerCode {
 public:
  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(-std::numeric_limits<double>::infinity(), lanes), e.f32(0, lanes)};
  }

  Advance advance(Emitter& e, Emitted* reference, Emitted* largest) const override {
    Emitted* next = running_maximum(e, largest, reference);
    return {next, emit_exp2(e, e.ir().CreateFSub(reference, next))};
  }
  Emitted* relative_weight(Emitter& e, Emitted* score, Emitted* reference) const override {
    return emit_exp2(e, e.ir().CreateFSub(score, reference));
  }

  Finish finish(Emitter& e, const RowState& state) const override {
    return {state.sum, natural(e, state.reference, emit_log(e, state.sum))};
  }

  Weight weight(Emitter& e, Emitted* score, Emitted* lse) const override {
    Emitted* log2 = e.ir().CreateFSub(score, lse);
    Emitted* weight = emit_exp2(e, log2);
    Emitted* least = e.f32_like(log2, -127);  // the weight is zero from there on
    return {weight, e.select(e.ir().CreateFCmpOLT(log2, least), least, log2)};
  }

  Emitted* score_gradient(Emitter& e, Emitted* weight, Emitted* gradient,
                          Emitted* delta) const override {
    return e.ir().CreateFMul(weight, e.ir().CreateFSub(gradient, delta));
  }

  // One, unless the row has no finite lse: a NaN stays to be seen.
  Emitted* row_sum(Emitter& e, Emitted* lse) const override {
    return e.ir().CreateFAdd(e.f32_like(lse, 1), e.ir().CreateFSub(lse, lse));
  }

 protected:
  /// The natural logarithm of 2^reference times something, given that something's.
  static Emitted* natural(Emitter& e, Emitted* reference, Emitted* log) {
    return e.fma(reference, e.f32_like(reference, kLn2), log);
  }
};

// Softmax with one more score, of zero, that has no value. The maximum includes it from the start.
// Its exponential joins the sum at the end only: a sum far below one would be lost beside it.
class Softmax1 : public Softmax {
 public:
  RowState start(Emitter& e, int lanes) const override {
    return {e.f32(0, lanes), e.f32(0, lanes)};
  }

  Finish finish(Emitter& e, const RowState& state) const override {
    Emitted *maximum = state.reference, *sum = state.sum;
    Emitted* divisor = e.ir().CreateFAdd(sum, emit_exp2(e, e.ir().CreateFNeg(maximum)));
    Emitted* lse = natural(e, maximum, emit_log(e, divisor));
    Emitted* at_zero = e.ir().CreateFCmpOEQ(maximum, e.f32_like(maximum, 0));
    return {divisor, e.select(at_zero, emit_log1p(e, sum), lse)};
  }

  Emitted* row_sum(Emitter& e, Emitted* lse) const override {
    return e.ir().CreateFNeg(emit_expm1(e, e.ir().CreateFNeg(lse)));
  }
};

}  // namespace

std::unique_ptr<NormalizerCode> make_normalizer_code(AttentionNormalizer normalizer) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return std::make_unique<Softmax>();
    case AttentionNormalizer::softmax_1:
      return std::make_unique<Softmax1>();
  }
  internal_error_at("unknown normaliser");
}

llvm::Value* running_maximum(Emitter& e, llvm::Value* value, llvm::Value* maximum) {
  return e.select(e.ir().CreateFCmpOGT(value, maximum), value, maximum);
}

}  // namespace weir
