#include "passes/select_inputs.h"

#include <algorithm>

#include "support/error.h"
#include "support/text.h"

namespace weir {

std::vector<std::string> select_inputs(const Graph& graph,
                                       const std::vector<std::string>& patterns) {
  std::vector<std::string> known, chosen;
  std::vector<bool> matched(patterns.size());
  for (int32_t id : graph.inputs()) {
    if (!is_float(graph.node(id).types[0].dtype)) continue;
    const std::string& name = known.emplace_back(graph.input_name(id));
    bool is_state = graph.node(id).attrs.get_bool("state"), is_chosen = false;
    for (size_t i = 0; i < patterns.size(); ++i)
      if (patterns[i] == name || (is_state && glob_match(patterns[i], name)))
        is_chosen = matched[i] = true;
    if (is_chosen) chosen.push_back(name);
  }
  Problems problems("gradients");
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (matched[i]) continue;
    bool is_glob = patterns[i].find_first_of("*?{") != std::string::npos;
    problems.add(fmt::format("'{}' is no floating-point {} of graph {}.{}", patterns[i],
                             is_glob ? "state (an input is named in full)" : "input", graph.name(),
                             did_you_mean(patterns[i], known)));
  }
  problems.raise();
  return chosen;
}

}  // namespace weir
