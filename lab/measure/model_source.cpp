#include "lab/measure/model_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ir/rewrite_state.h"
#include "models/stored_weights.h"
#include "models/transformer.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "support/log.h"

namespace weir {

void check_model(const Model& model, int64_t B, int64_t T) {
  if (!model.graph) user_error("model", "the graph is null. Make one with Builder::finish().");
  const Graph& graph = *model.graph;
  Problems problems("model");
  const auto need_input = [&](const std::string& name, const Type& type) {
    const auto input = graph.find_input(name);
    if (!input)
      problems.add(fmt::format("there is no input {} {}.", name, to_string(type)));
    else if (graph.type(*input) != type)
      problems.add(fmt::format("input {} is {}, but {} is needed.", name,
                               to_string(graph.type(*input)), to_string(type)));
  };
  need_input("tokens", i32({B, T}));
  need_input("targets", i32({B, T}));
  need_input("loss_scale", f32({}));
  const auto loss = graph.find_output("loss");
  if (!loss)
    problems.add("there is no output loss. Name it with Builder::output(\"loss\", ...).");
  else if (graph.type(*loss).elements() != 1)
    problems.add(
        fmt::format("output loss is {}, but one number is needed.", to_string(graph.type(*loss))));
  std::map<std::string, Type> parameters;
  for (const Parameter& parameter : model.parameters) {
    parameters.emplace(parameter.name, parameter.type);
    const auto input = graph.find_input(parameter.name);
    if (!input || !graph.node(*input).attrs.get_bool("state"))
      problems.add(fmt::format("parameter {} is no state of the graph.", parameter.name));
    else if (graph.type(*input) != parameter.type)
      problems.add(fmt::format("parameter {} is {}, but the state is {}.", parameter.name,
                               to_string(parameter.type), to_string(graph.type(*input))));
  }
  for (int32_t id : graph.inputs())
    if (graph.node(id).attrs.get_bool("state") && !parameters.contains(graph.input_name(id)))
      problems.add(fmt::format("state {} has no parameter, which says how it starts.",
                               graph.input_name(id)));
  problems.raise();
}

ModelSource stored_source(const ModelDefinition& model, const std::string& folder) {
  const std::shared_ptr<const StoredWeights> weights = open_safetensors_folder(folder);
  ModelSource source;
  source.sizes = model.sizes;
  source.build = model.build;
  for (const StoredTensor& tensor : weights->tensors())
    source.mapped_bytes = std::max(source.mapped_bytes, tensor.bytes);
  const auto read = [weights](const std::string& name, const Type& type, float* out) {
    const std::vector<StoredTensor>& tensors = weights->tensors();
    const auto found =
        std::find_if(tensors.begin(), tensors.end(),
                     [&](const StoredTensor& tensor) { return tensor.name == name; });
    if (found == tensors.end() || found->shape != type.shape) return false;
    weights->read(static_cast<size_t>(found - tensors.begin()), out);
    return true;
  };
  source.read = [read, folder](const Parameter& parameter, float* out) {
    if (!read(parameter.name, parameter.type, out))
      user_error("model", "{} has no {} {}. Give a checkpoint of this model.", folder,
                 parameter.name, to_string(parameter.type));
  };
  source.read_added = [read, folder](const AddedState& state, float* out) {
    const bool stored = read(state.name, state.type, out);
    if (!stored)
      log_warning("{} has no {} {}, which begins at {}.", folder, state.name, to_string(state.type),
                  first_value_of(state.name));
    return stored;
  };
  return source;
}

ModelSource checkpoint_source(const std::shared_ptr<const Checkpoint>& checkpoint) {
  const ModelConfig config = resolved(checkpoint->config());
  ModelSource source;
  source.sizes = {checkpoint->name(), config.layers,     config.d_model,
                  config.heads,       config.kv_heads,   config.d_head,
                  config.d_ff,        config.vocabulary, 0};
  source.mapped_bytes = checkpoint->largest_stored_bytes();
  source.build = [checkpoint](int64_t B, int64_t T) { return checkpoint->build(B, T); };
  source.read = [checkpoint](const Parameter& parameter, float* out) {
    checkpoint->read(parameter, out);
  };
  source.read_added = [checkpoint](const AddedState& state, float* out) {
    const Parameter parameter{state.name, state.type};
    if (!checkpoint->has(parameter)) return false;
    checkpoint->read(parameter, out);
    return true;
  };
  source.check_weights = [checkpoint] { checkpoint->need_finite(); };
  return source;
}

namespace {

// The rewrite that adds a state, for people.
std::string rewrite_of_state(const std::string& state, const Rewrites& rewrites) {
  if (state.ends_with("value_gate.weight")) return "a value gate";
  if (state.ends_with("output_gate.weight"))
    return fmt::format("attention_gate {}", attention_gate_name(rewrites.attention_gate));
  if (state.ends_with("qk_norm.query") || state.ends_with("qk_norm.key")) return "qk_norm";
  if (state.ends_with("v_scale.theta"))
    return fmt::format("V-scale {}", v_scale_variant_name(rewrites.v_scale.variant));
  return fmt::format("attention {}", normalizer_name(rewrites.attention));
}

// Without them the model would be another than the one that was trained, in silence.
void need_states(const Checkpoint& checkpoint, Rewrites rewrites) {
  rewrites.sink_gradient = {};  // adds no state, and its token may lie behind the one built here
  const Model model = build_model(checkpoint.config(), 1, 1);
  const GraphPtr rewritten = apply_rewrites(model.graph, rewrites);
  Problems problems("checkpoint");
  for (const AddedState& state : added_states(*model.graph, *rewritten))
    if (!checkpoint.has({state.name, state.type}))
      problems.add(fmt::format(
          "{} says that it was trained with {}, but has no tensor {} {}. Give the whole "
          "checkpoint, or correct weir_rewrites in its config.json.",
          checkpoint.path(), rewrite_of_state(state.name, rewrites), state.name,
          to_string(state.type)));
  problems.raise();
}

}  // namespace

Rewrites trained_rewrites(const Checkpoint& checkpoint) {
  Rewrites rewrites;
  try {
    rewrites = parse_rewrites(checkpoint.config().rewrites, checkpoint.config().layers, "rewrites");
  } catch (const UserError& error) {  // no mistake of this command line
    user_error("checkpoint", "the rewrites that {} says it was trained with are wrong: {}",
               checkpoint.path(), error.what());
  }
  const bool adds_states = rewrites.v_scale.variant == VScaleVariant::learned ||
                           brings_states(rewrites.attention) ||
                           rewrites.attention_gate != AttentionGate::none || rewrites.qk_norm ||
                           rewrites.value_gate.variant != ValueGate::none;
  if (adds_states) need_states(checkpoint, rewrites);
  return rewrites;
}

}  // namespace weir
