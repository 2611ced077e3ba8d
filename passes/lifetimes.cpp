#include "passes/lifetimes.h"

#include <algorithm>

#include "ir/alias.h"
#include "support/align.h"

namespace weir {

std::map<Value, Lifetime> lifetimes(const Graph& graph) {
  std::map<Value, Lifetime> live;
  for (int32_t id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.op == Op::reshape) continue;
    for (Value input : node.inputs) live[strip_reshapes(graph, input)].last = id;
    for (size_t r = 0; r < node.types.size(); ++r) live[{id, static_cast<int32_t>(r)}] = {id, id};
  }
  for (const Output& output : graph.outputs())
    live[strip_reshapes(graph, output.value)].last = graph.size();
  return live;
}

LivePeak live_peak(const Graph& graph, const std::map<Value, Lifetime>& live) {
  std::vector<int64_t> change(graph.nodes().size() + 1);
  for (const auto& [value, life] : live) {
    if (graph.node(value).op != Op::kernel) continue;
    const int64_t bytes = aligned(graph.type(value).bytes());
    change[life.first] += bytes;
    if (life.last + 1 < static_cast<int32_t>(change.size())) change[life.last + 1] -= bytes;
  }
  LivePeak peak;
  int64_t bytes = 0;
  for (int32_t id = 0; id < graph.size(); ++id) {
    bytes += change[id];
    if (bytes > peak.bytes) peak = {id, bytes};
  }
  return peak;
}

}  // namespace weir
