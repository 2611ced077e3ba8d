#include "lab/report/quantize_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/report/quantize_report.h"
#include "lab/report/report_summary.h"
#include "lab/report/terminal_table.h"

namespace weir {
namespace {

using nlohmann::json;

double value_of(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

// "+0.162 [0.120, 0.201]", with as many decimals as the interval deserves.
std::string estimate_text(const json& estimate) {
  const double value = value_of(estimate.at("value"));
  const double low = value_of(estimate.at("low")), high = value_of(estimate.at("high"));
  if (!std::isfinite(value) || !std::isfinite(low) || !std::isfinite(high))
    return short_number(value);
  const double width = high - low;
  const int decimals =
      width > 0 ? std::clamp(static_cast<int>(std::ceil(-std::log10(width))) + 1, 1, 6) : 4;
  return fmt::format("{:+.{}f} [{:.{}f}, {:.{}f}]", value, decimals, low, decimals, high, decimals);
}

std::string perplexity_text(const json& of) { return short_number(value_of(of.at("perplexity"))); }

const json& arm_of(const json& record, const std::string& name) {
  for (const json& arm : record.at("arms"))
    if (arm.at("name") == name) return arm;
  throw std::out_of_range(name);  // the ranking names arms of the record
}

bool has_activations(const json& arm) { return arm.at("activations") != "none"; }

std::string place(const json& site) {
  return fmt::format("{} {}", site.at("layer").get<int64_t>(), site.at("part").get<std::string>());
}

std::string plain_count(const json& value) { return fmt::format("{}", value.get<int64_t>()); }

std::string share_text(const json& of) {
  return fmt::format("{:.1f} %", 100 * value_of(of.at("recalled")));
}

// Of data whose targets are known: losses instead of perplexities, and how many are recalled.
QuantizeRows recalled_rows(const json& record) {
  QuantizeRows rows = {{"arm", "loss", "difference", "recalled", "sink damage", "sink exact"}};
  const json& f32 = record.at("corpora")[0];
  rows.push_back({"f32", short_number(value_of(f32.at("loss"))), "", share_text(f32), "", ""});
  for (const json& arm : record.at("arms")) {
    const json& outcome = arm.at("corpora")[0];
    const bool has_sink = outcome.contains("sink_damage");
    rows.push_back({arm.at("name"), short_number(value_of(outcome.at("loss"))),
                    estimate_text(outcome.at("loss_difference")), share_text(outcome),
                    has_sink ? estimate_text(outcome.at("sink_damage")) : "-",
                    has_sink
                        ? fmt::format("{:.1f} %", 100 * value_of(outcome.at("recalled_sink_exact")))
                        : "-"});
  }
  return rows;
}

int64_t target_count(const json& record) {
  double count = 0;
  for (const json& targets : record.at("corpora")[0].at("sequence_targets"))
    count += value_of(targets);
  return static_cast<int64_t>(count);
}

std::string percent(const json& confidence) {
  return fmt::format("{:.4g} %", 100 * value_of(confidence));
}

}  // namespace

bool quantize_tells_recalled(const json& record) {
  return record.at("corpora").at(0).contains("recalled");
}

QuantizeRows quantize_rows(const json& record) {
  if (quantize_tells_recalled(record)) return recalled_rows(record);
  QuantizeRows rows = {{"arm"}};
  std::vector<std::string> plain = {"f32"};
  const bool several = record.at("corpora").size() > 1;
  for (size_t c = 0; c < record.at("corpora").size(); ++c) {
    const std::string number = several ? fmt::format(" {}", c + 1) : "";
    for (const char* heading : {"perplexity", "difference", "sink damage"})
      rows[0].push_back(heading + number);
    plain.insert(plain.end(), {perplexity_text(record.at("corpora")[c]), "", ""});
  }
  rows.push_back(plain);
  for (const json& arm : record.at("arms")) {
    std::vector<std::string>& row = rows.emplace_back();
    row.push_back(arm.at("name"));
    for (const json& outcome : arm.at("corpora")) {
      const bool destroyed = outcome.at("destroyed").get<bool>();
      row.push_back(perplexity_text(outcome));
      row.push_back(destroyed ? "destroyed" : estimate_text(outcome.at("difference")));
      row.push_back(outcome.contains("sink_damage") ? estimate_text(outcome.at("sink_damage"))
                                                    : "-");
    }
  }
  return rows;
}

QuantizeRows quantize_site_rows(const json& record) {
  QuantizeRows rows = {{"layer, product", "dispersion"}};
  std::vector<const json*> arms;
  for (const json& arm : record.at("arms"))
    if (has_activations(arm)) {
      arms.push_back(&arm);
      const std::string name = arm.at("name");
      rows[0].push_back(name + " error");
      rows[0].push_back(name + " underflow");
    }
  if (arms.empty()) return {};
  for (size_t i = 0; i < record.at("sites").size(); ++i) {
    const json& site = record.at("sites")[i];
    std::vector<std::string>& row = rows.emplace_back();
    row = {place(site), short_number(value_of(site.at("dispersion").at(0)))};
    for (const json* arm : arms)
      for (const char* key : {"median_error", "underflow"}) {
        const json& value = arm->at("sites").at(key).at(i);
        row.push_back(value.is_null() ? "-" : short_number(value_of(value)));
      }
  }
  return rows;
}

std::string quantize_legend(const json& record) {
  const json& settings = record.at("settings");
  std::string names;
  for (size_t c = 0; c < record.at("corpora").size(); ++c)
    names += fmt::format("{}{} {}", c ? "; " : "", c + 1,
                         record.at("corpora")[c].at("name").get<std::string>());
  if (quantize_tells_recalled(record))
    return fmt::format(
        "Evaluated: {}. Loss is the mean of {} targets in nats, recalled the share of them whose "
        "logit is the largest. Intervals are of {}, by the bootstrap over {} sequences ({} "
        "resamples, seed {}). Sink damage, in nats, is what is gained where token {} is kept exact "
        "and left out of every scale; sink exact is the share recalled then.",
        record.at("corpora")[0].at("name").get<std::string>(), target_count(record),
        percent(settings.at("confidence")), plain_count(record.at("tokens").at("batch")),
        plain_count(settings.at("resamples")), plain_count(settings.at("seed")),
        plain_count(settings.at("sink_token")));
  return fmt::format(
      "Texts: {}. Differences are in perplexity, with {} bootstrap intervals over {} sequences "
      "({} resamples, seed {}); destroyed: more than {} times that of f32. Sink damage, in nats, "
      "is what is gained where token {} is kept exact and left out of every scale.",
      names, percent(settings.at("confidence")), plain_count(record.at("tokens").at("batch")),
      plain_count(settings.at("resamples")), plain_count(settings.at("seed")),
      short_number(value_of(settings.at("destroyed_above"))),
      plain_count(settings.at("sink_token")));
}

std::vector<std::string> quantize_findings(const json& record) {
  std::vector<std::string> findings;
  const json& ranking = record.at("ranking");
  if (!ranking.empty()) {
    std::string order;
    for (const json& name : ranking)
      order += fmt::format(
          "{}{} {}", order.empty() ? "" : ", ", name.get<std::string>(),
          short_number(
              value_of(arm_of(record, name).at("corpora")[0].at("sink_damage").at("value"))));
    findings.push_back("Sink damage on the first text, largest first: " + order);
    const json& worst = arm_of(record, ranking.at(0)).at("corpora")[0];
    const double all = value_of(worst.at("loss_difference").at("value"));
    const double sink = value_of(worst.at("sink_damage").at("value"));
    if (all > 0)
      findings.push_back(fmt::format(
          "Of the {} nats that {} costs there, {:.0f} % are gone where the sink token is exempt",
          short_number(all), ranking.at(0).get<std::string>(), 100 * sink / all));
  }
  for (const json& arm : record.at("arms")) {
    const json& lost = arm.at("annihilated");
    if (lost.empty()) continue;
    std::string places;
    constexpr size_t kShown = 8;
    for (size_t i = 0; i < std::min(lost.size(), kShown); ++i)
      places += (i ? "; " : "") + place(lost[i]);
    if (lost.size() > kShown) places += fmt::format("; and {} more", lost.size() - kShown);
    findings.push_back(fmt::format("{} rounds more than {} of these activations to zero: {}",
                                   arm.at("name").get<std::string>(),
                                   percent(record.at("settings").at("annihilated_above")), places));
  }
  return findings;
}

std::string quantize_table(const std::string& text) {
  const json record = json::parse(text);
  std::string result = terminal_table(quantize_rows(record), {.left = 1});
  result += "\n" + quantize_legend(record) + "\n";
  for (const std::string& finding : quantize_findings(record)) result += finding + ".\n";
  return result;
}

}  // namespace weir
