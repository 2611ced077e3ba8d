// The update of Muon: momentum, five steps of Newton and Schulz, a decoupled decay.
#include <algorithm>
#include <cmath>

#include "passes/decompose_parts.h"

namespace weir {
namespace {

// Of Jordan et al. 2024; the floor under the norm is that of torch.optim.Muon.
constexpr int kSteps = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315, kFloor = 1e-7;

// g[M,N] with its singular vectors, and singular values between about 0.7 and 1.2.
Value newton_schulz(const OpBuilder& e, Value g) {
  const Shape shape = e.shape(g);
  const Value norm = e.sqrt(e.reshape(e.reduce_sum(e.mul(g, g), {0, 1}), {}));
  Value x = e.div(g, e.maximum(norm, e.scalar(kFloor, g)));
  // The smaller of the two products with itself; a tall matrix is multiplied from the right, which
  // is what transposing it twice comes to.
  const bool tall = shape[0] > shape[1];
  for (int step = 0; step < kSteps; ++step) {
    const Value a = e.matmul(x, x, /*transpose_a=*/tall, /*transpose_b=*/!tall);
    const Value polynomial = e.add(e.mul(a, kB), e.mul(e.matmul(a, a), kC));
    const Value turned = tall ? e.matmul(x, polynomial) : e.matmul(polynomial, x);
    x = e.add(e.mul(x, kA), turned);
  }
  return x;
}

}  // namespace

std::vector<Value> decompose_muon(const OpBuilder& e, const std::vector<Value>& in,
                                  const Attrs& attrs) {
  const double momentum = attrs.get_float("momentum"), decay = attrs.get_float("weight_decay");
  const Value p = in[0], rate = e.as_dtype_of(in[3], p);
  const Value fresh = e.mul(e.mul(in[1], e.as_dtype_of(in[4], p)), 1 - momentum);
  const Value moment = e.add(e.mul(in[2], momentum), fresh);
  const Value direction = newton_schulz(e, e.add(e.mul(moment, momentum), fresh));
  const Shape shape = e.shape(p);
  const double scale =
      attrs.get_float("scale") * std::sqrt(static_cast<double>(std::max(shape[0], shape[1])));
  const Value kept = decay == 0 ? p : e.sub(p, e.mul(p, e.mul(rate, decay)));
  return {e.sub(kept, e.mul(direction, e.mul(rate, scale))), moment};
}

}  // namespace weir
