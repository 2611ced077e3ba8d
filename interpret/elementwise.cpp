#include <cmath>
#include <limits>

#include "interpret/ops.h"
#include "support/error.h"
#include "support/philox.h"

namespace weir::reference {
namespace {

// An element as arithmetic wants it: double for floats, int64_t for integers, so that a product of
// two i32 is exact before it wraps.
template <typename T>
double store(DType dtype, T value) {
  if constexpr (std::is_same_v<T, bool>)
    return value;
  else if constexpr (std::is_same_v<T, int64_t>)
    return wrap_integer(dtype, value);
  else
    return value;
}

template <typename T, size_t N, typename F>
HostTensor map_as(const Call& call, const F& f) {
  HostTensor result = zeros(call.type());
  std::array<Shape, N> strides;
  std::array<const double*, N> data;
  for (size_t i = 0; i < N; ++i) {
    strides[i] = broadcast_strides(call.in(i).shape(), result.shape());
    data[i] = call.in(i).data.data();
  }
  DType dtype = call.type().dtype;
  for_each_row(result.shape(), strides,
               [&](int64_t position, const auto& offsets, int64_t count, const auto& steps) {
                 auto element = [&](size_t i, int64_t j) {
                   return static_cast<T>(data[i][offsets[i] + j * steps[i]]);
                 };
                 for (int64_t j = 0; j < count; ++j) {
                   double& out = result.data[position + j];
                   if constexpr (N == 1) out = store(dtype, f(element(0, j)));
                   if constexpr (N == 2) out = store(dtype, f(element(0, j), element(1, j)));
                   if constexpr (N == 3)
                     out = store(dtype, f(element(0, j), element(1, j), element(2, j)));
                 }
               });
  return result;
}

// Applies f to the broadcast elements of N operands, whose dtype is the last one's.
template <size_t N, typename F>
Results map(const Call& call, const F& f) {
  if (is_float(call.in(N - 1).type.dtype)) return results(map_as<double, N>(call, f));
  return results(map_as<int64_t, N>(call, f));
}

template <typename T>
T quotient(T x, T y) {
  if constexpr (std::is_same_v<T, int64_t>)
    if (y == 0)
      user_error("div", "the integer {} is divided by 0. Divide floats, or select another divisor.",
                 x);
  return x / y;
}

template <typename T>
T larger(T x, T y) {
  if (x != x || y != y) return x + y;  // NaN, if either is
  return x < y ? y : x;
}

template <typename T>
T smaller(T x, T y) {
  if (x != x || y != y) return x + y;
  return y < x ? y : x;
}

// The domain is x >= 0; a negative base has no real logarithm.
double power(double x, double y) {
  if (x < 0) return std::numeric_limits<double>::quiet_NaN();
  return std::pow(std::abs(x), y);
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

double gelu_tanh(double x) {
  const double root = std::sqrt(2 / M_PI);
  return x / 2 * (1 + std::tanh(root * (x + 0.044715 * x * x * x)));
}

double gelu_erf(double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }

}  // namespace

#define UNARY(name, expression)                             \
  Results name(const Call& call) {                          \
    return map<1>(call, [](auto x) { return expression; }); \
  }
#define BINARY(name, expression)                                    \
  Results name(const Call& call) {                                  \
    return map<2>(call, [](auto x, auto y) { return expression; }); \
  }

UNARY(identity, x)
UNARY(stop_gradient, x)
UNARY(neg, -x)
UNARY(abs, std::abs(x))
UNARY(exp, std::exp(x))
UNARY(log, std::log(x))
UNARY(sqrt, std::sqrt(x))
UNARY(rsqrt, 1 / std::sqrt(x))
UNARY(tanh, std::tanh(x))
UNARY(sigmoid, logistic(static_cast<double>(x)))
UNARY(sin, std::sin(x))
UNARY(cos, std::cos(x))
UNARY(erf, std::erf(x))
UNARY(round, std::nearbyint(static_cast<double>(x)))
UNARY(logical_not, x == 0)
UNARY(relu, larger(x, static_cast<decltype(x)>(0)))
UNARY(silu, x* logistic(static_cast<double>(x)))

BINARY(add, x + y)
BINARY(sub, x - y)
BINARY(mul, x* y)
BINARY(div, quotient(x, y))
BINARY(pow, power(static_cast<double>(x), static_cast<double>(y)))
BINARY(maximum, larger(x, y))
BINARY(minimum, smaller(x, y))
BINARY(lt, x < y)
BINARY(le, x <= y)
BINARY(gt, x > y)
BINARY(ge, x >= y)
BINARY(eq, x == y)
BINARY(ne, x != y)
BINARY(logical_and, x != 0 && y != 0)
BINARY(logical_or, x != 0 || y != 0)
BINARY(swiglu, x* logistic(static_cast<double>(x)) * y)

#undef UNARY
#undef BINARY

Results select(const Call& call) {
  return map<3>(call, [](auto condition, auto x, auto y) { return condition != 0 ? x : y; });
}

Results random_bits(const Call& call) {
  return map<3>(call, [](auto low, auto high, auto key) -> int64_t {
    const auto word = [](auto value) { return static_cast<uint32_t>(static_cast<int64_t>(value)); };
    return static_cast<int32_t>(philox_2x32(word(low), word(high), word(key)));
  });
}

Results straight_through(const Call& call) {
  return map<2>(call, [](auto x, auto) { return x; });
}

Results convert(const Call& call) {
  HostTensor result{call.type(), call.in(0).data};
  DType from = call.in(0).type.dtype, to = call.type().dtype;
  // Between floats nothing happens here: f32 and f64 are kept whole, bf16 and f16 are rounded
  // where every result is stored. Between integers the low bits stay.
  for (double& value : result.data) {
    if (is_float(to)) continue;
    value = is_float(from) ? round_to(to, value) : wrap_integer(to, static_cast<int64_t>(value));
  }
  return results(std::move(result));
}

Results gelu(const Call& call) {
  return results(map_as<double, 1>(call, call.attrs().get_bool("exact") ? gelu_erf : gelu_tanh));
}

}  // namespace weir::reference
