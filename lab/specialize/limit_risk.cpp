#include "lab/specialize/limit_risk.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "lab/specialize/law_points.h"
#include "lab/specialize/location_posterior.h"
#include "support/error.h"

namespace weir {

namespace {

constexpr const char* kRiskTopic = "limit risk";
/// Of r and r - m m^T, relative to the largest entry of r: what counts as rounding.
constexpr double kRounding = 1e-9;
constexpr double kSteepStrength = 3;

double size_of(const Eigen::MatrixXd& matrix) {
  return matrix.size() == 0 ? 0 : matrix.cwiseAbs().maxCoeff();
}

void check_gram(const OrderParameters& at, Problems& problems) {
  const double rounding = kRounding * std::max(size_of(at.r), size_of(at.m) * size_of(at.m));
  if (size_of(at.r - at.r.transpose()) > rounding) problems.add("r is not symmetric");
  const Eigen::MatrixXd outside = at.r - at.m * at.m.transpose();
  const double lowest =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(outside, Eigen::EigenvaluesOnly)
          .eigenvalues()
          .minCoeff();
  if (lowest < -rounding)
    problems.add(
        fmt::format("no keys have this m and r: r - m m^T has the eigenvalue {:.6g}; 0 or "
                    "more is possible",
                    lowest));
}

bool is_spanned(const OrderParameters& at) {
  return size_of(at.r - at.m * at.m.transpose()) <= 1e-13 * size_of(at.r);
}

Eigen::VectorXd losses_of(const std::vector<LimitAverages>& groups) {
  Eigen::VectorXd losses(static_cast<Eigen::Index>(groups.size()));
  for (Eigen::Index g = 0; g < losses.size(); ++g) losses[g] = groups[static_cast<size_t>(g)].loss;
  return losses;
}

LimitAverages zero_averages(Eigen::Index H, Eigen::Index F, Eigen::Index d) {
  LimitAverages zero;
  zero.signal.setZero(H, F);
  zero.curvature.setZero(H, H);
  zero.step_noise.setZero(H, H);
  zero.by_bias.setZero(H);
  zero.by_factor.setZero(H, d);
  return zero;
}

// Adds what one set of scores contributes. `normals` is g, [d, L].
void add_derivatives(const ScoreLoss& loss, const Eigen::VectorXd& theta,
                     const Eigen::Map<const Eigen::MatrixXd>& normals, double weight,
                     bool has_biases, AveragesUpTo part, LimitAverages& sums) {
  const Eigen::MatrixXd& c = loss.by_score();
  const Eigen::Index H = c.rows(), L = c.cols();
  for (Eigen::Index f = 0; f < theta.size(); ++f)
    for (Eigen::Index h = 0; h < H; ++h) sums.signal(h, f) += weight * c(h, 0) * theta[f];
  if (has_biases)
    for (Eigen::Index l = 0; l < L; ++l)
      for (Eigen::Index h = 0; h < H; ++h) sums.by_bias[h] -= weight * c(h, l);
  if (part == AveragesUpTo::kFirstDerivatives) {
    for (Eigen::Index l = 0; l < L; ++l)
      for (Eigen::Index j = 0; j < normals.rows(); ++j)
        for (Eigen::Index h = 0; h < H; ++h)
          sums.by_factor(h, j) += weight * c(h, l) * normals(j, l);
    return;
  }
  loss.add_curvature(weight, sums.curvature);
  for (Eigen::Index l = 0; l < L; ++l)
    for (Eigen::Index i = 0; i < H; ++i)
      for (Eigen::Index h = 0; h < H; ++h) sums.step_noise(h, i) += weight * (c(h, l) * c(i, l));
}

}  // namespace

OrderParameters order_parameters(const Eigen::MatrixXd& keys, const Eigen::MatrixXd& directions,
                                 const Eigen::VectorXd& biases) {
  return {keys * directions.transpose(), keys * keys.transpose(), biases};
}

OrderParameters spanned_parameters(const Eigen::MatrixXd& m, const Eigen::VectorXd& biases) {
  return {m, m * m.transpose(), biases};
}

OrderParameters planted_parameters(const SignalLaw& law) {
  if (law.kind() != SignalLaw::Kind::kDiscrete)
    user_error(kRiskTopic,
               "a Gaussian law has no points to plant heads at; a discrete law is possible");
  const Eigen::VectorXd biases =
      law.points().rowwise().squaredNorm().array() / 2 - law.weights().array().log();
  return spanned_parameters(law.points(), biases);
}

Eigen::MatrixXd symmetric_root(const Eigen::MatrixXd& r) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver((r + r.transpose()) / 2);
  const Eigen::VectorXd roots = solver.eigenvalues().cwiseMax(0).cwiseSqrt();
  return solver.eigenvectors() * roots.asDiagonal() * solver.eigenvectors().transpose();
}

void check_parameters(const LimitModel& model, const OrderParameters& at) {
  Problems problems(kRiskTopic);
  const Eigen::Index H = at.m.rows(), F = model.law.dimension();
  if (model.tokens < 2)
    problems.add(fmt::format("tokens is {}; at least 2 are needed", model.tokens));
  if (H == 0) problems.add("m has no rows; one a head is needed");
  if (at.m.cols() != F)
    problems.add(fmt::format("m has {} columns; the law has {} hidden directions", at.m.cols(), F));
  const bool square = at.r.rows() == H && at.r.cols() == H;
  if (!square)
    problems.add(fmt::format("r is {} x {}; {} x {} is needed for the rows of m", at.r.rows(),
                             at.r.cols(), H, H));
  if (at.b.size() != H)
    problems.add(fmt::format("there are {} biases for {} heads", at.b.size(), H));
  const bool finite = at.m.allFinite() && at.r.allFinite() && at.b.allFinite();
  if (!finite) problems.add("m, r or b has a number that is not finite");
  if (H > 0 && square && finite) check_gram(at, problems);
  problems.raise();
}

GaussianRule score_rule(const LimitModel& model, int64_t d, const RuleSettings& settings) {
  RuleSettings chosen = settings;
  if (settings.method == RuleSettings::Method::kAutomatic &&
      model.law.largest_strength() > kSteepStrength)
    chosen.method = RuleSettings::Method::kLattice;
  return gaussian_rule(d * model.tokens + LawPoints(model.law).extra(), chosen);
}

std::vector<LimitAverages> limit_averages(const LimitModel& model, const Eigen::MatrixXd& m,
                                          const Eigen::MatrixXd& A, const Eigen::VectorXd& b,
                                          const GaussianRule& rule, AveragesUpTo part) {
  const Eigen::Index H = m.rows(), d = A.cols(), L = model.tokens;
  const LawPoints thetas(model.law);
  WEIR_CHECK(rule.dimension() == d * L + thetas.extra(), "{} against {} x {} + {}",
             rule.dimension(), d, L, thetas.extra());
  const bool biased = has_bias(model.activation);
  std::vector<LimitAverages> groups(static_cast<size_t>(rule.groups),
                                    zero_averages(H, model.law.dimension(), d));
  ScoreLoss loss(model.activation, b, L);
  Eigen::MatrixXd noise(H, L), scores(H, L);
  const Eigen::Index each = rule.points.cols() / rule.groups;
  for (Eigen::Index i = 0; i < rule.points.cols(); ++i) {
    LimitAverages& sums = groups[static_cast<size_t>(i / each)];
    const double* point = rule.points.col(i).data();
    const Eigen::Map<const Eigen::MatrixXd> normals(point, d, L);
    noise.noalias() = A.lazyProduct(normals);
    for (Eigen::Index p = 0; p < thetas.count(); ++p) {
      const Eigen::VectorXd& theta = thetas.at(p, point + d * L);
      const double weight = static_cast<double>(rule.groups) * rule.weights[i] * thetas.weight(p);
      scores = noise;
      scores.col(0).noalias() += m.lazyProduct(theta);
      loss.set_scores(scores);
      sums.loss += weight * loss.loss(0);
      if (part == AveragesUpTo::kLoss) continue;
      loss.differentiate(0);
      add_derivatives(loss, theta, normals, weight, biased, part, sums);
    }
  }
  return groups;
}

LimitAverages mean_averages(const std::vector<LimitAverages>& groups) {
  LimitAverages mean = groups.front();
  for (size_t g = 1; g < groups.size(); ++g) {
    mean.loss += groups[g].loss;
    mean.signal += groups[g].signal;
    mean.curvature += groups[g].curvature;
    mean.step_noise += groups[g].step_noise;
    mean.by_bias += groups[g].by_bias;
    mean.by_factor += groups[g].by_factor;
  }
  const double share = 1 / static_cast<double>(groups.size());
  mean.loss *= share;
  mean.signal *= share;
  mean.curvature *= share;
  mean.step_noise *= share;
  mean.by_bias *= share;
  mean.by_factor *= share;
  return mean;
}

Estimate limit_risk(const LimitModel& model, const OrderParameters& at,
                    const RuleSettings& settings) {
  check_parameters(model, at);
  const bool reduced = at.m.cols() < at.m.rows() && is_spanned(at);
  const Eigen::MatrixXd A = reduced ? at.m : symmetric_root(at.r);
  const GaussianRule rule = score_rule(model, A.cols(), settings);
  return mean_of(losses_of(limit_averages(model, at.m, A, at.b, rule, AveragesUpTo::kLoss)));
}

Estimate excess_risk(const LimitModel& model, const OrderParameters& at,
                     const RuleSettings& settings) {
  check_parameters(model, spanned_parameters(at.m, at.b));
  const Eigen::Index F = model.law.dimension(), L = model.tokens;
  const LawPoints thetas(model.law);
  const GaussianRule rule = score_rule(model, F, settings);
  const Eigen::Index each = rule.points.cols() / rule.groups;
  ScoreLoss loss(model.activation, at.b, L);
  Eigen::MatrixXd projections(F, L), scores(at.m.rows(), L);
  Eigen::VectorXd posterior(L), groups = Eigen::VectorXd::Zero(rule.groups);
  for (Eigen::Index i = 0; i < rule.points.cols(); ++i)
    for (Eigen::Index p = 0; p < thetas.count(); ++p) {
      const double* point = rule.points.col(i).data();
      projections = Eigen::Map<const Eigen::MatrixXd>(point, F, L);
      projections.col(0) += thetas.at(p, point + F * L);
      location_posterior(model.law, projections.data(), posterior);
      scores.noalias() = at.m.lazyProduct(projections);
      loss.set_scores(scores);
      groups[i / each] += static_cast<double>(rule.groups) * rule.weights[i] * thetas.weight(p) *
                          (loss.weights() - posterior).squaredNorm();
    }
  return mean_of(groups);
}

}  // namespace weir
