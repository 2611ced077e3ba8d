#include "passes/select_inputs.h"

#include <algorithm>

#include "support/error.h"
#include "support/text.h"

namespace weir {

std::vector<std::string> select_inputs(const Graph& graph, const std::vector<std::string>& globs) {
  std::vector<std::string> known, chosen;
  for (int32_t id : graph.inputs())
    if (is_float(graph.node(id).types[0].dtype)) known.push_back(graph.input_name(id));
  for (const std::string& name : known)
    if (std::any_of(globs.begin(), globs.end(),
                    [&](const std::string& glob) { return glob_match(glob, name); }))
      chosen.push_back(name);
  Problems problems("gradients");
  for (const std::string& glob : globs)
    if (std::none_of(known.begin(), known.end(),
                     [&](const std::string& name) { return glob_match(glob, name); }))
      problems.add(fmt::format("'{}' matches no floating-point input of graph {}.{}", glob,
                               graph.name(), did_you_mean(glob, known)));
  problems.raise();
  return chosen;
}

}  // namespace weir
