// Attention with the whole weight matrix of one head at a time.
#include <cmath>
#include <limits>

#include "codegen/interpret_matrix.h"
#include "codegen/interpret_ops.h"
#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "support/error.h"

namespace weir::reference {
namespace {

// Sizes of one attention and the places of its heads. Query head h reads key head h / (H / G).
class Heads {
 public:
  explicit Heads(const Call& call)
      : attrs_(call.attrs()),
        q_(call.in(0)),
        k_(call.in(1)),
        causal_(attrs_.get_bool("causal")),
        scale_(attrs_.get_float("scale")) {}

  int64_t batch() const { return q_.shape()[0]; }
  int64_t queries() const { return q_.shape()[1]; }
  int64_t keys() const { return k_.shape()[1]; }
  int64_t heads() const { return q_.shape()[2]; }
  int64_t key_heads() const { return k_.shape()[2]; }
  int64_t width() const { return q_.shape()[3]; }
  double scale() const { return scale_; }
  AttentionNormalizer normalizer() const { return normalizer_of(attrs_); }
  /// How many keys a query sees.
  int64_t visible(int64_t query) const { return causal_ ? query + 1 : keys(); }
  bool hidden(int64_t query, int64_t key) const { return key >= visible(query); }

  /// Visits (b, h).
  template <typename F>
  void each(const F& f) const {
    for (int64_t b = 0; b < batch(); ++b)
      for (int64_t h = 0; h < heads(); ++h) f(b, h);
  }

  /// A head's rows of a [B,T,H,d] tensor (queries, outputs) or of a [B,S,G,d] one (keys, values).
  template <typename T>
  auto of_query(T& tensor, int64_t b, int64_t h) const {
    return view(tensor, (b * queries() * heads() + h) * width(), queries(), width(),
                heads() * width());
  }
  template <typename T>
  auto of_key(T& tensor, int64_t b, int64_t h) const {
    int64_t g = h / (heads() / key_heads());
    return view(tensor, (b * keys() * key_heads() + g) * width(), keys(), width(),
                key_heads() * width());
  }
  /// Where (b, h) starts in a [B,H,T] or [B,H,S] tensor.
  int64_t row(int64_t b, int64_t h) const { return (b * heads() + h) * queries(); }
  int64_t column(int64_t b, int64_t h) const { return (b * heads() + h) * keys(); }

  /// scale q k^T, [T,S]; hidden entries are minus infinity.
  Matrix scores(int64_t b, int64_t h) const {
    Matrix s = scale_ * (of_query(q_, b, h) * of_key(k_, b, h).transpose());
    for (int64_t t = 0; t < queries(); ++t)
      for (int64_t j = visible(t); j < keys(); ++j)
        s(t, j) = -std::numeric_limits<double>::infinity();
    return s;
  }
  /// exp(scores - lse), [T,S]; hidden entries are 0 even if lse is not finite.
  Matrix weights(int64_t b, int64_t h, const HostTensor& lse) const {
    Matrix a = scores(b, h);
    for (int64_t t = 0; t < queries(); ++t)
      for (int64_t j = 0; j < keys(); ++j)
        a(t, j) = hidden(t, j) ? 0 : std::exp(a(t, j) - lse.data[row(b, h) + t]);
    return a;
  }

 private:
  const Attrs& attrs_;
  const HostTensor &q_, &k_;
  bool causal_;
  double scale_;
};

// What the normaliser subtracts from the scores that a query sees.
double log_sum_exp(const Eigen::ArrayXd& scores, AttentionNormalizer normalizer) {
  double largest = scores.maxCoeff();
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return largest + std::log((scores - largest).exp().sum());
    case AttentionNormalizer::softmax_1:
      if (largest <= 0) return std::log1p(scores.exp().sum());
      return largest + std::log(std::exp(-largest) + (scores - largest).exp().sum());
  }
  internal_error_at("unknown normaliser");
}

}  // namespace

Results attention(const Call& call) {
  Heads heads(call);
  HostTensor out = zeros(call.type(0)), lse = zeros(call.type(1));
  heads.each([&](int64_t b, int64_t h) {
    Matrix scores = heads.scores(b, h);
    for (int64_t t = 0; t < heads.queries(); ++t) {
      Eigen::ArrayXd row = scores.row(t).head(heads.visible(t)).transpose().array();
      lse.data[heads.row(b, h) + t] = log_sum_exp(row, heads.normalizer());
    }
    heads.of_query(out, b, h).noalias() = heads.weights(b, h, lse) * heads.of_key(call.in(2), b, h);
  });
  return results(std::move(out), std::move(lse));
}

// With weights a and g = dout: dv = a^T g, ds = a * (g v^T - sum(g * out)), dq = scale ds k,
// dk = scale ds^T q. Key and value gradients sum over the query heads of their group.
Results attention_grad(const Call& call) {
  Heads heads(call);
  const HostTensor &q = call.in(0), &k = call.in(1), &v = call.in(2), &out = call.in(3);
  const HostTensor &lse = call.in(4), &dout = call.in(5);
  HostTensor dq = zeros(call.type(0)), dk = zeros(call.type(1)), dv = zeros(call.type(2));
  heads.each([&](int64_t b, int64_t h) {
    Matrix a = heads.weights(b, h, lse);
    auto g = heads.of_query(dout, b, h);
    Vector inner = g.cwiseProduct(heads.of_query(out, b, h)).rowwise().sum();
    Matrix ds = g * heads.of_key(v, b, h).transpose();
    for (int64_t t = 0; t < heads.queries(); ++t)
      for (int64_t s = 0; s < heads.keys(); ++s)
        ds(t, s) = heads.hidden(t, s) ? 0 : heads.scale() * a(t, s) * (ds(t, s) - inner(t));
    heads.of_query(dq, b, h).noalias() += ds * heads.of_key(k, b, h);
    heads.of_key(dk, b, h).noalias() += ds.transpose() * heads.of_query(q, b, h);
    heads.of_key(dv, b, h).noalias() += a.transpose() * g;
  });
  return results(std::move(dq), std::move(dk), std::move(dv));
}

Results attention_stats(const Call& call) {
  Heads heads(call);
  const HostTensor& lse = call.in(2);
  int64_t sink = call.attrs().get_int("sink");
  HostTensor sums = zeros(call.type(0)), squares = zeros(call.type(1));
  HostTensor entropy = zeros(call.type(2)), sinks = zeros(call.type(3));
  HostTensor largest = zeros(call.type(4)), row_sums = zeros(call.type(5));
  bool as_they_are = info(heads.normalizer()).rows_sum_to_one;
  heads.each([&](int64_t b, int64_t h) {
    Matrix a = heads.weights(b, h, lse);
    int64_t row = heads.row(b, h), column = heads.column(b, h);
    for (int64_t t = 0; t < heads.queries(); ++t) {
      row_sums.data[row + t] = a.row(t).sum();
      if (!as_they_are) a.row(t) /= row_sums.data[row + t];
      for (int64_t s = 0; s < heads.visible(t); ++s) {
        sums.data[column + s] += a(t, s);
        squares.data[column + s] += a(t, s) * a(t, s);
        if (a(t, s) != 0) entropy.data[row + t] -= a(t, s) * std::log(a(t, s));
      }
      sinks.data[row + t] = a(t, sink);
      largest.data[row + t] = a.row(t).maxCoeff<Eigen::PropagateNaN>();
    }
  });
  return results(std::move(sums), std::move(squares), std::move(entropy), std::move(sinks),
                 std::move(largest), std::move(row_sums));
}

Results attention_map(const Call& call) {
  Heads heads(call);
  HostTensor map = zeros(call.type());
  const int64_t side = call.attrs().get_int("side");
  const MapCells rows = map_cells(heads.queries(), side), columns = map_cells(heads.keys(), side);
  heads.each([&](int64_t b, int64_t h) {
    const Matrix a = heads.weights(b, h, call.in(2));
    auto cells = view(map, (b * heads.heads() + h) * rows.count() * columns.count(), rows.count(),
                      columns.count(), columns.count());
    for (int64_t r = 0; r < rows.count(); ++r)
      for (int64_t c = 0; c < columns.count(); ++c) {
        double sum = 0, pairs = 0;
        for (int64_t t = rows.start(r); t < rows.start(r + 1); ++t)
          for (int64_t s = columns.start(c); s < columns.start(c + 1); ++s)
            if (!heads.hidden(t, s)) sum += a(t, s), ++pairs;
        cells(r, c) = pairs > 0 ? sum / pairs : 0;
      }
  });
  return results(std::move(map));
}

Results attention_pattern(const Call& call) {
  Heads heads(call);
  HostTensor pattern = zeros(call.type());
  heads.each([&](int64_t b, int64_t h) {
    view(pattern, heads.row(b, h) * heads.keys(), heads.queries(), heads.keys(), heads.keys()) =
        heads.weights(b, h, call.in(2));
  });
  return results(std::move(pattern));
}

}  // namespace weir::reference
