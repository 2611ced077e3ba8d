#include "lab/specialize/head_activation.h"

#include <gtest/gtest.h>

#include "lab/specialize/specialize_test_util.h"
#include "testing/error_of.h"

namespace weir {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

// Scores 0 and log 3 in one head, bias log 2: exponentials 1, 3 and for the others 1/2, 3/2.
TEST(HeadActivation, WeightsOfOneHeadByHand) {
  MatrixXd scores(1, 2);
  scores << 0, std::log(3.0);
  const VectorXd bias = VectorXd::Constant(1, std::log(2.0));
  const VectorXd softmax = attention_weights(HeadActivation::kSoftmax, scores, bias);
  EXPECT_NEAR(softmax[0], 0.25, 1e-15);
  EXPECT_NEAR(softmax[1], 0.75, 1e-15);
  const VectorXd softmax_1 = attention_weights(HeadActivation::kSoftmax1, scores, bias);
  EXPECT_NEAR(softmax_1[0], 1.0 / 6, 1e-15);
  EXPECT_NEAR(softmax_1[1], 0.5, 1e-15);
  const VectorXd bayes = attention_weights(HeadActivation::kBayesSoftmax, scores, bias);
  EXPECT_NEAR(bayes[0], 0.25, 1e-15);
  EXPECT_NEAR(score_gradient(HeadActivation::kSoftmax1, scores, bias, 1).loss, 0.25 + 1.0 / 36,
              1e-15);
}

TEST(HeadActivation, WeightsAreThoseOfTheDefinition) {
  Random random(3, 0);
  for (HeadActivation activation : kHeadActivations)
    for (int i = 0; i < 20; ++i) {
      const MatrixXd scores = random_matrix(3, 4, 3, random);
      const VectorXd biases = random_matrix(3, 1, 2, random);
      const auto plain = plain_weights(activation, scores, biases);
      const VectorXd weights = attention_weights(activation, scores, biases);
      for (int l = 0; l < 4; ++l)
        EXPECT_NEAR(weights[l], static_cast<double>(plain[l]), 1e-15)
            << activation_name(activation);
    }
}

TEST(HeadActivation, DerivativesAreThoseOfFiniteDifferences) {
  constexpr double step = 1e-5;
  Random random(4, 0);
  for (HeadActivation activation : kHeadActivations)
    for (int i = 0; i < 10; ++i) {
      const MatrixXd scores = random_matrix(3, 4, 2, random);
      const VectorXd biases = random_matrix(3, 1, 1, random);
      const int64_t hidden = i % 4;
      const ScoreGradient gradient = score_gradient(activation, scores, biases, hidden);
      EXPECT_NEAR(gradient.loss, plain_loss(activation, scores, biases, hidden), 1e-14);
      const auto slope = [&](const MatrixXd& by_score, const VectorXd& by_bias) {
        return (plain_loss(activation, scores + by_score, biases + by_bias, hidden) -
                plain_loss(activation, scores - by_score, biases - by_bias, hidden)) /
               (2 * step);
      };
      for (int h = 0; h < 3; ++h) {
        VectorXd by_bias = VectorXd::Zero(3);
        by_bias[h] = step;
        EXPECT_NEAR(gradient.by_bias[h], slope(MatrixXd::Zero(3, 4), by_bias), 1e-9);
        for (int l = 0; l < 4; ++l) {
          MatrixXd by_score = MatrixXd::Zero(3, 4);
          by_score(h, l) = step;
          EXPECT_NEAR(gradient.by_score(h, l), slope(by_score, VectorXd::Zero(3)), 1e-9)
              << activation_name(activation);
        }
      }
    }
}

TEST(HeadActivation, CurvatureIsTheDifferenceOfGradients) {
  constexpr double step = 1e-5;
  Random random(5, 0);
  for (HeadActivation activation : kHeadActivations) {
    const MatrixXd scores = random_matrix(3, 4, 2, random);
    const VectorXd biases = random_matrix(3, 1, 1, random);
    ScoreLoss loss(activation, biases, 4);
    loss.set_scores(scores);
    loss.differentiate(1);
    MatrixXd curvature = MatrixXd::Zero(3, 3), differences = MatrixXd::Zero(3, 3);
    loss.add_curvature(2, curvature);
    for (int l = 0; l < 4; ++l)
      for (int h = 0; h < 3; ++h) {
        MatrixXd by_score = MatrixXd::Zero(3, 4);
        by_score(h, l) = step;
        const MatrixXd up = score_gradient(activation, scores + by_score, biases, 1).by_score;
        const MatrixXd down = score_gradient(activation, scores - by_score, biases, 1).by_score;
        differences.col(h) += 2 * (up - down).col(l) / (2 * step);
      }
    EXPECT_LT((curvature - differences).cwiseAbs().maxCoeff(), 1e-9) << activation_name(activation);
  }
}

TEST(HeadActivation, LargeScoresAreStable) {
  const VectorXd zero = VectorXd::Zero(2);
  MatrixXd scores(2, 3);
  scores << 1e4, -1e4, 0, -1e4, -1e4, -1e4;
  for (HeadActivation activation : kHeadActivations) {
    const ScoreGradient gradient = score_gradient(activation, scores, zero, 0);
    EXPECT_TRUE(gradient.weights.allFinite() && gradient.by_score.allFinite());
    if (activation == HeadActivation::kSoftmax) {
      // The head without a signal spends its half evenly: loss (1/3)^2 + 2 (1/6)^2.
      EXPECT_NEAR(gradient.weights[0], 0.5 + 1.0 / 6, 1e-15);
      EXPECT_NEAR(gradient.loss, 1.0 / 9 + 2.0 / 36, 1e-15);
    } else {
      EXPECT_EQ(gradient.weights[0], 1);  // it switches off
      EXPECT_EQ(gradient.loss, 0);
    }
  }
  const MatrixXd low = MatrixXd::Constant(2, 3, -1e4);
  EXPECT_EQ(attention_weights(HeadActivation::kSoftmax1, low, zero).sum(), 0);
  EXPECT_NEAR(attention_weights(HeadActivation::kBayesSoftmax, low, zero).sum(), 1, 1e-15);
}

TEST(HeadActivation, NamesAndMistakes) {
  for (HeadActivation activation : kHeadActivations)
    EXPECT_EQ(find_activation(activation_name(activation)), activation);
  EXPECT_EQ(find_activation("softmax-2"), std::nullopt);
  EXPECT_EQ(test::error_of([] {
              score_gradient(HeadActivation::kSoftmax, MatrixXd::Zero(2, 3), VectorXd::Zero(1), 3);
            }),
            "[head activation] 2 problems:\n"
            "  - there are 1 biases for 2 heads\n"
            "  - token 3 is not one of 3, counted from 0");
}

}  // namespace
}  // namespace weir
