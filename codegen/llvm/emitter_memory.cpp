// The part of Emitter that touches memory: masks, storage types and their conversions.
#include <algorithm>

#include "codegen/llvm/emitter.h"
#include "support/error.h"

namespace weir {

using llvm::Type;
using llvm::Value;

Type* Emitter::memory_type(Storage storage) {
  switch (storage) {
    case Storage::f32:
      return ir_.getFloatTy();
    case Storage::f16:
      return ir_.getHalfTy();
    case Storage::bf16:
      return ir_.getInt16Ty();
    case Storage::i32:
      return ir_.getInt32Ty();
    case Storage::i8:
    case Storage::u8:
    case Storage::boolean:
      return ir_.getInt8Ty();
  }
  internal_error_at("storage");
}

/// What was loaded, as f32 or i32.
Value* Emitter::widen(Storage storage, Value* loaded) {
  const int lanes = lanes_of(loaded);
  switch (storage) {
    case Storage::f32:
    case Storage::i32:
      return loaded;
    case Storage::f16:
      return ir_.CreateFPExt(loaded, f32_type(lanes));
    case Storage::bf16:
      return from_bits(ir_.CreateShl(ir_.CreateZExt(loaded, i32_type(lanes)), 16));
    case Storage::i8:
      return ir_.CreateSExt(loaded, i32_type(lanes));
    case Storage::u8:
    case Storage::boolean:
      return ir_.CreateZExt(loaded, i32_type(lanes));
  }
  internal_error_at("storage");
}

/// What is stored, from f32 or i32.
Value* Emitter::narrow(Storage storage, Value* value) {
  const int lanes = lanes_of(value);
  Type* type = shaped(memory_type(storage), lanes);
  switch (storage) {
    case Storage::f32:
    case Storage::i32:
      return value;
    case Storage::f16:
      return ir_.CreateFPTrunc(value, type);
    case Storage::bf16: {
      // Adds half of the last kept bit, less one where that bit is even; a NaN is made quiet so
      // that it keeps a set mantissa bit.
      Value* word = bits(value);
      Value* even = ir_.CreateAnd(ir_.CreateLShr(word, 16), 1);
      Value* rounded = ir_.CreateAdd(word, ir_.CreateAdd(even, i32_like(value, 0x7fff)));
      Value* quiet = ir_.CreateOr(word, i32_like(value, 0x400000));
      Value* kept = ir_.CreateLShr(select(is_nan(value), quiet, rounded), 16);
      return ir_.CreateTrunc(kept, type);
    }
    case Storage::i8:
    case Storage::u8:
      return ir_.CreateTrunc(value, type);
    case Storage::boolean: {
      const bool is_bit = value->getType()->getScalarType()->isIntegerTy(1);
      Value* bit = is_bit ? value : ir_.CreateICmpNE(value, i32_like(value, 0));
      return ir_.CreateZExt(bit, type);
    }
  }
  internal_error_at("storage");
}

Value* Emitter::mask_below(Value* count, int lanes) {
  const auto* constant = llvm::dyn_cast<llvm::ConstantInt>(count);
  if (constant && constant->getSExtValue() >= lanes) return nullptr;
  Value* clamped = ir_.CreateTrunc(min_index(count, index(lanes)), ir_.getInt32Ty());
  return ir_.CreateICmpSLT(iota(lanes), broadcast(clamped, lanes));
}

Value* Emitter::load(Storage storage, Value* base, Value* i, int lanes, Value* mask) {
  Type* type = shaped(memory_type(storage), lanes);
  Value* from = address(storage, base, i);
  const llvm::Align align(storage_bytes(storage));
  if (!mask) return widen(storage, ir_.CreateAlignedLoad(type, from, align));
  llvm::Constant* zero = llvm::Constant::getNullValue(type);
  if (lanes == 1)
    return widen(storage,
                 if_else(
                     mask, [&] { return Values{ir_.CreateAlignedLoad(type, from, align)}; },
                     [&] { return Values{zero}; })[0]);
  return widen(storage, ir_.CreateMaskedLoad(type, from, align, mask, zero));
}

Value* Emitter::load_broadcast(Storage storage, Value* base, Value* i, int lanes) {
  return broadcast(load(storage, base, i, 1), lanes);
}

Value* Emitter::gather(Storage storage, Value* base, Value* indices, Value* mask) {
  const int lanes = lanes_of(indices);
  if (lanes == 1) return load(storage, base, ir_.CreateSExt(indices, ir_.getInt64Ty()), 1, mask);
  Type* type = shaped(memory_type(storage), lanes);
  Value* from = address(storage, base, indices);
  llvm::Constant* zero = llvm::Constant::getNullValue(type);
  return widen(storage,
               ir_.CreateMaskedGather(type, from, llvm::Align(storage_bytes(storage)), mask, zero));
}

void Emitter::store(Storage storage, Value* value, Value* base, Value* i, Value* mask) {
  const bool given_float = value->getType()->getScalarType()->isFloatTy();
  WEIR_CHECK(given_float == is_float(storage), "store of {} to a different kind of storage",
             given_float ? "f32" : "i32");
  Value* stored = narrow(storage, value);
  Value* to = address(storage, base, i);
  const llvm::Align align(storage_bytes(storage));
  if (!mask) {
    ir_.CreateAlignedStore(stored, to, align);
  } else if (lanes_of(value) == 1) {
    if_then(mask, [&] { ir_.CreateAlignedStore(stored, to, align); });
  } else {
    ir_.CreateMaskedStore(stored, to, align, mask);
  }
}

void Emitter::prefetch(Value* address, bool for_write, int locality) {
  ir_.CreateIntrinsic(llvm::Intrinsic::prefetch, {address->getType()},
                      {address, ir_.getInt32(for_write), ir_.getInt32(locality), ir_.getInt32(1)});
}

}  // namespace weir
