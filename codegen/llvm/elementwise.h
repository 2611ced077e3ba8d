#pragma once
// Elementwise primitives as instructions on values in registers. f32, bf16 and f16 are held as f32,
// i32, i8 and u8 as i32, bool as i1. Every lane is computed alike and for itself, so that the bits
// of an element depend on its operands alone; a result of a narrow type is rounded to it at once,
// so that they do not depend on whether it passes through memory either.
#include "codegen/llvm/emitter.h"
#include "ir/op.h"
#include "ir/type.h"

namespace weir {

/// How a dtype lies in memory. User error for f64, which only the interpreter computes.
Storage storage_of(DType dtype);

/// `value` in every lane, rounded to `dtype`.
llvm::Value* emit_constant(Emitter& e, DType dtype, double value, int lanes);

/// What was loaded from memory of `dtype`, as it is held in registers.
llvm::Value* emit_loaded(Emitter& e, DType dtype, llvm::Value* loaded);

/// An elementwise op. `operand` is the dtype of the last operand (of select: of what is chosen
/// from), `result` that of the result. i32 wraps; i32 division truncates, x / 0 = 0.
llvm::Value* emit_elementwise(Emitter& e, Op op, DType result, DType operand,
                              const std::vector<llvm::Value*>& operands);

}  // namespace weir
