#pragma once
// Shared by the tests of lab/specialize: random matrices, and the activations
// once more, in long double straight from their definitions.
#include <Eigen/Core>
#include <cmath>

#include "lab/specialize/head_activation.h"
#include "runtime/random.h"

namespace weir {

inline Eigen::MatrixXd random_matrix(int64_t rows, int64_t columns, double size, Random& random) {
  Eigen::MatrixXd matrix(rows, columns);
  for (double& number : matrix.reshaped()) number = size * random.normal();
  return matrix;
}

/// a_l by the definition; for scores of moderate size.
inline Eigen::Matrix<long double, Eigen::Dynamic, 1> plain_weights(HeadActivation activation,
                                                                   const Eigen::MatrixXd& scores,
                                                                   const Eigen::VectorXd& biases) {
  using Vector = Eigen::Matrix<long double, Eigen::Dynamic, 1>;
  const Eigen::Index H = scores.rows(), L = scores.cols();
  Vector a = Vector::Zero(L);
  long double joint = 0;
  for (Eigen::Index h = 0; h < H; ++h)
    for (Eigen::Index l = 0; l < L; ++l)
      joint += std::exp(static_cast<long double>(scores(h, l)) - biases[h]);
  for (Eigen::Index h = 0; h < H; ++h) {
    const bool softmax = activation == HeadActivation::kSoftmax;
    const long double bias = softmax ? 0 : biases[h];
    long double sum = softmax ? 0 : 1;
    for (Eigen::Index l = 0; l < L; ++l) sum += std::exp(scores(h, l) - bias);
    for (Eigen::Index l = 0; l < L; ++l) {
      const long double top = std::exp(scores(h, l) - bias);
      if (activation == HeadActivation::kBayesSoftmax)
        a[l] += top / joint;
      else
        a[l] += top / sum / (softmax ? static_cast<long double>(H) : 1);
    }
  }
  return a;
}

/// 1 - 2 a_e + sum_l a_l^2.
inline double plain_loss(HeadActivation activation, const Eigen::MatrixXd& scores,
                         const Eigen::VectorXd& biases, int64_t hidden) {
  const auto a = plain_weights(activation, scores, biases);
  return static_cast<double>(1 - 2 * a[hidden] + a.squaredNorm());
}

}  // namespace weir
