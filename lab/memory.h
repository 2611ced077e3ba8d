#pragma once
// Memory of this process and what it can still have, as the system says.
#include <cstdint>

namespace weir {

/// Bytes that this process can still have, by the system and by its control group.
int64_t free_memory();
/// Bytes of this process that are in memory, and the most there ever were.
int64_t resident_memory();
int64_t peak_resident_memory();

}  // namespace weir
