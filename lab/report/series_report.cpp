#include "lab/report/series_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "lab/measure/statistics.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"
#include "lab/report/report_page.h"
#include "lab/report/report_summary.h"
#include "support/error.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

struct SeriesReport::State {
  ReportRun run;
  ordered_json origin, versions;  // of the last record
};

namespace {

// Over the layers of one step; NaN where the model's hooks do not carry it.
double over(const MeasuredStep& step, const std::string& key,
            double (*reduce)(std::vector<double>)) {
  const auto found = step.by_layer.find(key);
  return found == step.by_layer.end() ? kNaN : reduce(found->second);
}

double mean_over(std::vector<double> values) { return mean(values); }
double largest_over(std::vector<double> values) { return largest(values); }

SummaryColumns series_columns(const ReportArm& arm) {
  SummaryColumns columns;
  columns.header = {
      "step",        "loss",       "sink rate",   "sink score (largest head)", "sink mass",
      "R_GS median", "norm ratio", "value ratio", "largest activation"};
  for (const MeasuredStep& step : arm.measured)
    columns.rows.push_back(
        {fmt::format("{}", step.step), loss_text(step.loss),
         fmt::format("{:.3f}", over(step, "sink_rate", mean_over)),
         fmt::format("{} ({})", short_number(over(step, "sink_score", mean_over)),
                     short_number(over(step, "sink_score_max", largest_over))),
         short_number(over(step, "sink_mass", mean_over)),
         short_number(over(step, "gradient_sink_ratio", median_of)),
         short_number(over(step, "norm.resid_post.ratio", largest_over)),
         short_number(over(step, "norm.value.ratio", median_of)),
         short_number(over(step, "resid_post_max_abs", largest_over))});
  return columns;
}

std::string series_table_html(const SummaryColumns& columns) {
  std::vector<Cell> header;
  for (const std::string& cell : columns.header) header.push_back({escaped(cell)});
  std::vector<std::vector<Cell>> rows;
  for (const std::vector<std::string>& texts : columns.rows) {
    std::vector<Cell>& row = rows.emplace_back();
    for (const std::string& text : texts) row.push_back({escaped(text)});
  }
  return number_table(header, rows);
}

}  // namespace

SeriesReport::SeriesReport() : state_(std::make_unique<State>()) {
  state_->run.arms.emplace_back();
  state_->run.arms[0].name = "checkpoints";
}

SeriesReport::~SeriesReport() = default;

bool SeriesReport::empty() const { return state_->run.arms[0].measured.empty(); }

void SeriesReport::add(const std::string& text) {
  const json record = json::parse(text);
  ReportArm& arm = state_->run.arms[0];
  add_record(arm, record, "the record of a checkpoint");
  arm.model["name"] =
      fmt::format("{} checkpoint{}", arm.measured.size(), arm.measured.size() == 1 ? "" : "s");
  arm.training.step.push_back(arm.measured.back().step);
  arm.training.columns["loss"].push_back(arm.measured.back().loss);
  state_->origin = ordered_json(record.value("provenance", json::object()));
  state_->versions = state_->origin.value("versions", ordered_json::object());
  for (const char* key : {"command", "versions"}) state_->origin.erase(key);
}

std::string SeriesReport::table() const {
  WEIR_CHECK(!empty(), "a series without a record");
  return columns_table(series_columns(state_->run.arms[0])) +
         with_line_end(summarise(state_->run)[0].rate_caveat);
}

void SeriesReport::set_maps(const std::vector<AttentionMap>& maps,
                            const std::vector<std::string>& token_texts) {
  ReportArm& arm = state_->run.arms[0];
  arm.maps = json::array();
  for (const AttentionMap& map : maps) {
    std::vector<std::string> tokens;
    for (int64_t cell = 0; cell < map.cells.count(); ++cell)
      tokens.push_back(token_texts.at(static_cast<size_t>(map.cells.start(cell))));
    arm.maps.push_back(json::parse(map_json(map, arm.measured.back().step, tokens)));
  }
}

std::string SeriesReport::page(const std::string& title, const std::string& command) const {
  WEIR_CHECK(!empty(), "a series without a record");
  const ReportRun& run = state_->run;
  PageData data = page_data(run);
  data.data["series"] = true;
  const std::vector<ArmSummary> summary = summarise(run);
  std::map<std::string, std::string> texts = figure_texts(run, summary[0]);
  texts.merge(std::map<std::string, std::string>{
      {"loss_lead", "How well does each checkpoint predict these tokens?"},
      {"loss_definition",
       "Mean next-token cross-entropy over all targets of the tokens, in nats, of each checkpoint. "
       "The step axis is log2(step + 1), so that the start is visible and step 0 has a place."}});
  texts["figures"] = filled(figures_template(), texts);
  texts.merge(std::map<std::string, std::string>{
      {"story", arm_story(run, summary[0])},
      {"summary", series_table_html(series_columns(run.arms[0]))},
      {"one_layer", one_layer_note(run.arms[0].model)},
      {"command", escaped(command)},
      {"origin", key_table(state_->origin)},
      {"settings", key_table(ordered_json(run.arms[0].settings))},
      {"versions", key_table(state_->versions)},
      {"notes", notes_html(data.notes, "the records (<code>--json</code>)")}});
  return framed({.kind = "Weir series",
                 .kicker = "Weir series of checkpoints",
                 .title = escaped(title),
                 .meta = model_line(run),
                 .script = page_script(),
                 .data = data.data},
                series_template(), texts);
}

void SeriesReport::write(const std::string& html, const std::string& title,
                         const std::string& command) const {
  write_file(html, page(title, command));
}

int64_t SeriesReport::bytes(int64_t checkpoints, int64_t layers, int64_t heads, int64_t length) {
  // Numbers by layer, three by head, 22 by token of those that are kept; a text of each in the
  // page.
  constexpr int64_t by_layer = 100, by_head = 3, by_token = 22, bytes_a_number = 24;
  const auto tokens = static_cast<int64_t>(kept_tokens(static_cast<int>(length)).size());
  return checkpoints * layers * (by_layer + by_head * heads + by_token * tokens) * bytes_a_number;
}

}  // namespace weir
