#include "codegen/matmul/kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "codegen/loop/nest.h"
#include "codegen/matmul/matmul.h"
#include "codegen/matmul/region_epilogue.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

// Four bytes as one element: steps of k have to lie side by side in both operands.
MatmulSpec of_bytes(MatmulSpec spec) {
  constexpr int64_t together = 4;
  if (spec.a.transposed || !spec.b.transposed || spec.k % together != 0)
    user_error(
        "matmul",
        "a product of bytes over k = {} with lhs{} and rhs{} is asked for, but compiled ones "
        "need a multiple of {}, an lhs that is not transposed and an rhs that is. Pad with "
        "zeros, or transpose.",
        spec.k, spec.a.transposed ? " transposed" : "", spec.b.transposed ? " transposed" : "",
        together);
  spec.k /= together;
  for (MatmulOperand* operand : {&spec.a, &spec.b}) {
    operand->row_stride /= together;
    operand->batch_stride /= together;
    operand->dtype = DType::i32;
  }
  return spec;
}

MatmulSpec spec_of(const Graph& region, const Node& node) {
  const Shape &a = region.type(node.inputs[0]).shape, &b = region.type(node.inputs[1]).shape;
  bool transpose_a = node.attrs.get_bool("transpose_a");
  bool transpose_b = node.attrs.get_bool("transpose_b");
  int64_t m = a[a.size() - (transpose_a ? 1 : 2)], k = a[a.size() - (transpose_a ? 2 : 1)];
  int64_t n = b[b.size() - (transpose_b ? 2 : 1)];
  int64_t matrices = element_count({a.begin(), a.end() - 2});
  MatmulSpec spec;
  const auto dtype = [&](Value value) { return region.type(value).dtype; };
  spec.a = {a.back(), m * k, transpose_a, dtype(node.inputs[0])};
  spec.b = {b.back(), b.size() > 2 ? k * n : 0, transpose_b, dtype(node.inputs[1])};
  // One matrix b for all: the batch is just more rows.
  if (b.size() == 2 && !transpose_a) {
    m *= matrices;
    matrices = 1;
  }
  spec.m = m;
  spec.n = n;
  spec.k = k;
  spec.batch = matrices;
  spec.c = {n, m * n, false, node.types[0].dtype};
  return spec.a.dtype == DType::u8 ? of_bytes(spec) : spec;
}

class MatmulKernel {
 public:
  MatmulKernel(GraphPtr region, const Target& target, const std::vector<InPlace>& in_place,
               const TileTable& tuned)
      : region_(std::move(region)), target_(target), in_place_(in_place), tuned_(tuned) {}

  KernelPhases make() {
    find_product();
    const Node& node = region_->node(product_);
    MatmulSpec spec = spec_of(*region_, node);
    bool plain = region_->outputs().size() == 1 && region_->outputs()[0].value.node == product_;
    int inputs = static_cast<int>(region_->inputs().size());
    int outputs = static_cast<int>(region_->outputs().size());
    int accumulator = node.inputs.size() == 3 ? buffer_of(node.inputs[2].node) : -1;
    bool in_place = plain && accumulator >= 0 && overwrites(accumulator, 0);
    if (accumulator >= 0) spec.accumulate = in_place ? Accumulate::in_place : Accumulate::operand;
    MatmulPlan plan = plan_matmul(target_, spec, tuned_.find(target_, spec));

    // The kernel's own buffers, then every buffer of the node once more for the epilogue.
    std::vector<int> order = {
        buffer_of(node.inputs[0].node),
        plan.pack_grid > 0 ? inputs + outputs : buffer_of(node.inputs[1].node), inputs};
    if (spec.accumulate == Accumulate::operand) order.push_back(accumulator);
    MatmulFusion fusion;
    if (!plain) {
      auto epilogue = std::make_shared<RegionEpilogue>(
          RegionEpilogue{region_, product_, node.types[0].shape, spec.m});
      add_epilogue(*epilogue, order, fusion);
      fusion.rolled_epilogue = is_long(*region_);
      fusion.store = [epilogue](Emitter& e, const KernelFrame& frame, const MatrixRun& run,
                                Emitted* value) {
        emit_region_epilogue(e, frame, *epilogue, run, value);
      };
    }
    return phases(plan, fusion, order);
  }

 private:
  // Whether an epilogue is too long to be unrolled over the vectors of a micro-tile.
  static bool is_long(const Graph& region) {
    constexpr int64_t few = 6;
    int64_t operations = 0;
    for (const Node& node : region.nodes()) operations += info(node.op).instructions;
    return operations > few;
  }
  void find_product() {
    for (int32_t id = 0; id < region_->size(); ++id)
      if (region_->node(id).op == Op::matmul) {
        WEIR_CHECK(product_ < 0, "two products in {}", print_graph(*region_));
        product_ = id;
      }
    WEIR_CHECK(product_ >= 0, "no product in {}", print_graph(*region_));
  }
  int buffer_of(int32_t node) const {
    const auto& inputs = region_->inputs();
    auto found = std::find(inputs.begin(), inputs.end(), node);
    WEIR_CHECK(found != inputs.end(), "operand {} of a product is computed inside its kernel",
               node);
    return static_cast<int>(found - inputs.begin());
  }
  bool overwrites(int input, int output) const {
    return std::find(in_place_.begin(), in_place_.end(), InPlace{input, output}) != in_place_.end();
  }

  // Whether values of a type lie in memory as C does.
  bool lies_as_c(const Type& type) const { return type == region_->node(product_).types[0]; }

  // Appends the buffers that the epilogue loads and stores to `order`, in a frame of their own.
  void add_epilogue(RegionEpilogue& epilogue, std::vector<int>& order, MatmulFusion& fusion) const {
    int inputs = static_cast<int>(region_->inputs().size());
    std::vector<bool> loaded(region_->nodes().size());
    for (int32_t id = 0; id < region_->size(); ++id)
      if (id != product_)
        for (Value input : region_->node(id).inputs) loaded[input.node] = true;
    for (int i = 0; i < inputs; ++i) {
      int32_t id = region_->inputs()[i];
      if (!loaded[id]) continue;
      epilogue.buffers[id] = static_cast<int>(order.size());
      if (lies_as_c(region_->node(id).types[0]))
        fusion.epilogue_operands.push_back(static_cast<int>(order.size()));
      fusion.buffers.push_back({.written = false, .may_alias = true});
      order.push_back(i);
    }
    for (size_t o = 0; o < region_->outputs().size(); ++o) {
      const int position = static_cast<int>(order.size());
      epilogue.outputs.push_back(position);
      if (lies_as_c(region_->type(region_->outputs()[o].value))) {
        fusion.epilogue_operands.push_back(position);
        const auto is_here = [o](const InPlace& pair) {
          return pair.output == static_cast<int>(o);
        };
        if (!fusion.spill_buffer && std::ranges::none_of(in_place_, is_here))
          fusion.spill_buffer = position;
      }
      fusion.buffers.push_back({.written = true, .may_alias = true});
      order.push_back(inputs + static_cast<int>(o));
    }
  }

  KernelPhases phases(const MatmulPlan& plan, const MatmulFusion& fusion,
                      const std::vector<int>& order) const {
    std::string key =
        fmt::format("matmul {} {} {} {}", in_place_.size(), fusion.spill_buffer.value_or(-1),
                    structural_key(*region_), print(plan.tiles));
    KernelPhases result;
    result.products = {plan.spec};
    result.workspace_bytes = plan.packed_bytes;
    if (plan.pack_grid > 0) {
      result.codes.push_back(
          {plan.pack_grid, 0, key + " pack",
           [plan](Emitter& e, const std::string& symbol) { emit_matmul_pack(e, symbol, plan); }});
      int packed = static_cast<int>(region_->inputs().size() + region_->outputs().size());
      result.runs.push_back(
          {0, {{buffer_of(region_->node(product_).inputs[1].node)}, {packed, /*written=*/true}}});
    }
    result.codes.push_back(
        {plan.grid, plan.scratch_bytes, key, [plan, fusion](Emitter& e, const std::string& symbol) {
           emit_matmul(e, symbol, plan, fusion);
         }});
    KernelRun product{static_cast<int>(result.codes.size()) - 1, {}};
    const int inputs = static_cast<int>(region_->inputs().size());
    const int workspace = inputs + static_cast<int>(region_->outputs().size());
    for (const int buffer : order)
      product.buffers.push_back({buffer, buffer >= inputs && buffer < workspace});
    result.runs.push_back(std::move(product));
    return result;
  }

  GraphPtr region_;
  const Target& target_;
  std::vector<InPlace> in_place_;
  const TileTable& tuned_;
  int32_t product_ = -1;
};

}  // namespace

KernelPhases make_matmul_kernel(const GraphPtr& region, const Target& target,
                                const std::vector<InPlace>& in_place, const TileTable& tuned) {
  return MatmulKernel(region, target, in_place, tuned).make();
}

}  // namespace weir
