#pragma once
// A thin layer over LLVM's IRBuilder in which all kernels are written: functions of the kernel ABI,
// counted loops, vectors with masked tails, storage types, fixed-order reductions.
//
// Conventions. An index or count is an i64. A vector of `lanes` values has type <lanes x T>; with
// one lane it is the scalar T. A mask is a <lanes x i1>; nullptr means every lane. Arithmetic
// happens in f32 and i32; other types exist in memory alone (Storage). No operation here is ever
// reassociated.
#include <functional>
#include <string>
#include <vector>

#include "codegen/llvm/llvm.h"
#include "support/target.h"

namespace weir {

/// How a number lies in memory. f32, bf16 and f16 compute as f32; the others as i32.
enum class Storage { f32, bf16, f16, i32, i8, u8, boolean };
int storage_bytes(Storage storage);
bool is_float(Storage storage);

/// What a kernel does with one of its buffers.
struct BufferUse {
  bool written = false;
  bool may_alias = false;  ///< may overlap another buffer of this kernel (in place)
};

/// The arguments of the kernel being emitted.
struct KernelFrame {
  std::vector<llvm::Value*> buffers;
  llvm::Value* first_tile = nullptr;
  llvm::Value* last_tile = nullptr;
  llvm::Value* scratch = nullptr;
};

class Emitter {
 public:
  using Value = llvm::Value;
  using Values = std::vector<llvm::Value*>;

  Emitter(llvm::Module& module, const Target& target);

  const Target& target() const { return target_; }
  int lanes() const { return target_.lanes(); }
  llvm::IRBuilder<>& ir() { return ir_; }

  // --- functions ---
  /// Starts the function `symbol` of the kernel ABI (runtime/abi.h) and leaves the builder inside
  /// it. Two functions are made: the entry sets the floating-point mode around a call of the body,
  /// so that no operation of the body can move across the change of mode.
  KernelFrame begin_kernel(const std::string& symbol, const std::vector<BufferUse>& buffers);
  void end_kernel();

  // --- constants and types ---
  Value* index(int64_t value);
  Value* f32(double value, int lanes = 1);
  /// The zero of values that `storage` computes as: f32 or i32.
  Value* zero(Storage storage, int lanes = 1);
  Value* i32(int64_t value, int lanes = 1);
  llvm::Type* f32_type(int lanes = 1);
  llvm::Type* i32_type(int lanes = 1);
  /// Of an element in memory.
  llvm::Type* memory_type(Storage storage);
  static int lanes_of(const Value* value);
  /// A constant of the shape of `like`: f32 or i32 in every lane.
  Value* f32_like(const Value* like, double value);
  Value* i32_like(const Value* like, int64_t value);

  // --- control ---
  /// for (i = begin; i < end; i += step) body(i); step > 0.
  void for_loop(Value* begin, Value* end, int64_t step, const std::function<void(Value*)>& body);
  /// The same with values carried from one iteration to the next; returns those of the last, or
  /// `initial` when there was none.
  Values for_loop(Value* begin, Value* end, int64_t step, const Values& initial,
                  const std::function<Values(Value*, const Values&)>& body);
  void if_then(Value* condition, const std::function<void()>& then);
  Values if_else(Value* condition, const std::function<Values()>& then,
                 const std::function<Values()>& otherwise);

  // --- index arithmetic (no overflow: indices address memory) ---
  Value* add(Value* a, Value* b) { return ir_.CreateNSWAdd(a, b); }
  Value* add(Value* a, int64_t b) { return b == 0 ? a : add(a, index(b)); }
  Value* sub(Value* a, Value* b) { return ir_.CreateNSWSub(a, b); }
  Value* mul(Value* a, int64_t b) { return b == 1 ? a : ir_.CreateNSWMul(a, index(b)); }
  Value* mul(Value* a, Value* b) { return ir_.CreateNSWMul(a, b); }
  Value* div(Value* a, int64_t b);  ///< both >= 0
  Value* rem(Value* a, int64_t b);  ///< both >= 0
  Value* min_index(Value* a, Value* b);
  /// base + offset bytes.
  Value* byte_address(Value* base, Value* offset);
  Value* byte_address(Value* base, int64_t offset) { return byte_address(base, index(offset)); }
  /// &base[i] of an array of `storage`.
  Value* address(Storage storage, Value* base, Value* i);

  // --- memory ---
  /// The lanes j with j < count; nullptr when `count` is a constant that covers all lanes.
  Value* mask_below(Value* count, int lanes);
  /// base[i .. i+lanes) as f32 or i32; lanes outside the mask are 0 and are not touched in memory.
  /// boolean gives 0 or the stored byte.
  Value* load(Storage storage, Value* base, Value* i, int lanes, Value* mask = nullptr);
  /// One element in every lane.
  Value* load_broadcast(Storage storage, Value* base, Value* i, int lanes);
  /// Elements base[indices[j]]; `indices` is an i32 or i64 vector.
  Value* gather(Storage storage, Value* base, Value* indices, Value* mask = nullptr);
  /// f32 to f32, bf16 and f16 (to nearest even, NaN stays NaN), or i32 to i32, i8, u8 (wrapping)
  /// and boolean (0 stays 0, else 1; an i1 is taken too).
  void store(Storage storage, Value* value, Value* base, Value* i, Value* mask = nullptr);
  /// The value as it comes back from memory after a store of this kind.
  Value* through(Storage storage, Value* value) { return widen(storage, narrow(storage, value)); }
  /// Prefetches the cache line of an address; `locality` 3 (L1) to 1 (L3).
  void prefetch(Value* address, bool for_write = false, int locality = 3);

  // --- arithmetic on f32 and i32 of any lane count ---
  Value* fma(Value* a, Value* b, Value* c);  ///< a*b + c rounded once
  /// NaN when either is NaN, and -0 < +0: the result does not depend on the order of operands
  /// (but for which NaN it is).
  Value* maximum(Value* a, Value* b);
  Value* minimum(Value* a, Value* b);
  Value* absolute(Value* a);
  Value* square_root(Value* a);
  Value* round_even(Value* a);
  Value* select(Value* condition, Value* then, Value* otherwise);
  Value* is_nan(Value* a);
  Value* to_f32(Value* i32);  ///< exact below 2^24, else to nearest even
  Value* to_i32(Value* f32);  ///< towards zero, saturating; NaN gives 0
  /// The bits of an f32 as i32 and back.
  Value* bits(Value* f32);
  Value* from_bits(Value* i32);
  Value* broadcast(Value* scalar, int lanes);
  /// Lane numbers 0, 1, 2 ... as i32.
  Value* iota(int lanes);

  // --- across lanes ---
  /// Combines all lanes by the fixed tree: lane j with lane j + L/2, halving; L a power of two.
  Value* reduce(Value* vector, const std::function<Value*(Value*, Value*)>& combine);
  Value* reduce_add(Value* vector);
  Value* reduce_maximum(Value* vector);
  /// Lanes [first, first + count) of a vector.
  Value* slice(Value* vector, int first, int count);
  /// The lanes of a, then those of b, which has as many.
  Value* concat(Value* a, Value* b);
  /// Transposes `rows` (as many as their lane count, a power of two): result[j][i] = rows[i][j].
  Values transpose(Values rows);

 private:
  llvm::Type* shaped(llvm::Type* scalar, int lanes) const;
  Value* widen(Storage storage, Value* loaded);
  Value* narrow(Storage storage, Value* value);
  Value* unary(llvm::Intrinsic::ID id, Value* a);
  Value* binary(llvm::Intrinsic::ID id, Value* a, Value* b);

  llvm::Module& module_;
  Target target_;
  llvm::IRBuilder<> ir_;
};

}  // namespace weir
