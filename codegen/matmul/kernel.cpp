#include "codegen/matmul/kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "codegen/llvm/elementwise.h"
#include "codegen/loop/nest.h"
#include "codegen/matmul/matmul.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

struct Epilogue {
  GraphPtr region;
  int32_t product;                 ///< the matmul node
  Shape shape;                     ///< of the product
  std::array<int64_t, 2> batch;    ///< as the kernel counts them
  int64_t rows;                    ///< of one matrix of the batch, as the kernel counts them
  std::map<int32_t, int> buffers;  ///< position in the kernel's frame of each region input
  std::vector<int> outputs;        ///< the same for the region's outputs
};

// Evaluates the epilogue for a run of neighbouring elements of C and stores the outputs.
class EpilogueEmitter {
 public:
  EpilogueEmitter(Emitter& e, const KernelFrame& frame, const Epilogue& epilogue,
                  const MatrixSite& site)
      : e_(e), frame_(frame), epilogue_(epilogue), site_(site) {
    Emitted* matrix = e.add(e.mul(site.batch_outer, epilogue.batch[1]), site.batch_inner);
    row_ = e.add(e.mul(matrix, epilogue.rows), site.row);
  }

  void run(Emitted* product) {
    const Graph& region = *epilogue_.region;
    values_[epilogue_.product] = product;
    for (size_t i = 0; i < region.outputs().size(); ++i) {
      Value value = region.outputs()[i].value;
      Emitted* position = e_.add(e_.mul(row_, epilogue_.shape.back()), site_.column);
      e_.store(storage_of(region.type(value).dtype), evaluate(value.node),
               frame_.buffers[epilogue_.outputs[i]], position, site_.mask);
    }
  }

 private:
  Emitted* evaluate(int32_t id) {
    if (auto found = values_.find(id); found != values_.end()) return found->second;
    const Node& node = epilogue_.region->node(id);
    DType dtype = node.types[0].dtype;
    Emitted* result = nullptr;
    if (node.op == Op::input) {
      result = load(id);
    } else if (node.op == Op::constant) {
      result = emit_constant(e_, dtype, node.attrs.get_float("value"), site_.lanes);
    } else if (node.op == Op::iota) {
      result = iota(node);
    } else {
      WEIR_CHECK(info(node.op).op_class == OpClass::Elementwise, "{} in an epilogue",
                 op_name(node.op));
      std::vector<Emitted*> operands;
      for (Value input : node.inputs) operands.push_back(evaluate(input.node));
      result = emit_elementwise(e_, node.op, dtype,
                                epilogue_.region->type(node.inputs.back()).dtype, operands);
    }
    return values_[id] = result;
  }

  // The index along axis `axis` of C (not the last) of the current row.
  Emitted* axis_index(size_t axis) {
    int64_t below = 1;
    for (size_t i = axis + 1; i + 1 < epilogue_.shape.size(); ++i) below *= epilogue_.shape[i];
    Emitted* index = e_.div(row_, below);
    return axis == 0 ? index : e_.rem(index, epilogue_.shape[axis]);
  }

  Emitted* load(int32_t id) {
    const Type& type = epilogue_.region->node(id).types[0];
    Emitted* base = frame_.buffers[epilogue_.buffers.at(id)];
    Storage storage = storage_of(type.dtype);
    const Shape &c = epilogue_.shape, &s = type.shape;
    bool by_column = !s.empty() && s.back() == c.back() && c.back() != 1;
    Emitted* position = e_.index(0);
    if (s == c) {
      position = e_.mul(row_, c.back());
    } else {
      int64_t stride = 1;
      for (size_t i = 0; i < s.size(); ++i) {
        size_t axis = s.size() - 1 - i, c_axis = c.size() - 1 - i;
        if (i > 0 && s[axis] != 1) position = e_.add(position, e_.mul(axis_index(c_axis), stride));
        stride *= s[axis];
      }
    }
    Emitted* loaded =
        by_column ? e_.load(storage, base, e_.add(position, site_.column), site_.lanes, site_.mask)
                  : e_.load_broadcast(storage, base, position, site_.lanes);
    return emit_loaded(e_, type.dtype, loaded);
  }

  Emitted* iota(const Node& node) {
    const Shape& s = node.types[0].shape;
    size_t axis = static_cast<size_t>(node.attrs.get_int("axis"));
    size_t c_axis = epilogue_.shape.size() - s.size() + axis;
    Emitted* index = nullptr;
    if (s[axis] == 1) {
      index = e_.i32(0, site_.lanes);
    } else if (c_axis + 1 == epilogue_.shape.size()) {
      Emitted* first = e_.ir().CreateTrunc(site_.column, e_.i32_type());
      index = e_.ir().CreateAdd(e_.broadcast(first, site_.lanes), e_.iota(site_.lanes));
    } else {
      index = e_.broadcast(e_.ir().CreateTrunc(axis_index(c_axis), e_.i32_type()), site_.lanes);
    }
    return node.types[0].dtype == DType::f32 ? e_.to_f32(index) : index;
  }

  Emitter& e_;
  const KernelFrame& frame_;
  const Epilogue& epilogue_;
  const MatrixSite& site_;
  Emitted* row_;
  std::map<int32_t, Emitted*> values_;
};

struct ProductShape {
  MatmulSpec spec;
  std::array<int64_t, 2> batch;
  int64_t rows;
};

ProductShape product_shape(const Graph& region, const Node& node) {
  const Shape &a = region.type(node.inputs[0]).shape, &b = region.type(node.inputs[1]).shape;
  bool transpose_a = node.attrs.get_bool("transpose_a");
  bool transpose_b = node.attrs.get_bool("transpose_b");
  int64_t m = a[a.size() - (transpose_a ? 1 : 2)], k = a[a.size() - (transpose_a ? 2 : 1)];
  int64_t n = b[b.size() - (transpose_b ? 2 : 1)];
  int64_t matrices = element_count({a.begin(), a.end() - 2});
  ProductShape shape;
  shape.spec.a = {a.back(), {0, m * k}, transpose_a};
  shape.spec.b = {b.back(), {0, b.size() > 2 ? k * n : 0}, transpose_b};
  // One matrix b for all: the batch is just more rows.
  if (b.size() == 2 && !transpose_a) {
    m *= matrices;
    matrices = 1;
  }
  shape.spec.m = m;
  shape.spec.n = n;
  shape.spec.k = k;
  shape.spec.batch = {1, matrices};
  shape.spec.c = {n, {0, m * n}, false};
  shape.batch = shape.spec.batch;
  shape.rows = m;
  return shape;
}

class MatmulKernel {
 public:
  MatmulKernel(GraphPtr region, const Target& target, const std::vector<InPlace>& in_place,
               const TileTable& tuned)
      : region_(std::move(region)), target_(target), in_place_(in_place), tuned_(tuned) {}

  KernelPhases make() {
    find_product();
    const Node& node = region_->node(product_);
    ProductShape shape = product_shape(*region_, node);
    bool plain = region_->outputs().size() == 1 && region_->outputs()[0].value.node == product_;
    int inputs = static_cast<int>(region_->inputs().size());
    int outputs = static_cast<int>(region_->outputs().size());
    int accumulator = node.inputs.size() == 3 ? buffer_of(node.inputs[2].node) : -1;
    bool in_place = plain && accumulator >= 0 && shares(accumulator, 0);
    if (accumulator >= 0)
      shape.spec.accumulate = in_place ? Accumulate::in_place : Accumulate::operand;
    MatmulPlan plan = plan_matmul(target_, shape.spec, tuned_.find(target_, shape.spec));

    // The kernel's own buffers, then every buffer of the node once more for the epilogue.
    std::vector<int> order = {
        buffer_of(node.inputs[0].node),
        plan.pack_grid > 0 ? inputs + outputs : buffer_of(node.inputs[1].node), inputs};
    if (shape.spec.accumulate == Accumulate::operand) order.push_back(accumulator);
    MatmulHooks hooks;
    if (!plain) {
      auto epilogue = std::make_shared<Epilogue>(
          Epilogue{region_, product_, node.types[0].shape, shape.batch, shape.rows, {}, {}});
      add_epilogue(*epilogue, order, hooks);
      hooks.store_in_loop = is_long(*region_);
      hooks.store_c = [epilogue](Emitter& e, const KernelFrame& frame, const MatrixSite& site,
                                 Emitted* value) {
        EpilogueEmitter(e, frame, *epilogue, site).run(value);
      };
    }
    return phases(plan, hooks, order);
  }

 private:
  // Whether an epilogue is too long to be written out for each vector of a register block.
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
    for (Value input : region_->node(product_).inputs)
      if (region_->type(input).dtype != DType::f32)
        user_error("matmul", "an operand is {}, but compiled products take f32. Convert it.",
                   to_string(region_->type(input)));
  }
  int buffer_of(int32_t node) const {
    const auto& inputs = region_->inputs();
    auto found = std::find(inputs.begin(), inputs.end(), node);
    WEIR_CHECK(found != inputs.end(), "operand {} of a product is computed inside its kernel",
               node);
    return static_cast<int>(found - inputs.begin());
  }
  bool shares(int input, int output) const {
    return std::find(in_place_.begin(), in_place_.end(), InPlace{input, output}) != in_place_.end();
  }

  static bool lies_as_c(const Type& type, const Epilogue& epilogue) {
    return type.shape == epilogue.shape && storage_of(type.dtype) == Storage::f32;
  }

  // Appends the buffers that the epilogue loads and stores to `order`, in a frame of their own.
  void add_epilogue(Epilogue& epilogue, std::vector<int>& order, MatmulHooks& hooks) const {
    int inputs = static_cast<int>(region_->inputs().size());
    std::vector<bool> loaded(region_->nodes().size());
    for (int32_t id = 0; id < region_->size(); ++id)
      if (id != product_)
        for (Value input : region_->node(id).inputs) loaded[input.node] = true;
    for (int i = 0; i < inputs; ++i) {
      int32_t id = region_->inputs()[i];
      if (!loaded[id]) continue;
      epilogue.buffers[id] = static_cast<int>(order.size());
      if (lies_as_c(region_->node(id).types[0], epilogue))
        hooks.beside_c.push_back(static_cast<int>(order.size()));
      hooks.extra_buffers.push_back({.written = false, .shares = true});
      order.push_back(i);
    }
    for (size_t o = 0; o < region_->outputs().size(); ++o) {
      const int position = static_cast<int>(order.size());
      epilogue.outputs.push_back(position);
      if (lies_as_c(region_->type(region_->outputs()[o].value), epilogue)) {
        hooks.beside_c.push_back(position);
        const auto is_here = [o](const InPlace& pair) {
          return pair.output == static_cast<int>(o);
        };
        if (!hooks.parking && std::ranges::none_of(in_place_, is_here)) hooks.parking = position;
      }
      hooks.extra_buffers.push_back({.written = true, .shares = true});
      order.push_back(inputs + static_cast<int>(o));
    }
  }

  KernelPhases phases(const MatmulPlan& plan, const MatmulHooks& hooks,
                      const std::vector<int>& order) const {
    std::string key =
        fmt::format("matmul {} {} {} {}", in_place_.size(), hooks.parking.value_or(-1),
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
        {plan.grid, plan.scratch_bytes, key, [plan, hooks](Emitter& e, const std::string& symbol) {
           emit_matmul(e, symbol, plan, hooks);
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
