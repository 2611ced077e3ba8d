#include "codegen/llvm/emitter.h"

#include <numeric>

#include "runtime/abi.h"
#include "support/error.h"

namespace weir {

using llvm::BasicBlock;
using llvm::Function;
using llvm::FunctionType;
using llvm::Type;
using llvm::Value;
using Values = Emitter::Values;

int storage_bytes(Storage storage) {
  switch (storage) {
    case Storage::f32:
    case Storage::i32:
      return 4;
    case Storage::bf16:
    case Storage::f16:
      return 2;
    case Storage::i8:
    case Storage::u8:
    case Storage::boolean:
      return 1;
  }
  internal_error_at("storage");
}

bool is_float(Storage storage) {
  switch (storage) {
    case Storage::f32:
    case Storage::bf16:
    case Storage::f16:
      return true;
    case Storage::i32:
    case Storage::i8:
    case Storage::u8:
    case Storage::boolean:
      return false;
  }
  internal_error_at("storage");
}

Emitter::Emitter(llvm::Module& module, const Target& target)
    : module_(module), target_(target), ir_(module.getContext()) {}

// --- functions ---

namespace {

void add_function_attributes(Function& function, const Target& target) {
  function.addFnAttr(llvm::Attribute::NoUnwind);
  function.addFnAttr("prefer-vector-width", std::to_string(target.vector_bytes * 8));
  function.addFnAttr("denormal-fp-math", "preserve-sign,preserve-sign");
  function.addFnAttr("no-trapping-math", "true");
}

/// The mode inside kernels: all exceptions masked, round to nearest, results and inputs flushed.
constexpr uint32_t kernel_mxcsr = 0x1f80 | 0x8000 | 0x0040;

}  // namespace

KernelFrame Emitter::begin_kernel(const std::string& symbol,
                                  const std::vector<BufferUse>& buffers) {
  Type* pointer = ir_.getPtrTy();
  Type* i64 = ir_.getInt64Ty();
  // The body: one argument a buffer, so that each can be declared free of aliases.
  std::vector<Type*> body_types(buffers.size(), pointer);
  body_types.insert(body_types.end(), {i64, i64, pointer});
  Function* body = Function::Create(FunctionType::get(ir_.getVoidTy(), body_types, false),
                                    Function::InternalLinkage, symbol + ".body", module_);
  add_function_attributes(*body, target_);
  body->addFnAttr(llvm::Attribute::NoInline);
  for (unsigned i = 0; i < buffers.size(); ++i) {
    body->addParamAttr(i, llvm::Attribute::getWithAlignment(module_.getContext(),
                                                            llvm::Align(WEIR_BUFFER_ALIGNMENT)));
    if (!buffers[i].may_alias) body->addParamAttr(i, llvm::Attribute::NoAlias);
    if (!buffers[i].written) body->addParamAttr(i, llvm::Attribute::ReadOnly);
  }
  const unsigned scratch = static_cast<unsigned>(buffers.size()) + 2;
  body->addParamAttr(scratch, llvm::Attribute::NoAlias);
  body->addParamAttr(scratch, llvm::Attribute::getWithAlignment(
                                  module_.getContext(), llvm::Align(WEIR_BUFFER_ALIGNMENT)));

  // The entry: sets the mode, reads the buffer table, calls the body, restores the mode.
  Function* entry =
      Function::Create(FunctionType::get(ir_.getVoidTy(), {pointer, i64, i64, pointer}, false),
                       Function::ExternalLinkage, symbol, module_);
  add_function_attributes(*entry, target_);
  ir_.SetInsertPoint(BasicBlock::Create(module_.getContext(), "entry", entry));
  Value* outer = ir_.CreateAlloca(ir_.getInt32Ty(), nullptr, "outer_mode");
  Value* inner = ir_.CreateAlloca(ir_.getInt32Ty(), nullptr, "kernel_mode");
  ir_.CreateIntrinsic(llvm::Intrinsic::x86_sse_stmxcsr, {}, {outer});
  ir_.CreateStore(ir_.getInt32(kernel_mxcsr), inner);
  ir_.CreateIntrinsic(llvm::Intrinsic::x86_sse_ldmxcsr, {}, {inner});
  Values arguments;
  for (size_t i = 0; i < buffers.size(); ++i)
    arguments.push_back(ir_.CreateLoad(
        pointer, address(Storage::i8, entry->getArg(0), index(8 * static_cast<int64_t>(i)))));
  for (unsigned i = 1; i <= 3; ++i) arguments.push_back(entry->getArg(i));
  ir_.CreateCall(body, arguments);
  ir_.CreateIntrinsic(llvm::Intrinsic::x86_sse_ldmxcsr, {}, {outer});
  ir_.CreateRetVoid();

  ir_.SetInsertPoint(BasicBlock::Create(module_.getContext(), "entry", body));
  KernelFrame frame;
  for (unsigned i = 0; i < buffers.size(); ++i) {
    body->getArg(i)->setName("buffer" + std::to_string(i));
    frame.buffers.push_back(body->getArg(i));
  }
  frame.first_tile = body->getArg(scratch - 2);
  frame.last_tile = body->getArg(scratch - 1);
  frame.scratch = body->getArg(scratch);
  frame.first_tile->setName("first_tile");
  frame.last_tile->setName("last_tile");
  frame.scratch->setName("scratch");
  return frame;
}

void Emitter::end_kernel() { ir_.CreateRetVoid(); }

// --- constants and types ---

Type* Emitter::shaped(Type* scalar, int lanes) const {
  return lanes == 1 ? scalar : llvm::FixedVectorType::get(scalar, lanes);
}
Type* Emitter::f32_type(int lanes) { return shaped(ir_.getFloatTy(), lanes); }
Type* Emitter::i32_type(int lanes) { return shaped(ir_.getInt32Ty(), lanes); }
Value* Emitter::index(int64_t value) { return ir_.getInt64(static_cast<uint64_t>(value)); }
Value* Emitter::f32(double value, int lanes) {
  return llvm::ConstantFP::get(f32_type(lanes), static_cast<double>(static_cast<float>(value)));
}
Value* Emitter::i32(int64_t value, int lanes) {
  return llvm::ConstantInt::get(i32_type(lanes), static_cast<uint64_t>(value), true);
}
Value* Emitter::zero(Storage storage, int lanes) {
  return is_float(storage) ? f32(0, lanes) : i32(0, lanes);
}
int Emitter::lanes_of(const Value* value) {
  const auto* vector = llvm::dyn_cast<llvm::FixedVectorType>(value->getType());
  return vector ? static_cast<int>(vector->getNumElements()) : 1;
}
Value* Emitter::f32_like(const Value* like, double value) { return f32(value, lanes_of(like)); }
Value* Emitter::i32_like(const Value* like, int64_t value) { return i32(value, lanes_of(like)); }

// --- control ---

Values Emitter::for_loop(Value* begin, Value* end, int64_t step, const Values& initial,
                         const std::function<Values(Value*, const Values&)>& body) {
  WEIR_CHECK(step > 0, "loop step {}", step);
  BasicBlock* before = ir_.GetInsertBlock();
  Function* function = before->getParent();
  BasicBlock* loop = BasicBlock::Create(module_.getContext(), "loop", function);
  BasicBlock* after = BasicBlock::Create(module_.getContext(), "after_loop", function);
  ir_.CreateCondBr(ir_.CreateICmpSLT(begin, end), loop, after);

  ir_.SetInsertPoint(loop);
  llvm::PHINode* i = ir_.CreatePHI(begin->getType(), 2, "i");
  i->addIncoming(begin, before);
  Values carried;
  for (Value* value : initial) {
    llvm::PHINode* phi = ir_.CreatePHI(value->getType(), 2);
    phi->addIncoming(value, before);
    carried.push_back(phi);
  }
  const Values results = body(i, carried);
  WEIR_CHECK(results.size() == initial.size(), "a loop carries {} values, its body gave {}",
             initial.size(), results.size());
  BasicBlock* latch = ir_.GetInsertBlock();
  Value* next = add(i, step);
  i->addIncoming(next, latch);
  for (size_t j = 0; j < results.size(); ++j)
    llvm::cast<llvm::PHINode>(carried[j])->addIncoming(results[j], latch);
  ir_.CreateCondBr(ir_.CreateICmpSLT(next, end), loop, after);

  ir_.SetInsertPoint(after);
  Values last;
  for (size_t j = 0; j < results.size(); ++j) {
    llvm::PHINode* phi = ir_.CreatePHI(results[j]->getType(), 2);
    phi->addIncoming(initial[j], before);
    phi->addIncoming(results[j], latch);
    last.push_back(phi);
  }
  return last;
}

void Emitter::for_loop(Value* begin, Value* end, int64_t step,
                       const std::function<void(Value*)>& body) {
  for_loop(begin, end, step, Values{}, [&](Value* i, const Values&) {
    body(i);
    return Values{};
  });
}

Values Emitter::if_else(Value* condition, const std::function<Values()>& then,
                        const std::function<Values()>& otherwise) {
  Function* function = ir_.GetInsertBlock()->getParent();
  BasicBlock* then_block = BasicBlock::Create(module_.getContext(), "then", function);
  BasicBlock* else_block = BasicBlock::Create(module_.getContext(), "else", function);
  BasicBlock* after = BasicBlock::Create(module_.getContext(), "after_if", function);
  ir_.CreateCondBr(condition, then_block, else_block);
  ir_.SetInsertPoint(then_block);
  const Values then_values = then();
  then_block = ir_.GetInsertBlock();
  ir_.CreateBr(after);
  ir_.SetInsertPoint(else_block);
  const Values else_values = otherwise();
  else_block = ir_.GetInsertBlock();
  ir_.CreateBr(after);
  ir_.SetInsertPoint(after);
  WEIR_CHECK(then_values.size() == else_values.size(), "branches give {} and {} values",
             then_values.size(), else_values.size());
  Values result;
  for (size_t j = 0; j < then_values.size(); ++j) {
    llvm::PHINode* phi = ir_.CreatePHI(then_values[j]->getType(), 2);
    phi->addIncoming(then_values[j], then_block);
    phi->addIncoming(else_values[j], else_block);
    result.push_back(phi);
  }
  return result;
}

void Emitter::if_then(Value* condition, const std::function<void()>& then) {
  if_else(
      condition,
      [&] {
        then();
        return Values{};
      },
      [] { return Values{}; });
}

// --- index arithmetic ---

Value* Emitter::div(Value* a, int64_t b) { return b == 1 ? a : ir_.CreateUDiv(a, index(b)); }
Value* Emitter::rem(Value* a, int64_t b) { return b == 1 ? index(0) : ir_.CreateURem(a, index(b)); }
Value* Emitter::min_index(Value* a, Value* b) {
  return ir_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, a, b);
}
Value* Emitter::byte_address(Value* base, Value* offset) {
  return ir_.CreateInBoundsGEP(ir_.getInt8Ty(), base, offset);
}
Value* Emitter::address(Storage storage, Value* base, Value* i) {
  return ir_.CreateInBoundsGEP(memory_type(storage), base, i);
}

// --- arithmetic ---

Value* Emitter::unary(llvm::Intrinsic::ID id, Value* a) { return ir_.CreateUnaryIntrinsic(id, a); }
Value* Emitter::binary(llvm::Intrinsic::ID id, Value* a, Value* b) {
  return ir_.CreateBinaryIntrinsic(id, a, b);
}
Value* Emitter::fma(Value* a, Value* b, Value* c) {
  return ir_.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}
Value* Emitter::maximum(Value* a, Value* b) { return binary(llvm::Intrinsic::maximum, a, b); }
Value* Emitter::minimum(Value* a, Value* b) { return binary(llvm::Intrinsic::minimum, a, b); }
Value* Emitter::absolute(Value* a) { return unary(llvm::Intrinsic::fabs, a); }
Value* Emitter::square_root(Value* a) { return unary(llvm::Intrinsic::sqrt, a); }
Value* Emitter::round_even(Value* a) { return unary(llvm::Intrinsic::roundeven, a); }
Value* Emitter::select(Value* condition, Value* then, Value* otherwise) {
  return ir_.CreateSelect(condition, then, otherwise);
}
Value* Emitter::is_nan(Value* a) { return ir_.CreateFCmpUNO(a, a); }
Value* Emitter::to_f32(Value* i) { return ir_.CreateSIToFP(i, f32_type(lanes_of(i))); }
Value* Emitter::to_i32(Value* f) {
  // Clamped first, because LLVM expands its own saturating conversion lane by lane.
  constexpr double limit = 0x1p31, below_limit = 2147483520;  // the largest f32 below 2^31
  Value* x = select(is_nan(f), f32_like(f, 0), f);
  x = select(ir_.CreateFCmpOLT(x, f32_like(f, -limit)), f32_like(f, -limit), x);
  x = select(ir_.CreateFCmpOGT(x, f32_like(f, below_limit)), f32_like(f, below_limit), x);
  Value* whole = ir_.CreateFPToSI(x, i32_type(lanes_of(f)));
  return select(ir_.CreateFCmpOGE(f, f32_like(f, limit)), i32_like(f, INT32_MAX), whole);
}
Value* Emitter::bits(Value* f) { return ir_.CreateBitCast(f, i32_type(lanes_of(f))); }
Value* Emitter::from_bits(Value* i) { return ir_.CreateBitCast(i, f32_type(lanes_of(i))); }
Value* Emitter::broadcast(Value* scalar, int lanes) {
  return lanes == 1 ? scalar : ir_.CreateVectorSplat(lanes, scalar);
}
Value* Emitter::iota(int lanes) {
  if (lanes == 1) return ir_.getInt32(0);
  std::vector<uint32_t> numbers(lanes);
  std::iota(numbers.begin(), numbers.end(), 0u);
  return llvm::ConstantDataVector::get(module_.getContext(), numbers);
}

// --- across lanes ---

Value* Emitter::slice(Value* vector, int first, int count) {
  if (count == 1) return ir_.CreateExtractElement(vector, static_cast<uint64_t>(first));
  std::vector<int> lanes(count);
  std::iota(lanes.begin(), lanes.end(), first);
  return ir_.CreateShuffleVector(vector, lanes);
}

Value* Emitter::concat(Value* a, Value* b) {
  std::vector<int> lanes(2 * static_cast<size_t>(lanes_of(a)));
  std::iota(lanes.begin(), lanes.end(), 0);
  return ir_.CreateShuffleVector(a, b, lanes);
}

Value* Emitter::reduce(Value* vector, const std::function<Value*(Value*, Value*)>& combine) {
  const int lanes = lanes_of(vector);
  WEIR_CHECK((lanes & (lanes - 1)) == 0, "a reduction tree over {} lanes", lanes);
  for (int half = lanes / 2; half >= 1; half /= 2)
    vector = combine(slice(vector, 0, half), slice(vector, half, half));
  return vector;
}
Value* Emitter::reduce_add(Value* vector) {
  return reduce(vector, [&](Value* a, Value* b) {
    return a->getType()->isFPOrFPVectorTy() ? ir_.CreateFAdd(a, b) : ir_.CreateAdd(a, b);
  });
}
Value* Emitter::reduce_maximum(Value* vector) {
  return reduce(vector, [&](Value* a, Value* b) { return maximum(a, b); });
}

Values Emitter::transpose(Values rows) {
  const int n = static_cast<int>(rows.size());
  WEIR_CHECK(n == lanes_of(rows[0]) && (n & (n - 1)) == 0, "transpose of {} rows of {} lanes", n,
             lanes_of(rows[0]));
  // Exchanges, at every distance d, the off-diagonal d x d blocks of each 2d x 2d block.
  for (int d = 1; d < n; d *= 2) {
    std::vector<int> upper(n), lower(n);
    for (int j = 0; j < n; ++j) {
      const bool low_half = (j & d) == 0;
      upper[j] = low_half ? j : n + j - d;
      lower[j] = low_half ? j + d : n + j;
    }
    for (int i = 0; i < n; ++i) {
      if (i & d) continue;
      Value* a = rows[i];
      Value* b = rows[i + d];
      rows[i] = ir_.CreateShuffleVector(a, b, upper);
      rows[i + d] = ir_.CreateShuffleVector(a, b, lower);
    }
  }
  return rows;
}

}  // namespace weir
