#include "lab/model_source.h"

namespace weir {

ModelSource checkpoint_source(std::shared_ptr<const Checkpoint> checkpoint) {
  const ModelConfig config = resolved(checkpoint->config());
  ModelSource source;
  source.sizes = {checkpoint->name(), config.layers,     config.d_model,
                  config.heads,       config.kv_heads,   config.d_head,
                  config.d_ff,        config.vocabulary, 0};
  source.build = [checkpoint](int64_t B, int64_t T) { return checkpoint->build(B, T); };
  source.read = [checkpoint](const Parameter& parameter, float* out) {
    checkpoint->read(parameter, out);
  };
  return source;
}

}  // namespace weir
