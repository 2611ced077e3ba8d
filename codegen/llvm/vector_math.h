#pragma once
// Elementary functions on f32 vectors of any lane count, emitted inline. Each lane is computed by
// the same operations whatever the lane count or mask, so its bits depend on its argument alone.
//
// Common to all: NaN gives NaN; a denormal argument counts as a zero of its sign (or is handed
// through where f(x) = x near 0); a result whose magnitude is below 2^-126 is a zero. Errors are in
// units in the last place of the f32 nearest to the true result. The bounds stated hold for every
// 97th of the 2^32 arguments (bench/vector_math_bench; pow: dense random arguments) with a little
// to spare; tests/codegen/llvm/vector_math_test.cpp holds the functions to them on a sample and
// around special points.
#include "codegen/llvm/emitter.h"

namespace weir {

/// Error <= 1.2 ulp. exp(-inf) = 0, exp(x) = inf above 88.7228.
llvm::Value* emit_exp(Emitter& e, llvm::Value* x);
/// 2^(factor x) for a factor > 0, which is taken to more places than f32 has (for one more
/// operation); cheaper than exp. Error <= 1 ulp. exp2(-inf) = 0, inf where factor x is above 127.5.
llvm::Value* emit_exp2(Emitter& e, llvm::Value* x, double factor);
/// 2^x.
inline llvm::Value* emit_exp2(Emitter& e, llvm::Value* x) { return emit_exp2(e, x, 1); }
/// Error <= 1 ulp. log(+-0) = -inf, log(x < 0) = NaN, log(inf) = inf.
llvm::Value* emit_log(Emitter& e, llvm::Value* x);
/// log(1 + x). Error <= 2.5 ulp. log1p(-1) = -inf, log1p(x < -1) = NaN, log1p(inf) = inf.
llvm::Value* emit_log1p(Emitter& e, llvm::Value* x);
/// exp(x) - 1. Error <= 3 ulp. expm1(-inf) = -1, expm1(x) = inf above 88.7228.
llvm::Value* emit_expm1(Emitter& e, llvm::Value* x);
/// Error <= 1.5 ulp. tanh(+-inf) = +-1, tanh(-0) = -0.
llvm::Value* emit_tanh(Emitter& e, llvm::Value* x);
/// 1 / (1 + exp(-x)). Error <= 2.5 ulp.
llvm::Value* emit_sigmoid(Emitter& e, llvm::Value* x);
/// Error <= 1.6 ulp for every finite argument. sin(+-inf) = NaN, sin(-0) = -0.
llvm::Value* emit_sin(Emitter& e, llvm::Value* x);
/// Error <= 1.6 ulp for every finite argument. cos(+-inf) = NaN.
llvm::Value* emit_cos(Emitter& e, llvm::Value* x);
/// Error <= 1 ulp. Special cases as C's pow: pow(x, 0) = pow(1, y) = 1 even for NaN; NaN for a
/// negative finite x and a finite y that is no integer.
llvm::Value* emit_pow(Emitter& e, llvm::Value* x, llvm::Value* y);
/// Error <= 1.5 ulp. erf(+-inf) = +-1, erf(-0) = -0.
llvm::Value* emit_erf(Emitter& e, llvm::Value* x);

}  // namespace weir
