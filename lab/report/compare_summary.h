#pragma once
// A record `weir.compare/1` in words and rows, for table and page alike.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir {

/// A number of a record: NaN for "NaN" and null.
double record_value(const nlohmann::json& value);
/// Four decimals for losses (in nats), three significant digits else; "-" for NaN.
std::string compared_number(const std::string& quantity, double value);
/// "baseline" or, of several grid points, "baseline, length=64".
std::string grid_text(const nlohmann::json& grid);

/// Whether tables and figures leave a quantity out, as another one has the same numbers.
bool is_said_already(const nlohmann::json& record, const nlohmann::json& quantity);

/// Header, then rows of cells.
using CompareRows = std::vector<std::vector<std::string>>;
/// At "equal_tokens" or "equal_loss": a row a quantity and arm with seeds, median, quartiles, the
/// difference to the first arm and its interval.
CompareRows spread_rows(const nlohmann::json& record, const nlohmann::json& point,
                        const std::string& at);
/// A row an event and arm: how many seeds reach it, when, which come first, and what changes
/// against the first arm.
CompareRows onset_rows(const nlohmann::json& record, const nlohmann::json& point);
/// A row an arm and layer: the medians over seeds of the parameters of the growth curve.
CompareRows growth_rows(const nlohmann::json& point);

/// "at 1,024,000 tokens (step 500)", "at a loss of 1.4243 nats".
std::string place_of_comparison(const nlohmann::json& point, const std::string& at);
/// What differences and intervals are, and what they are worth with so few seeds.
std::vector<std::string> interval_sentences(const nlohmann::json& record);
/// How onsets are defined, with thresholds.
std::string onset_sentence(const nlohmann::json& settings);
/// "learned: removes norm growth in 3 of 3 seeds; delays gradient sink in 2 of 3 (median +64
/// steps)."
std::vector<std::string> change_sentences(const nlohmann::json& point);
/// What is not compared, a sentence each, and the notes.
std::vector<std::string> left_out_sentences(const nlohmann::json& record);

}  // namespace weir
