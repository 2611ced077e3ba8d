#pragma once
// The tables of a record `weir.heads/1`, as texts.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace weir {

/// The first row has the headings.
using HeadsRows = std::vector<std::vector<std::string>>;

/// A row a head: losses without it, norm, sink score, row sum, gate, and the head of its layer that
/// is most like it.
HeadsRows head_rows(const nlohmann::json& record);
/// A row a layer: the least and the largest difference of its heads, similarities, sums.
HeadsRows head_layer_rows(const nlohmann::json& record);
/// The pruning curve: all steps, or of more than 20 every fifth beside the first three.
HeadsRows pruning_rows(const nlohmann::json& record);
/// What the cells are, in a few sentences.
std::string heads_legend(const nlohmann::json& record);
/// What the numbers say.
std::vector<std::string> heads_findings(const nlohmann::json& record);

}  // namespace weir
