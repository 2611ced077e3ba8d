#include "passes/probes.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "ir/alias.h"
#include "ir/map_cells.h"
#include "passes/attention_probes.h"
#include "passes/autodiff.h"
#include "passes/op_builder.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

bool is_gradient_name(const Graph& graph, const std::string& name) {
  constexpr std::string_view kSuffix = ".grad";
  return name.ends_with(kSuffix) && graph.stage() >= Stage::differentiated;
}

// Axes by rank: activations are [B,T,D] or [B,T,H,d]; attention's own results have their layout,
// and so have scores and weights that a model computes itself, which only their hook name tells.
std::vector<std::string> axis_names(const Graph& graph, const std::string& name, Value value) {
  Value source = through_identity(graph, value);
  bool by_name = name.ends_with("hook_pattern") || name.ends_with("hook_attn_scores");
  if (is_whole_attention(graph, source) || (by_name && graph.type(value).rank() == 4))
    return {"batch", "head", "query", "key"};
  if (graph.node(source).op == Op::attention_lse) return {"batch", "head", "query"};
  int64_t rank = graph.type(value).rank();
  if (rank == 3 && !graph.is_input(value)) return {"batch", "token", "feature"};
  if (rank == 4 && !graph.is_input(value)) return {"batch", "token", "head", "feature"};
  std::vector<std::string> axes;
  for (int64_t i = 0; i < rank; ++i) axes.push_back(fmt::format("axis{}", i));
  return axes;
}

bool is_pattern_statistic(ReductionKind kind) {
  return kind >= ReductionKind::column_mass && kind <= ReductionKind::row_sum;
}

// Resolves the reductions of one request on one hook; the problem if they do not fit.
class Chain {
 public:
  /// `pattern`: whether the value is the pattern of an attention node.
  Chain(const Hook& hook, bool gradient, bool pattern)
      : hook_(hook),
        axes_(hook.axes),
        shape_(hook.type.shape),
        gradient_(gradient),
        pattern_(pattern && !gradient) {}

  bool apply(const ProbeReduction& reduction) {
    ProbeReduction canonical = reduction;
    ProbeStep step{reduction.kind, {}, reduction.start, reduction.limit};
    if (is_pattern_statistic(reduction.kind)) {
      if (!probe_.steps.empty())
        return fail(reduction, "is a statistic of a whole attention pattern and comes first");
      if (gradient_ && is_pattern_name())
        return fail(reduction,
                    "is a statistic of attention weights, and this is their gradient, which takes "
                    "sum(axes), mean(axes), norm(axes) and the like");
      if (!is_weights())
        return fail(reduction,
                    fmt::format("is a statistic of attention weights, an array of batch, "
                                "head, query and key, but the axes here are {}",
                                axes_.empty() ? "none" : join(axes_, ", ")));
      statistic(reduction);
      if (reduction.kind == ReductionKind::sink_column && reduction.start >= hook_.type.shape[3])
        return fail(reduction, fmt::format("needs a key below {}", hook_.type.shape[3]));
    } else if (reduction.kind == ReductionKind::map) {
      if (!pattern_)
        return fail(reduction, gradient_ && is_pattern_name()
                                   ? "is a map of attention weights, and this is their gradient"
                                   : "is a map of the attention weights of an attention node "
                                     "(hook_pattern), which this is not");
      if (!only_cut_)
        return fail(reduction,
                    "comes first, or after slices of the batch and of one head, as in "
                    "slice(head,3,4), map(256)");
      for (size_t i = 2; i < 4; ++i) shape_[i] = map_cells(shape_[i], reduction.start).count();
    } else if (!is_float(hook_.type.dtype) && reduction.kind != ReductionKind::slice) {
      return fail(reduction,
                  fmt::format("needs a floating-point value, not {}", to_string(hook_.type)));
    }
    for (const std::string& name : reduction.axes) {
      auto found = std::find(axes_.begin(), axes_.end(), name);
      if (found == axes_.end())
        return fail(reduction, fmt::format("there is no axis {}; the axes are {}", name,
                                           axes_.empty() ? "none" : join(axes_, ", ")));
      step.axes.push_back(found - axes_.begin());
    }
    std::sort(step.axes.begin(), step.axes.end());
    if (std::adjacent_find(step.axes.begin(), step.axes.end()) != step.axes.end())
      return fail(reduction, "an axis is named twice");
    for (size_t i = 0; i < step.axes.size(); ++i) canonical.axes[i] = axes_[step.axes[i]];
    if (!reshape(reduction, step)) return false;
    only_cut_ = only_cut_ && cuts_before_the_pattern(step);
    texts_.push_back(to_string(canonical));
    probe_.steps.push_back(step);
    return true;
  }

  const std::string& problem() const { return problem_; }
  ResolvedProbe finish() {
    probe_.name = hook_.name;
    probe_.gradient = gradient_;
    probe_.axes = axes_;
    probe_.id = (gradient_ ? gradient_name(hook_.name) : hook_.name) + ":" +
                (texts_.empty() ? "raw" : join(texts_, ","));
    return probe_;
  }

 private:
  bool fail(const ProbeReduction& reduction, const std::string& why) {
    problem_ = fmt::format("{}: {}", to_string(reduction), why);
    return false;
  }

  bool is_pattern_name() const { return hook_.name.ends_with("hook_pattern"); }

  // Of an attention node, or an array that the model computes itself, named as one.
  bool is_weights() const {
    return pattern_ ||
           (!gradient_ && axes_ == std::vector<std::string>{"batch", "head", "query", "key"} &&
            is_pattern_name());
  }

  void statistic(const ProbeReduction& reduction) {
    bool by_key = reduction.kind == ReductionKind::column_mass ||
                  reduction.kind == ReductionKind::column_square;
    axes_ = {"batch", "head", by_key ? "key" : "query"};
    shape_ = {shape_[0], shape_[1], shape_[by_key ? 3 : 2]};
  }

  // The shape after the step, and whether the step is where micro-batches meet.
  bool reshape(const ProbeReduction& reduction, const ProbeStep& step) {
    if (step.kind == ReductionKind::slice) {
      int64_t axis = step.axes[0];
      if (step.limit > shape_[axis])
        return fail(reduction, fmt::format("axis {} has {} elements", axes_[axis], shape_[axis]));
      shape_[axis] = step.limit - step.start;
      if (axes_[axis] == "batch") batch_is_whole_ = false;
      return true;
    }
    for (int64_t axis : step.axes) {
      shape_[axis] = 1;
      if (axes_[axis] != "batch" || !batch_is_whole_) continue;
      batch_is_whole_ = false;
      probe_.batch_step = static_cast<int64_t>(probe_.steps.size());
    }
    return true;
  }

  // As cut_whole_attention does: sequences, or one head.
  static bool cuts_before_the_pattern(const ProbeStep& step) {
    return step.kind == ReductionKind::slice &&
           (step.axes[0] == 0 || (step.axes[0] == 1 && step.limit == step.start + 1));
  }

  const Hook& hook_;
  std::vector<std::string> axes_;
  Shape shape_;
  bool gradient_, pattern_;
  bool batch_is_whole_ = true, only_cut_ = true;
  ResolvedProbe probe_;
  std::vector<std::string> texts_;
  std::string problem_;
};

std::vector<Hook> hooks_of(const GraphPtr& graph, const std::string& loss) {
  std::set<std::string> differentiable;
  if (graph->stage() == Stage::built) differentiable = differentiable_names(graph, loss);
  std::vector<Hook> hooks;
  auto add = [&](const std::string& name, Value value) {
    bool has_gradient = graph->stage() == Stage::built
                            ? differentiable.contains(name)
                            : graph->find(gradient_name(name)).has_value();
    hooks.push_back({name, graph->type(value), has_gradient, axis_names(*graph, name, value)});
  };
  for (const auto& [name, value] : graph->names())
    if (!is_gradient_name(*graph, name)) add(name, value);
  for (int32_t id : graph->inputs())
    if (graph->node(id).attrs.get_bool("state") && !graph->find(graph->input_name(id)))
      add(graph->input_name(id), {id, 0});
  return hooks;
}

// All statistics of a pattern are computed with the sink that one of them names, so that one node
// gives them all; the others do not depend on it.
void share_sinks(std::vector<ResolvedProbe>& probes) {
  std::map<std::string, int64_t> sinks;
  for (const ResolvedProbe& probe : probes)
    if (!probe.steps.empty() && probe.steps[0].kind == ReductionKind::sink_column)
      sinks.emplace(probe.name, probe.steps[0].start);
  for (ResolvedProbe& probe : probes) {
    if (probe.steps.empty() || !is_pattern_statistic(probe.steps[0].kind)) continue;
    auto sink = sinks.find(probe.name);
    if (sink != sinks.end() && probe.steps[0].kind != ReductionKind::sink_column)
      probe.steps[0].start = sink->second;
  }
}

std::optional<Value> find_hook(const Graph& graph, const std::string& name) {
  auto value = graph.find(name);
  return value ? value : graph.find_input(name);
}

// Why a request matches no hook.
std::string no_match(const ProbeRequest& request, const std::vector<Hook>& hooks,
                     const std::vector<std::string>& without_gradient) {
  if (!without_gradient.empty())
    return fmt::format(
        "'{}': {} has no gradient in this program: nothing differentiates the loss by it. Ask for "
        "the value itself, or for gradients of the program.",
        request.text, join(without_gradient, ", "));
  std::vector<std::string> names;
  for (const Hook& hook : hooks) names.push_back(hook.name);
  return fmt::format("'{}' matches no hook.{} `weir probes` lists all.", request.text,
                     did_you_mean(request.glob, names));
}

}  // namespace

std::vector<Hook> list_hooks(const GraphPtr& graph, const std::string& loss) {
  return hooks_of(graph, loss);
}

std::vector<ResolvedProbe> resolve_probes(const GraphPtr& graph,
                                          const std::vector<ProbeRequest>& requests,
                                          const std::string& loss) {
  std::vector<Hook> hooks = hooks_of(graph, loss);
  std::vector<ResolvedProbe> resolved;
  std::set<std::string> ids;
  UsageProblems problems("probe");
  for (const ProbeRequest& request : requests) {
    std::vector<std::string> without_gradient;
    std::string misfit;
    int64_t matches = 0, misfits = 0;
    for (const Hook& hook : hooks) {
      if (!glob_match(request.glob, hook.name)) continue;
      if (request.gradient && !hook.has_gradient) {
        without_gradient.push_back(hook.name);
        continue;
      }
      ++matches;
      Chain chain(hook, request.gradient, is_pattern(*graph, expect(find_hook(*graph, hook.name))));
      bool fits = std::all_of(request.reductions.begin(), request.reductions.end(),
                              [&](const ProbeReduction& r) { return chain.apply(r); });
      if (!fits) {
        if (misfits++ == 0)
          misfit = fmt::format("'{}' does not fit {} {}: {}", request.text,
                               request.gradient ? gradient_name(hook.name) : hook.name,
                               to_string(hook.type), chain.problem());
        continue;
      }
      ResolvedProbe probe = chain.finish();
      if (ids.insert(probe.id).second) resolved.push_back(std::move(probe));
    }
    if (matches == 0) problems.add(no_match(request, hooks, without_gradient));
    if (misfits > 0)
      problems.add(misfit +
                   (misfits > 1 ? fmt::format(" (and {} more hooks).", misfits - 1) : "."));
  }
  problems.raise();
  share_sinks(resolved);
  return resolved;
}

std::vector<std::string> probed_gradients(const GraphPtr& graph,
                                          const std::vector<ResolvedProbe>& probes) {
  std::set<std::string> names;
  for (const ResolvedProbe& probe : probes)
    if (probe.gradient && graph->find(probe.name)) names.insert(probe.name);
  return {names.begin(), names.end()};
}

std::optional<Value> find_probed(const Graph& graph, const ResolvedProbe& probe) {
  return probe.gradient ? graph.find(gradient_name(probe.name)) : find_hook(graph, probe.name);
}

int64_t reduced_count(const ProbeStep& step, const Shape& shape) {
  int64_t count = 1;
  for (int64_t axis : step.axes) count *= shape[axis];
  return count;
}

Value partial_step(GraphEditor& editor, const ProbeStep& step, Value x) {
  OpBuilder e(editor);
  switch (step.kind) {
    case ReductionKind::sum:
    case ReductionKind::mean:
      return e.reduce_sum(x, step.axes);
    case ReductionKind::norm:
      return e.reduce_sum(e.mul(x, x), step.axes);
    case ReductionKind::max:
      return e.reduce_max(x, step.axes);
    case ReductionKind::min:
      return e.op(Op::reduce_min, {x}, {{"axes", step.axes}});
    case ReductionKind::abs:
      return e.abs(x);
    case ReductionKind::square:
      return e.mul(x, x);
    case ReductionKind::slice:
      if (auto cut = cut_whole_attention(editor, through_identity(editor.graph(), x), step.axes[0],
                                         step.start, step.limit))
        return *cut;
      return e.slice_axis(x, step.axes[0], step.start, step.limit);
    case ReductionKind::column_mass:
    case ReductionKind::column_square:
    case ReductionKind::entropy:
    case ReductionKind::row_max:
    case ReductionKind::sink_column:
    case ReductionKind::row_sum:
      if (!is_pattern(editor.graph(), x)) return array_statistic(editor, x, step.kind, step.start);
      return pattern_statistic(editor, through_identity(editor.graph(), x), step.kind, step.start);
    case ReductionKind::map:
      return pattern_map(editor, through_identity(editor.graph(), x), step.start);
  }
  internal_error_at("unknown reduction");
}

Op join_op(const ProbeStep& step) {
  if (step.kind == ReductionKind::max) return Op::maximum;
  return step.kind == ReductionKind::min ? Op::minimum : Op::add;
}

double join_identity(const ProbeStep& step) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (step.kind == ReductionKind::max) return -kInfinity;
  return step.kind == ReductionKind::min ? kInfinity : 0;
}

Value complete_step(GraphEditor& editor, const ProbeStep& step, Value joined, int64_t count) {
  OpBuilder e(editor);
  if (step.kind == ReductionKind::mean) return e.div(joined, static_cast<double>(count));
  return step.kind == ReductionKind::norm ? e.sqrt(joined) : joined;
}

Value apply_probe_steps(GraphEditor& editor, const ResolvedProbe& probe, Value x, int64_t first,
                        int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const ProbeStep& step = probe.steps[i];
    int64_t count = reduced_count(step, editor.type(x).shape);
    x = complete_step(editor, step, partial_step(editor, step, x), count);
  }
  return x;
}

GraphPtr insert_probes(const GraphPtr& graph, const std::vector<ResolvedProbe>& probes) {
  Problems problems("probe");
  for (const ResolvedProbe& probe : probes)
    if (!find_probed(*graph, probe))
      problems.add(fmt::format("{}: {} is no longer in the program.", probe.id,
                               probe.gradient ? gradient_name(probe.name) : probe.name));
  problems.raise();
  Rewriter to(*graph);
  auto emit = [&](bool from_input) {  // a state is read before anything can overwrite it
    for (const ResolvedProbe& probe : probes) {
      Value source = expect(find_probed(*graph, probe));
      if (graph->is_input(source) != from_input) continue;
      Value x =
          apply_probe_steps(to, probe, to[source], 0, static_cast<int64_t>(probe.steps.size()));
      to.add_node(Op::probe, {x}, {{"id", probe.id}});
    }
  };
  emit(true);
  for (int32_t id = 0; id < graph->size(); ++id)
    if (graph->node(id).op != Op::input) to.copy(id);
  emit(false);
  to.set_stage(Stage::instrumented);
  return to.finish_copy();
}

}  // namespace weir
