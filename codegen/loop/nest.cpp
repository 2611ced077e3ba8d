#include "codegen/loop/nest.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <set>

#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

constexpr int64_t kMinTileElements = 2048, kMaxTileElements = 32768, kWantedTiles = 64;
constexpr int64_t kMinPanel = 4;
constexpr int64_t kBlockColumns = 16;  // square blocks a tile
constexpr int kMaxBlockCost = 24;      // a block repeats the code for each of its rows
constexpr int kKeepCost = 6;           // dearer than this is kept rather than computed again

/// Whether the value at an axis depends on more than addresses, so that it keeps a loop of its own.
std::set<int> pinned_axes(const LoopTerms& terms) {
  std::set<int> pinned;
  for (const Term& term : terms.terms) {
    if (term.kind == TermKind::iota) pinned.insert(term.index.axis);
    for (const auto& conditions : term.where)
      for (const Interval& interval : conditions) pinned.insert(interval.axis);
  }
  return pinned;
}

std::vector<const std::vector<int64_t>*> all_strides(const LoopTerms& terms) {
  std::vector<const std::vector<int64_t>*> result;
  for (const Term& term : terms.terms)
    if (term.kind == TermKind::load) result.push_back(&term.strides);
  for (const LoopStore& store : terms.stores) result.push_back(&store.strides);
  return result;
}

/// Joins neighbours among `axes` that every access walks as one axis.
std::vector<LoopGroup> group_axes(const LoopTerms& terms, const std::vector<int>& axes) {
  const std::set<int> pinned = pinned_axes(terms);
  const auto strides = all_strides(terms);
  std::vector<LoopGroup> groups;
  for (int axis : axes) {
    const int64_t extent = terms.extents[axis];
    if (extent == 1) continue;
    bool join = !groups.empty() && !pinned.count(axis) && !pinned.count(groups.back().axis);
    for (const auto* stride : strides)
      join = join && (*stride)[groups.back().axis] == (*stride)[axis] * extent;
    if (join)
      groups.back() = {axis, groups.back().extent * extent};
    else
      groups.push_back({axis, extent});
  }
  return groups;
}

int64_t product(const std::vector<LoopGroup>& groups) {
  return std::accumulate(groups.begin(), groups.end(), int64_t{1},
                         [](int64_t n, const LoopGroup& group) { return n * group.extent; });
}

/// Largest cost of an output, or of a reduction's operand: how much work one vector is.
int total_cost(const LoopTerms& terms) {
  int cost = 0;
  for (const LoopStore& store : terms.stores) cost += terms.terms[store.term].cost;
  return cost;
}

int unroll_for(int cost) { return cost <= 12 ? 4 : cost <= 40 ? 2 : 1; }

/// A load that jumps along the vector axis but is contiguous along an outer one: that outer group
/// becomes the innermost and is walked in square blocks.
bool block_transposes(RowNest& nest) {
  if (nest.extent < nest.width || nest.width == 1 || total_cost(nest.terms) > kMaxBlockCost)
    return false;
  for (const Term& term : nest.terms.terms) {
    if (term.kind != TermKind::load || term.strides[nest.vector_axis] <= 1) continue;
    for (size_t g = 0; g < nest.outer.size(); ++g) {
      LoopGroup group = nest.outer[g];
      if (term.strides[group.axis] != 1 || group.extent < nest.width) continue;
      nest.blocked_axis = group.axis;
      nest.blocked_extent = group.extent;
      group.extent = ceil_div(group.extent, nest.width);
      nest.outer.erase(nest.outer.begin() + static_cast<int64_t>(g));
      nest.outer.push_back(group);
      nest.rows = product(nest.outer);
      return true;
    }
  }
  return false;
}

void choose_tiles(RowNest& nest) {
  const int64_t step = static_cast<int64_t>(nest.width) * nest.unroll;
  const int64_t wanted = std::clamp(ceil_div(nest.rows * nest.extent, kWantedTiles),
                                    kMinTileElements, kMaxTileElements);
  nest.tile_columns = nest.extent;
  if (nest.phases.empty() && nest.extent >= 2 * wanted)
    nest.tile_columns = ceil_div(wanted, step) * step;
  nest.tile_rows = std::clamp(wanted / nest.tile_columns, int64_t{1}, nest.rows);
}

/// The reductions by level and extent; levels ascend.
std::vector<Phase> make_phases(const LoopTerms& terms) {
  std::vector<Phase> phases;
  for (size_t id = 0; id < terms.terms.size(); ++id) {
    const Term& term = terms.terms[id];
    if (term.kind != TermKind::reduce) continue;
    WEIR_CHECK(term.lanes > 0 && std::has_single_bit(static_cast<uint64_t>(term.lanes)),
               "a row reduction of {} lanes; its type needs a power of two", term.lanes);
    const int level = term.level - 1;
    auto found = std::find_if(phases.begin(), phases.end(), [&](const Phase& phase) {
      return phase.level == level && phase.extent == term.extent;
    });
    if (found == phases.end()) found = phases.insert(phases.end(), {level, term.extent, {}});
    found->reductions.push_back(static_cast<int>(id));
  }
  std::stable_sort(phases.begin(), phases.end(),
                   [](const Phase& a, const Phase& b) { return a.level < b.level; });
  return phases;
}

/// Marks as kept what a later pass would otherwise compute again at some cost. A value below a
/// choice is computed for part of the row only, so it is never kept itself.
class Keeper {
 public:
  explicit Keeper(RowNest& nest) : nest_(nest) {}
  void pass(int pass, int64_t extent, const std::vector<int>& roots) {
    now_.clear();
    extent_ = extent;
    for (int root : roots) visit(root);
    for (int id : now_) before_.try_emplace(id, KeptRow{0, pass, extent});
  }

 private:
  void visit(int id) {
    const Term& term = nest_.terms.terms[id];
    if (!nest_.terms.depends(id, nest_.vector_axis)) return;
    auto known = nest_.kept.find(id);
    if (known != nest_.kept.end() && known->second.extent == extent_) return;
    if (!now_.insert(id).second) return;
    auto found = before_.find(id);
    if (found != before_.end() && found->second.extent == extent_ && term.cost > kKeepCost &&
        term.dtype != DType::boolean) {
      KeptRow row = found->second;
      row.slot = static_cast<int>(nest_.kept.size());
      nest_.kept.emplace(id, row);
      return;
    }
    if (term.kind == TermKind::choose) return;
    for (int operand : term.operands) visit(operand);
  }

  RowNest& nest_;
  int64_t extent_ = 0;
  std::set<int> now_;
  std::map<int, KeptRow> before_;  // where each term was computed first
};

void keep_values(RowNest& nest) {
  Keeper keeper(nest);
  for (size_t i = 0; i < nest.phases.size(); ++i) {
    std::vector<int> roots;
    for (int reduction : nest.phases[i].reductions)
      roots.push_back(nest.terms.terms[reduction].operands[0]);
    keeper.pass(static_cast<int>(i), nest.phases[i].extent, roots);
  }
  std::vector<int> roots;
  for (const LoopStore& store : nest.terms.stores) roots.push_back(store.term);
  keeper.pass(static_cast<int>(nest.phases.size()), nest.extent, roots);
}

std::vector<int> all_outputs(const Graph& region) {
  std::vector<int> outputs(region.outputs().size());
  std::iota(outputs.begin(), outputs.end(), 0);
  return outputs;
}

std::vector<int> axes_below(size_t count) {
  std::vector<int> axes(count);
  std::iota(axes.begin(), axes.end(), 0);
  return axes;
}

/// The joined shape of all outputs, with the extents of the operands of reductions put in.
Shape iteration_space(const Graph& region) {
  Shape space;
  for (const Output& output : region.outputs()) {
    auto joined = broadcast_shapes(space, region.type(output.value).shape);
    WEIR_CHECK(joined.has_value(), "outputs {} and {} of one kernel", to_string(space),
               to_string(region.type(output.value).shape));
    space = *joined;
  }
  for (const Node& node : region.nodes()) {
    if (info(node.op).op_class != OpClass::Reduction) continue;
    const Shape& shape = region.type(node.inputs[0]).shape;
    WEIR_CHECK(shape.size() <= space.size(), "a reduction of {} in a space {}", to_string(shape),
               to_string(space));
    for (int64_t axis : node.attrs.get_ints("axes")) {
      int64_t& extent = space[space.size() - shape.size() + axis];
      extent = std::max(extent, shape[axis]);
    }
  }
  return space;
}

}  // namespace

std::vector<int64_t> breakpoints(const LoopTerms& terms, int axis, int64_t extent) {
  std::set<int64_t> points;
  for (const Term& term : terms.terms)
    for (const auto& conditions : term.where)
      for (const Interval& interval : conditions) {
        if (interval.axis != axis) continue;
        for (int64_t point : {interval.low, interval.high})
          if (point > 0 && point < extent) points.insert(point);
      }
  return {points.begin(), points.end()};
}

RowNest plan_elementwise(const Graph& region, const std::vector<int>& outputs,
                         const Target& target) {
  RowNest nest;
  const Shape& shape = region.type(region.outputs()[outputs[0]].value).shape;
  nest.terms = make_loop_terms(region, shape, outputs);
  nest.outer = group_axes(nest.terms, axes_below(shape.size()));
  if (!nest.outer.empty()) {
    nest.vector_axis = nest.outer.back().axis;
    nest.extent = nest.outer.back().extent;
    nest.outer.pop_back();
  }
  nest.rows = product(nest.outer);
  nest.width = nest.vector_axis < 0 ? 1 : target.lanes();
  nest.unroll = unroll_for(total_cost(nest.terms));
  nest.in_registers = nest.extent <= nest.width * 4;
  if (block_transposes(nest)) {
    nest.in_registers = false;
    nest.unroll = 1;
    nest.tile_columns = std::min(nest.extent, int64_t{nest.width} * kBlockColumns);
    nest.tile_rows = 1;
  } else {
    choose_tiles(nest);
  }
  return nest;
}

RowNest plan_row(const Graph& region, const Target& target) {
  RowNest nest;
  const Shape space = iteration_space(region);
  WEIR_CHECK(!space.empty(), "a row kernel of scalars");
  nest.terms = make_loop_terms(region, space, all_outputs(region));
  nest.phases = make_phases(nest.terms);
  nest.vector_axis = static_cast<int>(space.size()) - 1;
  nest.extent = space.back();
  nest.outer = group_axes(nest.terms, axes_below(space.size() - 1));
  nest.rows = product(nest.outer);
  nest.width = target.lanes();
  int64_t longest = nest.extent;
  for (const Phase& phase : nest.phases) {
    longest = std::max(longest, phase.extent);
    for (int reduction : phase.reductions) {
      const Term& term = nest.terms.terms[reduction];
      WEIR_CHECK(term.axes == std::vector<int>{nest.vector_axis}, "a row reduction over axes {}",
                 fmt::join(term.axes, ", "));
      nest.width = std::min<int>(nest.width, static_cast<int>(term.lanes));
    }
  }
  nest.unroll = unroll_for(total_cost(nest.terms));
  nest.in_registers = longest <= nest.width * (target.vector_registers >= 32 ? 8 : 4);
  nest.slot_bytes = aligned(longest * kRegisterTypeBytes) + kAlignment;
  if (!nest.in_registers) keep_values(nest);
  choose_tiles(nest);
  return nest;
}

ColumnNest plan_column(const Graph& region, const Target& target) {
  ColumnNest nest;
  const Shape space = iteration_space(region);
  nest.terms = make_loop_terms(region, space, all_outputs(region));
  std::vector<int> axes;
  for (size_t id = 0; id < nest.terms.terms.size(); ++id) {
    const Term& term = nest.terms.terms[id];
    if (term.kind != TermKind::reduce) continue;
    WEIR_CHECK(axes.empty() || axes == term.axes, "column reductions over different axes");
    WEIR_CHECK(term.level == 1, "a column reduction of a column reduction");
    axes = term.axes;
    nest.reductions.push_back(static_cast<int>(id));
  }
  std::vector<int> kept;
  for (int axis : axes_below(space.size()))
    if (std::find(axes.begin(), axes.end(), axis) == axes.end()) kept.push_back(axis);
  nest.reduced = group_axes(nest.terms, axes);
  nest.kept = group_axes(nest.terms, kept);
  if (!nest.kept.empty()) {
    nest.vector_axis = nest.kept.back().axis;
    nest.extent = nest.kept.back().extent;
    nest.kept.pop_back();
  }
  nest.rows = product(nest.kept);
  nest.width = nest.vector_axis < 0 ? 1 : target.lanes();
  // Half of the registers hold accumulators: the wider a panel, the longer the streams it reads.
  // Narrow tensors have narrower ones, down to what hides the latency of an add, so that threads
  // share them.
  const int64_t vectors = ceil_div(nest.extent, nest.width);
  const int64_t most = std::max<int64_t>(
      1, target.vector_registers / 2 / std::max<size_t>(1, nest.reductions.size()));
  const int64_t wanted = std::max(2, target.cores);
  const int64_t shared = std::max(kMinPanel, vectors * nest.rows / wanted);
  nest.panel = static_cast<int>(std::min({most, shared, vectors}));
  return nest;
}

}  // namespace weir
