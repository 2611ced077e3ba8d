#include "codegen/attention/normalizer.h"

#include <limits>

#include "codegen/llvm/vector_math.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// A sum that numerators are divided by: 1 where all of them are zero.
Emitted* not_zero(Emitter& e, Emitted* sum) {
  return e.select(e.ir().CreateFCmpOEQ(sum, e.f32_like(sum, 0)), e.f32_like(sum, 1), sum);
}

// The positive part; what is no number stays as it is.
Emitted* positive_part(Emitter& e, Emitted* x) {
  return e.select(e.ir().CreateFCmpOLT(x, e.f32_like(x, 0)), e.f32_like(x, 0), x);
}

// Numerators are exponentials of scores and are what the denominator sums. The reference is the
// largest score so far, but finite even in a row of nothing but minus infinity, whose weights are
// zero.
class Softmax : public NormalizerCode {
 public:
  explicit Softmax(double difference_scale) : log2_scale_(difference_scale * kLog2E) {}

  RowState start(Emitter& e, Emitted* keys) const override {
    return {e.f32_like(keys, std::numeric_limits<float>::lowest()), {e.f32_like(keys, 0)}};
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

  bool has_log2_numerator() const override { return true; }

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return not_zero(e, row.terms());
  }
  Emitted* share_divisor(Emitter& e, const RowState& row) const override {
    return not_zero(e, row.numerators());
  }

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
// divisor: a sum far below it would be lost beside it.
class Softmax1 : public Softmax {
 public:
  using Softmax::Softmax;

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return e.ir().CreateFAdd(row.terms(), other_numerator(e, row));
  }

  Emitted* other_numerator(Emitter& e, const RowState& row) const override {
    return relative_exp(e, e.f32_like(row.reference, 0), row.reference);
  }
};

// Softmax with one more score, which the attention takes as an operand. It joins at the end only,
// as in softmax-1.
class OtherScore : public Softmax {
 public:
  explicit OtherScore(double difference_scale)
      : Softmax(difference_scale), unscale_(1 / difference_scale) {}

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return not_zero(e, e.ir().CreateFAdd(row.terms(), other_numerator(e, row)));
  }

  Emitted* other_numerator(Emitter& e, const RowState& row) const override {
    Emitted* score = e.ir().CreateFMul(row.extra, e.f32_like(row.extra, unscale_));
    return relative_exp(e, score, row.reference);
  }

 private:
  double unscale_;  // scores are not scaled yet, but the operand is
};

// Softmax, multiplied by a factor of the row that comes from all heads.
class BayesSoftmax : public Softmax {
 public:
  using Softmax::Softmax;

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return e.ir().CreateFDiv(not_zero(e, row.terms()), row.extra);
  }
};

// Numerators are how far exponentials exceed that of zero. The reference is the largest score, but
// at least 0.
class Softpick : public Softmax {
 public:
  using Softmax::Softmax;

  RowState start(Emitter& e, Emitted* keys) const override {
    Emitted* zero = e.f32_like(keys, 0);
    return {zero, {zero, zero}};
  }

  // Its exponential is that of zero to the last bit.
  double masked_score() const override { return 0; }

  Parts parts(Emitter& e, Emitted* score, Emitted* reference) const override {
    Emitted* excess = e.ir().CreateFSub(relative_exp(e, score, reference), of_zero(e, reference));
    return {positive_part(e, excess), e.absolute(excess)};
  }

  Emitted* log2_numerator(Emitter&, Emitted*, Emitted*) const override { return nullptr; }
  bool has_log2_numerator() const override { return false; }

  Emitted* divisor(Emitter& e, const RowState& row) const override {
    Emitted* zero = of_zero(e, row.reference);
    return e.fma(zero, e.f32_like(zero, kSoftpickEpsilon), row.terms());
  }

  // exp(score - reference) / divisor times gradient - delta where the score is positive, delta
  // where it is negative.
  Emitted* score_gradient(Emitter& e, const Weight& w, Emitted* gradient,
                          Emitted* delta) const override {
    Emitted* zero = e.f32_like(w.score, 0);
    Emitted* of_negative = e.select(e.ir().CreateFCmpOEQ(w.score, zero), zero, delta);
    Emitted* difference = e.select(e.ir().CreateFCmpOGT(w.score, zero),
                                   e.ir().CreateFSub(gradient, delta), of_negative);
    Emitted* share = e.ir().CreateFMul(relative_exp(e, w.score, w.reference), w.factor);
    return e.ir().CreateFMul(share, difference);
  }

  bool gradients_cancel() const override { return false; }

 private:
  // The exponential of a score of zero.
  Emitted* of_zero(Emitter& e, Emitted* reference) const {
    return relative_exp(e, e.f32_like(reference, 0), reference);
  }
};

// What normalisers have in common whose weights do not depend on the other scores of their row.
class ByScore : public NormalizerCode {
 public:
  explicit ByScore(double difference_scale) : scale_(difference_scale) {}

  bool moves_reference() const override { return false; }
  Advance advance(Emitter& e, Emitted* reference, Emitted*) const override {
    return {reference, e.f32_like(reference, 1)};
  }
  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }
  Emitted* share_divisor(Emitter& e, const RowState& row) const override {
    return not_zero(e, row.numerators());
  }
  bool gradients_cancel() const override { return false; }

 protected:
  double scale_;  // of scores and their differences
};

// Positive parts of scores, divided by the number of keys that the query sees.
class Relu : public ByScore {
 public:
  using ByScore::ByScore;

  RowState start(Emitter& e, Emitted* keys) const override {
    return {e.f32_like(keys, 0), {e.f32_like(keys, 0)}};
  }
  Parts parts(Emitter& e, Emitted* score, Emitted*) const override {
    Emitted* numerator = e.ir().CreateFMul(positive_part(e, score), e.f32_like(score, scale_));
    return {numerator, numerator};
  }
  Emitted* divisor(Emitter&, const RowState& row) const override { return row.extra; }
  Emitted* score_gradient(Emitter& e, const Weight& w, Emitted* gradient, Emitted*) const override {
    Emitted* zero = e.f32_like(w.score, 0);
    Emitted* passes = e.ir().CreateFCmpOGT(w.score, zero);
    return e.select(passes, e.ir().CreateFMul(gradient, w.factor), zero);
  }
};

// The logistic function of a score less the logarithm of how many keys the query sees.
class Sigmoid : public ByScore {
 public:
  using ByScore::ByScore;

  RowState start(Emitter& e, Emitted* keys) const override {
    Emitted* log = e.ir().CreateFMul(emit_log(e, keys), e.f32_like(keys, 1 / scale_));
    return {log, {e.f32_like(keys, 0)}};
  }
  Parts parts(Emitter& e, Emitted* score, Emitted* reference) const override {
    Emitted* difference = e.ir().CreateFSub(score, reference);
    Emitted* weight =
        emit_sigmoid(e, e.ir().CreateFMul(difference, e.f32_like(difference, scale_)));
    return {weight, weight};
  }
  Emitted* divisor(Emitter& e, const RowState& row) const override {
    return e.f32_like(row.terms(), 1);
  }
  Emitted* score_gradient(Emitter& e, const Weight& w, Emitted* gradient, Emitted*) const override {
    Emitted* rest = e.ir().CreateFSub(e.f32_like(w.weight, 1), w.weight);
    return e.ir().CreateFMul(e.ir().CreateFMul(w.weight, rest), gradient);
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
