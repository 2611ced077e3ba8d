#include "lab/measure/model_source.h"

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

Rewrites trained_rewrites(const Checkpoint& checkpoint) {
  try {
    return parse_rewrites(checkpoint.config().rewrites, checkpoint.config().layers, "rewrites");
  } catch (const UserError& error) {  // no mistake of this command line
    user_error("checkpoint", "the rewrites that {} says it was trained with are wrong: {}",
               checkpoint.path(), error.what());
  }
}

}  // namespace weir
