#pragma once
// The tables of a record `weir.quantize/1`, as texts.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace weir {

/// The first row has the headings.
using QuantizeRows = std::vector<std::vector<std::string>>;

/// Whether a record has the share of targets that are recalled.
bool quantize_tells_recalled(const nlohmann::json& record);
/// A row the model in f32, then a row an arm: perplexity, its difference, and sink damage, of each
/// corpus. Where it is told what is recalled: loss, its difference, the share recalled and sink
/// damage of the first.
QuantizeRows quantize_rows(const nlohmann::json& record);
/// A row a site, of the arms that quantise activations: row dispersion, then the median error of a
/// token and the underflow of each of them.
QuantizeRows quantize_site_rows(const nlohmann::json& record);
/// What the cells are, in a few sentences.
std::string quantize_legend(const nlohmann::json& record);
/// What the numbers say: which arm suffers most from the sink token, and which tensors are lost.
std::vector<std::string> quantize_findings(const nlohmann::json& record);

}  // namespace weir
