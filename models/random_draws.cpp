#include "models/random_draws.h"

#include <array>
#include <numbers>

namespace weir {
namespace {

Tensor bits_as_f32(const DrawAt& at, const Where& where) {
  return convert(random_bits(at.low, at.high, at.key, where), DType::f32, where);
}

/// By Horner's rule, the highest coefficient first.
template <size_t N>
Tensor polynomial(const Tensor& x, const std::array<double, N>& coefficients) {
  Tensor sum = x * coefficients[0] + coefficients[1];
  for (size_t i = 2; i < N; ++i) sum = sum * x + coefficients[i];
  return sum;
}

}  // namespace

Tensor random_uniform(const DrawAt& at, const Where& where) {
  return bits_as_f32(at, where) * 0x1p-32 + 0.5;
}

Tensor random_one_hot(const DrawAt& at, int64_t n, const Where& where) {
  Builder& b = at.low.builder();
  const Tensor u = random_uniform(at, where);
  const Tensor part = convert(u * static_cast<double>(n), DType::i32, where);
  const Tensor last = b.constant(static_cast<double>(n - 1), i32({}));
  const Tensor index = b.iota(0, i32({n}));
  return convert(eq(minimum(part, last), index), DType::f32, where);
}

Tensor random_normal(const DrawAt& at, const Where& where) {
  // The probability of the tail beyond |z|, in (0, 1/2]: small numbers keep all their bits.
  const Tensor bits = bits_as_f32(at, where);
  const Tensor tail = abs(bits) * 0x1p-32 + 0x1p-33;
  // With x = 1 - 2 tail, erfinv(x) = x p(-log(1 - x^2)) and 1 - x^2 = 4 tail (1 - tail).
  const Tensor w = -log(tail * 4.0 * (1.0 - tail));
  constexpr std::array central = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                  -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                  -0.00417768164,  0.246640727,    1.50140941};
  constexpr std::array outer = {-0.000200214257, 0.000100950558, 0.00134934322,
                                -0.00367342844,  0.00573950773,  -0.0076224613,
                                0.00943887047,   1.00167406,     2.83297682};
  const Tensor p =
      select(lt(w, 5.0), polynomial(w - 2.5, central), polynomial(sqrt(w) - 3.0, outer));
  const Tensor z = (1.0 - tail * 2.0) * p * std::numbers::sqrt2;
  return select(ge(bits, 0.0), z, -z, where);
}

}  // namespace weir
