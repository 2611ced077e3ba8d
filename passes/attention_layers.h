#pragma once
// Which attention a rewrite of a model changes.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "support/error.h"

namespace weir {

/// What a rewrite is called in messages, and how it is left out: "v_scale", "v_scale at none".
struct RewriteWords {
  const char* topic;
  const char* off;
};

/// User error for a graph that is not of stage built, or has no attention.
void need_built_attention(const Graph& graph, const RewriteWords& words);

/// The attention nodes of the layers asked for, each with its layer: attention nodes are counted
/// from 0 in the order of the program. No layers: all. Layers that there are not go to `problems`.
std::map<int32_t, int64_t> chosen_attention(const Graph& graph, const std::vector<int64_t>& layers,
                                            Problems& problems);

}  // namespace weir
