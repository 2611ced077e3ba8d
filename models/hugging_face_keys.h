#pragma once
// The keys of a config.json that are understood, and those that change nothing.
#include "models/hugging_face_reading.h"

namespace weir {

/// Reads every key of the file into the configuration; what is missing has the default of the
/// library. Problems are keys that are not known, null where the library has no use for it, and
/// values that would make a model that is not implemented.
void read_hugging_face_keys(HuggingFaceReading& r);

}  // namespace weir
