#include "passes/plan_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ir/alias.h"
#include "ir/edit.h"
#include "ir/print.h"
#include "passes/lifetimes.h"
#include "support/align.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

// Whether a kernel reads `operand` only at the element that it writes, so that it may write the
// result over it: then every path from the operand to an output is elementwise of one shape.
bool reads_in_step(const Graph& region, size_t operand, const Shape& shape) {
  std::vector<bool> tainted(region.nodes().size());
  int32_t source = region.inputs()[operand];
  tainted[source] = true;
  if (region.node(source).types[0].shape != shape) return false;
  for (int32_t id = 0; id < region.size(); ++id) {
    const Node& node = region.node(id);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!tainted[node.inputs[i].node]) continue;
      bool accumulator = node.op == Op::matmul && i == 2;
      bool in_step = info(node.op).op_class == OpClass::Elementwise && node.types[0].shape == shape;
      if (!accumulator && !in_step) return false;
      tainted[id] = true;
    }
  }
  return true;
}

class Planner {
 public:
  explicit Planner(const Graph& graph) : graph_(graph), live_(lifetimes(graph)) {}

  GraphPtr run() {
    find_in_place();
    place_all();
    return annotated();
  }

 private:
  // A state output whose kernel is the last reader of its state input is written over it.
  void find_in_place() {
    for (const Output& output : graph_.outputs()) {
      auto input = graph_.find_input(output.name);
      if (!input || !graph_.node(*input).attrs.get_bool("state")) continue;
      Value value = root(graph_, output.value);
      const Node& kernel = graph_.node(value);
      if (kernel.op != Op::kernel || place_.contains(value)) continue;
      if (graph_.type(value).bytes() != graph_.type(*input).bytes()) continue;
      auto reads = live_.find(*input);
      if (reads != live_.end() && reads->second.last > value.node) continue;
      bool safe = true;
      for (size_t i = 0; i < kernel.inputs.size(); ++i)
        if (root(graph_, kernel.inputs[i]) == *input)
          safe = safe && reads_in_step(*kernel.region, i, graph_.type(value).shape);
      if (safe) place_[value] = -1 - input_index(input->node);
    }
  }
  int64_t input_index(int32_t id) const {
    const auto& inputs = graph_.inputs();
    return std::find(inputs.begin(), inputs.end(), id) - inputs.begin();
  }

  // Largest first, each at the lowest offset that is free for all of its lifetime.
  void place_all() {
    struct Wanted {
      int64_t size;
      Value value;
      Lifetime life;
    };
    std::vector<Wanted> values;
    for (const auto& [value, life] : live_)
      if (graph_.node(value).op == Op::kernel && !place_.contains(value))
        values.push_back({aligned(graph_.type(value).bytes()), value, life});
    std::stable_sort(values.begin(), values.end(),
                     [](const Wanted& a, const Wanted& b) { return a.size > b.size; });
    struct Taken {
      int64_t begin, end;
      Lifetime life;
    };
    std::vector<Taken> taken;  // ascending by begin
    for (const Wanted& wanted : values) {
      int64_t offset = 0;
      for (const Taken& other : taken) {
        if (offset + wanted.size <= other.begin) break;
        if (other.life.first <= wanted.life.last && wanted.life.first <= other.life.last)
          offset = std::max(offset, other.end);
      }
      const auto behind =
          std::upper_bound(taken.begin(), taken.end(), offset,
                           [](int64_t begin, const Taken& other) { return begin < other.begin; });
      taken.insert(behind, {offset, offset + wanted.size, wanted.life});
      place_[wanted.value] = offset;
      arena_ = std::max(arena_, offset + wanted.size);
    }
  }

  GraphPtr annotated() {
    Rewriter rewriter(graph_);
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (node.op == Op::input) continue;
      std::vector<Value> results = rewriter.copy(id);
      if (node.op != Op::kernel) continue;
      std::vector<int64_t> places;
      for (size_t r = 0; r < node.types.size(); ++r)
        places.push_back(place_.at({id, static_cast<int32_t>(r)}));
      rewriter.annotate(results[0].node, std::string(kPlace), places);
    }
    rewriter.set_attribute("arena", arena_);
    rewriter.set_stage(Stage::planned);
    return rewriter.finish_copy();
  }

  const Graph& graph_;
  std::map<Value, Lifetime> live_;
  std::map<Value, int64_t> place_;
  int64_t arena_ = 0;
};

// What is wrong with the places of a graph that verify accepts, one sentence each.
class PlanCheck {
 public:
  explicit PlanCheck(const Graph& planned) : graph_(planned), live_(lifetimes(planned)) {}

  std::vector<std::string> run() {
    for (const auto& [value, life] : live_) {
      if (graph_.node(value).op != Op::kernel) continue;
      int64_t place = graph_.node(value).attrs.get_ints(kPlace).at(value.result);
      if (place < 0)
        over_state(value, {graph_.inputs().at(-1 - place), 0});
      else
        in_arena({value, life, place, place + graph_.type(value).bytes()});
    }
    return std::move(broken_);
  }

 private:
  struct Placed {
    Value value;
    Lifetime life;
    int64_t begin, end;
  };

  std::string text_of(Value value) const {
    std::string line = print_node(graph_, value.node);
    return fmt::format("result {} of node {} ({})", value.result, value.node,
                       line.substr(0, line.find('\n')));
  }

  void over_state(Value value, Value state) {
    const std::string name = graph_.input_name(state.node);
    if (auto [other, is_new] = writer_.emplace(state, value); !is_new)
      broken_.push_back(fmt::format("{} and {} both overwrite the state {}", text_of(value),
                                    text_of(other->second), name));
    auto reads = live_.find(state);
    if (reads != live_.end() && reads->second.last > value.node)
      broken_.push_back(fmt::format("{} overwrites the state {}, which node {} still reads",
                                    text_of(value), name, reads->second.last));
    const Node& kernel = graph_.node(value);
    for (size_t i = 0; i < kernel.inputs.size(); ++i)
      if (root(graph_, kernel.inputs[i]) == state &&
          !reads_in_step(*kernel.region, i, graph_.type(value).shape))
        broken_.push_back(
            fmt::format("{} overwrites the state {}, of which its kernel reads other elements "
                        "than the one that it writes",
                        text_of(value), name));
  }

  void in_arena(const Placed& placed) {
    for (const Placed& other : placed_) {
      bool together = other.life.first <= placed.life.last && placed.life.first <= other.life.last;
      if (together && placed.begin < other.end && other.begin < placed.end)
        broken_.push_back(fmt::format("{} at bytes {} to {} overlaps {} at bytes {} to {}",
                                      text_of(placed.value), placed.begin, placed.end,
                                      text_of(other.value), other.begin, other.end));
    }
    placed_.push_back(placed);
  }

  const Graph& graph_;
  std::map<Value, Lifetime> live_;
  std::map<Value, Value> writer_;  ///< of each state
  std::vector<Placed> placed_;
  std::vector<std::string> broken_;
};

std::vector<std::string> broken_plan(const Graph& planned) { return PlanCheck(planned).run(); }

}  // namespace

GraphPtr plan_memory(const GraphPtr& fused) {
  GraphPtr planned = Planner(*fused).run();
  check_plan(*planned);
  return planned;
}

MemoryNeed memory_need(const Graph& planned) {
  MemoryNeed need;
  need.arena = planned.attrs().get_int("arena");
  for (int32_t id : planned.inputs()) {
    const Node& node = planned.node(id);
    (node.attrs.get_bool("state") ? need.state : need.inputs) += aligned(node.types[0].bytes());
  }
  return need;
}

std::string to_string(const MemoryNeed& need) {
  auto text = [](int64_t bytes) { return human_bytes(static_cast<double>(bytes)); };
  return fmt::format("arena {} + state {} + inputs {} = {}", text(need.arena), text(need.state),
                     text(need.inputs), text(need.total()));
}

void check_plan(const Graph& planned) {
  std::vector<std::string> broken = broken_plan(planned);
  WEIR_CHECK(broken.empty(), "{}", join(broken, "; "));
}

void check_plan_user(const Graph& graph, const std::string& file) {
  if (graph.stage() != Stage::planned) return;
  std::vector<std::string> broken = broken_plan(graph);
  if (broken.empty()) return;
  user_error(
      "plan",
      "{}: the places of graph {} do not keep results apart:\n  - {}\nCorrect the places, or "
      "give the graph as fused and let the compiler place it.",
      file, graph.name(), join(broken, "\n  - "));
}

}  // namespace weir
