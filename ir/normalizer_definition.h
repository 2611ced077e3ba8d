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
  double scale = 1;  ///< of differences and references (ScoreTransform::difference_scale)
};

/// One weight with what it was computed from.
template <typename V>
struct NormalizerWeight {
  V weight;      ///< numerator / divisor
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
  virtual V reference(const M& m, V largest) const = 0;
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

template <typename M, typename V>
class Softmax : public NormalizerDefinition<M, V> {
 public:
  using typename NormalizerDefinition<M, V>::Row;
  using typename NormalizerDefinition<M, V>::Weight;

  V reference(const M&, V largest) const override { return largest; }
  double masked_score() const override { return -std::numeric_limits<double>::infinity(); }
  V numerator(const M& m, V difference, const Row&) const override { return m.exp(difference); }
  V term(const M&, V numerator, V, const Row&) const override { return numerator; }
  V divisor(const M&, const Row& row) const override { return row.terms; }
  V share_divisor(const M&, const Row& row) const override { return row.numerators; }
  V log_numerator(const M&, V difference, const Row&) const override { return difference; }
  V log_divisor(const M& m, const Row& row) const override {
    return m.add(m.mul(row.reference, row.scale), m.log(this->divisor(m, row)));
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

  V reference(const M& m, V largest) const override {
    return m.maximum(largest, m.scalar(std::numeric_limits<float>::lowest(), largest));
  }
  V divisor(const M& m, const Row& row) const override {
    return m.add(row.terms, m.exp(m.mul(row.reference, -row.scale)));
  }
  V log_divisor(const M& m, const Row& row) const override {
    V lse = Softmax<M, V>::log_divisor(m, row);
    // Beside the 1 of a score of zero a small sum would be lost.
    V sum = m.mul(row.terms, m.exp(m.mul(row.reference, row.scale)));
    return m.select(m.le(row.reference, 0.0), m.log1p(sum), lse);
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
