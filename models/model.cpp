#include "models/model.h"

namespace weir {

int64_t Model::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters) count += parameter.type.elements();
  return count;
}

}  // namespace weir
