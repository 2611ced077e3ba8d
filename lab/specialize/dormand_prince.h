#pragma once
// Ordinary differential equations by the embedded Runge-Kutta pair of Dormand and Prince (J.
// Comput. Appl. Math. 6, 1980), order 5 with an error estimate of order 4.
#include <Eigen/Core>
#include <cstdint>
#include <functional>

namespace weir {

/// dy / dt = f(y), which does not depend on the time.
class DormandPrince {
 public:
  using Function = std::function<Eigen::VectorXd(const Eigen::VectorXd&)>;

  /// From y at time 0. A step is accepted if the root of the mean square of its estimated error,
  /// relative to tolerance x (1 + |y_i|), is at most 1.
  DormandPrince(Function f, const Eigen::VectorXd& y, double tolerance);

  /// Tries one step, not beyond `end`, where it lands exactly. False if steps have become too small
  /// to move the time: the solution or its derivative is not finite, or too stiff.
  bool step(double end);

  double time() const { return time_; }
  const Eigen::VectorXd& state() const { return y_; }
  int64_t steps() const { return steps_; }        ///< accepted
  int64_t rejected() const { return rejected_; }  ///< tried again with a smaller step

 private:
  double error_of(const Eigen::VectorXd& next, const Eigen::VectorXd& error) const;

  Function f_;
  Eigen::VectorXd y_, slope_;  ///< slope_ = f(y_), the first stage of the next step
  double tolerance_, size_, time_ = 0;
  int64_t steps_ = 0, rejected_ = 0;
};

}  // namespace weir
