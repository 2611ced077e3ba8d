#include "codegen/attention_normalizer.h"

#include <limits>

#include "codegen/vector_math.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// The state is the running maximum and the sum of exp(score - maximum).
class Softmax : public NormalizerCode {
 public:
  RowState start(Emitter& e) const override {
    return {e.f32(-std::numeric_limits<double>::infinity()), e.f32(0)};
  }

  Update update(Emitter& e, const RowState& state, std::vector<Emitted*>& scores) const override {
    const int lanes = Emitter::lanes_of(scores[0]);
    Emitted* largest = scores[0];
    for (size_t i = 1; i < scores.size(); ++i) largest = e.maximum(largest, scores[i]);
    Emitted* maximum = e.maximum(state.first, e.reduce_maximum(largest));
    Emitted* sum = nullptr;
    for (Emitted*& score : scores) {
      score = emit_exp(e, e.ir().CreateFSub(score, e.broadcast(maximum, lanes)));
      sum = sum ? e.ir().CreateFAdd(sum, score) : score;
    }
    Emitted* rescale = emit_exp(e, e.ir().CreateFSub(state.first, maximum));
    Emitted* before = e.ir().CreateFMul(state.second, rescale);
    return {{maximum, e.ir().CreateFAdd(before, e.reduce_add(sum))}, rescale};
  }

  Finish finish(Emitter& e, const RowState& state) const override {
    return {state.second, e.ir().CreateFAdd(state.first, emit_log(e, state.second))};
  }

  Weight weight(Emitter& e, Emitted* score, Emitted* lse) const override {
    Emitted* log = e.ir().CreateFSub(score, lse);
    return {emit_exp(e, log), log};
  }

  Emitted* score_gradient(Emitter& e, Emitted* weight, Emitted* gradient,
                          Emitted* delta) const override {
    return e.ir().CreateFMul(weight, e.ir().CreateFSub(gradient, delta));
  }

  // One, unless the row has no finite lse: a NaN stays to be seen.
  Emitted* row_sum(Emitter& e, Emitted* lse) const override {
    return e.ir().CreateFAdd(e.f32_like(lse, 1), e.ir().CreateFSub(lse, lse));
  }
};

// Softmax with one more score, of zero, that has no value. The maximum includes it from the start.
// Its exponential joins the sum at the end only: a sum far below one would be lost beside it.
class Softmax1 : public Softmax {
 public:
  RowState start(Emitter& e) const override { return {e.f32(0), e.f32(0)}; }

  Finish finish(Emitter& e, const RowState& state) const override {
    Emitted *maximum = state.first, *sum = state.second;
    Emitted* divisor = e.ir().CreateFAdd(sum, emit_exp(e, e.ir().CreateFNeg(maximum)));
    Emitted* lse = e.ir().CreateFAdd(maximum, emit_log(e, divisor));
    Emitted* at_zero = e.ir().CreateFCmpOEQ(maximum, e.f32(0));
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

}  // namespace weir
