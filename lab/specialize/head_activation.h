#pragma once
// Attention of H heads over L tokens with one shared output, and the loss that it has in the limit
// of many dimensions (arXiv 2603.03993). Heads have scores chi_hl, the sum over heads a_l weighs
// the tokens, and the prediction of the hidden token x_e is sum_l a_l x_l. As D grows, tokens
// become orthogonal, and the loss per coordinate |x_e - sum_l a_l x_l|^2 / D tends to
//   g = (1 - a_e)^2 + sum over l != e of a_l^2 = 1 - 2 a_e + sum_l a_l^2.
#include <Eigen/Core>
#include <cstdint>

#include "models/single_location.h"

namespace weir {

/// The weights of all tokens, [L], from scores [H, L] and biases [H]. Exponents are taken relative
/// to the largest of what is normalised together, so scores of any finite size are possible.
/// UserError if the number of biases is not H.
Eigen::VectorXd attention_weights(HeadActivation activation, const Eigen::MatrixXd& scores,
                                  const Eigen::VectorXd& biases);

/// The loss g and its derivatives at one set of scores.
struct ScoreGradient {
  double loss;
  Eigen::VectorXd weights;   ///< a, [L]
  Eigen::MatrixXd by_score;  ///< c_hl = dg / dchi_hl, [H, L]
  Eigen::VectorXd by_bias;   ///< dg / db_h = -sum_l c_hl, [H]; zero for softmax
};
/// `hidden` is e, from 0. UserError as above, and if `hidden` is no token.
ScoreGradient score_gradient(HeadActivation activation, const Eigen::MatrixXd& scores,
                             const Eigen::VectorXd& biases, int64_t hidden);

/// The same for many sets of scores of one shape, without allocation. Nothing is checked. Calls
/// come in this order: set_scores; then weights, loss; then differentiate; then the rest.
class ScoreLoss {
 public:
  ScoreLoss(HeadActivation activation, const Eigen::VectorXd& biases, int64_t tokens);

  void set_scores(const Eigen::MatrixXd& scores);
  const Eigen::VectorXd& weights() const { return a_; }
  double loss(int64_t hidden) const;
  /// The derivatives for the hidden token `hidden`.
  void differentiate(int64_t hidden);
  const Eigen::MatrixXd& by_score() const { return c_; }  ///< c, [H, L]
  /// Adds factor x sum_l d c_hl / d chi_h'l to `sum`, [H, H]: the second derivatives within a
  /// token.
  void add_curvature(double factor, Eigen::MatrixXd& sum) const;

 private:
  void set_separate(const Eigen::MatrixXd& scores);
  void set_joint(const Eigen::MatrixXd& scores);

  HeadActivation activation_;
  Eigen::VectorXd biases_;
  double share_;       ///< of a head in the sum over heads: 1 / H for softmax, else 1
  Eigen::MatrixXd q_;  ///< normalised exponentials, [H, L]; a_l = share sum_h q_hl
  Eigen::VectorXd a_, v_;
  Eigen::VectorXd mean_v_;  ///< sum_l q_hl v_l by head; sum_l a_l v_l for all if they are joint
  Eigen::MatrixXd c_;
};

}  // namespace weir
