#include "lab/specialize/location_posterior.h"

#include <cmath>

#include "lab/specialize/law_points.h"
#include "support/error.h"

namespace weir {

namespace {

constexpr const char* kBayesTopic = "bayes risk";

// Sums of means and squares by blocks, so that the standard error keeps its digits.
struct Running {
  double count = 0, mean = 0, squares = 0;
  void add(double value) {
    ++count;
    const double from_mean = value - mean;
    mean += from_mean / count;
    squares += from_mean * (value - mean);
  }
};

}  // namespace

void location_posterior(const SignalLaw& law, const double* projections,
                        Eigen::VectorXd& posterior) {
  const Eigen::Index F = law.dimension();
  for (Eigen::Index l = 0; l < posterior.size(); ++l)
    posterior[l] = law.log_ratio(projections + l * F);
  posterior.array() -= posterior.maxCoeff();
  posterior = posterior.array().exp();
  posterior /= posterior.sum();
}

Eigen::VectorXd location_posterior(const SignalLaw& law, const Eigen::MatrixXd& projections) {
  if (projections.rows() != law.dimension() || projections.cols() == 0)
    user_error("location posterior",
               "the projections are {} x {}; hidden directions ({}) x tokens are needed",
               projections.rows(), projections.cols(), law.dimension());
  Eigen::VectorXd posterior(projections.cols());
  location_posterior(law, projections.data(), posterior);
  return posterior;
}

double posterior_variance(const Eigen::VectorXd& posterior) {
  Eigen::Index top = 0;
  posterior.maxCoeff(&top);
  double rest = 0, sum = 0;
  for (Eigen::Index l = 0; l < posterior.size(); ++l) {
    if (l == top) continue;
    rest += posterior[l];
    sum += posterior[l] * (1 - posterior[l]);
  }
  return sum + posterior[top] * rest;
}

Estimate sampled_bayes_risk(const SignalLaw& law, int64_t tokens, int64_t samples, uint64_t seed) {
  Problems problems(kBayesTopic);
  if (tokens < 2) problems.add(fmt::format("tokens is {}; at least 2 are needed", tokens));
  if (samples < 2) problems.add(fmt::format("samples is {}; at least 2 are needed", samples));
  problems.raise();
  Random random(seed, 0);
  Eigen::MatrixXd projections(law.dimension(), tokens);
  Eigen::VectorXd posterior(tokens);
  Running running;
  for (int64_t s = 0; s < samples; ++s) {
    for (double& y : projections.reshaped()) y = random.normal();
    projections.col(0) += law.draw(random);
    location_posterior(law, projections.data(), posterior);
    running.add(posterior_variance(posterior));
  }
  const double variance = running.squares / (running.count - 1);
  return {running.mean, std::sqrt(variance / running.count)};
}

Estimate bayes_risk(const SignalLaw& law, int64_t tokens, const RuleSettings& settings) {
  if (tokens < 2) user_error(kBayesTopic, "tokens is {}; at least 2 are needed", tokens);
  const Eigen::Index F = law.dimension();
  const LawPoints thetas(law);
  const GaussianRule rule = gaussian_rule(F * tokens + thetas.extra(), settings);
  Eigen::MatrixXd projections(F, tokens);
  Eigen::VectorXd posterior(tokens), groups = Eigen::VectorXd::Zero(rule.groups);
  const Eigen::Index each = rule.points.cols() / rule.groups;
  for (Eigen::Index i = 0; i < rule.points.cols(); ++i)
    for (Eigen::Index p = 0; p < thetas.count(); ++p) {
      const double* point = rule.points.col(i).data();
      projections = Eigen::Map<const Eigen::MatrixXd>(point, F, tokens);
      projections.col(0) += thetas.at(p, point + F * tokens);
      location_posterior(law, projections.data(), posterior);
      groups[i / each] += static_cast<double>(rule.groups) * rule.weights[i] * thetas.weight(p) *
                          posterior_variance(posterior);
    }
  return mean_of(groups);
}

}  // namespace weir
