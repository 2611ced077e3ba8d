#include "codegen/loop/kernel.h"

#include <algorithm>
#include <memory>
#include <variant>

#include "codegen/loop/columns.h"
#include "ir/print.h"
#include "support/error.h"

namespace weir {
namespace {

using LoopNest = std::variant<RowNest, ColumnNest>;

const LoopTerms& terms_of(const LoopNest& nest) {
  return std::visit([](const auto& any) -> const LoopTerms& { return any.terms; }, nest);
}
int64_t tiles_of(const LoopNest& nest) {
  return std::visit([](const auto& any) { return any.tiles(); }, nest);
}

/// One nest for every shape among the outputs, in order of first appearance.
std::vector<LoopNest> plan_by_shape(const Graph& region, const Target& target) {
  std::vector<std::pair<Shape, std::vector<int>>> shapes;
  for (size_t i = 0; i < region.outputs().size(); ++i) {
    const Shape& shape = region.type(region.outputs()[i].value).shape;
    auto found = std::find_if(shapes.begin(), shapes.end(),
                              [&](const auto& entry) { return entry.first == shape; });
    if (found == shapes.end()) found = shapes.insert(shapes.end(), {shape, {}});
    found->second.push_back(static_cast<int>(i));
  }
  std::vector<LoopNest> nests;
  for (const auto& [shape, outputs] : shapes)
    nests.push_back(plan_elementwise(region, outputs, target));
  return nests;
}

bool has_reductions(const Graph& region) {
  return std::any_of(region.nodes().begin(), region.nodes().end(), [&](const Node& node) {
    return info(node.op).op_class == OpClass::Reduction &&
           region.type(node.inputs[0]).elements() != element_count(node.types[0].shape);
  });
}

std::vector<LoopNest> plan(const Graph& region, Schedule schedule, const Target& target) {
  WEIR_CHECK(anchors_of(schedule).empty(), "schedule {} is none of loops", schedule_name(schedule));
  // Reductions over axes of extent 1 change nothing; a region of no others is elementwise.
  if (!has_reductions(region)) return plan_by_shape(region, target);
  if (schedule == Schedule::row) return {plan_row(region, target)};
  WEIR_CHECK(schedule == Schedule::column, "a reduction in schedule {}", schedule_name(schedule));
  return {plan_column(region, target)};
}

struct Plan {
  GraphPtr region;
  std::vector<LoopNest> nests;
  std::vector<InPlace> in_place;
};

void emit(Emitter& e, const std::string& symbol, const Plan& plan) {
  const size_t inputs = plan.region->inputs().size(), outputs = plan.region->outputs().size();
  std::vector<BufferUse> uses(inputs + outputs);
  for (size_t i = 0; i < outputs; ++i) uses[inputs + i].written = true;
  for (const InPlace& pair : plan.in_place) {
    uses[pair.input].may_alias = true;
    uses[inputs + pair.output].may_alias = true;
  }
  KernelFrame frame = e.begin_kernel(symbol, uses);
  LoopBuffers buffers;
  buffers.inputs.assign(frame.buffers.begin(), frame.buffers.begin() + inputs);
  buffers.outputs.assign(frame.buffers.begin() + inputs, frame.buffers.end());
  buffers.scratch = frame.scratch;
  int64_t base = 0;
  for (const LoopNest& nest : plan.nests) {
    llvm::Value* first = frame.first_tile;
    llvm::Value* last = frame.last_tile;
    const int64_t tiles = tiles_of(nest);
    if (plan.nests.size() > 1) {  // this nest's part of the grid
      first = e.ir().CreateBinaryIntrinsic(llvm::Intrinsic::smax, e.sub(first, e.index(base)),
                                           e.index(0));
      last = e.min_index(e.sub(last, e.index(base)), e.index(tiles));
    }
    base += tiles;
    if (const auto* rows = std::get_if<RowNest>(&nest))
      emit_rows(e, *rows, buffers, first, last);
    else
      emit_columns(e, std::get<ColumnNest>(nest), buffers, first, last);
  }
  e.end_kernel();
}

bool can_overwrite(const Graph& region, const std::vector<LoopNest>& nests, InPlace pair) {
  const Value input{region.inputs()[pair.input], 0};
  if (region.type(input) != region.type(region.outputs()[pair.output].value)) return false;
  for (const LoopNest& nest : nests) {
    const LoopTerms& terms = terms_of(nest);
    auto store = std::find_if(terms.stores.begin(), terms.stores.end(),
                              [&](const LoopStore& s) { return s.output == pair.output; });
    for (const Term& term : terms.terms) {
      if (term.kind != TermKind::load || term.buffer != pair.input) continue;
      if (store == terms.stores.end() || term.offset != 0 || term.strides != store->strides)
        return false;
    }
  }
  return true;
}

}  // namespace

KernelCode make_loop_kernel(const GraphPtr& region, Schedule schedule, const Target& target,
                            const std::vector<InPlace>& in_place) {
  auto made = std::make_shared<Plan>();
  made->region = region;
  made->nests = plan(*region, schedule, target);
  made->in_place = in_place;
  KernelCode code;
  code.key = fmt::format("{}\n{}", schedule_name(schedule), structural_key(*region));
  for (const InPlace& pair : in_place) {
    WEIR_CHECK(can_overwrite(*region, made->nests, pair),
               "output {} cannot overwrite input {} in\n{}", pair.output, pair.input,
               print_graph(*region));
    code.key += fmt::format("\nin place {} {}", pair.input, pair.output);
  }
  for (const LoopNest& nest : made->nests) {
    code.tiles += tiles_of(nest);
    if (const auto* rows = std::get_if<RowNest>(&nest))
      code.scratch_bytes = std::max(code.scratch_bytes, rows->scratch_bytes());
  }
  code.key += fmt::format("\ntiles {}", code.tiles);  // the target's cores decide, too
  code.emit = [made](Emitter& e, const std::string& symbol) { emit(e, symbol, *made); };
  return code;
}

}  // namespace weir
