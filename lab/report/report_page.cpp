#include "lab/report/report_page.h"

#include <algorithm>
#include <cmath>

#include "lab/report/page_text.h"
#include "lab/report/profile_json.h"
#include "lab/report/report_assets.h"
#include "lab/report/report_dose.h"
#include "lab/report/report_summary.h"
#include "lab/report/report_timeline.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

std::string overrides_text(const ReportArm& arm) {
  std::vector<std::string> parts;
  for_each_leaf(arm.overrides, "", [&](const std::string& key, const ordered_json& leaf) {
    if (!key.empty()) parts.push_back(key + "=" + plain(leaf));
  });
  return parts.empty() ? "the configuration as it stands" : join(parts, " ");
}

std::string arms_list(const ReportRun& run) {
  std::string rows;
  for (size_t a = 0; a < run.arms.size(); ++a)
    rows += fmt::format("<li><span class=\"swatch arm{}\"></span><b>{}</b> <code>{}</code></li>\n",
                        a % 8, escaped(run.arms[a].name), escaped(overrides_text(run.arms[a])));
  return "<ul class=\"arms\">" + rows + "</ul>";
}

std::string summary_html(const std::vector<ArmSummary>& arms) {
  const SummaryColumns columns = summary_columns(arms);
  std::vector<Cell> header;
  for (const std::string& cell : columns.header) header.push_back({escaped(cell)});
  std::vector<std::vector<Cell>> rows;
  for (size_t a = 0; a < columns.rows.size(); ++a) {
    std::vector<Cell>& row = rows.emplace_back();
    for (const std::string& cell : columns.rows[a]) row.push_back({escaped(cell)});
    row[0].html = fmt::format("<span class=\"swatch arm{}\"></span>{}", a % 8, row[0].html);
  }
  return number_table(header, rows);
}

std::string comparison_html(const ArmSummary& base, const ArmSummary& arm, size_t index,
                            bool open) {
  const std::vector<Comparison> comparisons = compare(base, arm);
  std::string text =
      fmt::format("<h3><span class=\"swatch arm{}\"></span>{} against {}</h3><p><b>{}</b> {}.</p>",
                  index % 8, escaped(arm.name), escaped(base.name), escaped(arm.name),
                  escaped(comparison_sentence(comparisons)));
  const std::string names[] = {escaped(base.name), escaped(arm.name)};
  const std::vector<Cell> header = {{"quantity"},
                                    {names[0] + ", last"},
                                    {names[1] + ", last"},
                                    {names[0] + ", median"},
                                    {names[1] + ", median"},
                                    {"verdict", true}};
  std::vector<std::vector<Cell>> rows;
  for (const Comparison& c : comparisons) {
    const bool loss = std::isnan(c.base_median) && &c == &comparisons[0];
    rows.push_back({{escaped(c.quantity)},
                    {loss ? loss_text(c.base_last) : short_number(c.base_last)},
                    {loss ? loss_text(c.arm_last) : short_number(c.arm_last)},
                    {loss ? "" : short_number(c.base_median)},
                    {loss ? "" : short_number(c.arm_median)},
                    {escaped(c.words), true}});
  }
  text += fmt::format(
      "<details{}><summary>The numbers</summary><div class=\"scroll\">{}</div></details>",
      open ? " open" : "", number_table(header, rows));
  if (!std::isnan(arm.value_scaled_ratio.last))
    text += fmt::format(
        "<p>V-scale acts after the values are measured above: behind it, the sink token's value "
        "norm is {} of the others' at the last step, before it {}.</p>",
        short_number(arm.value_scaled_ratio.last), short_number(arm.value_ratio.last));
  return text;
}

bool has_v_scale(const ReportArm& arm) { return arm.settings.value("v_scale", "none") != "none"; }

std::string effect_title(const ReportRun& run) {
  const bool scaled = std::any_of(run.arms.begin() + 1, run.arms.end(), has_v_scale);
  return scaled && !has_v_scale(run.arms[0]) ? "What V-scale did and did not change"
                                             : "What the arms did and did not change";
}

/// How many heads the figures over all of them have, and that one layer has no curves by layer.
std::string drawn_heads(const json& model) {
  return model.at("heads").get<int64_t>() == 1
             ? "Drawn: the one head."
             : "Drawn: the mean over heads, and the largest head.";
}

/// Over which measured steps the medians of the comparison run.
std::string median_steps(const ArmSummary& arm) {
  return arm.late_steps < arm.measured_steps
             ? fmt::format("the {} of {} measured steps that lie in the second half of training",
                           arm.late_steps, arm.measured_steps)
             : fmt::format(
                   "all {} measured steps (fewer than 3 lie in the second half of training)",
                   arm.measured_steps);
}

std::string effect_html(const std::vector<ArmSummary>& arms) {
  if (arms.size() == 1) return "<p>This run has one arm, so there is nothing to compare.</p>";
  std::string text = fmt::format(
      "<p>Every sentence here is computed from the numbers. A quantity counts as <i>lowered</i> or "
      "<i>raised</i> only when its value at the last measured step (step {}) and its median over "
      "{} "
      "both leave the band ×{} to ×{} in the same direction; inside the band both times, it was "
      "<i>left where it was</i>; anything else shows <i>no clear change</i>. Final losses are "
      "means "
      "over the last {} training steps and count as equal within {} nats. One seed is one "
      "observation: a change seen here is a reason to run more seeds, not a law.</p>",
      arms[0].last_step, median_steps(arms[0]), shortest(1 / comparison_band),
      shortest(comparison_band), arms[0].final_steps, loss_band);
  for (size_t a = 1; a < arms.size(); ++a)
    text += comparison_html(arms[0], arms[a], a, arms.size() <= 3);
  return text;
}

/// "1 layer", "2 layers".
std::string counted(const std::string& count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == "1" ? "" : "s");
}

std::string run_line(const ordered_json& run) {
  std::vector<std::string> parts;
  if (run.contains("started")) parts.push_back("started " + plain(run["started"]));
  if (run.contains("seconds") && run["seconds"].is_number())
    parts.push_back(fmt::format("{:.0f} s", run["seconds"].get<double>()));
  if (run.contains("seed")) parts.push_back("seed " + plain(run["seed"]));
  if (run.contains("target")) parts.push_back(plain(run["target"]));
  return escaped(join(parts, " · "));
}

/// "0..31": the tokens a gradient-sink ratio's mean runs over.
std::string setting(const ReportArm& arm, const char* key) {
  return arm.settings.contains(key) ? escaped(plain(ordered_json(arm.settings.at(key)))) : "?";
}

/// The section on time, empty without a profile.
std::string profile_section(const ReportRun& run) {
  std::string tables;
  for (size_t a = 0; a < run.arms.size(); ++a)
    if (!run.arms[a].profile.is_null())
      tables += fmt::format("<h3><span class=\"swatch arm{}\"></span>{}</h3>{}", a % 8,
                            escaped(run.arms[a].name), profile_table(run.arms[a].profile));
  if (tables.empty()) return "";
  return "<section id=\"profile\"><h2>Where the time goes</h2>" + tables + "</section>";
}

/// What arms met that is not finite.
std::string not_finite_html(const ReportRun& run) {
  std::string text;
  for (const ReportArm& arm : run.arms)
    if (arm.not_finite.is_object())
      text += fmt::format("<p class=\"warning\"><b>{}</b>: {}; {}.</p>", escaped(arm.name),
                          escaped(arm.not_finite.value("what", "")),
                          escaped(arm.not_finite.value("first", "")));
  return text;
}

}  // namespace

std::string arm_story(const ReportRun& run, const ArmSummary& base) {
  const double threshold = run.arms[0].settings.at("sink_threshold").get<double>();
  const bool formed = base.sink_score_max.last > threshold;
  return fmt::format(
      "<p>In <b>{}</b>, from step {} to step {}, the sink score went from {} to {} (uniform "
      "attention: {}), the sink mass from {} to {} (uniform: {}), the gradient-sink ratio from {} "
      "to "
      "{} (median over measured steps {}), and the sink token's value norm, relative to the "
      "others, "
      "from {} to {}. {}</p>",
      escaped(base.name), run.arms[0].measured.front().step, base.last_step,
      short_number(base.sink_score.first), short_number(base.sink_score.last),
      fmt::format("{:.3g}", base.sink_score_null), short_number(base.sink_mass.first),
      short_number(base.sink_mass.last), short_number(base.sink_mass_null),
      short_number(base.gradient_sink_ratio.first), short_number(base.gradient_sink_ratio.last),
      short_number(base.gradient_sink_ratio.median), short_number(base.value_ratio.first),
      short_number(base.value_ratio.last),
      !base.rate_caveat.empty() ? escaped(base.rate_caveat)
      : formed
          ? fmt::format("At least one head ends above the threshold of {}: an attention sink "
                        "formed.",
                        shortest(threshold))
          : fmt::format("No head ends above the threshold of {}: by that definition no attention "
                        "sink formed.",
                        shortest(threshold)));
}

std::string one_layer_note(const json& model) {
  return model.at("layers").get<int64_t>() == 1
             ? "<p>This model has one layer, so there are no figures by layer.</p>"
             : "";
}

std::string model_line(const ReportRun& run) {
  const json& model = run.arms[0].model;
  const json& tokens = run.arms[0].tokens;
  const auto value = [](const json& object, const char* key) {
    return object.contains(key) ? plain(ordered_json(object.at(key))) : std::string("?");
  };
  return escaped(fmt::format(
      "{} · {} · {} · d_model {} · d_ff {} · {} parameters · measured on "
      "{} × {} tokens",
      value(model, "name"), counted(value(model, "layers"), "layer"),
      counted(value(model, "heads"), "head"), value(model, "d_model"), value(model, "d_ff"),
      value(model, "parameters"), value(tokens, "batch"), value(tokens, "length")));
}

std::map<std::string, std::string> figure_texts(const ReportRun& run, const ArmSummary& first,
                                                const OnsetSettings& onset) {
  std::map<std::string, std::string> texts = {
      {"drawn_heads", drawn_heads(run.arms[0].model)},
      {"rate_caveat", escaped(first.rate_caveat)},
      {"timeline", timeline_section(run, onset)},
      {"null_score", fmt::format("{:.3g}", first.sink_score_null)},
      {"null_mass", fmt::format("{:.3g}", first.sink_mass_null)}};
  for (const char* key : {"sink_token", "sink_window", "sink_threshold", "gradient_window",
                          "massive_absolute", "massive_ratio", "attention"})
    texts[key] = setting(run.arms[0], key);
  return texts;
}

std::string report_page(const ReportRun& run, const OnsetSettings& onset) {
  const PageData data = page_data(run, onset);
  const std::vector<ArmSummary> arms = summarise(run);
  const ReportArm& first = run.arms[0];
  const std::string name = std::filesystem::weakly_canonical(run.folder).filename().string();
  std::map<std::string, std::string> texts = figure_texts(run, arms[0], onset);
  texts["loss_lead"] = "Is the model learning, and do the arms learn equally well?";
  texts["loss_definition"] =
      "Mean next-token cross-entropy of each training step, in nats. The other quantities of the "
      "selector: global gradient norm before clipping, learning rate, tokens per second. The step "
      "axis is log2(step + 1), so that the start is visible and step 0 has a place. A run with "
      "held-out data has a dashed curve, too: the mean over the same held-out sequences at every "
      "measured step, of the state before that step's update. Of associative recall the selector "
      "has the share of held-out answers that are recalled: their logit is the largest.";
  texts["figures"] = filled(figures_template(), texts);
  texts.merge(std::map<std::string, std::string>{
      {"arms", arms_list(run)},
      {"summary", summary_html(arms)},
      {"story", not_finite_html(run) + arm_story(run, arms[0])},
      {"one_layer", one_layer_note(first.model)},
      {"effect_title", effect_title(run)},
      {"effect", effect_html(arms)},
      {"dose", dose_section(run, dose_of(run), arms)},
      {"configuration", key_table(run.config)},
      {"versions", key_table(run.run.value("versions", ordered_json::object()))},
      {"command", escaped(run.run.value("command", std::string("weir train config.json")))},
      {"folder", escaped(run.folder.lexically_normal().string())},
      {"notes", notes_html(data.notes, "the run's folder")},
      {"profile", profile_section(run)},
      {"final_steps", std::to_string(arms[0].final_steps)},
      {"settings", key_table(ordered_json(first.settings))}});
  return framed({.kind = "Weir report",
                 .kicker = "Weir report",
                 .title = escaped(run.run.value("name", name)),
                 .meta = model_line(run) + "<br>" + run_line(run.run),
                 .script = page_script(),
                 .data = data.data},
                page_template(), texts);
}

}  // namespace weir
