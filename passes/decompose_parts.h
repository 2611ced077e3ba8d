#pragma once
// The longer formulas of passes/decompose, each from the operands of its row in ops.def.
#include "passes/op_builder.h"

namespace weir {

// Attention with weights a[t,s] = softmax(scale q k^T), masked to s <= t if causal.
std::vector<Value> decompose_attention(const OpBuilder& e, const std::vector<Value>& in,
                                       const Attrs& attrs);
std::vector<Value> decompose_attention_lse(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_attention_grad(const OpBuilder& e, const std::vector<Value>& in,
                                            const Attrs& attrs);
std::vector<Value> decompose_attention_score_grad(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs);
std::vector<Value> decompose_attention_scores(const OpBuilder& e, const std::vector<Value>& in,
                                              const Attrs& attrs);
std::vector<Value> decompose_attention_stats(const OpBuilder& e, const std::vector<Value>& in,
                                             const Attrs& attrs);
std::vector<Value> decompose_attention_identities(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs);
std::vector<Value> decompose_attention_map(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_attention_pattern(const OpBuilder& e, const std::vector<Value>& in,
                                               const Attrs& attrs);

// Cross entropy in nats; rows whose target is negative count nothing.
std::vector<Value> decompose_cross_entropy(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_linear_cross_entropy(const OpBuilder& e, const std::vector<Value>& in,
                                                  const Attrs& attrs);
std::vector<Value> decompose_linear_cross_entropy_grad(const OpBuilder& e,
                                                       const std::vector<Value>& in,
                                                       const Attrs& attrs);

}  // namespace weir
