#include "lab/sweep/sweep_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/file.h"
#include "io/json_text.h"
#include "lab/measure/nonfinite.h"
#include "lab/report/report_summary.h"
#include "lab/sweep/last_lines.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

namespace {

using Json = nlohmann::ordered_json;

// Of a layer: the key of rows, and that of reports.
struct LayerNumber {
  const char *name, *key;
};
constexpr LayerNumber kLayerNumbers[] = {{"sink_score", "sink_score"},
                                         {"gradient_sink_ratio", "gradient_sink_ratio"},
                                         {"value_ratio", "norm.value.ratio"},
                                         {"norm_ratio", "norm.resid_post.ratio"}};

double number_of(const nlohmann::json& line, const char* key, const std::filesystem::path& file) {
  if (line.contains(key)) {
    if (line[key].is_number()) return line[key].get<double>();
    if (line[key] == "NaN") return kNaN;
    if (line[key] == "Infinity") return std::numeric_limits<double>::infinity();
    if (line[key] == "-Infinity") return -std::numeric_limits<double>::infinity();
  }
  user_error("sweep", "{} is damaged: its last line has no number \"{}\".", file.string(), key);
}

std::vector<double> losses_of(const std::filesystem::path& file) {
  std::vector<double> losses;
  const std::string text = read_file(file.string());
  for (const std::string& line : split(text, '\n')) {
    if (line.empty()) continue;
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object()) losses.push_back(number_of(json, "loss", file));
  }
  return losses;
}

// Of the last measured step, summed up over layers as in reports.
Json measured_numbers(const std::filesystem::path& arm, const std::vector<double>& losses) {
  const std::filesystem::path file = arm / "metrics.jsonl";
  const auto record = last_line_of(file);
  if (!record) return nullptr;
  ReportRun run;
  run.arms.push_back(arm_of_record(*record, file.string()));
  run.arms[0].training.columns["loss"] = losses;
  const MeasuredStep& step = run.arms[0].measured.back();
  const ArmSummary summary = summarise(run).front();
  Json numbers = {{"step", step.step},
                  {"loss", json_number(step.loss)},
                  {"sink_score", json_number(summary.sink_score.last)},
                  {"sink_score_max", json_number(summary.sink_score_max.last)},
                  {"sink_mass", json_number(summary.sink_mass.last)},
                  {"gradient_sink_ratio", json_number(summary.gradient_sink_ratio.last)},
                  {"value_ratio", json_number(summary.value_ratio.last)},
                  {"norm_ratio", json_number(summary.norm_ratio.last)}};
  if (run.arms[0].model.value("layers", int64_t{0}) > kMaxLayersInResults) return numbers;
  Json layers = Json::object();
  for (const LayerNumber& number : kLayerNumbers) {
    const auto found = step.by_layer.find(number.key);
    if (found == step.by_layer.end()) continue;
    layers[number.name] = Json::array();
    for (double value : found->second) layers[number.name].push_back(json_number(value));
  }
  numbers["by_layer"] = layers;
  return numbers;
}

// Mean over the last 5 % of the steps, as the final loss of a report.
double final_loss_of(const std::vector<double>& losses) {
  const size_t count = std::max<size_t>(1, losses.size() / 20);
  double sum = 0;
  for (size_t i = losses.size() - std::min(count, losses.size()); i < losses.size(); ++i)
    sum += losses[i];
  return losses.empty() ? kNaN : sum / static_cast<double>(count);
}

Json numbers_of(const std::filesystem::path& arm, const RunConfig& config) {
  const std::vector<double> losses = losses_of(arm / "loss.jsonl");
  Json numbers = {{"steps", config.steps},
                  {"tokens", config.steps * config.batch * config.length},
                  {"loss", json_number(losses.empty() ? kNaN : losses.back())},
                  {"final_loss", json_number(final_loss_of(losses))},
                  {"validation_loss", nullptr},
                  {"validation_recalled", nullptr},
                  {"measured", measured_numbers(arm, losses)}};
  const std::filesystem::path validation = arm / "validation.jsonl";
  if (const auto line = last_line_of(validation)) {
    numbers["validation_loss"] = json_number(number_of(*line, "loss", validation));
    if (line->contains("recalled"))
      numbers["validation_recalled"] = json_number(number_of(*line, "recalled", validation));
  }
  return numbers;
}

}  // namespace

Json SweepResults::row(const SweepEntry& entry) {
  Json row = {{"index", entry.index},
              {"arm", entry.arm},
              {"seed", entry.seed},
              {"grid", entry.grid},
              {"run", entry.run}};
  if (folder_.is_done(entry.run)) {
    if (!done_.contains(entry.run))
      done_[entry.run] = numbers_of(folder_.arm(entry.run), entry.config);
    row["state"] = "done";
    row.update(done_[entry.run]);
  } else if (const auto reason = folder_.failure(entry.run)) {
    row["state"] = "failed";
    row["reason"] = *reason;
  } else {
    row["state"] = "unfinished";
  }
  return row;
}

Json SweepResults::of(const SweepPlan& plan) {
  Json results = {{"schema", "weir.sweep_results/1"}, {"rows", Json::array()}};
  for (const SweepEntry& entry : plan.entries) results["rows"].push_back(row(entry));
  return results;
}

void SweepResults::write(const SweepPlan& plan) {
  const std::string file = folder_.results_file().string();
  for (std::string written;;) {
    const std::string text = of(plan).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    if (text == written) return;
    if (!file_exists(file) || read_file(file) != text) folder_.write_shared(file, text);
    written = text;
  }
}

std::string results_table(const Json& results) {
  std::vector<std::vector<std::string>> rows = {{"entry", "arm", "seed", "grid", "final loss",
                                                 "validation", "recalled", "sink score", "R_GS",
                                                 "value ratio", "norm ratio"}};
  const auto shown = [](const Json& row, const char* key) {
    return row.is_object() && row.contains(key) && row[key].is_number()
               ? short_number(row[key].get<double>())
               : std::string("-");
  };
  for (const Json& row : results["rows"]) {
    std::vector<std::string> grid;
    for (const auto& [key, value] : row["grid"].items())
      grid.push_back(key + "=" + (value.is_string() ? value.get<std::string>() : value.dump()));
    const bool done = row["state"] == "done";
    const Json measured = done ? row["measured"] : Json();
    rows.push_back({row["index"].dump(), row["arm"].get<std::string>(), row["seed"].dump(),
                    grid.empty() ? "-" : join(grid, " "),
                    done && row["final_loss"].is_number()
                        ? loss_text(row["final_loss"].get<double>())
                        : row["state"].get<std::string>(),
                    shown(row, "validation_loss"), shown(row, "validation_recalled"),
                    shown(measured, "sink_score"), shown(measured, "gradient_sink_ratio"),
                    shown(measured, "value_ratio"), shown(measured, "norm_ratio")});
  }
  constexpr ptrdiff_t recalled = 6;  // a column of runs that tell it
  if (std::all_of(rows.begin() + 1, rows.end(),
                  [](const auto& row) { return row[recalled] == "-"; }))
    for (std::vector<std::string>& row : rows) row.erase(row.begin() + recalled);
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  constexpr size_t texts = 4;  // columns that begin at the left
  std::string text;
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c)
      text += c < texts
                  ? fmt::format("{:<{}}  ", row[c], widths[c])
                  : fmt::format("{:>{}}{}", row[c], widths[c], c + 1 < row.size() ? "  " : "");
    text += '\n';
  }
  return text;
}

}  // namespace weir
