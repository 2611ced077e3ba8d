#pragma once
// The expectation over theta inside of an integration rule: a sum over the points of a discrete
// law; of a Gaussian law one value, made of F further normal numbers of the rule.
#include <Eigen/Core>

#include "lab/specialize/signal_law.h"

namespace weir {

class LawPoints {
 public:
  explicit LawPoints(const SignalLaw& law) : law_(law), theta_(law.dimension()) {}

  bool discrete() const { return law_.kind() == SignalLaw::Kind::kDiscrete; }
  /// Normal numbers that the rule has for theta.
  Eigen::Index extra() const { return discrete() ? 0 : law_.dimension(); }
  Eigen::Index count() const { return discrete() ? law_.points().rows() : 1; }
  double weight(Eigen::Index p) const { return discrete() ? law_.weights()[p] : 1; }
  /// Theta number p, [F]; `normals` are the `extra` numbers of the point. Valid until the next
  /// call.
  const Eigen::VectorXd& at(Eigen::Index p, const double* normals) const {
    for (Eigen::Index f = 0; f < theta_.size(); ++f)
      theta_[f] = discrete() ? law_.points()(p, f) : law_.scales()[f] * normals[f];
    return theta_;
  }

 private:
  const SignalLaw& law_;
  mutable Eigen::VectorXd theta_;
};

}  // namespace weir
