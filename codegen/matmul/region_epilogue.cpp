#include "codegen/matmul/region_epilogue.h"

#include "codegen/llvm/elementwise.h"
#include "support/error.h"

namespace weir {
namespace {

using Emitted = llvm::Value;

class EpilogueEmitter {
 public:
  EpilogueEmitter(Emitter& e, const KernelFrame& frame, const RegionEpilogue& epilogue,
                  const MatrixRun& run)
      : e_(e), frame_(frame), epilogue_(epilogue), run_(run) {
    row_ = e.add(e.mul(run.batch, epilogue.rows), run.row);
  }

  void emit(Emitted* product) {
    const Graph& region = *epilogue_.region;
    const DType product_type = region.node(epilogue_.product).types[0].dtype;
    values_[epilogue_.product] = e_.through(storage_of(product_type), product);
    for (size_t i = 0; i < region.outputs().size(); ++i) {
      Value value = region.outputs()[i].value;
      Emitted* position = e_.add(e_.mul(row_, epilogue_.shape.back()), run_.column);
      e_.store(storage_of(region.type(value).dtype), evaluate(value.node),
               frame_.buffers[epilogue_.outputs[i]], position, run_.mask);
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
      result = emit_constant(e_, dtype, node.attrs.get_float("value"), run_.lanes);
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
        by_column ? e_.load(storage, base, e_.add(position, run_.column), run_.lanes, run_.mask)
                  : e_.load_broadcast(storage, base, position, run_.lanes);
    return emit_loaded(e_, type.dtype, loaded);
  }

  Emitted* iota(const Node& node) {
    const Shape& s = node.types[0].shape;
    size_t axis = static_cast<size_t>(node.attrs.get_int("axis"));
    size_t c_axis = epilogue_.shape.size() - s.size() + axis;
    Emitted* index = nullptr;
    if (s[axis] == 1) {
      index = e_.i32(0, run_.lanes);
    } else if (c_axis + 1 == epilogue_.shape.size()) {
      Emitted* first = e_.ir().CreateTrunc(run_.column, e_.i32_type());
      index = e_.ir().CreateAdd(e_.broadcast(first, run_.lanes), e_.iota(run_.lanes));
    } else {
      index = e_.broadcast(e_.ir().CreateTrunc(axis_index(c_axis), e_.i32_type()), run_.lanes);
    }
    return node.types[0].dtype == DType::f32 ? e_.to_f32(index) : index;
  }

  Emitter& e_;
  const KernelFrame& frame_;
  const RegionEpilogue& epilogue_;
  const MatrixRun& run_;
  Emitted* row_;
  std::map<int32_t, Emitted*> values_;
};

}  // namespace

void emit_region_epilogue(Emitter& e, const KernelFrame& frame, const RegionEpilogue& epilogue,
                          const MatrixRun& run, Emitted* product) {
  EpilogueEmitter(e, frame, epilogue, run).emit(product);
}

}  // namespace weir
