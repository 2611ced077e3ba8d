#pragma once
// Where queries, keys and values of an attention come from: what rewrites of attention go by.
#include <string>

#include "ir/graph.h"

namespace weir {

/// A product of rows with a weight.
struct Projection {
  int64_t d_model = 0;  ///< width of the product's input; 0 if there is no product
  std::string weight;   ///< name of the input that it multiplies with, or ""
  Value input = {};     ///< the rows; invalid if there is no product
};

/// The product that makes an operand of attention: found by walking back through what only moves,
/// converts or shifts it, and through `passed`, which change it but take it as their first operand.
Projection find_projection(const Graph& graph, Value value, const std::vector<Op>& passed = {});

/// Behind which the states of a rewrite are named: "model.layers.3.self_attn." where the weight is
/// "model.layers.3.self_attn.v_proj.weight", else "attention.3.".
std::string state_prefix(const Projection& of_value, int64_t layer);

}  // namespace weir
