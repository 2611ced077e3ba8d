#include "passes/recompute.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "ir/alias.h"
#include "ir/edit.h"
#include "passes/dead_code.h"
#include "passes/kernel_part.h"
#include "passes/lifetimes.h"
#include "passes/plan_memory.h"
#include "support/align.h"
#include "support/error.h"

namespace weir {
namespace {

// Whether a kernel is computed a second time at all.
bool can_run_again(Schedule schedule) {
  switch (schedule) {
    case Schedule::elementwise:
    case Schedule::row:
    case Schedule::matmul:
      return true;
    case Schedule::column:
    case Schedule::attention:
    case Schedule::attention_grad:
    case Schedule::attention_stats:
    case Schedule::attention_map:
    case Schedule::attention_identities:
    case Schedule::embedding:
    case Schedule::embedding_grad:
    case Schedule::loss_head:
      return false;
  }
  internal_error_at("unknown schedule");
}

class Recompute {
 public:
  Recompute(const Graph& graph, const RecomputeOptions& options, RecomputeStats& stats)
      : graph_(graph), options_(options), main_(needed_by_outputs(graph)), stats_(stats) {
    WEIR_CHECK(options.trials >= 1, "{} trials", options.trials);
    for (int32_t id = 0; id < graph.size(); ++id) {
      const Node& node = graph.node(id);
      if (!main_[id] || node.op == Op::reshape) continue;
      for (Value input : node.inputs) users_[strip_reshapes(graph, input)].push_back(id);
    }
    for (const Output& output : graph.outputs())
      outputs_.insert(strip_reshapes(graph, output.value));
    for (int32_t id : graph.inputs()) fixed_ += aligned(graph.node(id).types[0].bytes());
    peak_ = main_peak(graph, main_);
    for (const auto& [value, users] : users_)
      if (graph.node(value).op == Op::kernel && value.node <= peak_.node &&
          (users.back() > peak_.node || outputs_.contains(value)))
        kept_.insert(value);
  }

  GraphPtr run(const GraphPtr& unchanged) {
    const bool too_much =
        options_.memory > 0 && memory_need(*plan_memory(unchanged)).total() > options_.memory;
    if (peak_.bytes < options_.worth_it && !too_much) return unchanged;
    for (Value value : std::set<Value>(kept_)) take(value, false);
    GraphPtr result = chosen_.empty() ? unchanged : apply();
    if (options_.memory > 0) result = within_limit(std::move(result));
    return result;
  }

 private:
  // The peak of a graph, in its own numbering, without what only probes need and without new values
  // of states, which lie where the old ones did.
  static LivePeak main_peak(const Graph& graph, const std::vector<bool>& main) {
    std::map<Value, Lifetime> live = lifetimes(graph);
    std::erase_if(live, [&](const auto& entry) { return !main[entry.first.node]; });
    for (const Output& output : graph.outputs())
      if (const auto input = graph.find_input(output.name);
          input && graph.node(*input).attrs.get_bool("state"))
        live.erase(strip_reshapes(graph, output.value));
    return live_peak(graph, live);
  }

  // Products are computed again until the limit is met or none is left that would help: what is
  // computed from another copy keeps that one alive, which may cost more than it frees. A program
  // is made to see what was gained, so that of a deep model several values are taken at a time,
  // always the same part of all: the number of programs does not grow with that of layers.
  GraphPtr within_limit(GraphPtr result) {
    const auto bytes = [](const Graph& graph) {
      return main_peak(graph, needed_by_outputs(graph)).bytes;
    };
    const auto fits = [&](const GraphPtr& graph, int64_t peak) {  // the arena may have gaps
      return fixed_ + peak <= options_.memory &&
             memory_need(*plan_memory(graph)).total() <= options_.memory;
    };
    stale_ = kept_;
    const size_t usual = std::max<size_t>(1, kept_.size() / static_cast<size_t>(options_.trials));
    size_t size = usual, most = usual;
    int64_t splits = 0;
    int64_t now = bytes(*result);
    for (bool enough = fits(result, now); !enough;) {
      const std::set<Value> kept = kept_, chosen = chosen_;
      changed_.clear();
      std::vector<Value> group;
      while (group.size() < size) {
        const std::optional<Value> best = most_freed();
        if (!best) break;
        take(*best, true);
        tried_.insert(*best);
        group.push_back(*best);
      }
      if (group.empty()) break;
      ++stats_.trials;
      GraphPtr next = apply();
      const int64_t then = bytes(*next);
      enough = then <= now && fits(next, then);
      // No more than it takes: the values that meet the limit are taken in smaller groups. So are
      // those of a group that costs more than it frees, as long as that stays a matter of few.
      const bool too_many = enough && group.size() > 1;
      const bool gains = then <= now;
      const bool split = too_many || (!gains && group.size() > 1 && splits++ < options_.trials);
      if (split) {
        size = group.size() / 2;
        if (too_many) most = size;
      } else {
        if (!gains) most = usual;
        size = std::min(most, 2 * size);
      }
      if (gains && !split) {
        result = std::move(next);
        now = then;
        continue;
      }
      enough = false;
      kept_ = kept;
      chosen_ = chosen;
      for (Value value : std::exchange(changed_, {})) changed(value);
      if (split)
        for (Value value : group) tried_.erase(value);
    }
    return result;
  }

  // The kept value that frees most bytes for an operation, the first of several. What was found of
  // the others holds until something changes that it depends on.
  std::optional<Value> most_freed() {
    for (Value value : std::exchange(stale_, {})) {
      forget(value);
      if (!kept_.contains(value) || tried_.contains(value)) continue;
      ++stats_.costs;
      std::set<int32_t> seen;
      const std::optional<double> operations = cost(value, true, 0, &seen);
      for (int32_t node : seen) dependents_[node].insert(value);
      if (!operations) continue;
      const double gain =
          static_cast<double>(graph_.type(value).bytes()) / std::max(*operations, 1.0);
      gains_[value] = gain;
      by_gain_.emplace(-gain, value);
    }
    while (!by_gain_.empty()) {
      const Value best = by_gain_.begin()->second;
      if (kept_.contains(best) && !tried_.contains(best)) return best;
      forget(best);
    }
    return std::nullopt;
  }

  void forget(Value value) {
    const auto found = gains_.find(value);
    if (found == gains_.end()) return;
    by_gain_.erase({-found->second, value});
    gains_.erase(found);
  }

  // Whether the value is kept or computed again has changed.
  void changed(Value value) {
    changed_.push_back(value);
    stale_.insert(value);
    if (const auto found = dependents_.find(value.node); found != dependents_.end())
      stale_.merge(std::exchange(found->second, {}));
  }

  // Whether a kernel after the peak may read the value as it is: it is kept anyway, or small.
  bool available(Value value, int64_t for_bytes) const {
    if (graph_.node(value).op != Op::kernel || value.node > peak_.node) return true;
    if (kept_.contains(value)) return true;
    return graph_.type(value).bytes() * 16 <= for_bytes;
  }

  // Results of the same kernel that are there to compute others from.
  std::vector<int32_t> available_siblings(Value value) const {
    std::vector<int32_t> given;
    for (size_t r = 0; r < graph_.node(value).types.size(); ++r) {
      const Value sibling{value.node, static_cast<int32_t>(r)};
      if (sibling != value && kept_.contains(sibling)) given.push_back(sibling.result);
    }
    return given;
  }

  // Multiplications and additions that it takes to have the value again; nothing if it can't be.
  // `seen` gathers the nodes on whose results, kept or not, the answer depends.
  std::optional<double> cost(Value value, bool products, int depth,
                             std::set<int32_t>* seen = nullptr) const {
    if (seen) seen->insert(value.node);
    if (outputs_.contains(value)) return std::nullopt;
    const Node& kernel = graph_.node(value);
    if (kernel.op != Op::kernel || !can_run_again(schedule_of(kernel))) return std::nullopt;
    if (graph_.type(value).shape.empty() || graph_.type(value).shape.back() == 1)
      return std::nullopt;  // of rows: too small to bother
    const KernelPart part =
        kernel_part(graph_, value.node, {value.result}, available_siblings(value));
    if (part.schedule == Schedule::matmul && !products) return std::nullopt;
    double operations = 0;
    for (const Node& inner : part.region->nodes()) {
      const double elements = static_cast<double>(inner.types[0].elements());
      if (inner.op != Op::matmul) {
        operations += elements;
        continue;
      }
      const Shape& a = part.region->type(inner.inputs[0]).shape;
      const bool transposed = inner.attrs.get_bool("transpose_a");
      operations += 2 * elements * static_cast<double>(a[a.size() - (transposed ? 2 : 1)]);
    }
    for (Value operand : part.operands) {
      const Value input = strip_reshapes(graph_, operand);
      if (seen) seen->insert(input.node);
      if (chosen_.contains(input) || available(input, graph_.type(value).bytes())) continue;
      if (!products || depth == 8) return std::nullopt;
      const std::optional<double> inputs = cost(input, products, depth + 1, seen);
      if (!inputs) return std::nullopt;
      operations += *inputs;
    }
    return operations;
  }

  void take(Value value, bool products) {
    if (chosen_.contains(value) || !cost(value, products, 0)) return;
    const KernelPart part =
        kernel_part(graph_, value.node, {value.result}, available_siblings(value));
    chosen_.insert(value);
    kept_.erase(value);
    changed(value);
    for (Value operand : part.operands) {
      const Value input = strip_reshapes(graph_, operand);
      if (chosen_.contains(input)) continue;
      if (available(input, graph_.type(value).bytes())) {
        if (graph_.node(input).op == Op::kernel && input.node <= peak_.node &&
            kept_.insert(input).second)
          changed(input);
      } else {
        take(input, products);
      }
    }
  }

  GraphPtr apply() const {
    Rewriter rewriter(graph_);
    std::map<Value, Value> again;
    for (int32_t id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (node.op == Op::input) continue;
      if (id <= peak_.node || !main_[id] || node.op != Op::kernel) {
        rewriter.copy(id);
        continue;
      }
      std::vector<Value> operands;
      for (Value input : node.inputs) operands.push_back(late(rewriter, again, input));
      if (operands == rewriter[node.inputs])
        rewriter.copy(id);
      else
        rewriter.replace(id, rewriter.add_kernel(operands, node.attrs, node.region, node.where));
    }
    return without_unread_results(live_graph(rewriter.finish_copy(), false));
  }

  // The value as kernels after the peak read it.
  Value late(Rewriter& rewriter, std::map<Value, Value>& again, Value old) const {
    if (auto found = again.find(old); found != again.end()) return found->second;
    const Node& node = graph_.node(old);
    if (node.op == Op::reshape) {
      const Value inner = late(rewriter, again, node.inputs[0]);
      if (inner == rewriter[node.inputs[0]]) return rewriter[old];
      return again[old] = rewriter.add(Op::reshape, {inner}, node.attrs);
    }
    if (!chosen_.contains(old)) return rewriter[old];
    std::vector<int32_t> wanted;
    for (size_t r = 0; r < node.types.size(); ++r)
      if (chosen_.contains({old.node, static_cast<int32_t>(r)}))
        wanted.push_back(static_cast<int32_t>(r));
    const KernelPart part = kernel_part(graph_, old.node, wanted, available_siblings(old));
    std::vector<Value> operands;
    for (Value operand : part.operands) operands.push_back(late(rewriter, again, operand));
    const std::vector<Value> copies = rewriter.add_kernel(
        operands, {{"schedule", schedule_name(part.schedule)}}, part.region, node.where);
    for (size_t i = 0; i < wanted.size(); ++i) again[{old.node, wanted[i]}] = copies[i];
    return again.at(old);
  }

  const Graph& graph_;
  RecomputeOptions options_;
  std::vector<bool> main_;
  std::map<Value, std::vector<int32_t>> users_;
  std::set<Value> outputs_;
  int64_t fixed_ = 0;  ///< bytes of states and inputs
  LivePeak peak_;
  std::set<Value> kept_;    ///< made before the peak and read after it
  std::set<Value> chosen_;  ///< computed again
  RecomputeStats& stats_;
  // What `most_freed` knows.
  std::set<Value> tried_;                          ///< those that were tried
  std::set<Value> stale_;                          ///< those to look at again
  std::vector<Value> changed_;                     ///< since the last trial
  std::map<Value, double> gains_;                  ///< bytes an operation
  std::set<std::pair<double, Value>> by_gain_;     ///< the same, largest first
  std::map<int32_t, std::set<Value>> dependents_;  ///< by node: whose gain depends on its results
};

}  // namespace

GraphPtr recompute(const GraphPtr& fused, const RecomputeOptions& options, RecomputeStats* stats) {
  RecomputeStats own;
  return Recompute(*fused, options, stats ? *stats : own).run(fused);
}

}  // namespace weir
