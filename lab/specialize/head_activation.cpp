#include "lab/specialize/head_activation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/error.h"

namespace weir {

namespace {

constexpr double kLowest = -std::numeric_limits<double>::infinity();

void check_shapes(const Eigen::MatrixXd& scores, const Eigen::VectorXd& biases, int64_t hidden) {
  Problems problems("head activation");
  if (scores.size() == 0) problems.add("there are no scores; heads x tokens are needed");
  if (biases.size() != scores.rows())
    problems.add(fmt::format("there are {} biases for {} heads", biases.size(), scores.rows()));
  if (hidden < 0 || hidden >= scores.cols())
    problems.add(fmt::format("token {} is not one of {}, counted from 0", hidden, scores.cols()));
  problems.raise();
}

}  // namespace

Eigen::VectorXd attention_weights(HeadActivation activation, const Eigen::MatrixXd& scores,
                                  const Eigen::VectorXd& biases) {
  check_shapes(scores, biases, 0);
  ScoreLoss loss(activation, biases, scores.cols());
  loss.set_scores(scores);
  return loss.weights();
}

ScoreGradient score_gradient(HeadActivation activation, const Eigen::MatrixXd& scores,
                             const Eigen::VectorXd& biases, int64_t hidden) {
  check_shapes(scores, biases, hidden);
  ScoreLoss loss(activation, biases, scores.cols());
  loss.set_scores(scores);
  loss.differentiate(hidden);
  Eigen::VectorXd by_bias = Eigen::VectorXd::Zero(scores.rows());
  if (has_bias(activation)) by_bias = -loss.by_score().rowwise().sum();
  return {loss.loss(hidden), loss.weights(), loss.by_score(), by_bias};
}

ScoreLoss::ScoreLoss(HeadActivation activation, const Eigen::VectorXd& biases, int64_t tokens)
    : activation_(activation),
      biases_(has_bias(activation) ? biases : Eigen::VectorXd::Zero(biases.size())),
      share_(has_bias(activation) ? 1 : 1 / static_cast<double>(biases.size())),
      q_(biases.size(), tokens),
      a_(tokens),
      v_(tokens),
      mean_v_(biases.size()),
      c_(biases.size(), tokens) {}

void ScoreLoss::set_separate(const Eigen::MatrixXd& scores) {
  const Eigen::Index H = q_.rows(), L = q_.cols();
  for (Eigen::Index h = 0; h < H; ++h) {
    // The 1 of softmax-1 is a further key with the score of the bias.
    const bool has_one = activation_ == HeadActivation::kSoftmax1;
    double largest = has_one ? biases_[h] : kLowest;
    for (Eigen::Index l = 0; l < L; ++l) largest = std::max(largest, scores(h, l));
    double sum = has_one ? std::exp(biases_[h] - largest) : 0;
    for (Eigen::Index l = 0; l < L; ++l) sum += q_(h, l) = std::exp(scores(h, l) - largest);
    for (Eigen::Index l = 0; l < L; ++l) q_(h, l) /= sum;
  }
}

void ScoreLoss::set_joint(const Eigen::MatrixXd& scores) {
  const Eigen::Index H = q_.rows(), L = q_.cols();
  double largest = kLowest, sum = 0;
  for (Eigen::Index l = 0; l < L; ++l)
    for (Eigen::Index h = 0; h < H; ++h) largest = std::max(largest, scores(h, l) - biases_[h]);
  for (Eigen::Index l = 0; l < L; ++l)
    for (Eigen::Index h = 0; h < H; ++h)
      sum += q_(h, l) = std::exp(scores(h, l) - biases_[h] - largest);
  for (Eigen::Index l = 0; l < L; ++l)
    for (Eigen::Index h = 0; h < H; ++h) q_(h, l) /= sum;
}

void ScoreLoss::set_scores(const Eigen::MatrixXd& scores) {
  switch (activation_) {
    case HeadActivation::kSoftmax:
    case HeadActivation::kSoftmax1:
      set_separate(scores);
      break;
    case HeadActivation::kBayesSoftmax:
      set_joint(scores);
      break;
  }
  for (Eigen::Index l = 0; l < q_.cols(); ++l) {
    double sum = 0;
    for (Eigen::Index h = 0; h < q_.rows(); ++h) sum += q_(h, l);
    a_[l] = share_ * sum;
  }
}

double ScoreLoss::loss(int64_t hidden) const {
  double sum = 0;
  for (Eigen::Index l = 0; l < a_.size(); ++l) {
    const double rest = l == hidden ? 1 - a_[l] : a_[l];
    sum += rest * rest;
  }
  return sum;
}

// With v_l = dg / da_l = 2 (a_l - [l = e]) and dq_hl' / dchi_hl = q_hl' ([l = l'] - q_hl) within a
// head, c_hl = share q_hl (v_l - sum_l' q_hl' v_l'). Where all heads share one sum, da_l' / dchi_hl
// = q_hl ([l = l'] - a_l'), and the sum is that over a_l' v_l'.
void ScoreLoss::differentiate(int64_t hidden) {
  const Eigen::Index H = q_.rows(), L = q_.cols();
  for (Eigen::Index l = 0; l < L; ++l) v_[l] = 2 * (a_[l] - (l == hidden ? 1 : 0));
  if (activation_ == HeadActivation::kBayesSoftmax) {
    double sum = 0;
    for (Eigen::Index l = 0; l < L; ++l) sum += a_[l] * v_[l];
    mean_v_.setConstant(sum);
  } else {
    for (Eigen::Index h = 0; h < H; ++h) {
      double sum = 0;
      for (Eigen::Index l = 0; l < L; ++l) sum += q_(h, l) * v_[l];
      mean_v_[h] = sum;
    }
  }
  for (Eigen::Index l = 0; l < L; ++l)
    for (Eigen::Index h = 0; h < H; ++h) c_(h, l) = share_ * q_(h, l) * (v_[l] - mean_v_[h]);
}

// The derivatives of c as given above. They are symmetric in h and h', since they are second
// derivatives of g. Separate heads, with P_hh' = sum_l q_hl q_h'l:
//   share [h = h'] q_hl (v_l - V_h) (1 - 2 q_hl)
//     + 2 share^2 q_hl q_h'l (1 - q_hl - q_h'l + P_hh')
// Joint heads, with A = sum_l a_l^2:
//   [h = h'] q_hl (v_l - V) + q_hl q_h'l (2 - 4 a_l + 2 A - 2 (v_l - V))
void ScoreLoss::add_curvature(double factor, Eigen::MatrixXd& sum) const {
  const Eigen::Index H = q_.rows(), L = q_.cols();
  const bool joint = activation_ == HeadActivation::kBayesSoftmax;
  double squares = 0;
  for (Eigen::Index l = 0; l < L; ++l) squares += a_[l] * a_[l];
  for (Eigen::Index h = 0; h < H; ++h)
    for (Eigen::Index i = 0; i <= h; ++i) {
      double here = 0, product = 0;
      if (!joint)
        for (Eigen::Index l = 0; l < L; ++l) product += q_(h, l) * q_(i, l);
      for (Eigen::Index l = 0; l < L; ++l) {
        const double excess = v_[l] - mean_v_[h];
        const double both = q_(h, l) * q_(i, l);
        here += joint ? both * (2 - 4 * a_[l] + 2 * squares - 2 * excess)
                      : 2 * share_ * share_ * both * (1 - q_(h, l) - q_(i, l) + product);
        if (h == i) here += joint ? c_(h, l) : c_(h, l) * (1 - 2 * q_(h, l));
      }
      sum(h, i) += factor * here;
      if (h != i) sum(i, h) += factor * here;
    }
}

}  // namespace weir
