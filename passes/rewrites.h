#pragma once
// What changes a model after it is built: the rewrites that a run, a checkpoint or a command asks
// for, and the one table of the keys that name them.
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ir/graph.h"
#include "ir/normalizer.h"
#include "passes/attention_gate.h"
#include "passes/norm_jacobian.h"
#include "passes/sink_gradient.h"
#include "passes/v_scale.h"
#include "passes/value_gate.h"
#include "support/value_rule.h"

namespace weir {

struct Rewrites {
  VScaleOptions v_scale = {};
  /// Of every attention; softmax leaves the model's own.
  AttentionNormalizer attention = AttentionNormalizer::softmax;
  AttentionGate attention_gate = AttentionGate::none;
  bool qk_norm = false;
  ValueGateOptions value_gate = {};
  SinkGradientOptions sink_gradient = {};
  NormJacobianOptions norm_jacobian = {};
};

using RewriteSlot = std::variant<ValueSlot, VScaleVariant*, AttentionNormalizer*, AttentionGate*,
                                 ValueGate*, NormJacobian*>;

struct RewriteKey {
  const char* name;  ///< "attention", "v_scale.variant" ...
  std::function<RewriteSlot(Rewrites&)> slot;
  ValueRule rule;
  const char* meaning;
};

/// In the order of a resolved configuration.
const std::vector<RewriteKey>& rewrite_keys();

/// A rewrite as a row of the pipeline, which begins with these.
struct RewriteRow {
  const char* name;
  bool (*wanted)(const Rewrites&);
  GraphPtr (*apply)(const GraphPtr&, const Rewrites&);
  const char* reason;  ///< for its place in the order
};

/// In the order in which they are applied.
const std::vector<RewriteRow>& rewrite_rows();

/// Reads a value into its place: "", or the whole sentence about what is wrong with it.
std::string read_rewrite(const std::string& name, const std::string& text, const RewriteSlot& slot,
                         const ValueRule& rule);

/// The model with all that are wanted, as the pipeline applies them.
GraphPtr apply_rewrites(const GraphPtr& graph, const Rewrites& rewrites);

/// Whether the key is a constant of a rewrite that is off, so that its value changes nothing.
bool is_idle(const Rewrites& rewrites, const std::string& key);

/// The keys that choose layers, with the layers chosen.
std::vector<std::pair<std::string, std::vector<int64_t>>> layers_by_key(const Rewrites& rewrites);
/// "" or the sentence about layers that a model of so many layers does not have; `name` is what the
/// user knows the list by.
std::string check_layers(const std::string& name, const std::vector<int64_t>& layers,
                         int64_t layers_of_model);

/// Settings by key, as a checkpoint states those that it was trained with. User error of `topic`
/// that lists everything wrong: unknown keys, values out of range, layers that there are not.
Rewrites parse_rewrites(const std::map<std::string, std::string>& settings, int64_t layers_of_model,
                        const char* topic);

}  // namespace weir
