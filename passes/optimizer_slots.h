#pragma once
// The optimisers by name, and what each keeps of a weight and is told of a step: names of states
// and of inputs of training programs, which checkpoints and the training loop use, too.
#include <span>
#include <string>
#include <string_view>

#include "support/error.h"

namespace weir {

/// Muon moves matrices, and is AdamW for all other weights.
enum class OptimizerKind : uint8_t { adamw, sgd, muon };

inline constexpr const char* kSecondMoment = "adam.v.";

/// Of the weights that are moved by one rule.
struct OptimizerSlots {
  const char* name;                      ///< as in configurations
  std::span<const char* const> moments;  ///< states of a weight: one of these, then its name
  std::span<const char* const> scalars;  ///< rank-0 inputs of each step
};

inline OptimizerSlots slots_of(OptimizerKind rule) {
  static constexpr const char* adamw_moments[] = {"adam.m.", kSecondMoment};
  static constexpr const char* adamw_scalars[] = {"rate", "bias1", "bias2"};
  static constexpr const char* sgd_moments[] = {"sgd.m."};
  static constexpr const char* muon_moments[] = {"muon.m."};
  static constexpr const char* rate_alone[] = {"rate"};
  switch (rule) {
    case OptimizerKind::adamw:
      return {"adamw", adamw_moments, adamw_scalars};
    case OptimizerKind::sgd:
      return {"sgd", sgd_moments, rate_alone};
    case OptimizerKind::muon:
      return {"muon", muon_moments, rate_alone};
  }
  internal_error_at("unknown optimiser");
}

/// The rule for a weight of an optimiser: `orthogonal` are the matrices that Muon moves.
inline OptimizerKind rule_of(OptimizerKind kind, bool orthogonal) {
  return kind == OptimizerKind::muon && !orthogonal ? OptimizerKind::adamw : kind;
}

/// The rank-0 inputs of a step, for whatever rules its weights have.
inline std::span<const char* const> scalars_of_step(OptimizerKind kind) {
  return slots_of(rule_of(kind, /*orthogonal=*/false)).scalars;
}

/// Of a name that a configuration allows; internal error otherwise.
inline OptimizerKind optimizer_kind(std::string_view name) {
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::sgd, OptimizerKind::muon})
    if (name == slots_of(kind).name) return kind;
  internal_error_at("no optimiser " + std::string(name));
}

}  // namespace weir
