#include "codegen/matmul/micro_kernel.h"

#include "support/error.h"

namespace weir {
namespace {

using llvm::Value;
using Values = Emitter::Values;

constexpr int k_unroll = 4;
/// Steps of k between a prefetch of a packed micro-panel into the first-level cache and its use: an
/// access of the second level.
constexpr int64_t panel_prefetch_distance = 16;

class MicroKernel {
 public:
  MicroKernel(const MatmulContext& context, const MicroTile& micro)
      : context_(context),
        e_(context.e()),
        lanes_(context.lanes()),
        rows_(micro.rows),
        columns_(micro.columns),
        packed_columns_(context.packed_columns(micro.columns)),
        vectors_(packed_columns_ / lanes_) {}

  /// The accumulators after `depth` steps of k.
  Values multiply(Value* depth, Value* a, Value* b, const Values& accumulators,
                  const PrefetchPlan& prefetch) const {
    // Carried: addresses in the micro-panels, then the accumulators.
    Values start = {a, b};
    start.insert(start.end(), accumulators.begin(), accumulators.end());
    const MatmulSpec& spec = context_.spec();
    const auto steps = [&](int count) {
      return [=, this, &spec](Value*, const Values& carried) {
        Values next = carried;
        for (int u = 0; u < count; ++u) step(u, next);
        next[0] = e_.byte_address(carried[0], spec.a.bytes(a_step() * count));
        next[1] = e_.byte_address(carried[1], spec.b.bytes(b_step() * count));
        return next;
      };
    };
    const int64_t interval = prefetch_interval(spec);
    Value* whole = e_.mul(e_.div(depth, interval), interval);
    Values values =
        e_.for_loop(e_.index(0), whole, interval, start, [&](Value* k, const Values& carried) {
          issue_prefetches(context_, prefetch, k);
          return e_.for_loop(e_.index(0), e_.index(interval), k_unroll, carried, steps(k_unroll));
        });
    values = e_.for_loop(whole, depth, 1, values, steps(1));
    values.erase(values.begin(), values.begin() + 2);
    return values;
  }

 private:
  bool packs_a() const { return context_.tiles().pack_a; }
  bool packs_b() const { return context_.tiles().b != BPacking::none; }
  /// Elements from one step of k to the next.
  int64_t a_step() const {
    const MatmulOperand& a = context_.spec().a;
    return packs_a() ? rows_ : a.transposed ? a.row_stride : 1;
  }
  int64_t b_step() const { return packs_b() ? packed_columns_ : context_.spec().b.row_stride; }

  /// One step of k: a fused multiply-add for every accumulator. `values[0]` and `[1]` stay.
  void step(int unrolled, Values& values) const {
    const MatmulSpec& spec = context_.spec();
    Values b(vectors_);
    for (int64_t v = 0; v < vectors_; ++v) {
      const int64_t at = unrolled * b_step() + v * lanes_;
      Value* mask = packs_b()
                        ? nullptr
                        : e_.mask_below(e_.index(columns_ - v * lanes_), static_cast<int>(lanes_));
      b[v] = e_.load(context_.b_type(), values[1], e_.index(at), static_cast<int>(lanes_), mask);
      // Rows of an unpacked B may conflict in few sets of the cache: not too many at once.
      const int64_t distance = packs_b() ? panel_prefetch_distance : panel_prefetch_distance / 2;
      emit_prefetch(e_, values[1], e_.index(spec.b.bytes(at + distance * b_step())),
                    CacheLevel::first);
    }
    if (packs_a())
      emit_prefetch(e_, values[0],
                    e_.index(spec.a.bytes(rows_ * (unrolled + panel_prefetch_distance))),
                    CacheLevel::first);
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t at = packs_a()           ? unrolled * rows_ + r
                         : spec.a.transposed ? unrolled * spec.a.row_stride + r
                                             : r * spec.a.row_stride + unrolled;
      Value* element =
          e_.load_broadcast(context_.a_type(), values[0], e_.index(at), static_cast<int>(lanes_));
      for (int64_t v = 0; v < vectors_; ++v) {
        Value*& accumulator = values[2 + r * vectors_ + v];
        accumulator = multiply_add(element, b[v], accumulator);
      }
    }
  }

  /// The one operation of a product, of values as they are in registers: f32, or four bytes a lane.
  Value* multiply_add(Value* a, Value* b, Value* accumulator) const {
    if (context_.plan().accumulator == DType::i32) return multiply_bytes(a, b, accumulator);
    WEIR_CHECK(context_.plan().accumulator == DType::f32,
               "products accumulate in f32 or i32, not {}",
               dtype_name(context_.plan().accumulator));
    return e_.fma(a, b, accumulator);
  }

  /// The accumulator and the products of four unsigned bytes of `a` with as many signed ones of
  /// `b`.
  Value* multiply_bytes(Value* a, Value* b, Value* accumulator) const {
    const Target& target = e_.target();
    auto& ir = e_.ir();
    if (lanes_ == 16 && target.has("avx512vnni"))
      return ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_vpdpbusd_512, {}, {accumulator, a, b});
    if (lanes_ == 8 && target.has("avxvnni"))
      return ir.CreateIntrinsic(llvm::Intrinsic::x86_avx512_vpdpbusd_256, {}, {accumulator, a, b});
    // Both bytes of a product in the upper end of a lane, then back with or without sign.
    for (int byte = 0; byte < 4; ++byte) {
      const int64_t up = 24 - 8 * byte;
      Value* of_a = ir.CreateLShr(ir.CreateShl(a, e_.i32_like(a, up)), e_.i32_like(a, 24));
      Value* of_b = ir.CreateAShr(ir.CreateShl(b, e_.i32_like(b, up)), e_.i32_like(b, 24));
      accumulator = ir.CreateAdd(accumulator, ir.CreateMul(of_a, of_b));
    }
    return accumulator;
  }

  const MatmulContext& context_;
  Emitter& e_;
  const int64_t lanes_, rows_, columns_, packed_columns_, vectors_;
};

}  // namespace

void emit_micro_kernel(const MatmulContext& context, const CTile& tile, const KBlock& block,
                       const MicroTile& micro, Value* a, Value* b, const PrefetchPlan& prefetch) {
  const std::vector<MatrixRun> runs = accumulator_runs(context, tile, micro);
  const Values start = init_accumulators(context, tile, block, runs);
  const Values sums = MicroKernel(context, micro).multiply(block.depth, a, b, start, prefetch);
  finish_accumulators(context, tile, block, micro, runs, sums);
}

}  // namespace weir
