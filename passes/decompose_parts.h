#pragma once
// The longer formulas of passes/decompose, each from the operands of its row in ops.def.
#include "passes/op_builder.h"

namespace weir {

// Attention with weights a[t,s] = softmax(scale q k^T), masked to s <= t if causal.
std::vector<Value> decompose_attention(const OpBuilder& e, const std::vector<Value>& in,
                                       const Attrs& attrs);
std::vector<Value> decompose_attention_lse(const OpBuilder& e, const std::vector<Value>& in,
                                           const Attrs& attrs);
std::vector<Value> decompose_attention_head_gate(const OpBuilder& e, const std::vector<Value>& in,
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

// Muon of K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024,
// kellerjordan.github.io/posts/muon). With g the gradient times its factor:
//   m <- momentum m + (1 - momentum) g,  u = momentum m + (1 - momentum) g   (Nesterov),
//   X <- u / max(|u|_F, 1e-7), then five times X <- a X + (b A + c A^2) X with A = X X^T and
//   (a, b, c) = (3.4445, -4.7750, 2.0315), on the transposed matrix where it has more rows,
//   p <- (1 - rate weight_decay) p - rate scale sqrt(max(M,N)) X.
// The singular values of X end between about 0.7 and 1.2, for which the coefficients are chosen.
// torch.optim.Muon with adjust_lr_fn "match_rms_adamw" is the same with X in bf16 and scale 0.2;
// here X has the dtype of the weights.
std::vector<Value> decompose_muon(const OpBuilder& e, const std::vector<Value>& in,
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
