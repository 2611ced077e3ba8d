#include "codegen/llvm/elementwise.h"

#include "codegen/llvm/vector_math.h"
#include "support/error.h"
#include "support/philox.h"

namespace weir {

using llvm::Value;

Storage storage_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      user_error("codegen",
                 "a value of f64 is given, but compiled arithmetic is f32 and i32. Convert it to "
                 "f32, or run the program with the interpreter.");
    case DType::f32:
      return Storage::f32;
    case DType::bf16:
      return Storage::bf16;
    case DType::f16:
      return Storage::f16;
    case DType::i32:
      return Storage::i32;
    case DType::i8:
      return Storage::i8;
    case DType::u8:
      return Storage::u8;
    case DType::boolean:
      return Storage::boolean;
  }
  internal_error_at("dtype");
}

namespace {

/// The value as it would come back from memory of `dtype`.
Value* rounded(Emitter& e, DType dtype, Value* value) {
  switch (dtype) {
    case DType::bf16:
    case DType::f16:
    case DType::i8:
    case DType::u8:
      return e.through(storage_of(dtype), value);
    case DType::f64:
    case DType::f32:
    case DType::i32:
    case DType::boolean:
      return value;
  }
  internal_error_at("dtype");
}

/// Between kinds: floats to integers towards zero, saturating; integers among each other wrap.
Value* converted(Emitter& e, DType from, DType to, Value* x) {
  const int lanes = Emitter::lanes_of(x);
  if (to == DType::boolean) {
    if (from == DType::boolean) return x;
    return is_float(from) ? e.ir().CreateFCmpUNE(x, e.f32(0, lanes))
                          : e.ir().CreateICmpNE(x, e.i32(0, lanes));
  }
  if (from == DType::boolean)
    return is_float(to) ? e.select(x, e.f32(1, lanes), e.f32(0, lanes))
                        : e.select(x, e.i32(1, lanes), e.i32(0, lanes));
  if (is_float(from) == is_float(to)) return x;
  if (is_float(to)) return e.to_f32(x);
  Value* whole = e.to_i32(x);
  if (to == DType::i32) return whole;
  const int64_t low = to == DType::u8 ? 0 : -128, high = to == DType::u8 ? 255 : 127;
  whole = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, whole, e.i32(low, lanes));
  return e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smin, whole, e.i32(high, lanes));
}

/// Truncating division without the machine's traps: x / 0 is 0, and the quotient wraps.
Value* divided(Emitter& e, Value* x, Value* y) {
  auto& ir = e.ir();
  Value* zero = e.i32_like(y, 0);
  Value* by_zero = ir.CreateICmpEQ(y, zero);
  Value* by_minus_one = ir.CreateICmpEQ(y, e.i32_like(y, -1));
  Value* safe = e.select(ir.CreateOr(by_zero, by_minus_one), e.i32_like(y, 1), y);
  Value* quotient = ir.CreateSDiv(x, safe);
  quotient = e.select(by_minus_one, ir.CreateNeg(x), quotient);
  return e.select(by_zero, zero, quotient);
}

/// The first word of Philox2x32-10 (support/philox.h). Targets multiply the even 32-bit lanes of a
/// vector to 64 bits, which is what the product of two zero-extended vectors becomes.
Value* philox(Emitter& e, Value* low, Value* high, Value* key) {
  auto& ir = e.ir();
  llvm::Type* narrow = low->getType();
  llvm::Type* wide = narrow->getWithNewBitWidth(64);
  Value* multiplier = llvm::ConstantInt::get(wide, kPhiloxMultiplier);
  Value* step = e.i32_like(low, static_cast<int32_t>(kPhiloxKeyStep));
  for (int round = 0; round < kPhiloxRounds; ++round) {
    Value* product = ir.CreateMul(ir.CreateZExt(low, wide), multiplier);
    Value* upper = ir.CreateTrunc(ir.CreateLShr(product, 32), narrow);
    low = ir.CreateXor(ir.CreateXor(upper, key), high);
    high = ir.CreateTrunc(product, narrow);
    if (round + 1 < kPhiloxRounds) key = ir.CreateAdd(key, step);
  }
  return low;
}

/// Arithmetic and comparison of f32.
class FloatOps {
 public:
  explicit FloatOps(Emitter& e) : e_(e), ir_(e.ir()) {}
  Value* neg(Value* x) { return ir_.CreateFNeg(x); }
  Value* abs(Value* x) { return e_.absolute(x); }
  Value* add(Value* x, Value* y) { return ir_.CreateFAdd(x, y); }
  Value* sub(Value* x, Value* y) { return ir_.CreateFSub(x, y); }
  Value* mul(Value* x, Value* y) { return ir_.CreateFMul(x, y); }
  Value* div(Value* x, Value* y) { return ir_.CreateFDiv(x, y); }
  Value* maximum(Value* x, Value* y) { return e_.maximum(x, y); }
  Value* minimum(Value* x, Value* y) { return e_.minimum(x, y); }
  Value* lt(Value* x, Value* y) { return ir_.CreateFCmpOLT(x, y); }
  Value* le(Value* x, Value* y) { return ir_.CreateFCmpOLE(x, y); }
  Value* eq(Value* x, Value* y) { return ir_.CreateFCmpOEQ(x, y); }
  Value* ne(Value* x, Value* y) { return ir_.CreateFCmpUNE(x, y); }

 private:
  Emitter& e_;
  llvm::IRBuilder<>& ir_;
};

/// The same of i32, which also holds i8, u8 and, widened, bool.
class IntegerOps {
 public:
  explicit IntegerOps(Emitter& e) : e_(e), ir_(e.ir()) {}
  Value* neg(Value* x) { return ir_.CreateNeg(x); }
  Value* abs(Value* x) {
    return e_.select(ir_.CreateICmpSLT(x, e_.i32_like(x, 0)), ir_.CreateNeg(x), x);
  }
  Value* add(Value* x, Value* y) { return ir_.CreateAdd(x, y); }
  Value* sub(Value* x, Value* y) { return ir_.CreateSub(x, y); }
  Value* mul(Value* x, Value* y) { return ir_.CreateMul(x, y); }
  Value* div(Value* x, Value* y) { return divided(e_, x, y); }
  Value* maximum(Value* x, Value* y) { return e_.select(ir_.CreateICmpSGT(x, y), x, y); }
  Value* minimum(Value* x, Value* y) { return e_.select(ir_.CreateICmpSLT(x, y), x, y); }
  Value* lt(Value* x, Value* y) { return ir_.CreateICmpSLT(x, y); }
  Value* le(Value* x, Value* y) { return ir_.CreateICmpSLE(x, y); }
  Value* eq(Value* x, Value* y) { return ir_.CreateICmpEQ(x, y); }
  Value* ne(Value* x, Value* y) { return ir_.CreateICmpNE(x, y); }

 private:
  Emitter& e_;
  llvm::IRBuilder<>& ir_;
};

Value* emit_unrounded(Emitter& e, Op op, DType result, DType operand,
                      const std::vector<Value*>& in) {
  Value* x = in[0];
  Value* y = in.size() > 1 ? in[1] : nullptr;
  // Arithmetic and comparison, on floats or integers; bool compares as 0 and 1.
  auto numbers = [&](auto apply) -> Value* {
    if (is_float(operand)) return apply(FloatOps(e));
    if (operand == DType::boolean) {
      x = converted(e, DType::boolean, DType::i32, x);
      if (y) y = converted(e, DType::boolean, DType::i32, y);
    }
    return apply(IntegerOps(e));
  };
  switch (op) {
    case Op::identity:
    case Op::stop_gradient:
    case Op::straight_through:
      return x;
    case Op::convert:
      return converted(e, operand, result, x);
    case Op::exp:
      return emit_exp(e, x);
    case Op::log:
      return emit_log(e, x);
    case Op::sqrt:
      return e.square_root(x);
    case Op::rsqrt:
      return e.ir().CreateFDiv(e.f32_like(x, 1), e.square_root(x));
    case Op::tanh:
      return emit_tanh(e, x);
    case Op::sigmoid:
      return emit_sigmoid(e, x);
    case Op::sin:
      return emit_sin(e, x);
    case Op::cos:
      return emit_cos(e, x);
    case Op::erf:
      return emit_erf(e, x);
    case Op::round:
      return e.ir().CreateUnaryIntrinsic(llvm::Intrinsic::roundeven, x);
    case Op::pow:
      return emit_pow(e, x, y);
    case Op::logical_not:
      return e.ir().CreateNot(x);
    case Op::logical_and:
      return e.ir().CreateAnd(x, y);
    case Op::logical_or:
      return e.ir().CreateOr(x, y);
    case Op::select:
      return e.select(x, y, in[2]);
    case Op::random_bits:
      return philox(e, x, y, in[2]);
    case Op::neg:
      return numbers([&](auto ops) { return ops.neg(x); });
    case Op::abs:
      return numbers([&](auto ops) { return ops.abs(x); });
    case Op::add:
      return numbers([&](auto ops) { return ops.add(x, y); });
    case Op::sub:
      return numbers([&](auto ops) { return ops.sub(x, y); });
    case Op::mul:
      return numbers([&](auto ops) { return ops.mul(x, y); });
    case Op::div:
      return numbers([&](auto ops) { return ops.div(x, y); });
    case Op::maximum:
      return numbers([&](auto ops) { return ops.maximum(x, y); });
    case Op::minimum:
      return numbers([&](auto ops) { return ops.minimum(x, y); });
    case Op::lt:
      return numbers([&](auto ops) { return ops.lt(x, y); });
    case Op::le:
      return numbers([&](auto ops) { return ops.le(x, y); });
    case Op::gt:
      return numbers([&](auto ops) { return ops.lt(y, x); });
    case Op::ge:
      return numbers([&](auto ops) { return ops.le(y, x); });
    case Op::eq:
      return numbers([&](auto ops) { return ops.eq(x, y); });
    case Op::ne:
      return numbers([&](auto ops) { return ops.ne(x, y); });
#define OP(name, ...) case Op::name:
#define ELEMENTWISE(...)
#include "ir/ops.def"
      break;
  }
  internal_error_at(fmt::format("{} is not elementwise", op_name(op)));
}

}  // namespace

Value* emit_constant(Emitter& e, DType dtype, double value, int lanes) {
  if (is_float(dtype)) return rounded(e, dtype, e.f32(value, lanes));
  if (dtype == DType::boolean) return e.broadcast(e.ir().getInt1(value != 0), lanes);
  return rounded(e, dtype, e.i32(static_cast<int64_t>(value), lanes));
}

Value* emit_loaded(Emitter& e, DType dtype, Value* loaded) {
  if (dtype != DType::boolean) return loaded;
  return e.ir().CreateICmpNE(loaded, e.i32_like(loaded, 0));
}

Value* emit_elementwise(Emitter& e, Op op, DType result, DType operand,
                        const std::vector<Value*>& operands) {
  return rounded(e, result, emit_unrounded(e, op, result, operand, operands));
}

}  // namespace weir
