#pragma once
// The tables of a record `weir.check/1`, as texts: a row a layer, the first row the headings.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace weir {

using CheckRows = std::vector<std::vector<std::string>>;

struct CheckSummary {
  CheckRows exact;                          ///< largest error over its scale
  CheckRows bounds;                         ///< median and largest of left over right side
  std::vector<std::string> not_applicable;  ///< "identities: reason"
  std::string verdict;
};
CheckSummary check_summary(const nlohmann::json& record);

}  // namespace weir
