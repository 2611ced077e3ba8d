// sin, cos and pow: the reduction of the argument (sin, cos) or all of it (pow) runs in f64, which
// leaves f32 rounding as the only error that counts.
#include <array>
#include <initializer_list>

#include "codegen/llvm/vector_math.h"

namespace weir {
namespace {

using llvm::Value;

// 2^e mod 2 pi in (-pi, pi], as the sum of two doubles, for e = 0 ... 104: what a whole number
// times 2^e leaves of the largest floats. Computed in 120 digits.
constexpr std::array<std::array<double, 2>, 105> powers_mod_two_pi = {{
    {0x1.0000000000000p+0, 0x0.0p+0},
    {0x1.0000000000000p+1, 0x0.0p+0},
    {-0x1.243f6a8885a31p+1, 0x1.cb3b399d747f2p-53},
    {0x1.b7812aeef4b9fp+0, -0x1.a62633145c06ep-56},
    {-0x1.6cbe3f9990e92p+1, 0x1.61b1acd85d7d7p-53},
    {0x1.2b0bad558f435p-1, -0x1.f5f7fb2e61132p-59},
    {0x1.2b0bad558f435p+0, -0x1.f5f7fb2e61132p-58},
    {0x1.2b0bad558f435p+1, -0x1.f5f7fb2e61132p-57},
    {-0x1.9c501fbace38dp+0, -0x1.ce0f17215e8d0p-55},
    {0x1.87ef4acdb76a3p+1, 0x1.4dbd3ad1dc3a6p-53},
    {-0x1.460d4ed16ce9ep-3, -0x1.94a50bed30c26p-57},
    {-0x1.460d4ed16ce9ep-2, -0x1.94a50bed30c26p-56},
    {-0x1.460d4ed16ce9ep-1, -0x1.94a50bed30c26p-55},
    {-0x1.460d4ed16ce9ep+0, -0x1.94a50bed30c26p-54},
    {-0x1.460d4ed16ce9ep+1, -0x1.94a50bed30c26p-53},
    {0x1.304999cb579e8p+0, -0x1.e90aa2efac07ep-54},
    {0x1.304999cb579e8p+1, -0x1.e90aa2efac07ep-53},
    {-0x1.87586de3accc3p+0, -0x1.b6831078e4261p-59},
    {-0x1.87586de3accc3p+1, -0x1.b6831078e4261p-58},
    {0x1.58e8ec12c0aa8p-3, 0x1.95c955afd3e7bp-57},
    {0x1.58e8ec12c0aa8p-2, 0x1.95c955afd3e7bp-56},
    {0x1.58e8ec12c0aa8p-1, 0x1.95c955afd3e7bp-55},
    {0x1.58e8ec12c0aa8p+0, 0x1.95c955afd3e7bp-54},
    {0x1.58e8ec12c0aa8p+1, 0x1.95c955afd3e7bp-53},
    {-0x1.c9b6498c1137fp-1, -0x1.2643605c762f1p-58},
    {-0x1.c9b6498c1137fp+0, -0x1.2643605c762f1p-57},
    {0x1.5a8920fc746b2p+1, -0x1.f003a5a903450p-53},
    {-0x1.bcb4a23e73336p-1, -0x1.4cc11b4920ae8p-57},
    {-0x1.bcb4a23e73336p+0, -0x1.4cc11b4920ae8p-56},
    {0x1.678ac84a126fap+1, 0x1.e1947f9043554p-53},
    {-0x1.54a767d1830eep-1, -0x1.c66f1d081359ap-55},
    {-0x1.54a767d1830eep+0, -0x1.c66f1d081359ap-54},
    {-0x1.54a767d1830eep+1, -0x1.c66f1d081359ap-53},
    {0x1.ebc26b95fe14fp-1, -0x1.6065ceb66cc97p-55},
    {0x1.ebc26b95fe14fp+0, -0x1.6065ceb66cc97p-54},
    {-0x1.387cfef2878e2p+1, 0x1.ab55ab9c1ed6dp-55},
    {0x1.668ad946ed0dap+0, -0x1.eb20c79eca277p-54},
    {0x1.668ad946ed0dap+1, -0x1.eb20c79eca277p-53},
    {-0x1.5ca6dfeaae1f6p-1, -0x1.60cab403f9f91p-58},
    {-0x1.5ca6dfeaae1f6p+0, -0x1.60cab403f9f91p-57},
    {-0x1.5ca6dfeaae1f6p+1, -0x1.60cab403f9f91p-56},
    {0x1.abc6aacca5912p-1, -0x1.1b6f34f397eb5p-56},
    {0x1.abc6aacca5912p+0, -0x1.1b6f34f397eb5p-55},
    {-0x1.7878bfbbe011fp+1, 0x1.3d839f23a8898p-53},
    {0x1.9a6f58862bf99p-2, 0x1.7e60254ee49ebp-56},
    {0x1.9a6f58862bf99p-1, 0x1.7e60254ee49ebp-55},
    {0x1.9a6f58862bf99p+0, 0x1.7e60254ee49ebp-54},
    {-0x1.89d0120259a97p+1, -0x1.6cc942274dc45p-54},
    {0x1.09f4683d25023p-3, 0x1.fee10ecf6f246p-59},
    {0x1.09f4683d25023p-2, 0x1.fee10ecf6f246p-58},
    {0x1.09f4683d25023p-1, 0x1.fee10ecf6f246p-57},
    {0x1.09f4683d25023p+0, 0x1.fee10ecf6f246p-56},
    {0x1.09f4683d25023p+1, 0x1.fee10ecf6f246p-55},
    {-0x1.10569a0e3b9eap+1, -0x1.35543efad3eebp-53},
    {0x1.0392366c0e65cp+1, -0x1.af1dbc98e2e42p-56},
    {-0x1.1d1afdb068d79p+1, 0x1.5f73ca773bc62p-53},
    {0x1.d412de4f67e7ep+0, 0x1.e758b6a2061a3p-54},
    {-0x1.502c8c391dbb2p+1, -0x1.35b03f02159adp-55},
    {0x1.07cca42c94599p+0, -0x1.984d6479fd323p-55},
    {0x1.07cca42c94599p+1, -0x1.984d6479fd323p-54},
    {-0x1.14a6222f5ceffp+1, 0x1.976ea91bba67bp-56},
    {0x1.f5e64c5397865p+0, 0x1.3540e152f4359p-54},
    {-0x1.2e591e34ee1cbp+1, -0x1.ff07ca1f2e969p-54},
    {0x1.8f1a5c3d52d34p+0, 0x1.ade7e21ae7526p-56},
    {0x1.8f1a5c3d52d34p+1, 0x1.ade7e21ae7526p-55},
    {-0x1.82ac8377ff216p-5, 0x1.17955574142a1p-60},
    {-0x1.82ac8377ff216p-4, 0x1.17955574142a1p-59},
    {-0x1.82ac8377ff216p-3, 0x1.17955574142a1p-58},
    {-0x1.82ac8377ff216p-2, 0x1.17955574142a1p-57},
    {-0x1.82ac8377ff216p-1, 0x1.17955574142a1p-56},
    {-0x1.82ac8377ff216p+0, 0x1.17955574142a1p-55},
    {-0x1.82ac8377ff216p+1, 0x1.17955574142a1p-54},
    {0x1.ee6639887604dp-3, 0x1.8b437ad3f55e0p-58},
    {0x1.ee6639887604dp-2, 0x1.8b437ad3f55e0p-57},
    {0x1.ee6639887604dp-1, 0x1.8b437ad3f55e0p-56},
    {0x1.ee6639887604dp+0, 0x1.8b437ad3f55e0p-55},
    {-0x1.35d931000f9e3p+1, -0x1.6f2308f890d1ep-53},
    {0x1.711a1110cccd4p+0, -0x1.5302971d2c45bp-54},
    {0x1.711a1110cccd4p+1, -0x1.5302971d2c45bp-53},
    {-0x1.082d219bb0225p-1, 0x1.29b05b18df9e2p-56},
    {-0x1.082d219bb0225p+0, 0x1.29b05b18df9e2p-55},
    {-0x1.082d219bb0225p+1, 0x1.29b05b18df9e2p-54},
    {0x1.13e52751255e7p+1, -0x1.4315bd0929c20p-54},
    {-0x1.f8ea37cc75cc6p+0, 0x1.104af928957a5p-54},
    {0x1.2b5532bc0fd6bp+1, -0x1.75e080e9be09ap-54},
    {-0x1.9b2a0a20cbeb6p+0, 0x1.556ae2ced9d62p-55},
    {0x1.89156067b9b7bp+1, -0x1.2085c83607941p-53},
    {-0x1.214a9b91233b2p-3, 0x1.45f5262caae07p-58},
    {-0x1.214a9b91233b2p-2, 0x1.45f5262caae07p-57},
    {-0x1.214a9b91233b2p-1, 0x1.45f5262caae07p-56},
    {-0x1.214a9b91233b2p+0, 0x1.45f5262caae07p-55},
    {-0x1.214a9b91233b2p+1, 0x1.45f5262caae07p-54},
    {0x1.c35466cc7e59ap+0, -0x1.0a8c26e1933d7p-54},
    {-0x1.60eb03bc07497p+1, 0x1.815e2577c2837p-54},
    {0x1.89a58c41dc40cp-1, -0x1.27745096c7eeep-55},
    {0x1.89a58c41dc40cp+0, -0x1.27745096c7eeep-54},
    {0x1.89a58c41dc40cp+1, -0x1.27745096c7eeep-53},
    {-0x1.0f45204cd2192p-3, -0x1.d6b3c80daf49ap-60},
    {-0x1.0f45204cd2192p-2, -0x1.d6b3c80daf49ap-59},
    {-0x1.0f45204cd2192p-1, -0x1.d6b3c80daf49ap-58},
    {-0x1.0f45204cd2192p+0, -0x1.d6b3c80daf49ap-57},
    {-0x1.0f45204cd2192p+1, -0x1.d6b3c80daf49ap-56},
    {0x1.05b529eee170cp+1, 0x1.bf17d45f1fae7p-53},
    {-0x1.18d516aac2c18p+1, 0x1.496ae25bb3dc1p-53},
    {0x1.e52a7a6600402p+0, 0x1.8f351633e671fp-54},
}};

constexpr double two_over_pi = 0x1.45f306dc9c883p-1;
constexpr double half_pi_high = 0x1.921fb54442d18p+0;
constexpr double half_pi_low = 0x1.1a62633145c07p-54;

llvm::Type* f64_type(Emitter& e, int lanes) {
  llvm::Type* scalar = e.ir().getDoubleTy();
  return lanes == 1 ? scalar : llvm::FixedVectorType::get(scalar, lanes);
}
Value* f64_like(Emitter& e, Value* like, double value) {
  return llvm::ConstantFP::get(f64_type(e, Emitter::lanes_of(like)), value);
}
Value* to_f64(Emitter& e, Value* x) {
  return e.ir().CreateFPExt(x, f64_type(e, Emitter::lanes_of(x)));
}
Value* to_f32(Emitter& e, Value* x) {
  return e.ir().CreateFPTrunc(x, e.f32_type(Emitter::lanes_of(x)));
}

/// c0 + c1 x + ... in the precision of x.
Value* polynomial(Emitter& e, Value* x, std::initializer_list<double> coefficients) {
  const double* c = coefficients.end() - 1;
  Value* sum = llvm::ConstantFP::get(x->getType(), *c);
  while (c != coefficients.begin()) sum = e.fma(sum, x, llvm::ConstantFP::get(x->getType(), *--c));
  return sum;
}

/// The table above as constant data of the module, made once.
llvm::GlobalVariable* table(Emitter& e) {
  llvm::Module& module = *e.ir().GetInsertBlock()->getModule();
  constexpr const char* name = "powers_mod_two_pi";
  if (llvm::GlobalVariable* made = module.getGlobalVariable(name, true)) return made;
  std::vector<double> numbers;
  for (const auto& row : powers_mod_two_pi) numbers.insert(numbers.end(), row.begin(), row.end());
  llvm::Constant* data = llvm::ConstantDataArray::get(module.getContext(), numbers);
  return new llvm::GlobalVariable(module, data->getType(), true, llvm::GlobalValue::InternalLinkage,
                                  data, name);
}

Value* gather_f64(Emitter& e, Value* base, Value* indices) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* from = ir.CreateInBoundsGEP(ir.getDoubleTy(), base, indices);
  const int lanes = Emitter::lanes_of(indices);
  if (lanes == 1) return ir.CreateAlignedLoad(ir.getDoubleTy(), from, llvm::Align(8));
  return ir.CreateMaskedGather(f64_type(e, lanes), from, llvm::Align(8));
}

/// x = n pi/2 + r with |r| <= pi/4 (a little over), r in f32; for n only its last two bits count.
struct Reduced {
  Value* quadrant;  // i32
  Value* r;
};

/// `high + low` reduced, |high| below 2^28.
Reduced reduce_f64(Emitter& e, Value* high, Value* low) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* n = e.round_even(ir.CreateFMul(high, f64_like(e, high, two_over_pi)));
  Value* r = e.fma(n, f64_like(e, high, -half_pi_high), high);  // exact
  Value* rest = e.fma(n, f64_like(e, high, -half_pi_low), low);
  Value* quadrant = ir.CreateFPToSI(n, e.i32_type(Emitter::lanes_of(high)));
  return {quadrant, to_f32(e, ir.CreateFAdd(r, rest))};
}

/// Any finite x. Arguments from 2^28 on are m 2^e with a whole m below 2^24; m times the tabulated
/// 2^e mod 2 pi is reduced in their stead. That path is taken only when a lane needs it.
Reduced reduce_argument(Emitter& e, Value* x) {
  llvm::IRBuilder<>& ir = e.ir();
  const int lanes = Emitter::lanes_of(x);
  Value* large = ir.CreateFCmpOGE(e.absolute(x), e.f32_like(x, 0x1p28));
  Value* moderate = e.select(large, e.f32_like(x, 0.0), x);
  const Reduced common = reduce_f64(e, to_f64(e, moderate), f64_like(e, x, 0.0));
  Value* any_large = lanes == 1 ? large : ir.CreateOrReduce(large);
  const Emitter::Values result = e.if_else(
      any_large,
      [&] {
        Value* word = e.bits(e.absolute(x));
        Value* exponent = ir.CreateSub(ir.CreateLShr(word, 23), e.i32_like(x, 127 + 23));
        exponent = e.select(large, exponent, e.i32_like(x, 0));
        Value* mantissa =
            ir.CreateOr(ir.CreateAnd(word, e.i32_like(x, 0x7fffff)), e.i32_like(x, 0x800000));
        Value* m = ir.CreateSIToFP(mantissa, f64_type(e, lanes));
        m = ir.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, m, to_f64(e, x));
        Value* row = ir.CreateShl(exponent, 1);
        Value* high = gather_f64(e, table(e), row);
        Value* low = gather_f64(e, table(e), ir.CreateAdd(row, e.i32_like(x, 1)));
        Value* product = ir.CreateFMul(m, high);
        Value* error = e.fma(m, high, ir.CreateFNeg(product));
        const Reduced far = reduce_f64(e, product, e.fma(m, low, error));
        return Emitter::Values{e.select(large, far.quadrant, common.quadrant),
                               e.select(large, far.r, common.r)};
      },
      [&] { return Emitter::Values{common.quadrant, common.r}; });
  return {result[0], result[1]};
}

/// sin of (quadrant, r): +-sin(r) in even quadrants, +-cos(r) in odd ones.
Value* sine_of(Emitter& e, const Reduced& reduced) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* r = reduced.r;
  Value* square = ir.CreateFMul(r, r);
  Value* s = polynomial(e, square, {-0.1666666418, 0.008332747035, -0.0001958763896});
  s = e.fma(ir.CreateFMul(s, square), r, r);
  Value* c = polynomial(e, square, {0.04166666418, -0.001388830133, 2.454768946e-5});
  c = e.fma(c, square, e.f32_like(r, -0.5));
  c = e.fma(c, square, e.f32_like(r, 1.0));
  Value* zero = e.i32_like(r, 0);
  Value* odd = ir.CreateICmpNE(ir.CreateAnd(reduced.quadrant, e.i32_like(r, 1)), zero);
  Value* sign = ir.CreateShl(ir.CreateAnd(reduced.quadrant, e.i32_like(r, 2)), 30);
  return e.from_bits(ir.CreateXor(e.bits(e.select(odd, c, s)), sign));
}

Value* is_finite(Emitter& e, Value* x) {
  return e.ir().CreateFCmpOLT(e.absolute(x), e.f32_like(x, __builtin_inf()));
}

/// log2 of a positive, normal or infinite f32 in f64; -inf for 0 and denormals.
Value* log2_f64(Emitter& e, Value* a) {
  llvm::IRBuilder<>& ir = e.ir();
  constexpr int64_t one_bits = 0x3f800000, root_half_bits = 0x3f3504f3;
  Value* shifted = ir.CreateAdd(e.bits(a), e.i32_like(a, one_bits - root_half_bits));
  Value* n = ir.CreateSub(ir.CreateAShr(shifted, 23), e.i32_like(a, 127));
  Value* m = to_f64(e, e.from_bits(ir.CreateAdd(ir.CreateAnd(shifted, e.i32_like(a, 0x7fffff)),
                                                e.i32_like(a, root_half_bits))));
  // ln m = 2 artanh(s) = s (2 + s^2 P(s^2)), s = (m - 1) / (m + 1).
  Value* one = f64_like(e, a, 1.0);
  Value* s = ir.CreateFDiv(ir.CreateFSub(m, one), ir.CreateFAdd(m, one));
  Value* square = ir.CreateFMul(s, s);
  Value* p = polynomial(
      e, square,
      {0.666666666666666971, 0.399999999998988905, 0.285714286262538376, 0.222222110893794962,
       0.181828924325368728, 0.153316117220549643, 0.146178071534177799});
  p = e.fma(p, square, f64_like(e, a, 2.0));
  Value* ln = ir.CreateFMul(s, p);
  Value* log2 = e.fma(ln, f64_like(e, a, 1.4426950408889634),
                      ir.CreateSIToFP(n, f64_type(e, Emitter::lanes_of(a))));
  constexpr double infinity = __builtin_inf();
  Value* infinite = ir.CreateFCmpOEQ(a, e.f32_like(a, infinity));
  Value* zero = ir.CreateFCmpOLT(a, e.f32_like(a, 0x1p-126));
  log2 = e.select(infinite, f64_like(e, a, infinity), log2);
  return e.select(zero, f64_like(e, a, -infinity), log2);
}

/// 2^t in f32; a NaN gives 0.
Value* exp2_of_f64(Emitter& e, Value* t) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* low = f64_like(e, t, -200.0);
  Value* high = f64_like(e, t, 200.0);
  t = e.select(ir.CreateFCmpOGT(t, low), t, low);
  t = e.select(ir.CreateFCmpOLT(t, high), t, high);
  Value* n = e.round_even(t);
  Value* p = polynomial(e, ir.CreateFSub(t, n),
                        {1.0, 0.693147180559946159, 0.240226506956403397, 0.055504108664651672,
                         0.00961812919393431336, 0.00133335582007945926, 0.000154034337512510089,
                         0.0000152526729248507364, 1.32596452448871102e-6, 1.02059054137655958e-7});
  Value* whole = ir.CreateFPToSI(n, e.i32_type(Emitter::lanes_of(t)));
  Value* half = ir.CreateAShr(whole, 1);
  const auto power_of_two = [&](Value* k) {
    return e.from_bits(ir.CreateShl(ir.CreateAdd(k, e.i32_like(k, 127)), 23));
  };
  Value* scaled = ir.CreateFMul(to_f32(e, p), power_of_two(half));
  return ir.CreateFMul(scaled, power_of_two(ir.CreateSub(whole, half)));
}

}  // namespace

Value* emit_sin(Emitter& e, Value* x) {
  Value* finite = is_finite(e, x);
  const Reduced reduced = reduce_argument(e, e.select(finite, x, e.f32_like(x, 0.0)));
  Value* near_zero = e.ir().CreateFCmpOLT(e.absolute(x), e.f32_like(x, 0x1p-12));
  Value* sine = e.select(near_zero, x, sine_of(e, reduced));
  return e.select(finite, sine, e.ir().CreateFSub(x, x));
}

Value* emit_cos(Emitter& e, Value* x) {
  Value* finite = is_finite(e, x);
  Reduced reduced = reduce_argument(e, e.select(finite, x, e.f32_like(x, 0.0)));
  reduced.quadrant = e.ir().CreateAdd(reduced.quadrant, e.i32_like(x, 1));
  return e.select(finite, sine_of(e, reduced), e.ir().CreateFSub(x, x));
}

Value* emit_pow(Emitter& e, Value* x, Value* y) {
  llvm::IRBuilder<>& ir = e.ir();
  Value* a = e.absolute(x);
  Value* result = exp2_of_f64(e, ir.CreateFMul(to_f64(e, y), log2_f64(e, a)));

  Value* zero = e.f32_like(x, 0.0);
  Value* one = e.f32_like(x, 1.0);
  Value* whole = ir.CreateFCmpOEQ(e.round_even(y), y);  // an infinity too; it counts as even
  Value* halved = ir.CreateFMul(y, e.f32_like(y, 0.5));
  Value* odd = ir.CreateAnd(whole, ir.CreateFCmpONE(e.round_even(halved), halved));
  Value* negative = ir.CreateICmpSLT(e.bits(x), e.i32_like(x, 0));
  result = e.select(ir.CreateAnd(negative, odd), ir.CreateFNeg(result), result);

  Value* nan = e.f32_like(x, __builtin_nan(""));
  Value* root_of_negative = ir.CreateAnd(ir.CreateFCmpOLE(x, e.f32_like(x, -0x1p-126)),
                                         ir.CreateAnd(is_finite(e, x), ir.CreateNot(whole)));
  result = e.select(root_of_negative, nan, result);
  result = e.select(ir.CreateFCmpUNO(x, y), nan, result);
  Value* minus_one_to_infinity =
      ir.CreateAnd(ir.CreateFCmpOEQ(a, one),
                   ir.CreateNot(ir.CreateFCmpULT(e.absolute(y), e.f32_like(y, __builtin_inf()))));
  result = e.select(minus_one_to_infinity, one, result);
  Value* always_one = ir.CreateOr(ir.CreateFCmpOEQ(x, one), ir.CreateFCmpOEQ(y, zero));
  return e.select(always_one, one, result);
}

}  // namespace weir
