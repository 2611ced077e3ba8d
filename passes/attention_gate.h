#pragma once
// A sigmoid gate on what attention gives, as a rewrite of any built graph (Qiu et al., "Gated
// Attention for Large Language Models", arXiv 2505.06708, the gate G1): z becomes
// sigmoid(n W^T) z, n being what the layer's projections read, which is the normalised stream.
#include <string>
#include <vector>

#include "ir/graph.h"

namespace weir {

/// `head`: one gate a query head, W [H, d_model]; `element`: one a feature, W [H d, d_model].
enum class AttentionGate : uint8_t { none, head, element };

/// None first.
const std::vector<AttentionGate>& attention_gates();
/// In options, configurations and checkpoints.
const char* attention_gate_name(AttentionGate gate);
/// A user error that lists the names, nearest first, if `text` is none.
AttentionGate parse_attention_gate(const std::string& text);

/// The graph with the gate behind every attention. W is a new state `output_gate.weight` behind the
/// prefix of passes/projection.h, which starts at 0 (ir/rewrite_state.h), so that all gates start
/// at 1/2. The gated output is named as the output was (`<prefix>.hook_z`), the gates [B,T,H,1 or
/// d] `<prefix>.hook_gate`. User errors: no attention in the graph; a graph that is differentiated
/// already; values that no product makes, so that there is nothing that a gate could read.
GraphPtr apply_attention_gate(const GraphPtr& graph, AttentionGate gate);

}  // namespace weir
