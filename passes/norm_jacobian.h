#pragma once
// The norm-Jacobian control as a rewrite of any built graph: RMSNorm that computes what it computes
// and whose backward pass does not divide by the size of its input. It takes away the reward that a
// token has for a large norm, and nothing else.
//
// With rms(x) = sqrt(mean x^2 + eps), xhat = x / rms(x), y = gamma xhat and g = gamma dL/dy,
// means over the features of a token:
//
//   exact        dL/dx = (g - xhat mean(g xhat)) / rms(x)
//   without-rms  dL/dx =  g - xhat mean(g xhat)
//
// The projection stays: the part of g along x goes away in both. The gradient of gamma is exact in
// both, and so is the forward pass, bit for bit.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

enum class NormJacobian : uint8_t { exact, without_rms };

/// "exact", "without-rms".
const char* norm_jacobian_name(NormJacobian variant);
const std::vector<NormJacobian>& norm_jacobians();
/// User error that lists the names if `text` is none.
NormJacobian parse_norm_jacobian(const std::string& text);

struct NormJacobianOptions {
  NormJacobian variant = NormJacobian::exact;
  /// Blocks whose norms it applies to; empty: all, and the norm behind the last block.
  std::vector<int64_t> layers = {};
};

/// The graph with x as straight_through(x, rms x), rms held constant, in front of each RMSNorm of
/// the residual stream: of every rms_norm whose operand has at most three axes (norms of queries
/// and keys have one of heads as well). The norms of block l are those whose operand is named
/// `blocks.l.*`; others, such as the last one of a model, belong to no block. User errors: no such
/// norm in the graph, or none in a block asked for.
GraphPtr apply_norm_jacobian(const GraphPtr& graph, const NormJacobianOptions& options);

}  // namespace weir
