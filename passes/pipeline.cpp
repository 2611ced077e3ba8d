#include "passes/pipeline.h"

#include "passes/autodiff.h"
#include "passes/compose/compose.h"
#include "passes/compose/measure.h"
#include "passes/fuse.h"
#include "passes/identities.h"
#include "passes/loss_head.h"
#include "passes/lower.h"
#include "passes/plan_memory.h"
#include "passes/probes.h"
#include "passes/recompute.h"
#include "passes/select_inputs.h"
#include "passes/simplify.h"

namespace weir {
namespace {

bool always(const CompileOptions&) { return true; }
bool wants_gradients(const CompileOptions& o) {
  return o.compose.purpose != Purpose::plain || !o.gradients.empty();
}
bool shares_loss_head(const CompileOptions& o) {
  return o.compose.purpose == Purpose::train || !o.gradients.empty();
}
bool checks_identities(const CompileOptions& o) { return o.compose.purpose == Purpose::check; }
bool decomposes(const CompileOptions& o) { return o.decompose != DecomposeMode::none; }
bool composes(const CompileOptions& o) {
  return o.compose.purpose != Purpose::plain || !o.probes.empty();
}
std::vector<ResolvedProbe> probes_of(const GraphPtr& graph, const CompileOptions& o) {
  return resolve_probes(graph, parse_probe_requests(o.probes), o.loss);
}

GraphPtr differentiate_for(const GraphPtr& graph, const CompileOptions& o) {
  const std::vector<ResolvedProbe> probes = probes_of(graph, o);
  if (o.compose.purpose == Purpose::measure || o.compose.purpose == Purpose::check)
    check_measurable(*graph, probes);
  DifferentiateOptions options{.loss = o.loss, .named = probed_gradients(graph, probes)};
  switch (o.compose.purpose) {
    case Purpose::plain:
      options.wrt = select_inputs(*graph, o.gradients);
      break;
    case Purpose::train:
    case Purpose::descend:
      options.wrt =
          select_inputs(*graph, o.gradients.empty() ? std::vector<std::string>{"*"} : o.gradients);
      break;
    case Purpose::measure:
      if (options.named.empty()) return graph;
      break;
    case Purpose::check:
      for (const std::string& name : identity_gradients(*graph)) options.named.push_back(name);
      if (options.named.empty())
        user_error("check",
                   "graph {} has no attention, norm or V-scale on which its {} depends, so that "
                   "there is nothing to check.",
                   graph->name(), o.loss);
      break;
  }
  return differentiate(graph, options);
}

// The model as defined is rewritten. Nothing is simplified here: two values that are equal may have
// different gradients to a probe.
std::vector<Pass> rewrite_passes() {
  std::vector<Pass> passes;
  for (const RewriteRow& row : rewrite_rows())
    passes.push_back(
        {row.name,
         [&row](const GraphPtr& g, const CompileOptions& o) { return row.apply(g, o.rewrites); },
         Stage::built, Stage::built, HowOften::once,
         [&row](const CompileOptions& o) { return row.wanted(o.rewrites); }, row.reason});
  return passes;
}

std::vector<Pass> passes_behind_rewrites() {
  using enum Stage;
  using enum HowOften;
  using G = const GraphPtr&;
  using O = const CompileOptions&;
  // clang-format off
  // A row runs when the graph is at its first stage and its second is not beyond the wanted one.
  return {
      {"loss_head", [](G g, O) { return fuse_loss_head(g); },
       built, built, once, always, "no array of logits in memory, neither forward nor backward"},
      {"tap_identities", [](G g, O o) { return tap_identities(g, o.loss); },
       built, built, once, checks_identities, "gradients of single uses get names to be checked by"},

      {"autodiff", [](G g, O o) { return differentiate_for(g, o); },
       built, differentiated, once, wants_gradients, "gradients of everything named on the way"},

      // From here on gradients are ordinary code, and equal values are one.
      {"simplify", [](G g, O) { return simplify(g); },
       differentiated, differentiated, until_fixed, always,
       "removes what only differentiation needed: identity, stop_gradient, straight_through, times one"},
      {"share_loss_head", [](G g, O) { return share_loss_head(g); },
       differentiated, differentiated, once, shares_loss_head, "each logit is computed once"},
      {"compose", [](G g, O o) { return compose(g, o.compose, o.loss, probes_of(g, o)); },
       differentiated, instrumented, once, composes,
       "the programs that run, with their probes; nothing is rewritten before names are resolved"},

      // Probes are attached; the rest treats them as any other code. Code that only a name keeps
      // stays until lower, so that the order of nodes is the same with and without probes.
      {"decompose", [](G g, O o) { return decompose(g, o.decompose); },
       instrumented, instrumented, once, decomposes, "kernels are made of few primitives"},
      {"simplify_primitives", [](G g, O) { return simplify(g); },
       instrumented, instrumented, until_fixed, decomposes,
       "the formulas of composites share subexpressions"},
      {"lower", [](G g, O o) { return lower(g, o.target); },
       instrumented, lowered, once, always, "fixes the order of every sum before kernels are cut"},

      // Kernels and where their results lie.
      {"fuse", [](G g, O) { return fuse(g); },
       lowered, fused, once, always, "one pass over memory for what can be done in one"},
      {"recompute", [](G g, O o) { return recompute(g, {.memory = o.memory}); },
       fused, fused, once, always, "cheap values are not kept for the backward pass"},
      {"plan_memory", [](G g, O) { return plan_memory(g); },
       fused, planned, once, always, "the peak is known before anything runs"},
  };
  // clang-format on
}

}  // namespace

const std::vector<Pass>& pipeline() {
  static const std::vector<Pass> rows = [] {
    std::vector<Pass> all = rewrite_passes();
    for (Pass& pass : passes_behind_rewrites()) all.push_back(std::move(pass));
    return all;
  }();
  return rows;
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const Pass& pass : pipeline()) names.push_back(pass.name);
  return names;
}

}  // namespace weir
