#include "codegen/loss_head/loss_head.h"

#include <algorithm>
#include <map>

#include "codegen/loss_head/rows.h"
#include "codegen/matmul/matmul.h"
#include "codegen/single_op_region.h"
#include "runtime/abi.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

RunBuffer written(RunBuffer place) {
  place.written = true;
  return place;
}

class LossHead {
 public:
  LossHead(const GraphPtr& region, const Target& target, int64_t chunk, const TileTable& tuned,
           int64_t logits_bytes)
      : target_(target),
        tuned_(tuned),
        op_(single_op_region(*region, {Op::linear_cross_entropy, Op::linear_cross_entropy_grad})) {
    for (weir::Value operand : op_.node->inputs) operand_types_.push_back(region->type(operand));
    for (const Type& type : op_.node->types) result_types_.push_back(type.dtype);
    result_types_.resize(3, kLogitsType);
    check_types();
    if (op_.node->attrs.has("cap")) cap_ = op_.node->attrs.get_float("cap");
    tokens_ = operand_types_[x].shape[0];
    width_ = operand_types_[x].shape[1];
    vocabulary_ = operand_types_[w].shape[0];
    op_.results.resize(3, -1);
    // The rows of a chunk start a cache line, and 16 neighbours do not share a cache set.
    const int64_t line = kAlignment / dtype_size(kLogitsType);
    stride_ = round_up(vocabulary_, line);
    if (stride_ % (16 * line) == 0) stride_ += line;
    chunk = chunk > 0 ? chunk : loss_head_chunk(vocabulary_, logits_bytes);
    chunk_ = even_block(tokens_, chunk, 16);
    logits_tiles_ = tiles(logits(chunk_rows(0)));
    if (wants(1)) dx_tiles_ = tiles(dx(chunk_rows(0)));
    if (wants(2)) dw_tiles_ = tiles(dw(chunk_rows(0), false));
    logits_ = reserve(dtype_size(kLogitsType) * std::min(chunk_, tokens_) * stride_);
    losses_ = reserve(dtype_size(kLogitsType) * tokens_);
  }

  KernelPhases make() {
    pack_w();
    for (int64_t first = 0; first < tokens_; first += chunk_) this->chunk(first);
    if (wants(0))
      run("sum", [&] { return loss_head_sum_kernel(row_types(), tokens_); },
          {losses_, operand(scale), result(0)});
    return std::move(phases_);
  }

 private:
  /// Operands, as the op orders them.
  enum Operand { x, w, targets, scale };

  void check_types() const {
    for (const Operand operand : {x, w, targets, scale})
      if (operand_types_[operand].dtype != (operand == targets ? DType::i32 : kLogitsType))
        user_error("loss head", "an operand is {}, but the compiled loss takes {}. Convert it.",
                   to_string(operand_types_[operand]), dtype_name(kLogitsType));
  }
  LossHeadTypes row_types() const {
    return {.logits = kLogitsType,
            .losses = kLogitsType,
            .scale = operand_types_[scale].dtype,
            .targets = operand_types_[targets].dtype};
  }
  int64_t bytes(Operand operand, int64_t elements) const {
    return dtype_size(operand_types_[operand].dtype) * elements;
  }

  bool wants(int result) const { return op_.results[result] >= 0; }
  bool gradient() const { return wants(1) || wants(2); }
  int64_t chunk_rows(int64_t first) const { return std::min(chunk_, tokens_ - first); }

  // --- buffers ---

  RunBuffer operand(int i, int64_t offset = 0, int64_t bytes = 0) const {
    return {op_.operands[i], false, offset, bytes};
  }
  RunBuffer result(int i, int64_t offset = 0, int64_t bytes = 0) const {
    return {op_.results[i], true, offset, bytes};
  }
  RunBuffer reserve(int64_t bytes) {
    const RunBuffer place = {op_.workspace, false, phases_.workspace_bytes, bytes};
    phases_.workspace_bytes += round_up(bytes, WEIR_BUFFER_ALIGNMENT);
    return place;
  }

  // --- the products ---

  static void set_types(MatmulSpec& spec, DType a, DType b, DType c) {
    spec.a.dtype = a, spec.b.dtype = b, spec.c.dtype = c;
  }
  MatmulSpec logits(int64_t rows) const {
    MatmulSpec spec;
    spec.m = rows, spec.n = vocabulary_, spec.k = width_;
    set_types(spec, operand_types_[x].dtype, operand_types_[w].dtype, kLogitsType);
    spec.a.row_stride = spec.b.row_stride = width_;
    spec.b.transposed = true;
    spec.c.row_stride = stride_;
    return spec;
  }
  MatmulSpec dx(int64_t rows) const {
    MatmulSpec spec;
    spec.m = rows, spec.n = width_, spec.k = vocabulary_;
    set_types(spec, kLogitsType, operand_types_[w].dtype, result_types_[1]);
    spec.a.row_stride = stride_;
    spec.b.row_stride = spec.c.row_stride = width_;
    return spec;
  }
  MatmulSpec dw(int64_t rows, bool is_first) const {
    MatmulSpec spec;
    spec.m = vocabulary_, spec.n = width_, spec.k = rows;
    set_types(spec, kLogitsType, operand_types_[x].dtype, result_types_[2]);
    spec.a.row_stride = stride_;
    spec.a.transposed = true;
    spec.b.row_stride = spec.c.row_stride = width_;
    spec.accumulate = is_first ? Accumulate::none : Accumulate::in_place;
    return spec;
  }
  /// Of a full chunk, for all chunks, since they share what is packed.
  MatmulTiles tiles(const MatmulSpec& spec) {
    phases_.products.push_back(spec);
    return tuned_.find(target_, spec).value_or(default_tiles(target_, spec));
  }
  MatmulPlan logits_plan(int64_t rows) const {
    return plan_matmul(target_, logits(rows), logits_tiles_);
  }
  MatmulPlan dx_plan(int64_t rows) const { return plan_matmul(target_, dx(rows), dx_tiles_); }
  MatmulPlan dw_plan(int64_t rows, bool is_first) const {
    return plan_matmul(target_, dw(rows, is_first), dw_tiles_);
  }

  // --- steps ---

  /// Appends a call of the function `name`, which is made when it is new.
  void run(const std::string& name, const std::function<KernelCode()>& make,
           const std::vector<RunBuffer>& places) {
    const auto [entry, is_new] = codes_.emplace(name, static_cast<int>(phases_.codes.size()));
    if (is_new) phases_.codes.push_back(make());
    phases_.runs.push_back({entry->second, places});
  }

  std::string key(const std::string& name, const MatmulPlan& plan) const {
    const MatmulSpec& spec = plan.spec;
    return fmt::format("loss head {} of {} x {} x {} by {}, {} x {} to {}, tiles {}", name, tokens_,
                       vocabulary_, width_, chunk_, dtype_name(spec.a.dtype),
                       dtype_name(spec.b.dtype), dtype_name(spec.c.dtype), print(plan.tiles));
  }
  void multiply(const std::string& name, const MatmulPlan& plan,
                const std::vector<RunBuffer>& places) {
    const auto make = [&] {
      return KernelCode{
          .tiles = plan.grid,
          .scratch_bytes = plan.scratch_bytes,
          .key = key(name, plan),
          .emit = [plan](Emitter& e, const std::string& symbol) { emit_matmul(e, symbol, plan); }};
    };
    run(name, make, places);
  }
  void pack(const std::string& name, const MatmulPlan& plan, RunBuffer from, RunBuffer to) {
    const auto make = [&] {
      return KernelCode{.tiles = plan.pack_grid,
                        .scratch_bytes = 0,
                        .key = key(name, plan),
                        .emit = [plan](Emitter& e, const std::string& symbol) {
                          emit_matmul_pack(e, symbol, plan);
                        }};
    };
    run(name, make, {from, written(to)});
  }

  /// A w small enough is packed once for all chunks.
  void pack_w() {
    const auto packed = [&](const std::string& name, const MatmulPlan& plan) {
      if (plan.pack_grid == 0) return operand(w);
      const RunBuffer place = reserve(plan.packed_bytes);
      pack(name, plan, operand(w), place);
      return place;
    };
    w_of_logits_ = packed("pack w for logits", logits_plan(chunk_rows(0)));
    if (wants(1)) w_of_dx_ = packed("pack w for dx", dx_plan(chunk_rows(0)));
    if (wants(2)) packed_x_ = reserve(bytes(x, round_up(width_, target_.lanes()) * chunk_rows(0)));
  }

  void chunk(int64_t first) {
    const int64_t rows = chunk_rows(first);
    const auto name = [&](const char* what) { return fmt::format("{} {}", what, rows); };
    RunBuffer x_rows = operand(x, bytes(x, first * width_), bytes(x, rows * width_));
    RunBuffer losses = written(losses_);
    losses.offset += dtype_size(kLogitsType) * first;
    losses.bytes = dtype_size(kLogitsType) * rows;
    multiply(name("logits"), logits_plan(rows), {x_rows, w_of_logits_, written(logits_)});
    run(name("rows"),
        [&] {
          return loss_head_rows_kernel({row_types(), rows, vocabulary_, stride_, gradient(), cap_});
        },
        {written(logits_), operand(targets, bytes(targets, first)), operand(scale), losses});
    if (wants(1)) {
      const int64_t row_bytes = dtype_size(result_types_[1]) * width_;
      multiply(name("dx"), dx_plan(rows),
               {logits_, w_of_dx_, result(1, row_bytes * first, row_bytes * rows)});
    }
    if (!wants(2)) return;
    const MatmulPlan plan = dw_plan(rows, first == 0);
    if (plan.pack_grid > 0) {
      pack(name("pack x"), plan, x_rows, packed_x_);
      x_rows = packed_x_;
    }
    multiply(name(first == 0 ? "first dw" : "dw"), plan, {logits_, x_rows, result(2)});
  }

  const Target target_;
  const TileTable& tuned_;
  SingleOpRegion op_;
  std::vector<Type> operand_types_;
  std::vector<DType> result_types_;
  double cap_ = 0;  ///< of the logits
  int64_t tokens_ = 0, width_ = 0, vocabulary_ = 0, chunk_ = 0, stride_ = 0;
  MatmulTiles logits_tiles_, dx_tiles_, dw_tiles_;
  KernelPhases phases_;
  std::map<std::string, int> codes_;
  RunBuffer logits_, losses_, w_of_logits_, w_of_dx_, packed_x_;
};

}  // namespace

int64_t loss_head_chunk(int64_t vocabulary, int64_t logits_bytes) {
  const auto holding = [&](int64_t bytes) { return bytes / dtype_size(kLogitsType) / vocabulary; };
  const int64_t rows =
      std::max(holding(int64_t{16} << 20), std::min<int64_t>(1024, holding(logits_bytes)));
  return std::max<int64_t>(16, rows / 16 * 16);
}

KernelPhases make_loss_head_kernel(const GraphPtr& region, const Target& target, int64_t chunk,
                                   const TileTable& tuned, int64_t logits_bytes) {
  WEIR_CHECK(chunk >= 0 && chunk % 16 == 0, "a chunk of {} tokens", chunk);
  return LossHead(region, target, chunk, tuned, logits_bytes).make();
}

}  // namespace weir
