#pragma once
// V-scale as a rewrite of any built graph (spec/gradient-sinks.md, section 5): the value operand of
// attention passes through v_hat = v r / (r + C), r = |v|^2 over the head's features.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// `full` has a fixed C; `learned` multiplies C by exp(theta), theta a new state per layer and kv
/// head; `backward` leaves the value and takes only the gradient; `forward` the opposite.
enum class VScaleVariant : uint8_t { none, full, learned, backward, forward };

struct VScaleInfo {
  VScaleVariant variant;
  const char* name;        ///< in options, configurations, records and file names
  const char* short_form;  ///< accepted for it
  const char* op_variant;  ///< attribute of the op, "" where there is none
};

const VScaleInfo& info(VScaleVariant variant);
inline const char* v_scale_variant_name(VScaleVariant variant) { return info(variant).name; }
/// None first.
const std::vector<VScaleInfo>& v_scale_variants();
/// A user error that lists the variants, nearest first, if `text` is none.
VScaleVariant parse_v_scale_variant(const std::string& text);

struct VScaleOptions {
  VScaleVariant variant = VScaleVariant::none;
  std::vector<int64_t> layers = {};  ///< which attention nodes, counted from 0; empty: all
  double sigma = 0.02;               ///< standard deviation of the weights' initialisation
  double lambda = 1;                 ///< C = d_model d_head sigma^2 lambda
  /// Width of the value projection's input; 0 takes it from the projection found before the value
  /// operand, or heads times d_head where there is none.
  int64_t d_model = 0;
};

/// The graph with V-scale before the value operand of the chosen attention nodes. The value is
/// named `<prefix>.hook_v_scaled` where the operand is named `<prefix>.hook_v`. The learned variant
/// adds state inputs theta[kv heads], whose first value (0) the caller provides: see added_states.
/// User errors: no attention in the graph, an unknown layer, a value that is scaled already.
GraphPtr apply_v_scale(const GraphPtr& graph, const VScaleOptions& options);

struct AddedState {
  std::string name;
  Type type;
};
/// The state inputs of `after` that `before` lacks.
std::vector<AddedState> added_states(const Graph& before, const Graph& after);

}  // namespace weir
