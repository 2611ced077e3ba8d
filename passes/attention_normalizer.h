#pragma once
// Another attention normaliser as a rewrite of any built graph (ir/normalizer.h).
//
// Some bring states, whose first values the caller provides (ir/rewrite_state.h). With zeros
// sink-logit and kv-bias are softmax-1. A state's prefix is that of passes/projection.h.
//
//   sink-logit   `sinks` [H]: the score of another key, the same for all queries of a head, as
//                gpt-oss has it. Softmax-1 with a learned b a head, exp(s - b) / (1 + sum exp(s -
//                b)), is the same function with z = b.
//   bayes-softmax
//                `bayes_softmax.bias` [H]: how much a head's scores are lowered before heads share
//                one unit of mass (ir/normalizer.h). The attention is softmax, and its output is
//                multiplied by the gate of op attention_head_gate, which is named hook_head_gate
//                [B,T,H,1] beside hook_z; what reads the weights by its rows gets rows with the
//                gate, and so the product of both. With zeros heads are weighted by their sums of
//                exponentials; of a single head it is softmax.
//   kv-bias      `kv_bias.key`, `kv_bias.value` [G,d]: one more key, with its value, that every
//                query sees, at position 0 and so not rotated ("Massive Activations in Large
//                Language Models", arXiv 2402.17762, section 4; there it has a position of its
//                own). Its score is that of any key. Weights a[t,s] are those of the tokens; the
//                learned key has 1 - sum_s a[t,s].
//
// The learned value v' is added outside of the attention node: since the weights of all keys sum to
// one, sum_s a[t,s] v_s + (1 - sum_s a[t,s]) v' = sum_s a[t,s] (v_s - v') + v'. So the node's
// values are v - v', and its gradient at a weight is what the weight changes at the learned key's
// expense.
#include "ir/graph.h"
#include "ir/normalizer.h"

namespace weir {

/// The graph with the normaliser in every attention, and in what reads the weights by its rows
/// (attention_pattern, attention_stats, attention_lse). User errors: no attention in the graph; a
/// graph that is differentiated already; a normaliser with states of its own, where another
/// is asked for.
GraphPtr apply_attention_normalizer(const GraphPtr& graph, AttentionNormalizer normalizer);

}  // namespace weir
