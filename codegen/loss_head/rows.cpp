#include "codegen/loss_head/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "codegen/anchor_region.h"
#include "codegen/llvm/vector_math.h"

namespace weir {
namespace {

using Emitted = llvm::Value;
using Values = Emitter::Values;

/// The lanes of the sum of exponentials; on machines with shorter vectors they take two.
constexpr int sum_lanes = 16;
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

class RowEmitter {
 public:
  RowEmitter(Emitter& e, const LossHeadRows& shape, const KernelFrame& frame)
      : e_(e), shape_(shape), targets_(frame.buffers[1]), losses_(frame.buffers[3]) {
    logits_ = frame.buffers[0];
    scale_ = e.load(Storage::f32, frame.buffers[2], e.index(0), 1);
  }

  void row(Emitted* row) {
    row_ = e_.address(Storage::f32, logits_, e_.mul(row, shape_.row_stride));
    Emitted* target = e_.load(Storage::i32, targets_, row, 1);
    Emitted* is_counted = e_.ir().CreateICmpSGE(target, e_.i32(0));
    const Values loss = e_.if_else(
        is_counted, [&] { return Values{counted(target)}; },
        [&] {
          if (shape_.gradient) clear();
          return Values{e_.f32(0)};
        });
    e_.store(Storage::f32, loss[0], losses_, row);
  }

 private:
  Values each(const Values& initial,
              const std::function<Values(Emitted*, Emitted*, const Values&)>& body) {
    return for_vectors(e_, e_.index(0), e_.index(shape_.vocabulary), sum_lanes, initial, body);
  }
  Emitted* load(Emitted* column, Emitted* mask) {
    return e_.load(Storage::f32, row_, column, sum_lanes, mask);
  }
  void store(Emitted* value, Emitted* column, Emitted* mask) {
    e_.store(Storage::f32, value, row_, column, mask);
  }

  void clear() {
    each({}, [&](Emitted* column, Emitted* mask, const Values&) {
      store(e_.f32(0, sum_lanes), column, mask);
      return Values{};
    });
  }

  /// The loss of a row with a target that is not negative.
  Emitted* counted(Emitted* target) {
    Emitted* is_known =
        e_.ir().CreateICmpULT(target, e_.i32(std::min<int64_t>(shape_.vocabulary, INT32_MAX)));
    Emitted* column =
        e_.select(is_known, e_.ir().CreateZExt(target, e_.ir().getInt64Ty()), e_.index(0));
    Emitted* logit = e_.load(Storage::f32, row_, column, 1);
    Emitted* largest = maximum();
    Emitted* sum = exponentials(largest);
    if (shape_.gradient) {
      Emitted* factor = e_.ir().CreateFDiv(scale_, sum);
      gradient(e_.select(is_known, factor, e_.f32(nan_value)), column);
    }
    Emitted* loss = e_.ir().CreateFAdd(emit_log(e_, sum), e_.ir().CreateFSub(largest, logit));
    return e_.select(is_known, loss, e_.f32(nan_value));
  }

  /// The largest logit; a NaN among them does not show here, but in the sum.
  Emitted* maximum() {
    const auto larger = [&](Emitted* a, Emitted* b) {
      return e_.select(e_.ir().CreateFCmpOGT(a, b), a, b);
    };
    const Values lanes = each({e_.f32(-infinity, sum_lanes)},
                              [&](Emitted* column, Emitted* mask, const Values& largest) {
                                Emitted* x = load(column, mask);
                                if (mask) x = e_.select(mask, x, e_.f32(-infinity, sum_lanes));
                                return Values{larger(x, largest[0])};
                              });
    return e_.reduce(lanes[0], larger);
  }

  /// The sum of exp(l - largest); with `gradient` these replace the logits.
  Emitted* exponentials(Emitted* largest) {
    Emitted* shift = e_.broadcast(largest, sum_lanes);
    const Values lanes =
        each({e_.f32(0, sum_lanes)}, [&](Emitted* column, Emitted* mask, const Values& sum) {
          Emitted* x = emit_exp(e_, e_.ir().CreateFSub(load(column, mask), shift));
          if (shape_.gradient) store(x, column, mask);
          if (mask) x = e_.select(mask, x, e_.f32(0, sum_lanes));
          return Values{e_.ir().CreateFAdd(sum[0], x)};
        });
    return e_.reduce_add(lanes[0]);
  }

  /// From exponentials to g: each times scale / sum, less scale at the target.
  void gradient(Emitted* factor, Emitted* target) {
    Emitted* factors = e_.broadcast(factor, sum_lanes);
    each({}, [&](Emitted* column, Emitted* mask, const Values&) {
      store(e_.ir().CreateFMul(load(column, mask), factors), column, mask);
      return Values{};
    });
    Emitted* g = e_.load(Storage::f32, row_, target, 1);
    e_.store(Storage::f32, e_.ir().CreateFSub(g, scale_), row_, target);
  }

  Emitter& e_;
  const LossHeadRows& shape_;
  Emitted* logits_;
  Emitted* targets_;
  Emitted* losses_;
  Emitted* scale_;
  Emitted* row_ = nullptr;
};

int64_t rows_of_tile(const LossHeadRows& shape) {
  constexpr int64_t elements = 32768;
  return std::max<int64_t>(1, elements / shape.vocabulary);
}

}  // namespace

KernelCode loss_head_rows_kernel(const LossHeadRows& shape) {
  const int64_t block = rows_of_tile(shape);
  return {.tiles = (shape.rows + block - 1) / block,
          .scratch_bytes = 0,
          .key = fmt::format("loss head rows {} {} {} {}", shape.rows, shape.vocabulary,
                             shape.row_stride, shape.gradient),
          .emit = [shape, block](Emitter& e, const std::string& symbol) {
            const KernelFrame frame =
                e.begin_kernel(symbol, {{.written = shape.gradient}, {}, {}, {.written = true}});
            RowEmitter rows(e, shape, frame);
            Emitted* last = e.min_index(e.index(shape.rows), e.mul(frame.last_tile, block));
            e.for_loop(e.mul(frame.first_tile, block), last, 1,
                       [&](Emitted* row) { rows.row(row); });
            e.end_kernel();
          }};
}

KernelCode loss_head_sum_kernel(int64_t rows) {
  return {.tiles = 1,
          .scratch_bytes = 0,
          .key = fmt::format("loss head sum {}", rows),
          .emit = [rows](Emitter& e, const std::string& symbol) {
            const KernelFrame frame = e.begin_kernel(symbol, {{}, {}, {.written = true}});
            // A call of no tiles stores nothing.
            e.if_then(e.ir().CreateICmpSLT(frame.first_tile, frame.last_tile), [&] {
              const Values sum = e.for_loop(
                  e.index(0), e.index(rows), 1, {e.f32(0)}, [&](Emitted* i, const Values& carried) {
                    Emitted* loss = e.load(Storage::f32, frame.buffers[0], i, 1);
                    return Values{e.ir().CreateFAdd(carried[0], loss)};
                  });
              Emitted* scale = e.load(Storage::f32, frame.buffers[1], e.index(0), 1);
              e.store(Storage::f32, e.ir().CreateFMul(scale, sum[0]), frame.buffers[2], e.index(0));
            });
            e.end_kernel();
          }};
}

}  // namespace weir
