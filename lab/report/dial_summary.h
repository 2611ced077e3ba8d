#pragma once
// The tables of a record `weir.dial/1`, as texts.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace weir {

/// The first row has the headings.
using DialRows = std::vector<std::vector<std::string>>;

/// A row a layer; of a record of one layer with fits by head, a row for each of these too.
DialRows dial_rows(const nlohmann::json& record);
/// What the cells are, in a sentence or two.
std::string dial_legend(const nlohmann::json& record);
/// A sentence for each claim of the record that holds exactly, without its full stop.
std::vector<std::string> dial_claims(const nlohmann::json& record);

}  // namespace weir
