#pragma once
// The value of a rewrite's key as configurations and records write it.
#include <nlohmann/json.hpp>

#include "passes/rewrites.h"

namespace weir {

nlohmann::ordered_json rewrite_json(const RewriteSlot& slot);

/// States in `settings` the rewrites behind `attention` and V-scale that are on: those of their
/// values that are not the default, "sink_gradient.gain" as `sink_gradient_gain`,
/// "value_gate.variant" as `value_gate`.
void state_rewrites(const Rewrites& rewrites, nlohmann::ordered_json& settings);

/// The same behind `attention` and `v_scale`, which are always stated, and the constants of
/// V-scale, which are stated if it is on: all that changes what the model computes.
void state_all_rewrites(const Rewrites& rewrites, nlohmann::ordered_json& settings);

}  // namespace weir
