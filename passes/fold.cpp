#include "passes/fold.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "support/philox.h"

namespace weir {
namespace {

bool is_exact(double value, DType dtype) {
  bool whole = std::trunc(value) == value;
  float single = static_cast<float>(value);
  switch (dtype) {
    case DType::f64:
      return true;
    case DType::f32:
      return single == value;
    // bf16 is the upper half of an f32.
    case DType::bf16:
      return single == value && (std::bit_cast<uint32_t>(single) & 0xffff) == 0;
    // f16 has 11 significant bits and exponents from -14; smaller numbers are left alone.
    case DType::f16: {
      int exponent = 0;
      double scaled = std::frexp(value, &exponent) * 2048;
      return value == 0 || (std::trunc(scaled) == scaled && exponent > -14 && exponent <= 16);
    }
    case DType::i32:
      return whole && std::abs(value) <= std::numeric_limits<int32_t>::max();
    case DType::i8:
      return whole && value >= -128 && value <= 127;
    case DType::u8:
      return whole && value >= 0 && value <= 255;
    case DType::boolean:
      return value == 0 || value == 1;
  }
  return false;
}

double larger(double x, double y) { return std::isnan(x) || std::isnan(y) ? NAN : std::max(x, y); }
double smaller(double x, double y) { return std::isnan(x) || std::isnan(y) ? NAN : std::min(x, y); }

double evaluate(Op op, const std::vector<double>& v, DType result) {
  switch (op) {
    case Op::identity:
    case Op::stop_gradient:
    case Op::straight_through:
    case Op::convert:
      return v[0];
    case Op::neg:
      return -v[0];
    case Op::abs:
      return std::abs(v[0]);
    case Op::exp:
      return std::exp(v[0]);
    case Op::log:
      return std::log(v[0]);
    case Op::sqrt:
      return std::sqrt(v[0]);
    case Op::rsqrt:
      return 1 / std::sqrt(v[0]);
    case Op::tanh:
      return std::tanh(v[0]);
    case Op::sigmoid:
      return 1 / (1 + std::exp(-v[0]));
    case Op::sin:
      return std::sin(v[0]);
    case Op::cos:
      return std::cos(v[0]);
    case Op::erf:
      return std::erf(v[0]);
    case Op::round:
      return std::nearbyint(v[0]);
    case Op::logical_not:
      return v[0] == 0;
    case Op::add:
      return v[0] + v[1];
    case Op::sub:
      return v[0] - v[1];
    case Op::mul:
      return v[0] * v[1];
    case Op::div:
      if (is_float(result)) return v[0] / v[1];
      return v[1] == 0 ? NAN : std::trunc(v[0] / v[1]);
    case Op::pow:
      return v[0] < 0 ? NAN : std::pow(v[0], v[1]);
    case Op::maximum:
      return larger(v[0], v[1]);
    case Op::minimum:
      return smaller(v[0], v[1]);
    case Op::lt:
      return v[0] < v[1];
    case Op::le:
      return v[0] <= v[1];
    case Op::gt:
      return v[0] > v[1];
    case Op::ge:
      return v[0] >= v[1];
    case Op::eq:
      return v[0] == v[1];
    case Op::ne:
      return v[0] != v[1];
    case Op::logical_and:
      return v[0] != 0 && v[1] != 0;
    case Op::logical_or:
      return v[0] != 0 || v[1] != 0;
    case Op::select:
      return v[0] != 0 ? v[1] : v[2];
    case Op::random_bits: {
      const auto word = [&](size_t i) { return static_cast<uint32_t>(static_cast<int32_t>(v[i])); };
      return static_cast<int32_t>(philox_2x32(word(0), word(1), word(2)));
    }
#define ELEMENTWISE(...)
#define OP(name, ...) case Op::name:
#include "ir/ops.def"
      return NAN;
  }
  return NAN;
}

}  // namespace

std::optional<double> fold_elementwise(Op op, const std::vector<double>& operands, DType result) {
  double value = evaluate(op, operands, result);
  if (std::isnan(value)) return std::nullopt;
  bool must_be_exact = op == Op::convert || !is_float(result);
  if (must_be_exact && !is_exact(value, result)) return std::nullopt;
  return value;
}

}  // namespace weir
