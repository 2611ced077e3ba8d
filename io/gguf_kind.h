#pragma once
// Sizes of the kinds of GGUF metadata.
#include "io/gguf.h"

namespace weir {

/// Bytes of one value; 0 for texts and lists, which say their own length.
size_t gguf_kind_bytes(GgufKind kind);

}  // namespace weir
