#include "lab/specialize/sampled_excess.h"

#include <cmath>

#include "lab/specialize/location_posterior.h"
#include "support/error.h"

namespace weir {
namespace {

// The mean of what is added, with its standard error.
class SampleMean {
 public:
  void add(double value) {
    ++count_;
    const double step = value - mean_;
    mean_ += step / static_cast<double>(count_);
    squares_ += step * (value - mean_);
  }
  Estimate estimate() const {
    const auto n = static_cast<double>(count_);
    return {mean_, std::sqrt(squares_ / (n - 1) / n)};
  }

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

void fill_normal(Eigen::MatrixXd& matrix, Random& random) {
  for (Eigen::Index j = 0; j < matrix.cols(); ++j)
    for (Eigen::Index i = 0; i < matrix.rows(); ++i) matrix(i, j) = random.normal();
}

}  // namespace

SampledRisk sampled_excess(const LimitModel& model, const OrderParameters& at, int64_t samples,
                           uint64_t seed) {
  check_parameters(model, at);
  if (samples < 2)
    user_error("sampled excess", "{} samples are asked for, but at least 2 are needed for an error",
               samples);
  // Scores are m y_l + B g_l: y the projections on the hidden directions, B B^T = r - m m^T.
  const Eigen::MatrixXd outside = symmetric_root(at.r - at.m * at.m.transpose());
  const bool spanned = outside.norm() == 0;
  Eigen::MatrixXd y(at.m.cols(), model.tokens), g(at.heads(), model.tokens);
  Eigen::MatrixXd scores(at.heads(), model.tokens);
  Eigen::VectorXd posterior(model.tokens);
  ScoreLoss loss(model.activation, at.b, model.tokens);
  Random random(seed, /*stream=*/0);
  SampleMean excess, bayes;
  for (int64_t i = 0; i < samples; ++i) {
    const Eigen::VectorXd theta = model.law.draw(random);
    fill_normal(y, random);
    y.col(0) += theta;
    scores.noalias() = at.m * y;
    if (!spanned) {
      fill_normal(g, random);
      scores.noalias() += outside * g;
    }
    loss.set_scores(scores);
    location_posterior(model.law, y.data(), posterior);
    excess.add((loss.weights() - posterior).squaredNorm());
    bayes.add(posterior_variance(posterior));
  }
  return {excess.estimate(), bayes.estimate()};
}

}  // namespace weir
