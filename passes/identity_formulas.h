#pragma once
// Both sides of the identities of passes/identities.def, appended to a graph in the making.
#include <string>
#include <utility>
#include <vector>

#include "passes/op_builder.h"

namespace weir::identity_formulas {

/// Values by the rest of their names: "value_gradient.left" ...
using Named = std::vector<std::pair<std::string, Value>>;

struct AttentionSite {
  std::vector<Value> operands;  ///< q, k, v and, of some normalisers, the score of another key
  Value out, dout;
  Value dq, dk, dv;  ///< as the program computes them
  Value dlse;        ///< at row log-sum-exps [B,H,T]; not valid where the loss depends on none
  Attrs attrs;
  int64_t sink;
};
Named attention(const OpBuilder& e, const AttentionSite& site);

struct NormSite {
  bool centred;  ///< LayerNorm
  double eps;
  Value x, gamma, dout;
  Value dx;  ///< as the program computes it
};
Named norm(const OpBuilder& e, const NormSite& site);

struct VScaleSite {
  Value v, dout;
  Value dv;        ///< as the program computes it
  Value constant;  ///< C, by head or one number; not valid where the gradient is the identity
};
Named v_scale(const OpBuilder& e, const VScaleSite& site);

/// C of a v_scale node, exp(theta) included: a number, or [heads,1].
Value v_scale_constant(GraphEditor& editor, const std::vector<Value>& operands, const Attrs& attrs);

}  // namespace weir::identity_formulas
