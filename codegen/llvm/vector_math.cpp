// exp, exp2, log, log1p, expm1, tanh, sigmoid and erf in f32. Polynomials are near-minimax
// (Chebyshev) fits, made in 60 digits and rounded to f32; the leading terms are kept exact.
#include "codegen/llvm/vector_math.h"

#include <initializer_list>

namespace weir {
namespace {

using llvm::Value;

constexpr double log2_e = 1.4426950408889634;
// The same in two parts: as a float, and what that leaves.
constexpr double log2_e_high = 1.44269502162933349609375;
constexpr double log2_e_low = 1.92596299112661746887e-8;
// ln 2 in two parts, the first short enough that its product with an exponent is exact.
constexpr double ln2_high = 0.693359375;
constexpr double ln2_low = -2.12194440054690583e-4;

/// c0 + c1 x + c2 x^2 + ... by Horner's rule in FMAs.
Value* polynomial(Emitter& e, Value* x, std::initializer_list<double> coefficients) {
  const double* c = coefficients.end() - 1;
  Value* sum = e.f32_like(x, *c);
  while (c != coefficients.begin()) sum = e.fma(sum, x, e.f32_like(x, *--c));
  return sum;
}

/// 2^n for an i32 n in [-126, 127].
Value* power_of_two(Emitter& e, Value* n) {
  return e.from_bits(e.ir().CreateShl(e.ir().CreateAdd(n, e.i32_like(n, 127)), 23));
}

/// |a| with the sign bit of `sign`.
Value* with_sign(Emitter& e, Value* a, Value* sign) {
  return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::copysign, a, sign);
}

Value* negate(Emitter& e, Value* x) { return e.ir().CreateFNeg(x); }

constexpr double infinity = __builtin_inf();

/// (2^r - 1) / r for |r| <= 1/2.
Value* power_slope(Emitter& e, Value* r) {
  return polynomial(
      e, r,
      {0.693147215, 0.2402265278, 0.05550310551, 0.009617692973, 0.00134066439, 0.0001559467816});
}
/// Added to a number, it leaves the nearest whole one, plus the bias of exponents, in the last
/// bits.
constexpr double exponent_shift = 0x1.8p23 + 127;
/// 2^n from n + exponent_shift for n in [-127, 128]; 0 and inf at the ends.
Value* power_of_shifted(Emitter& e, Value* shifted) {
  return e.from_bits(e.ir().CreateShl(e.bits(shifted), 23));
}

/// 1 / x to about 14 bits by the instruction of 16 lanes, whatever the lanes of x.
Value* reciprocal_estimate(Emitter& e, Value* x) {
  constexpr int whole = 16;
  const int lanes = Emitter::lanes_of(x);
  llvm::IRBuilder<>& ir = e.ir();
  if (lanes > whole)
    return e.concat(reciprocal_estimate(e, e.slice(x, 0, lanes / 2)),
                    reciprocal_estimate(e, e.slice(x, lanes / 2, lanes / 2)));
  Value* padded = lanes == 1 ? e.broadcast(x, whole) : x;
  while (Emitter::lanes_of(padded) < whole) padded = e.concat(padded, padded);
  Value* estimate = ir.CreateIntrinsic(
      llvm::Intrinsic::x86_avx512_rcp14_ps_512, {},
      {padded, llvm::Constant::getNullValue(padded->getType()), ir.getInt16(0xffff)});
  if (lanes == 1) return ir.CreateExtractElement(estimate, uint64_t{0});
  return lanes == whole ? estimate : e.slice(estimate, 0, lanes);
}

/// 1 / x for x of at least 1, inf and NaN included, to about one unit in the last place. A division
/// keeps its unit busy for as long as a dozen multiplications take.
Value* reciprocal_from_one(Emitter& e, Value* x) {
  if (e.target().vector_bytes < 64) return e.ir().CreateFDiv(e.f32_like(x, 1.0), x);
  Value* estimate = reciprocal_estimate(e, x);
  Value* error = e.fma(negate(e, x), estimate, e.f32_like(x, 1.0));
  Value* better = e.fma(estimate, error, estimate);
  return e.select(e.ir().CreateFCmpOEQ(x, e.f32_like(x, infinity)), estimate, better);
}

}  // namespace

Value* emit_exp(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  // Beyond these bounds the result is 0 or inf already; a NaN fails both comparisons and stays.
  Value* low = e.f32_like(x, -104.0);
  Value* high = e.f32_like(x, 89.0);
  Value* bounded = e.select(ir.CreateFCmpOLT(x, low), low, x);
  bounded = e.select(ir.CreateFCmpOGT(bounded, high), high, bounded);
  // x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 P(r).
  Value* n = e.round_even(ir.CreateFMul(bounded, e.f32_like(x, log2_e)));
  Value* r = e.fma(n, e.f32_like(x, -ln2_high), bounded);
  r = e.fma(n, e.f32_like(x, -ln2_low), r);
  Value* p = polynomial(e, r, {0.5, 0.1666657627, 0.04166655242, 0.008363232948, 0.001392625039});
  p = e.fma(ir.CreateFMul(r, r), p, r);
  p = ir.CreateFAdd(p, e.f32_like(x, 1.0));
  // 2^n in two steps, because n reaches 128 and -150.
  // Frozen, because the conversion of a NaN is poison; its product with p is NaN whatever it is.
  Value* whole = ir.CreateFreeze(ir.CreateFPToSI(n, e.i32_type(Emitter::lanes_of(x))));
  Value* half = ir.CreateAShr(whole, 1);
  p = ir.CreateFMul(p, power_of_two(e, half));
  return ir.CreateFMul(p, power_of_two(e, ir.CreateSub(whole, half)));
}

Value* emit_exp2(Emitter& e, Value* x, double factor) {
  llvm::IRBuilder<>& ir = e.ir();
  // From these bounds on the result is 0 or inf; a NaN fails both comparisons and stays.
  Value* low = e.f32_like(x, -127 / factor);
  Value* high = e.f32_like(x, 128 / factor);
  Value* bounded = e.select(ir.CreateFCmpOLT(x, low), low, x);
  bounded = e.select(ir.CreateFCmpOGT(bounded, high), high, bounded);
  // factor x = n + r with |r| <= 1/2.
  Value* shift = e.f32_like(x, exponent_shift);
  Value* scale = e.f32_like(x, factor);
  Value* shifted = e.fma(bounded, scale, shift);
  Value* r = e.fma(bounded, scale, ir.CreateFSub(shift, shifted));
  // What rounding took from the factor counts n times.
  const double low_scale = factor - static_cast<double>(static_cast<float>(factor));
  if (low_scale != 0) r = e.fma(bounded, e.f32_like(x, low_scale), r);
  Value* near_one = e.fma(power_slope(e, r), r, e.f32_like(x, 1.0));
  return ir.CreateFMul(near_one, power_of_shifted(e, shifted));
}

Value* emit_log(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)): shifting the bits by those of 1 - sqrt(1/2) makes the
  // exponent field count from there.
  constexpr int64_t one_bits = 0x3f800000, root_half_bits = 0x3f3504f3;
  Value* shifted = ir.CreateAdd(e.bits(x), e.i32_like(x, one_bits - root_half_bits));
  Value* n = e.to_f32(ir.CreateSub(ir.CreateAShr(shifted, 23), e.i32_like(x, 127)));
  Value* m = e.from_bits(
      ir.CreateAdd(ir.CreateAnd(shifted, e.i32_like(x, 0x7fffff)), e.i32_like(x, root_half_bits)));
  // log(1 + f) = f - f^2/2 + f^3 P(f); the small parts are summed first.
  Value* f = ir.CreateFSub(m, e.f32_like(x, 1.0));
  Value* square = ir.CreateFMul(f, f);
  Value* p = polynomial(e, f,
                        {0.3333333135, -0.2499999702, 0.2000071555, -0.1666780263, 0.1424905807,
                         -0.1242568716, 0.1168541983, -0.1147973388, 0.06971611828});
  p = ir.CreateFMul(ir.CreateFMul(p, f), square);
  p = e.fma(n, e.f32_like(x, ln2_low), p);
  p = e.fma(square, e.f32_like(x, -0.5), p);
  p = ir.CreateFAdd(p, f);
  p = e.fma(n, e.f32_like(x, ln2_high), p);

  constexpr double smallest = 0x1p-126;
  p = e.select(ir.CreateFCmpOEQ(x, e.f32_like(x, infinity)), x, p);
  Value* small = ir.CreateFCmpOLT(e.absolute(x), e.f32_like(x, smallest));
  Value* negative = ir.CreateFCmpULT(x, e.f32_like(x, 0.0));  // and NaN
  p = e.select(negative, e.f32_like(x, __builtin_nan("")), p);
  return e.select(small, e.f32_like(x, -infinity), p);
}

// With u = 1 + x rounded, x / (u - 1) is the factor by which the rounding made the logarithm small.
Value* emit_log1p(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* one = e.f32_like(x, 1.0);
  Value* u = ir.CreateFAdd(one, x);
  Value* log = emit_log(e, u);
  Value* corrected = ir.CreateFMul(log, ir.CreateFDiv(x, ir.CreateFSub(u, one)));
  // Infinities, and the pole at -1, are the logarithm's own.
  Value* far = ir.CreateFCmpOEQ(e.absolute(log), e.f32_like(x, __builtin_inf()));
  return e.select(ir.CreateFCmpOEQ(u, one), x, e.select(far, log, corrected));
}

// With u = exp(x) rounded, x / log(u) is the factor by which the rounding made u - 1 small. Away
// from 1 the difference itself is exact enough.
Value* emit_expm1(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* one = e.f32_like(x, 1.0);
  Value* u = emit_exp(e, x);
  Value* difference = ir.CreateFSub(u, one);
  Value* corrected = ir.CreateFMul(difference, ir.CreateFDiv(x, emit_log(e, u)));
  Value* far = ir.CreateFCmpOGT(e.absolute(difference), e.f32_like(x, 0.5));
  return e.select(ir.CreateFCmpOEQ(u, one), x, e.select(far, difference, corrected));
}

Value* emit_tanh(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* one = e.f32_like(x, 1.0);
  Value* a = e.absolute(x);
  Value* square = ir.CreateFMul(x, x);
  Value* p = polynomial(
      e, square, {-0.3333332837, 0.1333276927, -0.05385090783, 0.02099717967, -0.006096714176});
  Value* near = e.fma(ir.CreateFMul(p, square), x, x);
  Value* power = emit_exp(e, ir.CreateFAdd(a, a));
  Value* far = ir.CreateFSub(one, ir.CreateFDiv(e.f32_like(x, 2.0), ir.CreateFAdd(power, one)));
  Value* result = e.select(ir.CreateFCmpOLT(a, e.f32_like(x, 0.625)), near, far);
  return with_sign(e, result, x);
}

// 1 / (1 + 2^y) for y = -x log2(e), which is n + r with |r| <= 1/2. It is bounded where 2^y is lost
// beside the 1 or the result is a zero; a NaN fails both comparisons and stays.
Value* emit_sigmoid(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* low = e.f32_like(x, -88.02);
  Value* high = e.f32_like(x, 60);
  Value* bounded = e.select(ir.CreateFCmpOLT(x, low), low, x);
  bounded = e.select(ir.CreateFCmpOGT(bounded, high), high, bounded);
  Value* shift = e.f32_like(x, exponent_shift);
  Value* shifted = e.fma(bounded, e.f32_like(x, -log2_e), shift);
  Value* r = e.fma(bounded, e.f32_like(x, -log2_e_high), ir.CreateFSub(shift, shifted));
  r = e.fma(bounded, e.f32_like(x, -log2_e_low), r);
  // 1 + 2^n + 2^n (2^r - 1): the small part is added last.
  Value* power = power_of_shifted(e, shifted);
  Value* large = ir.CreateFAdd(power, e.f32_like(x, 1.0));
  return reciprocal_from_one(e, e.fma(ir.CreateFMul(power, r), power_slope(e, r), large));
}

Value* emit_erf(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* a = e.absolute(x);
  Value* square = ir.CreateFMul(x, x);
  Value* p = polynomial(e, square,
                        {0.12837916585, -0.3761262596, 0.1128359437, -0.02685421146, 0.005189087242,
                         -0.0008016864303, 7.875874871e-5});
  Value* near = e.fma(p, x, x);
  // From 1 on, 1 - exp(Q(|x|)) with Q fitted to log(erfc); erf is 1 in f32 from 3.92 on.
  Value* four = e.f32_like(x, 4.0);
  Value* bounded = e.select(ir.CreateFCmpOGT(a, four), four, a);
  Value* q = polynomial(e, bounded,
                        {0.0003201380605, -1.130233407, -0.6318260431, -0.1100800857, 0.02642113529,
                         -0.004759596195, 0.0005968056503, -4.605804133e-5, 1.637151399e-6});
  Value* far = ir.CreateFSub(e.f32_like(x, 1.0), emit_exp(e, q));
  return e.select(ir.CreateFCmpOLT(a, e.f32_like(x, 1.0)), near, with_sign(e, far, x));
}

}  // namespace weir
