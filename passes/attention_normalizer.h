#pragma once
// Another attention normaliser as a rewrite of any built graph (ir/normalizer.h).
#include "ir/graph.h"
#include "ir/normalizer.h"

namespace weir {

/// The graph with the normaliser in every attention, and in what reads the weights by its rows
/// (attention_pattern, attention_stats, attention_lse). User errors: no attention in the graph; a
/// graph that is differentiated already.
GraphPtr apply_attention_normalizer(const GraphPtr& graph, AttentionNormalizer normalizer);

}  // namespace weir
