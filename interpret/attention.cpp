// Attention with the whole weight matrix of one head at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "interpret/matrix.h"
#include "interpret/ops.h"
#include "ir/attention_identities.h"
#include "ir/map_cells.h"
#include "ir/normalizer_definition.h"
#include "ir/score_transform.h"

namespace weir::reference {
namespace {

// Arithmetic on numbers, as ir/normalizer_definition.h wants it. Conditions are numbers, too.
struct Arithmetic {
  double scalar(double value, double) const { return value; }
  double add(double x, double y) const { return x + y; }
  double sub(double x, double y) const { return x - y; }
  double mul(double x, double y) const { return x * y; }
  double div(double x, double y) const { return x / y; }
  double maximum(double x, double y) const { return std::max(x, y); }
  double abs(double x) const { return std::abs(x); }
  double exp(double x) const { return std::exp(x); }
  double log(double x) const { return std::log(x); }
  double log1p(double x) const { return std::log1p(x); }
  double sigmoid(double x) const { return 1 / (1 + std::exp(-x)); }
  double full(double value, double) const { return value; }
  double eq(double x, double y) const { return x == y ? 1 : 0; }
  double le(double x, double y) const { return x <= y ? 1 : 0; }
  double gt(double x, double y) const { return x > y ? 1 : 0; }
  double select(double condition, double x, double y) const { return condition != 0 ? x : y; }
};
constexpr Arithmetic kMath;

using Normalizer = NormalizerDefinition<Arithmetic, double>;
using Row = NormalizerRow<double>;

// From what an attention handed on of a row, whose numbers lie `stride` behind each other.
Row row_at(const double* of_row, int64_t stride, const NormalizerInfo& info,
           const ScoreTransform& transform) {
  return {of_row[0], of_row[stride], of_row[info.sums * stride],
          of_row[(info.row_numbers() - 1) * stride], transform.difference_scale};
}

// Sizes of one attention and the places of its heads. Query head h reads key head h / (H / G).
class Heads {
 public:
  explicit Heads(const Call& call)
      : attrs_(call.attrs()),
        q_(call.in(0)),
        k_(call.in(1)),
        transform_(score_transform(attrs_)),
        normalizer_(define_normalizer<Arithmetic, double>(normalizer_of(attrs_))),
        info_(info(normalizer_of(attrs_))),
        numbers_(info_.row_numbers()) {}

  int64_t batch() const { return q_.shape()[0]; }
  int64_t queries() const { return q_.shape()[1]; }
  int64_t keys() const { return k_.shape()[1]; }
  int64_t heads() const { return q_.shape()[2]; }
  int64_t key_heads() const { return k_.shape()[2]; }
  int64_t width() const { return q_.shape()[3]; }
  const ScoreTransform& transform() const { return transform_; }
  const Normalizer& normalizer() const { return *normalizer_; }
  /// How many keys a query sees.
  int64_t visible(int64_t query) const { return transform_.causal ? query + 1 : keys(); }
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
  /// Of row t of (b, h) in a [B,H,2 or more,T] tensor of row statistics: its first number; the
  /// others lie queries() behind each other.
  int64_t numbers(int64_t b, int64_t h, int64_t t) const { return numbers_ * row(b, h) + t; }
  Row row_of(const HostTensor& rows, int64_t b, int64_t h, int64_t t) const {
    return row_at(&rows.data[numbers(b, h, t)], queries(), info_, transform_);
  }
  void store_row(HostTensor& rows, int64_t b, int64_t h, int64_t t, const Row& row) const {
    double* of_row = &rows.data[numbers(b, h, t)];
    of_row[0] = row.reference;
    of_row[queries()] = row.terms;
    if (info_.sums == 2) of_row[2 * queries()] = row.numerators;
    if (info_.extra != RowExtra::none) of_row[(numbers_ - 1) * queries()] = row.extra;
  }
  /// A row before its scores are summed, given the largest of them and, where the normaliser takes
  /// them, the scores of another key.
  Row start(int64_t b, int64_t h, int64_t t, double largest, const HostTensor* other) const {
    const auto keys = static_cast<double>(visible(t));
    const double scale = transform_.difference_scale;
    const double extra = other ? other->data[row(b, h) + t] : keys;
    return {normalizer_->reference(kMath, largest, keys, scale), 0, 0, extra, scale};
  }
  /// Computes the rows of (b, h) from their scores.
  void sum_rows(int64_t b, int64_t h, HostTensor& rows, const HostTensor* other) const {
    const Matrix scores = this->scores(b, h);
    for (int64_t t = 0; t < queries(); ++t) {
      const Eigen::VectorXd seen = scores.row(t).head(visible(t));
      Row row = start(b, h, t, seen.maxCoeff(), other);
      for (double score : seen) {
        const double difference = this->difference(score, row.reference);
        const double numerator = normalizer_->numerator(kMath, difference, row);
        row.numerators += numerator;
        row.terms += normalizer_->term(kMath, numerator, difference, row);
      }
      store_row(rows, b, h, t, row);
    }
  }
  int64_t column(int64_t b, int64_t h) const { return (b * heads() + h) * keys(); }

  /// Scores, but for the part of the scale that comes after them, [T,S]; hidden entries are minus
  /// infinity.
  Matrix scores(int64_t b, int64_t h) const {
    Matrix s = of_query(q_, b, h) * (transform_.keys_scale * of_key(k_, b, h).transpose());
    if (transform_.cap != 0)
      s = s.unaryExpr([&](double product) { return std::tanh(transform_.tanh_scale * product); });
    for (int64_t t = 0; t < queries(); ++t)
      for (int64_t j = visible(t); j < keys(); ++j)
        s(t, j) = -std::numeric_limits<double>::infinity();
    return s;
  }
  /// The gradients of products of queries and keys from those of their scores.
  Matrix product_gradients(int64_t b, int64_t h, const Matrix& of_scores) const {
    Matrix gradients = transform_.scale * of_scores;
    if (transform_.cap == 0) return gradients;
    const Matrix s = scores(b, h);
    for (int64_t t = 0; t < queries(); ++t)
      for (int64_t j = 0; j < visible(t); ++j) gradients(t, j) *= 1 - s(t, j) * s(t, j);
    return gradients;
  }
  double difference(double score, double reference) const {
    return transform_.difference_scale * (score - reference);
  }
  /// The weights given each row's statistics, [T,S]; hidden entries are 0 even if those are not
  /// finite.
  Matrix weights(int64_t b, int64_t h, const HostTensor& rows) const {
    return divided(b, h, rows, [&](const Row& row) { return normalizer_->divisor(kMath, row); });
  }
  /// The same, divided by the sum of their row.
  Matrix shares(int64_t b, int64_t h, const HostTensor& rows) const {
    return divided(b, h, rows,
                   [&](const Row& row) { return normalizer_->share_divisor(kMath, row); });
  }
  /// The gradients of all scores from the weights `a` and their gradients `da`; 0 where hidden.
  Matrix score_gradients(int64_t b, int64_t h, const HostTensor& rows, const Matrix& a,
                         const Matrix& da, const Vector& delta, const HostTensor* of_lse) const {
    const Matrix s = scores(b, h);
    Matrix ds = Matrix::Zero(queries(), keys());
    for (int64_t t = 0; t < queries(); ++t) {
      const Row row = row_of(rows, b, h, t);
      for (int64_t j = 0; j < visible(t); ++j)
        ds(t, j) = normalizer_->score_gradient(
                       kMath, {a(t, j), s(t, j), difference(s(t, j), row.reference), row}, da(t, j),
                       delta(t)) +
                   (of_lse ? a(t, j) * of_lse->data[this->row(b, h) + t] : 0);
    }
    return ds;
  }

 private:
  template <typename Divisor>
  Matrix divided(int64_t b, int64_t h, const HostTensor& rows, const Divisor& divisor) const {
    Matrix a = scores(b, h);
    for (int64_t t = 0; t < queries(); ++t) {
      const Row row = row_of(rows, b, h, t);
      const double divisor_t = divisor(row);
      for (int64_t j = 0; j < keys(); ++j)
        a(t, j) = hidden(t, j)
                      ? 0
                      : normalizer_->numerator(kMath, difference(a(t, j), row.reference), row) /
                            divisor_t;
    }
    return a;
  }

  const Attrs& attrs_;
  const HostTensor &q_, &k_;
  ScoreTransform transform_;
  std::unique_ptr<const Normalizer> normalizer_;
  const NormalizerInfo& info_;
  int numbers_;
};

}  // namespace

Results attention(const Call& call) {
  Heads heads(call);
  HostTensor out = zeros(call.type(0)), rows = zeros(call.type(1));
  const HostTensor* other = takes_other_score(normalizer_of(call.attrs())) ? &call.in(3) : nullptr;
  heads.each([&](int64_t b, int64_t h) {
    heads.sum_rows(b, h, rows, other);
    heads.of_query(out, b, h).noalias() =
        heads.weights(b, h, rows) * heads.of_key(call.in(2), b, h);
  });
  return results(std::move(out), std::move(rows));
}

Results attention_lse(const Call& call) {
  const HostTensor& rows = call.in(0);
  HostTensor lse = zeros(call.type());
  const auto normalizer = define_normalizer<Arithmetic, double>(normalizer_of(call.attrs()));
  const int64_t numbers = rows.shape()[2], queries = rows.shape()[3];
  for (int64_t h = 0; h < rows.shape()[0] * rows.shape()[1]; ++h)
    for (int64_t t = 0; t < queries; ++t) {
      const double* of_row = &rows.data[numbers * h * queries + t];
      lse.data[h * queries + t] =
          normalizer->log_divisor(kMath, row_at(of_row, queries, info(normalizer_of(call.attrs())),
                                                score_transform(call.attrs())));
    }
  return results(std::move(lse));
}

// H softmax over heads of lse - b, the heads of a token relative to one reference.
Results attention_head_gate(const Call& call) {
  const HostTensor &rows = call.in(0), &bias = call.in(1);
  HostTensor gates = zeros(call.type());
  const double scale = score_transform(call.attrs()).difference_scale;
  const int64_t heads = rows.shape()[1], queries = rows.shape()[3];
  Vector u(heads);
  for (int64_t b = 0; b < rows.shape()[0]; ++b)
    for (int64_t t = 0; t < queries; ++t) {
      const auto number = [&](int64_t h, int64_t i) {
        return rows.data[((b * heads + h) * 2 + i) * queries + t];
      };
      double reference = number(0, 0);
      for (int64_t h = 1; h < heads; ++h) reference = std::max(reference, number(h, 0));
      for (int64_t h = 0; h < heads; ++h)
        u[h] = scale * (number(h, 0) - reference) + std::log(number(h, 1)) - bias.data[h];
      const double largest = std::max<double>(u.maxCoeff(), std::numeric_limits<float>::lowest());
      // std::exp, as Eigen's exponential of minus infinity is not zero.
      const Vector shares = u.unaryExpr([&](double x) { return std::exp(x - largest); });
      const double sum = shares.sum();
      for (int64_t h = 0; h < heads; ++h)
        gates.data[(b * queries + t) * heads + h] =
            static_cast<double>(heads) * shares[h] / (sum == 0 ? 1 : sum);
    }
  return results(std::move(gates));
}

// With weights a and g = dout: dv = a^T g, ds from da = g v^T and delta = sum(g * out) by the
// normaliser, dq = scale ds k, dk = scale ds^T q. Key and value gradients sum over the query heads
// of their group.
Results attention_grad(const Call& call) {
  Heads heads(call);
  const HostTensor &q = call.in(0), &k = call.in(1), &v = call.in(2), &out = call.in(3);
  const HostTensor &rows = call.in(4), &dout = call.in(5);
  const HostTensor* of_lse = call.operands.size() > 6 ? &call.in(6) : nullptr;
  HostTensor dq = zeros(call.type(0)), dk = zeros(call.type(1)), dv = zeros(call.type(2));
  heads.each([&](int64_t b, int64_t h) {
    Matrix a = heads.weights(b, h, rows);
    auto g = heads.of_query(dout, b, h);
    Vector delta = g.cwiseProduct(heads.of_query(out, b, h)).rowwise().sum();
    Matrix da = g * heads.of_key(v, b, h).transpose();
    const Matrix ds =
        heads.product_gradients(b, h, heads.score_gradients(b, h, rows, a, da, delta, of_lse));
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
  const HostTensor* of_lse = call.operands.size() > 6 ? &call.in(6) : nullptr;
  HostTensor of_scores = zeros(call.type(0)), of_weights = zeros(call.type(1));
  heads.each([&](int64_t b, int64_t h) {
    const auto matrix = [&](HostTensor& all) {
      return view(all, heads.row(b, h) * heads.keys(), heads.queries(), heads.keys(), heads.keys());
    };
    Matrix a = heads.weights(b, h, rows);
    auto g = heads.of_query(dout, b, h);
    Vector delta = g.cwiseProduct(heads.of_query(out, b, h)).rowwise().sum();
    Matrix da = g * heads.of_key(v, b, h).transpose();
    matrix(of_weights) = da;
    matrix(of_scores) = heads.score_gradients(b, h, rows, a, da, delta, of_lse);
  });
  return results(std::move(of_scores), std::move(of_weights));
}

Results attention_scores(const Call& call) {
  Heads heads(call);
  HostTensor scores = zeros(call.type());
  heads.each([&](int64_t b, int64_t h) {
    view(scores, heads.row(b, h) * heads.keys(), heads.queries(), heads.keys(), heads.keys()) =
        heads.transform().difference_scale * heads.scores(b, h);
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

Results attention_identities(const Call& call) {
  Heads heads(call);
  const HostTensor &q = call.in(0), &k = call.in(1), &v = call.in(2), &out = call.in(3);
  const HostTensor& dout = call.in(4);
  HostTensor dv = zeros(call.type(0)), dk = zeros(call.type(1)), dq = zeros(call.type(2));
  HostTensor by_key = zeros(call.type(3)), by_query = zeros(call.type(4));
  HostTensor rows = zeros({DType::f32,
                           {heads.batch(), heads.heads(),
                            info(normalizer_of(call.attrs())).row_numbers(), heads.queries()}});
  const bool takes_other = takes_other_score(normalizer_of(call.attrs()));
  const HostTensor* other = takes_other ? &call.in(5) : nullptr;
  const HostTensor* of_lse = !takes_other && call.operands.size() > 5 ? &call.in(5) : nullptr;
  const int64_t T = heads.queries(), S = heads.keys(), d = heads.width();
  heads.each([&](int64_t b, int64_t h) {
    heads.sum_rows(b, h, rows, other);
    const Matrix a = heads.weights(b, h, rows), s = heads.scores(b, h);
    const Matrix Q = heads.of_query(q, b, h), K = heads.of_key(k, b, h), V = heads.of_key(v, b, h);
    const Matrix Y = heads.of_query(out, b, h), G = heads.of_query(dout, b, h);
    const Matrix means = a * K;
    const auto of_head = [&](HostTensor& all) {
      return view(all, (b * S * heads.heads() + h) * d, S, d, heads.heads() * d);
    };
    const auto key = [&](KeyNumber number, int64_t j) -> double& {
      const int64_t first = (b * heads.heads() + h) * kKeyNumbers;
      return by_key.data[(first + static_cast<int64_t>(number)) * S + j];
    };
    const auto query = [&](QueryNumber number, int64_t t) -> double& {
      const int64_t first = (b * heads.heads() + h) * kQueryNumbers;
      return by_query.data[(first + static_cast<int64_t>(number)) * T + t];
    };
    const double scale = heads.transform().scale, size = std::abs(scale);
    Matrix slopes = Matrix::Zero(T, S);  // a beta, times the derivative of a cap
    for (int64_t t = 0; t < T; ++t) {
      const double g = G.row(t).norm(), y = Y.row(t).norm(), gy = G.row(t).dot(Y.row(t));
      query(QueryNumber::gradient_output, t) = gy;
      for (int64_t j = 0; j < heads.visible(t); ++j) {
        const double weight = a(t, j), dlse = of_lse ? of_lse->data[heads.row(b, h) + t] : 0;
        const double beta = G.row(t).dot(V.row(j)) - gy + dlse;
        const double error = weight * (g * (V.row(j).norm() + y) + std::abs(dlse));
        slopes(t, j) = weight * beta;
        if (heads.transform().cap != 0) slopes(t, j) *= 1 - s(t, j) * s(t, j);
        key(KeyNumber::mass, j) += weight;
        key(KeyNumber::square, j) += weight * weight;
        key(KeyNumber::value_scale, j) += std::abs(weight) * g;
        key(KeyNumber::gradient_square, j) += g * g;
        key(KeyNumber::key_scale, j) += size * std::abs(error) * Q.row(t).norm();
        const auto raise = [&](KeyNumber number, double value) {
          key(number, j) = std::max(key(number, j), value);
        };
        raise(KeyNumber::largest_gradient, g);
        raise(KeyNumber::largest_beta, std::abs(beta));
        raise(KeyNumber::largest_query, Q.row(t).norm());
        query(QueryNumber::row_sum, t) += weight * beta;
        query(QueryNumber::row_scale, t) += std::abs(error);
        query(QueryNumber::query_scale, t) += size * std::abs(error) * K.row(j).norm();
        query(QueryNumber::query_bound, t) +=
            size * std::abs(weight * beta) * (K.row(j) - means.row(t)).norm();
        query(QueryNumber::weight_sum, t) += weight;
      }
    }
    of_head(dv) = a.transpose() * G;
    of_head(dk) = scale * slopes.transpose() * Q;
    heads.of_query(dq, b, h) = scale * slopes * K;
  });
  return results(std::move(dv), std::move(dk), std::move(dq), std::move(by_key),
                 std::move(by_query));
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
