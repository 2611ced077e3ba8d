// Attention with the whole weight matrix of one head at a time.
#include <algorithm>
#include <cmath>
#include <limits>

#include "interpret/matrix.h"
#include "interpret/ops.h"
#include "ir/map_cells.h"
#include "ir/normalizer.h"
#include "support/error.h"

namespace weir::reference {
namespace {

// What scores are taken relative to, given the largest of those that a query sees.
double reference_of(AttentionNormalizer normalizer, double largest) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return largest;
    case AttentionNormalizer::softmax_1:
      return std::max<double>(largest, std::numeric_limits<float>::lowest());
  }
  internal_error_at("unknown normaliser");
}

// What the exponentials of a row are divided by, `sum` being theirs.
double divisor(AttentionNormalizer normalizer, double reference, double sum) {
  switch (normalizer) {
    case AttentionNormalizer::softmax:
      return sum;
    case AttentionNormalizer::softmax_1:
      return sum + std::exp(-reference);
  }
  internal_error_at("unknown normaliser");
}

// The logarithm of the divisor, as seen from scores that no reference is taken from.
double log_sum_exp(AttentionNormalizer normalizer, double reference, double sum) {
  if (normalizer == AttentionNormalizer::softmax_1 && reference <= 0)
    return std::log1p(sum * std::exp(reference));
  return reference + std::log(divisor(normalizer, reference, sum));
}

// Sizes of one attention and the places of its heads. Query head h reads key head h / (H / G).
class Heads {
 public:
  explicit Heads(const Call& call)
      : attrs_(call.attrs()),
        q_(call.in(0)),
        k_(call.in(1)),
        causal_(attrs_.get_bool("causal")),
        scale_(attrs_.get_float("scale")),
        score_scale_(score_scale(attrs_)) {}

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
  /// Where (b, h) starts in a [B,H,2,T] tensor of references and sums.
  int64_t reference(int64_t b, int64_t h) const { return 2 * row(b, h); }
  int64_t sum(int64_t b, int64_t h) const { return 2 * row(b, h) + queries(); }
  int64_t column(int64_t b, int64_t h) const { return (b * heads() + h) * keys(); }

  /// q k^T with the part of the scale that comes before, [T,S]; hidden entries are minus infinity.
  Matrix products(int64_t b, int64_t h) const {
    Matrix s = of_query(q_, b, h) * (score_scale_.keys * of_key(k_, b, h).transpose());
    for (int64_t t = 0; t < queries(); ++t)
      for (int64_t j = visible(t); j < keys(); ++j)
        s(t, j) = -std::numeric_limits<double>::infinity();
    return s;
  }
  /// The weights given each row's reference and sum, [T,S]; hidden entries are 0 even if those are
  /// not finite.
  Matrix weights(int64_t b, int64_t h, const HostTensor& rows) const {
    return weights(b, h, rows, normalizer());
  }
  /// The same, divided by the sum of their row.
  Matrix shares(int64_t b, int64_t h, const HostTensor& rows) const {
    return weights(b, h, rows, AttentionNormalizer::softmax);
  }
  double difference_scale() const { return score_scale_.difference; }

 private:
  Matrix weights(int64_t b, int64_t h, const HostTensor& rows,
                 AttentionNormalizer normalizer) const {
    Matrix a = products(b, h);
    for (int64_t t = 0; t < queries(); ++t) {
      const double reference_t = rows.data[reference(b, h) + t];
      const double divisor_t =
          divisor(normalizer, score_scale_.difference * reference_t, rows.data[sum(b, h) + t]);
      for (int64_t j = 0; j < keys(); ++j)
        a(t, j) = hidden(t, j)
                      ? 0
                      : std::exp(score_scale_.difference * (a(t, j) - reference_t)) / divisor_t;
    }
    return a;
  }

  const Attrs& attrs_;
  const HostTensor &q_, &k_;
  bool causal_;
  double scale_;
  ScoreScale score_scale_;
};

}  // namespace

Results attention(const Call& call) {
  Heads heads(call);
  HostTensor out = zeros(call.type(0)), rows = zeros(call.type(1));
  heads.each([&](int64_t b, int64_t h) {
    Matrix products = heads.products(b, h);
    for (int64_t t = 0; t < heads.queries(); ++t) {
      Eigen::ArrayXd row = products.row(t).head(heads.visible(t)).transpose().array();
      const double reference = reference_of(heads.normalizer(), row.maxCoeff());
      rows.data[heads.reference(b, h) + t] = reference;
      double& sum = rows.data[heads.sum(b, h) + t];
      for (double product : row) sum += std::exp(heads.difference_scale() * (product - reference));
    }
    heads.of_query(out, b, h).noalias() =
        heads.weights(b, h, rows) * heads.of_key(call.in(2), b, h);
  });
  return results(std::move(out), std::move(rows));
}

Results attention_lse(const Call& call) {
  const HostTensor& rows = call.in(0);
  HostTensor lse = zeros(call.type());
  const double scale = score_scale(call.attrs()).difference;
  const int64_t queries = rows.shape()[3], heads = rows.shape()[0] * rows.shape()[1];
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t t = 0; t < queries; ++t)
      lse.data[h * queries + t] =
          log_sum_exp(normalizer_of(call.attrs()), scale * rows.data[2 * h * queries + t],
                      rows.data[(2 * h + 1) * queries + t]);
  return results(std::move(lse));
}

// With weights a and g = dout: dv = a^T g, ds = a * (g v^T - sum(g * out)), dq = scale ds k,
// dk = scale ds^T q. Key and value gradients sum over the query heads of their group. A weight of
// one is all of its row, so that ds is zero there: it is exactly so.
Results attention_grad(const Call& call) {
  Heads heads(call);
  const HostTensor &q = call.in(0), &k = call.in(1), &v = call.in(2), &out = call.in(3);
  const HostTensor &rows = call.in(4), &dout = call.in(5);
  HostTensor dq = zeros(call.type(0)), dk = zeros(call.type(1)), dv = zeros(call.type(2));
  heads.each([&](int64_t b, int64_t h) {
    Matrix a = heads.weights(b, h, rows);
    auto g = heads.of_query(dout, b, h);
    Vector inner = g.cwiseProduct(heads.of_query(out, b, h)).rowwise().sum();
    Matrix ds = g * heads.of_key(v, b, h).transpose();
    for (int64_t t = 0; t < heads.queries(); ++t)
      for (int64_t s = 0; s < heads.keys(); ++s)
        ds(t, s) = heads.hidden(t, s) ? 0
                   : a(t, s) == 1     ? ds(t, s) - ds(t, s)
                                      : heads.scale() * a(t, s) * (ds(t, s) - inner(t));
    heads.of_query(dq, b, h).noalias() += ds * heads.of_key(k, b, h);
    heads.of_key(dk, b, h).noalias() += ds.transpose() * heads.of_query(q, b, h);
    heads.of_key(dv, b, h).noalias() += a.transpose() * g;
  });
  return results(std::move(dq), std::move(dk), std::move(dv));
}

// What the weights and the scores of attention get as gradients: da = g v^T of all keys, seen or
// not, since a weight of zero may still be asked what it would have changed.
Results attention_score_grad(const Call& call) {
  Heads heads(call);
  const HostTensor &v = call.in(2), &out = call.in(3), &rows = call.in(4), &dout = call.in(5);
  HostTensor of_scores = zeros(call.type(0)), of_weights = zeros(call.type(1));
  heads.each([&](int64_t b, int64_t h) {
    const auto matrix = [&](HostTensor& all) {
      return view(all, heads.row(b, h) * heads.keys(), heads.queries(), heads.keys(), heads.keys());
    };
    Matrix a = heads.weights(b, h, rows);
    auto g = heads.of_query(dout, b, h);
    Vector inner = g.cwiseProduct(heads.of_query(out, b, h)).rowwise().sum();
    Matrix da = g * heads.of_key(v, b, h).transpose();
    matrix(of_weights) = da;
    for (int64_t t = 0; t < heads.queries(); ++t)
      for (int64_t s = 0; s < heads.keys(); ++s)
        da(t, s) =
            heads.hidden(t, s) ? 0 : a(t, s) * (da(t, s) - (a(t, s) == 1 ? da(t, s) : inner(t)));
    matrix(of_scores) = da;
  });
  return results(std::move(of_scores), std::move(of_weights));
}

Results attention_scores(const Call& call) {
  Heads heads(call);
  HostTensor scores = zeros(call.type());
  heads.each([&](int64_t b, int64_t h) {
    view(scores, heads.row(b, h) * heads.keys(), heads.queries(), heads.keys(), heads.keys()) =
        heads.difference_scale() * heads.products(b, h);
  });
  return results(std::move(scores));
}

Results attention_stats(const Call& call) {
  Heads heads(call);
  const HostTensor& rows = call.in(2);
  int64_t sink = call.attrs().get_int("sink");
  HostTensor sums = zeros(call.type(0)), squares = zeros(call.type(1));
  HostTensor entropy = zeros(call.type(2)), sinks = zeros(call.type(3));
  HostTensor largest = zeros(call.type(4)), row_sums = zeros(call.type(5));
  heads.each([&](int64_t b, int64_t h) {
    const Eigen::VectorXd sums_by_row = heads.weights(b, h, rows).rowwise().sum();
    Matrix a = heads.shares(b, h, rows);
    int64_t row = heads.row(b, h), column = heads.column(b, h);
    for (int64_t t = 0; t < heads.queries(); ++t) {
      row_sums.data[row + t] = sums_by_row[t];
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
