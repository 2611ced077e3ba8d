#include "models/model.h"

#include "models/gpt2.h"
#include "models/llama.h"
#include "support/error.h"

namespace weir {

int64_t Model::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters) count += parameter.type.elements();
  return count;
}

Model build_model(const ModelConfig& config, int64_t B, int64_t T) {
  switch (config.architecture) {
    case Architecture::llama:
    case Architecture::qwen2:
    case Architecture::qwen3:
      return build_llama(config, B, T);
    case Architecture::gpt2:
      return build_gpt2(config, B, T);
  }
  internal_error_at("unknown architecture");
}

}  // namespace weir
