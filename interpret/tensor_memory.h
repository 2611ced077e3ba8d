#pragma once
// Stored arrays, as compiled programs have them, to and from host tensors of doubles.
#include "interpret/host_tensor.h"

namespace weir {

HostTensor read_tensor(const Type& type, const void* data);
/// Rounds to the stored type.
void write_tensor(const HostTensor& tensor, void* data);

}  // namespace weir
