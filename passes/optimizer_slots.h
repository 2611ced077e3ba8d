#pragma once
// The optimisers by name, and what each keeps of a weight and is told of a step: names of states
// and of inputs of training programs, which checkpoints and the training loop use, too.
#include <span>
#include <string>
#include <string_view>

#include "support/error.h"

namespace weir {

enum class OptimizerKind : uint8_t { adamw, sgd };

inline constexpr const char* kSecondMoment = "adam.v.";

struct OptimizerSlots {
  const char* name;                      ///< as in configurations
  std::span<const char* const> moments;  ///< states of a weight: one of these, then its name
  std::span<const char* const> scalars;  ///< rank-0 inputs of each step
};

inline OptimizerSlots slots_of(OptimizerKind kind) {
  static constexpr const char* adamw_moments[] = {"adam.m.", kSecondMoment};
  static constexpr const char* adamw_scalars[] = {"rate", "bias1", "bias2"};
  static constexpr const char* sgd_moments[] = {"sgd.m."};
  static constexpr const char* sgd_scalars[] = {"rate"};
  switch (kind) {
    case OptimizerKind::adamw:
      return {"adamw", adamw_moments, adamw_scalars};
    case OptimizerKind::sgd:
      return {"sgd", sgd_moments, sgd_scalars};
  }
  internal_error_at("unknown optimiser");
}

/// Of a name that a configuration allows; internal error otherwise.
inline OptimizerKind optimizer_kind(std::string_view name) {
  for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::sgd})
    if (name == slots_of(kind).name) return kind;
  internal_error_at("no optimiser " + std::string(name));
}

}  // namespace weir
