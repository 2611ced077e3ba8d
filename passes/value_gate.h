#pragma once
// The value-state gate as a rewrite of any built graph: a head can give its weight to a token
// without taking anything from it, so that neither the token's value nor its gradient has to
// become small for that.
//
// Bu et al., "Value-State Gated Attention for Mitigating Extreme-Token Phenomena in Transformers"
// (arXiv 2510.09017), equations 4 and 6: g_j = sigmoid(V_j W_g), z_i = sum_j a_ij g_j V_j. V_j are
// the values of token j of all heads side by side and g_j one number for each of them (their
// appendix B, W_g of d x heads, without a bias). Here heads are value heads, which under grouped
// queries are fewer than queries; the gate stands at the values, as in equation 4. (In the code of
// that appendix it stands at the output of the query's head, where it reads the query's own value.)
// W_g starts at 0, so that all gates start at 1/2; the paper names no start.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

enum class ValueGate : uint8_t { none, head };

/// "none", "head".
const char* value_gate_name(ValueGate variant);
const std::vector<ValueGate>& value_gates();
/// User error that lists the names if `text` is none.
ValueGate parse_value_gate(const std::string& text);

struct ValueGateOptions {
  ValueGate variant = ValueGate::none;
  std::vector<int64_t> layers = {};  ///< which attention nodes, counted from 0; empty: all
};

/// The graph with gated values in front of the chosen attention nodes; behind V-scale, where there
/// is one. Each adds a state input [G, G d], G value heads of d features, whose first value is 0
/// (added_states of passes/v_scale.h): `<layer>.self_attn.value_gate.weight` where the weight of
/// the value projection is called `<layer>.self_attn.v_proj.weight`, else
/// `attention.N.value_gate.weight`. The gates are named `<prefix>.hook_v_gate` [B,T,G,1] and the
/// gated values
/// `<prefix>.hook_v_gated` where the operand is named `<prefix>.hook_v*`. User errors: no attention
/// in the graph, layers that there are not.
GraphPtr apply_value_gate(const GraphPtr& graph, const ValueGateOptions& options);

}  // namespace weir
