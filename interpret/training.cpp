// Losses and optimiser updates.
#include <algorithm>
#include <cmath>

#include "interpret/matrix.h"
#include "interpret/ops.h"

namespace weir::reference {
namespace {

// -log softmax(logits)[target] of one row.
template <typename Row>
double row_loss(const Row& logits, int64_t target) {
  double largest = logits.template maxCoeff<Eigen::PropagateNaN>();
  return largest + std::log((logits.array() - largest).exp().sum()) - logits(target);
}

// The cap that an op has for its logits; 0 for none.
double cap_of(const Call& call) {
  return call.attrs().has("cap") ? call.attrs().get_float("cap") : 0;
}
Matrix capped(const Matrix& logits, double cap) {
  return logits.unaryExpr([&](double x) { return cap * std::tanh(x / cap); });
}

// The logits x w^T of linear_cross_entropy by blocks of rows, so that memory stays small:
// f(first row, logits of the block).
template <typename F>
void each_block(const Call& call, const F& f) {
  const HostTensor &x = call.in(0), &w = call.in(1);
  int64_t rows = x.shape()[0], width = x.shape()[1], vocabulary = w.shape()[0];
  constexpr int64_t kBlock = 512;
  for (int64_t first = 0; first < rows; first += kBlock) {
    int64_t count = std::min(kBlock, rows - first);
    Matrix logits = view(x, first * width, count, width, width) *
                    view(w, 0, vocabulary, width, width).transpose();
    if (const double cap = cap_of(call); cap != 0) logits = capped(logits, cap);
    f(first, logits);
  }
}

}  // namespace

Results cross_entropy(const Call& call) {
  const HostTensor &logits = call.in(0), &targets = call.in(1);
  int64_t rows = logits.shape()[0], vocabulary = logits.shape()[1];
  check_ids(call, targets, vocabulary, true);
  auto matrix = view(logits, 0, rows, vocabulary, vocabulary);
  const double cap = cap_of(call);
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const auto target = static_cast<int64_t>(targets.data[i]);
    if (target < 0) continue;
    sum += cap == 0 ? row_loss(matrix.row(i), target)
                    : row_loss(capped(matrix.row(i), cap).row(0), target);
  }
  return results(HostTensor{call.type(), {call.scalar(2) * sum}});
}

Results linear_cross_entropy(const Call& call) {
  const HostTensor& targets = call.in(2);
  check_ids(call, targets, call.in(1).shape()[0], true);
  double sum = 0;
  each_block(call, [&](int64_t first, const Matrix& logits) {
    for (int64_t i = 0; i < logits.rows(); ++i)
      if (double target = targets.data[first + i]; target >= 0)
        sum += row_loss(logits.row(i), static_cast<int64_t>(target));
  });
  return results(HostTensor{call.type(), {call.scalar(3) * sum}});
}

// The gradient of the logits is scale (softmax - one-hot), and zero in ignored rows.
Results linear_cross_entropy_grad(const Call& call) {
  const HostTensor &x = call.in(0), &w = call.in(1), &targets = call.in(2);
  int64_t width = x.shape()[1], vocabulary = w.shape()[0];
  check_ids(call, targets, vocabulary, true);
  double scale = call.scalar(3), sum = 0;
  const double cap = cap_of(call);
  HostTensor dx = zeros(call.type(1)), dw = zeros(call.type(2));
  each_block(call, [&](int64_t first, Matrix& logits) {
    for (int64_t i = 0; i < logits.rows(); ++i) {
      auto row = logits.row(i);
      auto target = static_cast<int64_t>(targets.data[first + i]);
      if (target < 0) {
        row.setZero();
        continue;
      }
      sum += row_loss(row, target);
      const Matrix bent = cap != 0 ? Matrix(row) : Matrix();
      double largest = row.maxCoeff<Eigen::PropagateNaN>();
      row = (row.array() - largest).exp().matrix();
      row *= scale / row.sum();
      row(target) -= scale;
      if (cap != 0) row = row.array() * (1 - (bent.array() / cap).square());
    }
    view(dx, first * width, logits.rows(), width, width).noalias() =
        logits * view(w, 0, vocabulary, width, width);
    view(dw, 0, vocabulary, width, width).noalias() +=
        logits.transpose() * view(x, first * width, logits.rows(), width, width);
  });
  return results(HostTensor{call.type(), {scale * sum}}, std::move(dx), std::move(dw));
}

// Loshchilov and Hutter 2019, with the two bias corrections given as factors.
Results adamw(const Call& call) {
  double beta1 = call.attrs().get_float("beta1"), beta2 = call.attrs().get_float("beta2");
  double eps = call.attrs().get_float("eps"), decay = call.attrs().get_float("weight_decay");
  double rate = call.scalar(4), correct1 = call.scalar(5), correct2 = call.scalar(6);
  double factor = call.scalar(7);
  HostTensor p = call.in(0), m = call.in(2), v = call.in(3);
  for (size_t i = 0; i < p.data.size(); ++i) {
    double g = factor * call.in(1).data[i];
    m.data[i] = beta1 * m.data[i] + (1 - beta1) * g;
    v.data[i] = beta2 * v.data[i] + (1 - beta2) * g * g;
    double step = correct1 * m.data[i] / (std::sqrt(correct2 * v.data[i]) + eps);
    p.data[i] -= rate * (step + decay * p.data[i]);
  }
  return results(std::move(p), std::move(m), std::move(v));
}

// The decay is part of the gradient, as usual for SGD: momentum <- momentum * m + g + decay * p.
Results sgd(const Call& call) {
  double momentum = call.attrs().get_float("momentum");
  double decay = call.attrs().get_float("weight_decay");
  double rate = call.scalar(3), factor = call.scalar(4);
  HostTensor p = call.in(0), m = call.in(2);
  for (size_t i = 0; i < p.data.size(); ++i) {
    double g = factor * call.in(1).data[i] + decay * p.data[i];
    m.data[i] = momentum * m.data[i] + g;
    p.data[i] -= rate * m.data[i];
  }
  return results(std::move(p), std::move(m));
}

// Jordan et al. 2024, and the scale of the update by Liu et al. 2025 (arXiv 2502.16982): the
// momentum is an average, the direction its Nesterov form after five steps of Newton and Schulz.
Results muon(const Call& call) {
  const double momentum = call.attrs().get_float("momentum");
  const double decay = call.attrs().get_float("weight_decay");
  const double rate = call.scalar(3), factor = call.scalar(4);
  HostTensor p = call.in(0), m = call.in(2);
  const int64_t rows = p.shape()[0], columns = p.shape()[1];
  HostTensor direction = p;
  for (size_t i = 0; i < p.data.size(); ++i) {
    const double g = factor * call.in(1).data[i];
    m.data[i] = momentum * m.data[i] + (1 - momentum) * g;
    direction.data[i] = momentum * m.data[i] + (1 - momentum) * g;
  }
  Matrix x = view(direction, 0, rows, columns, columns);
  if (rows > columns) x.transposeInPlace();
  x /= std::max(x.norm(), 1e-7);
  for (int step = 0; step < 5; ++step) {
    const Matrix a = x * x.transpose();
    const Matrix b = -4.7750 * a + 2.0315 * (a * a);
    x = (3.4445 * x + b * x).eval();
  }
  if (rows > columns) x.transposeInPlace();
  const double length = rate * call.attrs().get_float("scale") *
                        std::sqrt(static_cast<double>(std::max(rows, columns)));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double& weight = p.data[static_cast<size_t>(i * columns + j)];
      weight -= rate * decay * weight + length * x(i, j);
    }
  return results(std::move(p), std::move(m));
}

}  // namespace weir::reference
