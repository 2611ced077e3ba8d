#include "passes/pipeline.h"

#include "passes/attention_gate.h"
#include "passes/attention_normalizer.h"
#include "passes/autodiff.h"
#include "passes/compose/compose.h"
#include "passes/compose/measure.h"
#include "passes/fuse.h"
#include "passes/identities.h"
#include "passes/loss_head.h"
#include "passes/lower.h"
#include "passes/norm_jacobian.h"
#include "passes/plan_memory.h"
#include "passes/probes.h"
#include "passes/qk_norm.h"
#include "passes/recompute.h"
#include "passes/select_inputs.h"
#include "passes/simplify.h"
#include "passes/sink_gradient.h"
#include "passes/value_gate.h"

namespace weir {
namespace {

bool always(const CompileOptions&) { return true; }
bool wants_v_scale(const CompileOptions& o) {
  return o.rewrites.v_scale.variant != VScaleVariant::none;
}
bool wants_normalizer(const CompileOptions& o) {
  return o.rewrites.attention != AttentionNormalizer::softmax;
}
bool wants_gate(const CompileOptions& o) {
  return o.rewrites.attention_gate != AttentionGate::none;
}
bool wants_qk_norm(const CompileOptions& o) { return o.rewrites.qk_norm; }
bool wants_value_gate(const CompileOptions& o) {
  return o.rewrites.value_gate.variant != ValueGate::none;
}
bool wants_sink_gradient(const CompileOptions& o) { return o.rewrites.sink_gradient.gain != 1; }
bool wants_norm_jacobian(const CompileOptions& o) {
  return o.rewrites.norm_jacobian.variant != NormJacobian::exact;
}
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

}  // namespace

const std::vector<Pass>& pipeline() {
  using enum Stage;
  using enum HowOften;
  using G = const GraphPtr&;
  using O = const CompileOptions&;
  // clang-format off
  // A row runs when the graph is at its first stage and its second is not beyond the wanted one.
  static const std::vector<Pass> rows = {
      // The model as defined. Nothing is simplified here: two values that are equal may have
      // different gradients to a probe.
      {"v_scale", [](G g, O o) { return apply_v_scale(g, o.rewrites.v_scale); },
       built, built, once, wants_v_scale, "a change of the model comes before its gradient"},
      {"qk_norm", [](G g, O) { return apply_qk_norm(g); },
       built, built, once, wants_qk_norm, "another change of the model"},
      {"attention_gate", [](G g, O o) { return apply_attention_gate(g, o.rewrites.attention_gate); },
       built, built, once, wants_gate, "another, which finds what the value projection reads"},
      {"value_gate", [](G g, O o) { return apply_value_gate(g, o.rewrites.value_gate); },
       built, built, once, wants_value_gate, "gates values, hence behind V-scale and before a learned value"},
      {"sink_gradient", [](G g, O o) { return apply_sink_gradient(g, o.rewrites.sink_gradient); },
       built, built, once, wants_sink_gradient, "changes the gradient at the values that these make"},
      {"attention_normalizer", [](G g, O o) { return apply_attention_normalizer(g, o.rewrites.attention); },
       built, built, once, wants_normalizer, "the last of them: a learned key may change values and output"},
      {"norm_jacobian", [](G g, O o) { return apply_norm_jacobian(g, o.rewrites.norm_jacobian); },
       built, built, once, wants_norm_jacobian, "changes the gradient of norms, and nothing forward"},
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
  return rows;
}

std::vector<std::string> pass_names() {
  std::vector<std::string> names;
  for (const Pass& pass : pipeline()) names.push_back(pass.name);
  return names;
}

}  // namespace weir
