#pragma once
// What the readers of tensor files say about a name that they do not have.
#include <string>
#include <vector>

#include "support/error.h"
#include "support/text.h"

namespace weir {

/// UserError of `topic` with the nearest names of `entries`, which have a `name`.
template <typename Entry>
[[noreturn]] void no_such_tensor(const char* topic, const std::string& path,
                                 const std::string& name, const std::vector<Entry>& entries) {
  std::vector<std::string> names;
  for (const Entry& entry : entries) names.push_back(entry.name);
  user_error(topic, "{}: there is no tensor \"{}\" among its {}.{}", path, name, entries.size(),
             did_you_mean(name, names));
}

}  // namespace weir
