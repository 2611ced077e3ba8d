#include "engine/probe_value.h"

#include "interpret/tensor_memory.h"

namespace weir {

HostTensor ProbeValue::host() const {
  if (const auto* tensor = std::get_if<const HostTensor*>(&data)) return **tensor;
  return read_tensor(type, std::get<const void*>(data));
}

}  // namespace weir
