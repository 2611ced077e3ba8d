#pragma once
// Dials: rewrites of a built graph that put a knob into one of its layers, whose setting is an
// input of the program. One compiled program then sweeps all settings at the same weights and
// tokens. What each one is for is said in lab/experiments/dial.h.
//
// The dials of attention keep the one attention node and its kernels, with whatever normaliser: the
// operands get further features, and weights of a row stay what the normaliser makes of its
// scores. Queries [q | u_t] and keys [k | w_s] have the scores scale q.k + scale u_t.w_s; values
// [v | 1 at key s] make the attention hand out the weights a_ts beside its output. No array of
// queries times keys is in memory. Where key heads are fewer than query heads, keys and values are
// repeated for each query head, so that every head has a setting of its own.
#include <cstdint>
#include <string>

#include "ir/graph.h"

namespace weir {

enum class DialRewrite : uint8_t {
  /// amount[h,j] is added to the score of query t on key keys[j], for t > keys[j]. An amount of
  /// kBlocked takes the key away from those queries; a query still sees its own key.
  key_logits,
  /// The weight of query t on key keys[0] is multiplied by amount[h,0] for t > keys[0], after
  /// normalisation: rows then sum to another number. The weights do not depend on anything by this
  /// path (their gradient is stopped), the values do.
  key_weights,
  /// The value vector of key keys[0] is multiplied by amount[h,0], as V-scale leaves it.
  key_value,
  /// Query t sees key keys[0] with the score of key keys[1] and the other way round, where
  /// t > both; amount[h,0] is 1 for heads whose keys are exchanged, and 0 for others. Values
  /// stay where they are.
  key_exchange,
  /// The value that is named `hook`, [B,T,D], is multiplied by amount[0,0] at token keys[0], for
  /// all of its uses; the name goes to the product.
  token_scale
};

/// An amount of key_logits: large enough for a weight of zero beside any score, and far from the
/// end of f32.
inline constexpr double kBlocked = -1e30;

struct DialOptions {
  DialRewrite rewrite = DialRewrite::key_logits;
  int64_t layer = 0;      ///< which attention node, counted from 0 in the graph that is given
  std::string hook = {};  ///< of token_scale
  int64_t keys = 1;       ///< of key_logits: how many keys have an amount of their own
};

/// Inputs that a dial adds: `dial.keys` i32[K], K being 2 for key_exchange, `keys` for key_logits
/// and 1 elsewhere; `dial.amount` f32[H,A], H the query heads and A one amount a key of key_logits
/// and 1 elsewhere, or f32[1,1] for token_scale. A key of -1 is none.
inline constexpr const char* kDialKeys = "dial.keys";
inline constexpr const char* kDialAmount = "dial.amount";
struct DialInputs {
  int64_t keys, amounts;  ///< K and A
};
DialInputs dial_inputs(const DialOptions& options);

/// Values that a dial of attention names: the weights [B,T,H,K] of every query on the keys, as they
/// multiply values; the values [B,T,H,d] that are summed, one for every query head.
inline constexpr const char* kDialWeights = "dial.weights";
inline constexpr const char* kDialValues = "dial.values";

/// The graph with the dial. Neutral amounts (0, 1, 1, 0 or equal keys, 1) leave what it computes as
/// it is, but for the order of sums over keys. Other nodes that show the scores or weights of that
/// attention (attention_pattern, attention_scores) show those with the dial. User errors: a graph
/// that is not built; no such attention or hook; scores that are soft-capped, to which key_logits
/// cannot add; as many queries as keys are needed.
GraphPtr apply_dial(const GraphPtr& graph, const DialOptions& options);

/// The node of attention number `layer` of a graph; a user error names what there is.
int32_t find_attention(const Graph& graph, int64_t layer);

}  // namespace weir
