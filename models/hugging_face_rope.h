#pragma once
// Rotary embedding in a config.json: rope_theta, rope_scaling, rope_parameters.
#include "models/hugging_face_reading.h"

namespace weir {

/// Reads base and scaling as `transformers` does: the members of rope_scaling, or of
/// rope_parameters where that is null or empty; then rope_theta beside them. Notes say what of the
/// file does not count.
void read_hugging_face_rope(HuggingFaceReading& r);

/// The object for a scaling; null for none.
nlohmann::ordered_json hugging_face_rope_scaling(const RopeScaling& scaling);

/// What YaRN multiplies queries and keys by for a factor, where a configuration does not say it:
/// 0.1 mscale ln(factor) + 1.
double yarn_amplitude(double factor, double mscale = 1);

}  // namespace weir
