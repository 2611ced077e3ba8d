#include "models/model.h"

#include "models/architecture.h"
#include "models/transformer.h"

namespace weir {

int64_t Model::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters) count += parameter.type.elements();
  return count;
}

Model build_model(const ModelConfig& config, int64_t B, int64_t T) {
  return build_transformer(config, block_description(config), B, T);
}

}  // namespace weir
