#pragma once
// What every attention normaliser means, said once for the interpreter, which computes it on
// numbers, and for the decomposition, which makes nodes of it. `M` is the arithmetic: its functions
// take and return values `V`, as those of passes/op_builder.h do. The code of the kernels is
// codegen/attention/normalizer, and is compared with this.
#include <cmath>
#include <limits>
#include <memory>

#include "ir/normalizer.h"
#include "support/error.h"

namespace weir {

/// What an attention hands on of a row of scores.
template <typename V>
struct NormalizerRow {
  V reference;       ///< not scaled
  V terms;           ///< the sum of the denominator's terms
  V numerators;      ///< the sum of the numerators: `terms` where they are the same
  V extra;           ///< what NormalizerInfo::extra says; unspecified where that is none
  double scale = 1;  ///< of differences and references (ScoreTransform::difference_scale)
};

/// One weight with what it was computed from.
template <typename V>
struct NormalizerWeight {
  V weight;      ///< numerator / divisor
  V score;       ///< not scaled
  V difference;  ///< score - reference, scaled
  NormalizerRow<V> row;
};

template <typename M, typename V>
class NormalizerDefinition {
 public:
  using Row = NormalizerRow<V>;
  using Weight = NormalizerWeight<V>;
  virtual ~NormalizerDefinition() = default;

  /// What scores are taken relative to, given the largest that a query sees; neither is scaled.
  /// `keys` is how many it sees, `scale` as in a row.
  virtual V reference(const M& m, V largest, V keys, double scale) const = 0;
  /// A score whose numerator and term are zero and which raises no reference: that of a hidden key.
  virtual double masked_score() const = 0;
  virtual V numerator(const M& m, V difference, const Row& row) const = 0;
  /// What a score adds to the denominator.
  virtual V term(const M& m, V numerator, V difference, const Row& row) const = 0;
  virtual V divisor(const M& m, const Row& row) const = 0;
  /// What numerators are divided by to be shares of their row: their sum, but not zero.
  virtual V share_divisor(const M& m, const Row& row) const = 0;
  /// The logarithm of a numerator, finite where that is zero.
  virtual V log_numerator(const M& m, V difference, const Row& row) const = 0;
  /// The logarithm of the divisor of scores that no reference is taken from.
  virtual V log_divisor(const M& m, const Row& row) const = 0;
  /// dL/dscore from dL/dweight, `delta` being the row's sum of weight times dL/dweight:
  ///   (numerator' dL/dweight - term' delta) / divisor.
  virtual V score_gradient(const M& m, const Weight& w, V gradient, V delta) const = 0;
};

namespace normalizer_definition {

/// The exponential of a number below is 0 even in f64.
constexpr double kLeastLog = -746;

/// A sum that numerators are divided by: 1 where all of them are zero.
template <typename M, typename V>
V not_zero(const M& m, V sum) {
  return m.select(m.eq(sum, m.scalar(0, sum)), m.scalar(1, sum), sum);
}

/// The logarithm of a number, 0 where that is zero.
template <typename M, typename V>
V log_or_zero(const M& m, V number) {
  return m.log(not_zero(m, number));
}

template <typename M, typename V>
class Softmax : public NormalizerDefinition<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;
  using typename NormalizerDefinition<M, V>::Weight;

  // Finite even in a row of nothing but minus infinity.
  V reference(const M& m, V largest, V, double) const override {
    return m.maximum(largest, m.scalar(std::numeric_limits<float>::lowest(), largest));
  }
  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }
  V numerator(const M& m, V difference, const Row&) const override { return m.exp(difference); }
  V term(const M&, V numerator, V, const Row&) const override { return numerator; }
  V divisor(const M& m, const Row& row) const override { return not_zero(m, row.terms); }
  V share_divisor(const M& m, const Row& row) const override { return not_zero(m, row.numerators); }
  V log_numerator(const M& m, V difference, const Row&) const override {
    return m.maximum(difference, m.scalar(kLeastLog, difference));
  }
  V log_divisor(const M& m, const Row& row) const override {
    return m.add(m.mul(row.reference, row.scale), m.log(row.terms));
  }
  // A weight of one is all of its row: its gradient is exactly zero.
  V score_gradient(const M& m, const Weight& w, V gradient, V delta) const override {
    V whole = m.eq(w.weight, m.scalar(1, w.weight));
    return m.mul(w.weight, m.sub(gradient, m.select(whole, gradient, delta)));
  }
};

template <typename M, typename V>
class Softmax1 : public Softmax<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;

  V divisor(const M& m, const Row& row) const override {
    return m.add(row.terms, m.exp(m.mul(row.reference, -row.scale)));
  }
  V log_divisor(const M& m, const Row& row) const override {
    V lse = m.add(m.mul(row.reference, row.scale), m.log(divisor(m, row)));
    // Beside the 1 of a score of zero a small sum would be lost.
    V sum = m.mul(row.terms, m.exp(m.mul(row.reference, row.scale)));
    return m.select(m.le(row.reference, 0.0), m.log1p(sum), lse);
  }
};

// One more key of the score that is a row's extra number.
template <typename M, typename V>
class OtherScore : public Softmax<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;

  V divisor(const M& m, const Row& row) const override {
    return not_zero(m, m.add(row.terms, m.exp(m.sub(row.extra, scaled(m, row)))));
  }
  V log_divisor(const M& m, const Row& row) const override {
    V reference = scaled(m, row), lse = m.add(reference, m.log(divisor(m, row)));
    // Beside the other key's exponential a small sum would be lost.
    V sum = m.mul(row.terms, m.exp(m.sub(reference, row.extra)));
    return m.select(m.le(reference, row.extra), m.add(row.extra, m.log1p(sum)), lse);
  }

 private:
  V scaled(const M& m, const Row& row) const { return m.mul(row.reference, row.scale); }
};

// Softmax, multiplied by the factor of the row that is its extra number.
template <typename M, typename V>
class BayesSoftmax : public Softmax<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;

  V divisor(const M& m, const Row& row) const override {
    return m.div(not_zero(m, row.terms), row.extra);
  }
  V log_divisor(const M& m, const Row& row) const override {
    return m.add(m.mul(row.reference, row.scale), m.log(divisor(m, row)));
  }
};

template <typename M, typename V>
class Softpick : public NormalizerDefinition<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;
  using typename NormalizerDefinition<M, V>::Weight;

  V reference(const M& m, V largest, V, double) const override {
    return m.maximum(largest, m.scalar(0, largest));
  }
  // Its exponential is that of the reference, which is taken from it.
  double masked_score() const override { return 0; }
  V numerator(const M& m, V difference, const Row& row) const override {
    V excess = m.sub(m.exp(difference), of_zero(m, row));
    return m.maximum(excess, m.scalar(0, excess));
  }
  V term(const M& m, V, V difference, const Row& row) const override {
    return m.abs(m.sub(m.exp(difference), of_zero(m, row)));
  }
  V divisor(const M& m, const Row& row) const override {
    return m.add(row.terms, m.mul(of_zero(m, row), kSoftpickEpsilon));
  }
  V share_divisor(const M& m, const Row& row) const override { return not_zero(m, row.numerators); }
  V log_numerator(const M& m, V difference, const Row& row) const override {
    return log_or_zero(m, numerator(m, difference, row));
  }
  V log_divisor(const M& m, const Row& row) const override {
    return m.add(m.mul(row.reference, row.scale), m.log(divisor(m, row)));
  }
  // With e = exp(difference) a numerator's derivative is e where the score is positive, else 0; a
  // term's is e with the sign of the score.
  V score_gradient(const M& m, const Weight& w, V gradient, V delta) const override {
    V zero = m.scalar(0, w.score);
    V of_negative = m.select(m.eq(w.score, zero), zero, delta);
    V difference = m.select(m.gt(w.score, zero), m.sub(gradient, delta), of_negative);
    return m.mul(m.div(m.exp(w.difference), divisor(m, w.row)), difference);
  }

 private:
  // The exponential of a score of zero.
  V of_zero(const M& m, const Row& row) const { return m.exp(m.mul(row.reference, -row.scale)); }
};

template <typename M, typename V>
class Relu : public NormalizerDefinition<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;
  using typename NormalizerDefinition<M, V>::Weight;

  V reference(const M& m, V largest, V, double) const override { return m.full(0, largest); }
  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }
  V numerator(const M& m, V difference, const Row&) const override {
    return m.maximum(difference, m.scalar(0, difference));
  }
  V term(const M&, V numerator, V, const Row&) const override { return numerator; }
  V divisor(const M&, const Row& row) const override { return row.extra; }
  V share_divisor(const M& m, const Row& row) const override { return not_zero(m, row.numerators); }
  V log_numerator(const M& m, V difference, const Row& row) const override {
    return log_or_zero(m, numerator(m, difference, row));
  }
  V log_divisor(const M& m, const Row& row) const override { return m.log(row.extra); }
  V score_gradient(const M& m, const Weight& w, V gradient, V) const override {
    V none = m.scalar(0, gradient);
    return m.div(m.select(m.gt(w.score, m.scalar(0, w.score)), gradient, none), w.row.extra);
  }
};

template <typename M, typename V>
class Sigmoid : public NormalizerDefinition<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;
  using typename NormalizerDefinition<M, V>::Weight;

  V reference(const M& m, V largest, V keys, double scale) const override {
    return m.full(m.div(m.log(keys), scale), largest);
  }
  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }
  V numerator(const M& m, V difference, const Row&) const override { return m.sigmoid(difference); }
  V term(const M&, V numerator, V, const Row&) const override { return numerator; }
  V divisor(const M& m, const Row& row) const override { return m.scalar(1, row.terms); }
  V share_divisor(const M& m, const Row& row) const override { return not_zero(m, row.numerators); }
  V log_numerator(const M& m, V difference, const Row& row) const override {
    return log_or_zero(m, numerator(m, difference, row));
  }
  V log_divisor(const M& m, const Row& row) const override { return m.full(0, row.terms); }
  V score_gradient(const M& m, const Weight& w, V gradient, V) const override {
    return m.mul(m.mul(w.weight, m.sub(m.scalar(1, w.weight), w.weight)), gradient);
  }
};

}  // namespace normalizer_definition

template <typename M, typename V>
std::unique_ptr<const NormalizerDefinition<M, V>> define_normalizer(
    AttentionNormalizer normalizer) {
  switch (normalizer) {
#define NORMALIZER(id, Class, ...) \
  case AttentionNormalizer::id:    \
    return std::make_unique<normalizer_definition::Class<M, V>>();
#include "ir/normalizers.def"
  }
  internal_error_at("unknown normaliser");
}

}  // namespace weir
