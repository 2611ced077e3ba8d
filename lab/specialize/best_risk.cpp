#include "lab/specialize/best_risk.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "lab/specialize/location_posterior.h"
#include "support/error.h"

namespace weir {

namespace {

constexpr const char* kBestTopic = "best risk";
using Eigen::MatrixXd;
using Eigen::VectorXd;

void check_settings(const BestRiskSettings& settings) {
  Problems problems(kBestTopic);
  if (settings.heads < 1)
    problems.add(fmt::format("heads is {}; at least 1 is needed", settings.heads));
  if (settings.random_starts < 0)
    problems.add(
        fmt::format("random_starts is {}; 0 or more are possible", settings.random_starts));
  if (settings.most_iterations < 1)
    problems.add(
        fmt::format("most_iterations is {}; at least 1 is needed", settings.most_iterations));
  if (!(settings.tolerance > 0))
    problems.add(fmt::format("tolerance is {}; a positive number is needed", settings.tolerance));
  problems.raise();
}

// The risk as a function of m and of o_h = b_h - |k_h|^2 / 2, in which a head that moves keeps its
// share of the tokens.
class SpannedRisk {
 public:
  SpannedRisk(const LimitModel& model, int64_t heads, const RuleSettings& settings)
      : model_(model),
        heads_(heads),
        directions_(model.law.dimension()),
        rule_(score_rule(model, directions_, settings)) {}

  OrderParameters parameters(const VectorXd& x) const {
    const MatrixXd m = x.head(heads_ * directions_).reshaped(heads_, directions_);
    VectorXd b = VectorXd::Zero(heads_);
    if (has_bias(model_.activation)) b = x.tail(heads_) + m.rowwise().squaredNorm() / 2;
    return spanned_parameters(m, b);
  }
  VectorXd variables(const OrderParameters& at) const {
    const bool biased = has_bias(model_.activation);
    VectorXd x(at.m.size() + (biased ? heads_ : 0));
    x.head(at.m.size()) = at.m.reshaped();
    if (biased) x.tail(heads_) = at.b - at.m.rowwise().squaredNorm() / 2;
    return x;
  }
  /// The risk and its gradient.
  double operator()(const VectorXd& x, VectorXd& gradient) const {
    const OrderParameters at = parameters(x);
    const LimitAverages averages = mean_averages(
        limit_averages(model_, at.m, at.m, at.b, rule_, AveragesUpTo::kFirstDerivatives));
    MatrixXd by_m = averages.by_factor + averages.signal;
    if (has_bias(model_.activation)) {
      by_m += averages.by_bias.asDiagonal() * at.m;
      gradient.tail(heads_) = averages.by_bias;
    }
    gradient.head(by_m.size()) = by_m.reshaped();
    return averages.loss;
  }
  double outside_curvature(const OrderParameters& at) const {
    const LimitAverages averages =
        mean_averages(limit_averages(model_, at.m, at.m, at.b, rule_, AveragesUpTo::kFlow));
    return Eigen::SelfAdjointEigenSolver<MatrixXd>(averages.curvature, Eigen::EigenvaluesOnly)
        .eigenvalues()
        .minCoeff();
  }

 private:
  const LimitModel& model_;
  int64_t heads_, directions_;
  GaussianRule rule_;
};

struct Minimum {
  VectorXd x;
  double value;
  double gradient;
  int64_t iterations;
};

// BFGS with an estimate of the inverse second derivatives, and steps halved until the value falls
// enough (Nocedal and Wright, Numerical Optimization, 2006, algorithms 6.1 and 3.1). An update
// without positive curvature is left out.
Minimum minimise(const SpannedRisk& f, const VectorXd& start, const BestRiskSettings& settings) {
  const Eigen::Index n = start.size();
  VectorXd x = start, gradient(n), next_gradient(n);
  double value = f(x, gradient);
  MatrixXd inverse = MatrixXd::Identity(n, n);
  bool fresh = true;
  int64_t iterations = 0;
  while (iterations < settings.most_iterations &&
         gradient.cwiseAbs().maxCoeff() > settings.tolerance) {
    ++iterations;
    VectorXd direction = -inverse * gradient;
    double slope = direction.dot(gradient);
    if (slope >= 0) {
      inverse.setIdentity();
      fresh = true;
      direction = -gradient;
      slope = -gradient.squaredNorm();
    }
    // Keys have the size of the strengths: no first step leaves that scale.
    double length = std::min(1.0, (1 + x.norm()) / direction.norm()), next_value = value;
    VectorXd next = x;
    for (int halvings = 0; halvings < 40; ++halvings, length /= 2) {
      next = x + length * direction;
      next_value = f(next, next_gradient);
      if (next_value <= value + 1e-4 * length * slope) break;
    }
    if (!(next_value < value)) {
      if (fresh) break;  // not even along the gradient: this is the minimum up to rounding
      inverse.setIdentity();
      fresh = true;
      continue;
    }
    const VectorXd moved = next - x, changed = next_gradient - gradient;
    const double curvature = moved.dot(changed);
    if (curvature > 1e-12 * moved.norm() * changed.norm()) {
      if (fresh) inverse *= curvature / changed.squaredNorm();
      fresh = false;
      const VectorXd along = inverse * changed;
      inverse += (1 + changed.dot(along) / curvature) / curvature * moved * moved.transpose() -
                 (along * moved.transpose() + moved * along.transpose()) / curvature;
    }
    x = next;
    value = next_value;
    gradient = next_gradient;
  }
  return {x, value, gradient.cwiseAbs().maxCoeff(), iterations};
}

Minimum unmoved(const SpannedRisk& f, const VectorXd& start) {
  VectorXd gradient(start.size());
  const double value = f(start, gradient);
  return {start, value, gradient.cwiseAbs().maxCoeff(), 0};
}

// The keys times a factor, with biases that leave each head its share of the tokens.
OrderParameters stretched(const OrderParameters& at, double factor) {
  const VectorXd squares = at.m.rowwise().squaredNorm();
  return spanned_parameters(factor * at.m, at.b + (factor * factor - 1) / 2 * squares);
}

// Points with weights where heads can stand.
std::pair<MatrixXd, VectorXd> anchors(const SignalLaw& law) {
  if (law.kind() == SignalLaw::Kind::kDiscrete) return {law.points(), law.weights()};
  const Eigen::Index F = law.dimension();
  MatrixXd points = MatrixXd::Zero(2 * F, F);
  for (Eigen::Index p = 0; p < 2 * F; ++p)
    points(p, p / 2) = (p % 2 == 0 ? 1 : -1) * law.scales()[p / 2];
  return {points, VectorXd::Constant(2 * F, 1 / static_cast<double>(2 * F))};
}

std::vector<OrderParameters> starts_of(const LimitModel& model, const BestRiskSettings& settings) {
  const auto [points, weights] = anchors(model.law);
  const Eigen::Index H = settings.heads, F = model.law.dimension(), P = points.rows();
  Random random(settings.seed, 0);
  const auto jitter = [&](double size) {
    MatrixXd noise(H, F);
    for (double& number : noise.reshaped()) number = size * random.normal();
    return noise;
  };
  const double scale = std::max(0.1, points.rowwise().norm().mean());
  std::vector<OrderParameters> starts;
  // Heads at the points in turn; those at one point share its weight. Heads beyond the first round
  // are moved a little, as heads that are equal stay so.
  MatrixXd planted(H, F);
  VectorXd biases(H);
  const MatrixXd apart = jitter(0.05 * scale);
  for (Eigen::Index h = 0; h < H; ++h) {
    const Eigen::Index p = h % P, sharing = (H - p + P - 1) / P;
    planted.row(h) = points.row(p);
    if (h >= P) planted.row(h) += apart.row(h);
    biases[h] =
        planted.row(h).squaredNorm() / 2 - std::log(weights[p] / static_cast<double>(sharing));
  }
  starts.push_back(spanned_parameters(planted, biases));
  starts.push_back(spanned_parameters(planted / 2 + jitter(0.05 * scale), biases / 2));
  const MatrixXd mean = model.law.mean().transpose().replicate(H, 1);
  starts.push_back(spanned_parameters(mean + jitter(0.05 * scale), biases / 2));
  for (int64_t s = 0; s < settings.random_starts; ++s)
    starts.push_back(spanned_parameters(jitter(scale), biases / 2));
  return starts;
}

}  // namespace

BestRisk best_risk(const LimitModel& model, const BestRiskSettings& settings,
                   std::span<const OrderParameters> starts) {
  check_settings(settings);
  std::vector<OrderParameters> all = starts_of(model, settings);
  all.insert(all.begin(), starts.begin(), starts.end());
  for (const OrderParameters& start : all) {
    check_parameters(model, spanned_parameters(start.m, start.b));
    if (start.heads() != settings.heads)
      user_error(kBestTopic, "a start has {} heads; heads is {}", start.heads(), settings.heads);
  }
  const SpannedRisk risk(model, settings.heads, settings.rule);
  // Other shifts than those for which the risk was made small.
  RuleSettings others = settings.rule;
  others.seed = settings.rule.seed + 0x9E3779B97F4A7C15;
  BestRisk best;
  for (const OrderParameters& start : all) {
    const VectorXd x = risk.variables(start);
    const Minimum minimum = minimise(risk, x, settings);
    for (const Minimum& candidate : {minimum, unmoved(risk, x)}) {
      const OrderParameters at = risk.parameters(candidate.x);
      const Estimate excess = excess_risk(model, at, others);
      if (best.at.m.size() > 0 && excess.value >= best.excess.value) continue;
      best.at = at;
      best.excess = excess;
      best.gradient = candidate.gradient;
      best.iterations = candidate.iterations;
    }
    best.risks.push_back(minimum.value);
  }
  best.outside_curvature = risk.outside_curvature(best.at);
  best.risk = limit_risk(model, best.at, others);
  return best;
}

std::vector<RiskPoint> risk_curve(const LimitModel& unit, std::span<const double> strengths,
                                  const BestRiskSettings& settings) {
  check_settings(settings);
  Problems problems(kBestTopic);
  for (size_t i = 0; i < strengths.size(); ++i)
    if (!std::isfinite(strengths[i]) || strengths[i] < 0)
      problems.add(fmt::format("strength {} is {}; 0 or a positive number is possible", i + 1,
                               strengths[i]));
  problems.raise();
  std::vector<RiskPoint> curve;
  for (double strength : strengths) {
    const LimitModel model{unit.law.scaled(strength), unit.tokens, unit.activation};
    std::vector<OrderParameters> starts;
    if (!curve.empty() && curve.back().strength > 0)
      starts.push_back(stretched(curve.back().best.at, strength / curve.back().strength));
    const Estimate bayes = bayes_risk(model.law, model.tokens, settings.rule);
    curve.push_back({strength, bayes, best_risk(model, settings, starts)});
  }
  return curve;
}

}  // namespace weir
