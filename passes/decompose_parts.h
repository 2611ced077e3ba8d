#pragma once
// The longer formulas of passes/decompose, each from the operands of its row in ops.def.
#include "passes/emit.h"

namespace weir {

// Attention with weights a[t,s] = softmax(scale q k^T), masked to s <= t if causal.
std::vector<Value> decompose_attention(const Emit& e, const std::vector<Value>& in,
                                       const Attrs& attrs);
std::vector<Value> decompose_attention_lse(const Emit& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_attention_grad(const Emit& e, const std::vector<Value>& in,
                                            const Attrs& attrs);
std::vector<Value> decompose_attention_score_grad(const Emit& e, const std::vector<Value>& in,
                                                  const Attrs& attrs);
std::vector<Value> decompose_attention_scores(const Emit& e, const std::vector<Value>& in,
                                              const Attrs& attrs);
std::vector<Value> decompose_attention_stats(const Emit& e, const std::vector<Value>& in,
                                             const Attrs& attrs);
std::vector<Value> decompose_attention_map(const Emit& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_attention_pattern(const Emit& e, const std::vector<Value>& in,
                                               const Attrs& attrs);

// Cross entropy in nats; rows whose target is negative count nothing.
std::vector<Value> decompose_cross_entropy(const Emit& e, const std::vector<Value>& in);
std::vector<Value> decompose_linear_cross_entropy(const Emit& e, const std::vector<Value>& in);
std::vector<Value> decompose_linear_cross_entropy_grad(const Emit& e, const std::vector<Value>& in);

}  // namespace weir
