#include "lab/model_source.h"

#include <fmt/format.h>

#include "lab/config.h"
#include "support/error.h"

namespace weir {

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

CompileOptions trained_rewrites(const Checkpoint& checkpoint) {
  std::vector<std::string> words;
  for (const auto& [key, value] : checkpoint.config().rewrites)
    words.push_back(fmt::format("{}={}", key, value));
  RunConfig config;
  config.model.layers = checkpoint.config().layers;  // what v_scale.layers is checked against
  try {
    config = parse_config("", words, config);
  } catch (const UserError& error) {  // no mistake of this command line
    user_error("checkpoint", "the rewrites that {} says it was trained with are wrong: {}",
               checkpoint.path(), error.what());
  }
  return {.v_scale = config.v_scale, .attention = config.attention};
}

}  // namespace weir
