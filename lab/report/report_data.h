#pragma once
// What a report reads from a run's folder, reduced while reading: a record of an 18-layer model at
// 2048 tokens holds a million numbers, of which a report keeps a few thousand.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir {

/// Stands for a number that a record does not have.
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// loss.jsonl or validation.jsonl as columns; a field that a line does not have is NaN.
struct LossCurve {
  std::vector<int64_t> step;
  std::map<std::string, std::vector<double>> columns;  ///< "loss", "lr" ...
};

/// One line of metrics.jsonl. Keys are those of the record; `<key>.sink` is the sink token's value,
/// `<key>.others` the mean over the other tokens, `<key>.ratio` the quotient of the two.
struct MeasuredStep {
  int64_t step = 0;
  double loss = 0;
  std::map<std::string, std::vector<double>> by_layer;  ///< [layers]
  /// [layers][heads]; "norm.value.ratio", by_layer's of each key and value head, [layers][kv
  /// heads].
  std::map<std::string, std::vector<std::vector<double>>> by_head;
  std::map<std::string, std::vector<std::vector<double>>> by_token;  ///< [layers][kept tokens]
};

struct ReportArm {
  std::string name;
  nlohmann::ordered_json overrides;
  LossCurve training;
  LossCurve validation;                ///< empty without one
  std::vector<MeasuredStep> measured;  ///< ascending steps, at least one
  std::vector<int> kept_tokens;        ///< the token indices of by_token: all, or thinned when long
  std::vector<std::string> left_out;   ///< what the records do not have, by hook
  nlohmann::json model, tokens, settings;
  nlohmann::json maps = nlohmann::json::array();
  nlohmann::json not_finite;  ///< weir.not_finite/1 of an arm that met such a value, else null
  nlohmann::json profile;     ///< weir.profile/1 of a run with --profile, else null
};

struct ReportRun {
  std::filesystem::path folder;
  nlohmann::ordered_json run, config;
  std::vector<ReportArm> arms;  ///< at least one
};

/// Calls `use` with every line of a JSON Lines file, or the first `most`, and "FILE:LINE"; blank
/// lines are skipped. User error for a file that is not there, and for a line that is damaged.
void for_each_line(
    const std::filesystem::path& file,
    const std::function<void(const nlohmann::json& line, const std::string& where)>& use,
    size_t most = std::numeric_limits<size_t>::max());

/// Token curves keep the first 32 tokens and then about 12 an octave, so at most 104 of 2048.
std::vector<int> kept_tokens(int length);

/// A single record of `weir.measure/1` as an arm of one measured step, 0.
ReportArm arm_of_record(const nlohmann::json& record, const std::string& name);

/// Of an arm's folder its metrics.jsonl alone. User errors name the file and the line; a file
/// without a measured step is one.
ReportArm read_measured(const std::filesystem::path& arm_folder, const std::string& name);
/// Adds a record with a "step" to an arm. User error with the name `where` for a record that is
/// damaged, or of a step that is not above those before.
void add_record(ReportArm& arm, const nlohmann::json& record, const std::string& where);

/// Reads and checks a run's folder. User errors name the file and the line.
ReportRun read_run(const std::filesystem::path& folder);

}  // namespace weir
