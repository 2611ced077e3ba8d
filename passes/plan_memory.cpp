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

bool together(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

// Bytes of the arena that are taken for a lifetime.
struct Allocation {
  int64_t begin, end;
  Lifetime life;
};

// Allocations in ascending order of their first byte, in blocks, so that one more moves few of
// them.
class SortedAllocations {
 public:
  void insert(const Allocation& allocation) {
    auto block = std::find_if(blocks_.begin(), blocks_.end(), [&](const auto& candidate) {
      return candidate.back().begin > allocation.begin;
    });
    if (block == blocks_.end()) {
      if (blocks_.empty()) blocks_.emplace_back();
      block = std::prev(blocks_.end());
    }
    block->insert(std::upper_bound(
                      block->begin(), block->end(), allocation.begin,
                      [](int64_t begin, const Allocation& other) { return begin < other.begin; }),
                  allocation);
    if (block->size() < kBlock) return;
    std::vector<Allocation> behind(block->begin() + kBlock / 2, block->end());
    block->resize(kBlock / 2);
    blocks_.insert(std::next(block), std::move(behind));
  }
  /// Visits the allocations until `f` returns false.
  template <typename F>
  void each(F f) const {
    for (const auto& block : blocks_)
      for (const Allocation& allocation : block)
        if (!f(allocation)) return;
  }

 private:
  static constexpr size_t kBlock = 512;
  std::vector<std::vector<Allocation>> blocks_;
};

// The allocations so far. Most results live for a few kernels only, so that those of a stretch of
// the program are looked up by time; only what lives long is compared with everything.
class Arena {
 public:
  explicit Arena(int32_t steps) : stretches_(static_cast<size_t>(steps / kStretch + 2)) {}

  /// Takes the lowest offset that is free for all of a lifetime.
  int64_t take(int64_t size, const Lifetime& life) {
    int64_t offset = 0;
    const auto pass = [&](const Allocation& other) {
      if (offset + size <= other.begin) return false;
      if (together(other.life, life)) offset = std::max(offset, other.end);
      return true;
    };
    if (is_long(life))
      all_.each(pass);
    else
      pass_around(life, pass);
    const Allocation allocation{offset, offset + size, life};
    all_.insert(allocation);
    if (is_long(life))
      long_.insert(allocation);
    else
      for (size_t s = stretch(life.first); s <= stretch(life.last); ++s)
        stretches_[s].push_back(allocation);
    return offset;
  }

 private:
  static constexpr int32_t kStretch = 64;
  static bool is_long(const Lifetime& life) { return life.last - life.first >= kStretch; }
  static size_t stretch(int32_t step) { return static_cast<size_t>(step / kStretch); }

  // Those that live long and those of the same time, in order.
  template <typename F>
  void pass_around(const Lifetime& life, F pass) const {
    std::vector<Allocation> near;
    for (size_t s = stretch(life.first); s <= stretch(life.last); ++s)
      for (const Allocation& allocation : stretches_[s])
        if (together(allocation.life, life)) near.push_back(allocation);
    std::sort(near.begin(), near.end(),
              [](const Allocation& a, const Allocation& b) { return a.begin < b.begin; });
    auto next = near.begin();
    bool goes_on = true;
    long_.each([&](const Allocation& allocation) {
      for (; goes_on && next != near.end() && next->begin <= allocation.begin; ++next)
        goes_on = pass(*next);
      goes_on = goes_on && pass(allocation);
      return goes_on;
    });
    for (; goes_on && next != near.end(); ++next) goes_on = pass(*next);
  }

  SortedAllocations all_, long_;
  std::vector<std::vector<Allocation>> stretches_;  // by time; what lies in two is in both
};

class Planner {
 public:
  explicit Planner(const Graph& graph) : graph_(graph), live_(lifetimes(graph)) {}

  GraphPtr run() {
    find_in_place();
    allocate();
    return annotated();
  }

 private:
  // A state output whose kernel is the last reader of its state input is written over it.
  void find_in_place() {
    for (const Output& output : graph_.outputs()) {
      auto input = graph_.find_input(output.name);
      if (!input || !graph_.node(*input).attrs.get_bool("state")) continue;
      Value value = strip_reshapes(graph_, output.value);
      const Node& kernel = graph_.node(value);
      if (kernel.op != Op::kernel || offset_.contains(value)) continue;
      if (graph_.type(value).bytes() != graph_.type(*input).bytes()) continue;
      auto reads = live_.find(*input);
      if (reads != live_.end() && reads->second.last > value.node) continue;
      bool safe = true;
      for (size_t i = 0; i < kernel.inputs.size(); ++i)
        if (strip_reshapes(graph_, kernel.inputs[i]) == *input)
          safe = safe && reads_in_step(*kernel.region, i, graph_.type(value).shape);
      if (safe) offset_[value] = -1 - input->node;  // inputs come first, in order
    }
  }

  // Largest first, each at the lowest offset that is free for all of its lifetime.
  void allocate() {
    struct Wanted {
      int64_t size;
      Value value;
      Lifetime life;
    };
    std::vector<Wanted> values;
    for (const auto& [value, life] : live_)
      if (graph_.node(value).op == Op::kernel && !offset_.contains(value))
        values.push_back({aligned(graph_.type(value).bytes()), value, life});
    std::stable_sort(values.begin(), values.end(),
                     [](const Wanted& a, const Wanted& b) { return a.size > b.size; });
    Arena arena(graph_.size() + 1);
    for (const Wanted& wanted : values) {
      const int64_t offset = arena.take(wanted.size, wanted.life);
      offset_[wanted.value] = offset;
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
      std::vector<int64_t> offsets;
      for (size_t r = 0; r < node.types.size(); ++r)
        offsets.push_back(offset_.at({id, static_cast<int32_t>(r)}));
      rewriter.annotate(results[0].node, std::string(kOffset), offsets);
    }
    rewriter.set_attribute("arena", arena_);
    rewriter.set_stage(Stage::planned);
    return rewriter.finish_copy();
  }

  const Graph& graph_;
  std::map<Value, Lifetime> live_;
  std::map<Value, int64_t> offset_;
  int64_t arena_ = 0;
};

// What is wrong with the offsets of a graph that verify accepts, one sentence each.
class PlanCheck {
 public:
  explicit PlanCheck(const Graph& planned) : graph_(planned), live_(lifetimes(planned)) {}

  std::vector<std::string> run() {
    for (const auto& [value, life] : live_) {
      if (graph_.node(value).op != Op::kernel) continue;
      int64_t offset = graph_.node(value).attrs.get_ints(kOffset).at(value.result);
      if (offset < 0)
        over_state(value, {graph_.inputs().at(-1 - offset), 0});
      else
        placed_.push_back({value, life, offset, offset + graph_.type(value).bytes()});
    }
    if (overlap_somewhere()) list_overlaps();
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
      if (strip_reshapes(graph_, kernel.inputs[i]) == state &&
          !reads_in_step(*kernel.region, i, graph_.type(value).shape))
        broken_.push_back(
            fmt::format("{} overwrites the state {}, of which its kernel reads other elements "
                        "than the one that it writes",
                        text_of(value), name));
  }

  // Whether two results overlap at one time: those that live at a time lie side by side, so that a
  // new one is compared with its neighbours only.
  bool overlap_somewhere() const {
    std::vector<const Placed*> by_time;
    for (const Placed& placed : placed_) by_time.push_back(&placed);
    std::stable_sort(by_time.begin(), by_time.end(), [](const Placed* a, const Placed* b) {
      return a->life.first < b->life.first;
    });
    std::map<int64_t, const Placed*> live;       // by first byte
    std::multimap<int32_t, const Placed*> ends;  // by last step
    for (const Placed* placed : by_time) {
      while (!ends.empty() && ends.begin()->first < placed->life.first) {
        live.erase(ends.begin()->second->begin);
        ends.erase(ends.begin());
      }
      auto behind = live.lower_bound(placed->begin);
      if (behind != live.end() && behind->second->begin < placed->end) return true;
      if (behind != live.begin() && std::prev(behind)->second->end > placed->begin) return true;
      live.emplace(placed->begin, placed);
      ends.emplace(placed->life.last, placed);
    }
    return false;
  }

  void list_overlaps() {
    for (size_t i = 0; i < placed_.size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const Placed &placed = placed_[i], &other = placed_[j];
        if (together(other.life, placed.life) && placed.begin < other.end &&
            other.begin < placed.end)
          broken_.push_back(fmt::format("{} at bytes {} to {} overlaps {} at bytes {} to {}",
                                        text_of(placed.value), placed.begin, placed.end,
                                        text_of(other.value), other.begin, other.end));
      }
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
      "{}: the offsets of graph {} do not keep results apart:\n  - {}\nCorrect the offsets, or "
      "give the graph as fused and let the compiler plan it.",
      file, graph.name(), join(broken, "\n  - "));
}

}  // namespace weir
