#include "codegen/loss_head/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/llvm/elementwise.h"
#include "codegen/llvm/vector_loop.h"
#include "codegen/llvm/vector_math.h"

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = Emitter::Values;

/// The lanes of the sum of exponentials; on machines with shorter vectors they take two.
constexpr int sum_lanes = 16;
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

class LossRowEmitter {
 public:
  LossRowEmitter(Emitter& e, const LossHeadRows& shape, const KernelFrame& frame)
      : e_(e),
        shape_(shape),
        logits_type_(storage_of(shape.types.logits)),
        logits_(frame.buffers[0]),
        targets_(frame.buffers[1]),
        losses_(frame.buffers[3]),
        scale_(e.load(storage_of(shape.types.scale), frame.buffers[2], e.index(0), 1)) {}

  void row(Emitted* row) {
    Emitted* logits = e_.address(logits_type_, logits_, e_.mul(row, shape_.row_stride));
    Emitted* target = e_.load(storage_of(shape_.types.targets), targets_, row, 1);
    Emitted* is_counted = e_.ir().CreateICmpSGE(target, e_.i32(0));
    const Values loss = e_.if_else(
        is_counted, [&] { return Values{counted(logits, target)}; },
        [&] {
          if (shape_.gradient) clear(logits);
          return Values{e_.f32(0)};
        });
    e_.store(storage_of(shape_.types.losses), loss[0], losses_, row);
  }

 private:
  Values each(const Values& initial,
              const std::function<Values(Emitted*, Emitted*, const Values&)>& body) {
    return for_vectors(e_, e_.index(0), e_.index(shape_.vocabulary), sum_lanes, initial, body);
  }
  Emitted* load(Emitted* row, Emitted* column, Emitted* mask) {
    return e_.load(logits_type_, row, column, sum_lanes, mask);
  }
  void store(Emitted* value, Emitted* row, Emitted* column, Emitted* mask) {
    e_.store(logits_type_, value, row, column, mask);
  }

  /// A logit under the cap, and the derivative of it; null without a cap.
  struct Bent {
    Emitted *logit, *slope;
  };
  Bent bend(Emitted* logit) {
    if (shape_.cap == 0) return {logit, nullptr};
    Emitted* t = emit_tanh(e_, e_.ir().CreateFMul(logit, e_.f32_like(logit, 1 / shape_.cap)));
    Emitted* slope = e_.ir().CreateFSub(e_.f32_like(t, 1), e_.ir().CreateFMul(t, t));
    return {e_.ir().CreateFMul(t, e_.f32_like(t, shape_.cap)), slope};
  }
  Emitted* sloped(Emitted* gradient, Emitted* slope) {
    return slope ? e_.ir().CreateFMul(gradient, slope) : gradient;
  }

  void clear(Emitted* row) {
    each({}, [&](Emitted* column, Emitted* mask, const Values&) {
      store(e_.f32(0, sum_lanes), row, column, mask);
      return Values{};
    });
  }

  /// The loss of a row with a target that is not negative.
  Emitted* counted(Emitted* row, Emitted* target) {
    Emitted* is_known =
        e_.ir().CreateICmpULT(target, e_.i32(std::min<int64_t>(shape_.vocabulary, INT32_MAX)));
    Emitted* column =
        e_.select(is_known, e_.ir().CreateZExt(target, e_.ir().getInt64Ty()), e_.index(0));
    const Bent logit = bend(e_.load(logits_type_, row, column, 1));
    Emitted* largest = bend(maximum(row)).logit;
    Emitted* sum = exponentials(row, largest);
    if (shape_.gradient) {
      Emitted* factor = e_.ir().CreateFDiv(scale_, sum);
      gradient(row, e_.select(is_known, factor, e_.f32(nan_value)), column, logit.slope);
    }
    Emitted* loss = e_.ir().CreateFAdd(emit_log(e_, sum), e_.ir().CreateFSub(largest, logit.logit));
    return e_.select(is_known, loss, e_.f32(nan_value));
  }

  /// The largest logit; a NaN among them does not show here, but in the sum.
  Emitted* maximum(Emitted* row) {
    const auto larger = [&](Emitted* a, Emitted* b) {
      return e_.select(e_.ir().CreateFCmpOGT(a, b), a, b);
    };
    const Values lanes = each({e_.f32(-infinity, sum_lanes)},
                              [&](Emitted* column, Emitted* mask, const Values& largest) {
                                Emitted* x = load(row, column, mask);
                                if (mask) x = e_.select(mask, x, e_.f32(-infinity, sum_lanes));
                                return Values{larger(x, largest[0])};
                              });
    return e_.reduce(lanes[0], larger);
  }

  /// The sum of exp(l - largest); with `gradient` these, times the slope of the cap, replace the
  /// logits.
  Emitted* exponentials(Emitted* row, Emitted* largest) {
    Emitted* shift = e_.broadcast(largest, sum_lanes);
    const Values lanes =
        each({e_.f32(0, sum_lanes)}, [&](Emitted* column, Emitted* mask, const Values& sum) {
          const Bent l = bend(load(row, column, mask));
          Emitted* x = emit_exp(e_, e_.ir().CreateFSub(l.logit, shift));
          if (shape_.gradient) store(sloped(x, l.slope), row, column, mask);
          if (mask) x = e_.select(mask, x, e_.f32(0, sum_lanes));
          return Values{e_.ir().CreateFAdd(sum[0], x)};
        });
    return e_.reduce_add(lanes[0]);
  }

  /// From exponentials to g: each times scale / sum, less scale at the target.
  void gradient(Emitted* row, Emitted* factor, Emitted* target, Emitted* slope) {
    Emitted* factors = e_.broadcast(factor, sum_lanes);
    each({}, [&](Emitted* column, Emitted* mask, const Values&) {
      store(e_.ir().CreateFMul(load(row, column, mask), factors), row, column, mask);
      return Values{};
    });
    Emitted* g = e_.load(logits_type_, row, target, 1);
    e_.store(logits_type_, e_.ir().CreateFSub(g, sloped(scale_, slope)), row, target);
  }

  Emitter& e_;
  const LossHeadRows& shape_;
  const Storage logits_type_;
  Emitted* const logits_;
  Emitted* const targets_;
  Emitted* const losses_;
  Emitted* const scale_;
};

int64_t rows_of_tile(const LossHeadRows& shape) {
  constexpr int64_t elements = 32768;
  return std::max<int64_t>(1, elements / shape.vocabulary);
}

std::string text_of(const LossHeadTypes& types) {
  return fmt::format("{} {} {} {}", dtype_name(types.logits), dtype_name(types.losses),
                     dtype_name(types.scale), dtype_name(types.targets));
}

}  // namespace

KernelCode loss_head_rows_kernel(const LossHeadRows& shape) {
  const int64_t block = rows_of_tile(shape);
  return {.tiles = (shape.rows + block - 1) / block,
          .scratch_bytes = 0,
          .key = fmt::format("loss head rows {} {} {} {} {}", text_of(shape.types), shape.rows,
                             shape.vocabulary, shape.row_stride, shape.gradient) +
                 (shape.cap == 0 ? "" : fmt::format(" cap {}", shape.cap)),
          .emit = [shape, block](Emitter& e, const std::string& symbol) {
            const KernelFrame frame =
                e.begin_kernel(symbol, {{.written = shape.gradient}, {}, {}, {.written = true}});
            LossRowEmitter rows(e, shape, frame);
            Emitted* last = e.min_index(e.index(shape.rows), e.mul(frame.last_tile, block));
            e.for_loop(e.mul(frame.first_tile, block), last, 1,
                       [&](Emitted* row) { rows.row(row); });
            e.end_kernel();
          }};
}

KernelCode loss_head_sum_kernel(const LossHeadTypes& types, int64_t rows) {
  return {.tiles = 1,
          .scratch_bytes = 0,
          .key = fmt::format("loss head sum {} {}", text_of(types), rows),
          .emit = [types, rows](Emitter& e, const std::string& symbol) {
            const Storage losses = storage_of(types.losses);
            const KernelFrame frame = e.begin_kernel(symbol, {{}, {}, {.written = true}});
            // A call of no tiles stores nothing.
            e.if_then(e.ir().CreateICmpSLT(frame.first_tile, frame.last_tile), [&] {
              const Values sum = e.for_loop(
                  e.index(0), e.index(rows), 1, {e.f32(0)}, [&](Emitted* i, const Values& carried) {
                    Emitted* loss = e.load(losses, frame.buffers[0], i, 1);
                    return Values{e.ir().CreateFAdd(carried[0], loss)};
                  });
              Emitted* scale = e.load(storage_of(types.scale), frame.buffers[1], e.index(0), 1);
              e.store(losses, e.ir().CreateFMul(scale, sum[0]), frame.buffers[2], e.index(0));
            });
            e.end_kernel();
          }};
}

}  // namespace weir
