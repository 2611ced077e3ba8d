#include "lab/report/report_dose.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "lab/report/page_text.h"
#include "support/text.h"

namespace weir {

using nlohmann::ordered_json;

namespace {

std::optional<double> number_of(const ordered_json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(number)) return std::nullopt;
  return number;
}

// "a.b" in nested objects, or as one key; null if it is nowhere.
const ordered_json* find(const ordered_json& object, const std::string& key) {
  if (!object.is_object()) return nullptr;
  if (object.contains(key)) return &object.at(key);
  const size_t dot = key.find('.');
  if (dot == std::string::npos || !object.contains(key.substr(0, dot))) return nullptr;
  return find(object.at(key.substr(0, dot)), key.substr(dot + 1));
}

// The numbers of all arms; nothing if an arm has none.
std::vector<double> values_of(const ReportRun& run, const std::string& key) {
  std::vector<double> values;
  for (const ReportArm& arm : run.arms) {
    const ordered_json* value = find(arm.overrides, key);
    if (!value) value = find(run.config, key);
    const auto number = value ? number_of(*value) : std::nullopt;
    if (!number) return {};
    values.push_back(*number);
  }
  return values;
}

struct Response {
  const char* title;
  std::function<double(const ReportArm&, const ArmSummary&)> of;
};

// The median over layers at the last measured step; NaN where hooks do not carry it.
double entering_norm_ratio(const ReportArm& arm) {
  const auto& by_layer = arm.measured.back().by_layer;
  const auto found = by_layer.find("norm.resid_pre.ratio");
  return found == by_layer.end() ? kNaN : median_of(found->second);
}

const std::vector<Response>& responses() {
  using A = const ReportArm&;
  using S = const ArmSummary&;
  static const std::vector<Response> all = {
      {"sink score", [](A, S s) { return s.sink_score.last; }},
      {"norm ratio, entering", [](A arm, S) { return entering_norm_ratio(arm); }},
      {"norm ratio", [](A, S s) { return s.norm_ratio.last; }},
      {"value ratio", [](A, S s) { return s.value_ratio.last; }},
      {"R_GS, last", [](A, S s) { return s.gradient_sink_ratio.last; }},
      {"R_GS, median", [](A, S s) { return s.gradient_sink_ratio.median; }},
      {"final loss", [](A, S s) { return s.final_loss; }},
  };
  return all;
}

// "0.69 (0.65 to 0.71)", or the number alone.
std::string spread(const std::vector<double>& values, bool is_loss) {
  const auto text = [&](double value) { return is_loss ? loss_text(value) : short_number(value); };
  double sum = 0;
  for (double value : values) sum += value;
  std::string mean = text(sum / static_cast<double>(values.size()));
  if (values.size() == 1) return mean;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{} ({} to {})", mean, text(*low), text(*high));
}

}  // namespace

Dose dose_of(const ReportRun& run) {
  constexpr size_t fewest = 3;
  std::vector<std::string> keys;
  for (const ReportArm& arm : run.arms)
    for_each_leaf(arm.overrides, "", [&](const std::string& key, const ordered_json&) {
      if (!key.empty() && key != "seed" && std::find(keys.begin(), keys.end(), key) == keys.end())
        keys.push_back(key);
    });
  for (const std::string& key : keys) {
    std::vector<double> values = values_of(run, key);
    if (std::set<double>(values.begin(), values.end()).size() >= fewest)
      return {key, std::move(values)};
  }
  return {};
}

std::string dose_section(const ReportRun& run, const Dose& dose,
                         const std::vector<ArmSummary>& arms) {
  if (!dose) return "";
  std::map<double, std::vector<size_t>> by_value;
  for (size_t a = 0; a < arms.size(); ++a) by_value[dose.values[a]].push_back(a);
  std::vector<Cell> header = {{escaped(dose.key)}, {"arms"}};
  for (const Response& response : responses()) header.push_back({response.title});
  std::vector<std::vector<Cell>> rows;
  for (const auto& [value, group] : by_value) {
    std::vector<Cell>& row = rows.emplace_back();
    row.push_back({shortest(value)});
    row.push_back({std::to_string(group.size())});
    for (const Response& response : responses()) {
      std::vector<double> numbers;
      for (size_t a : group) numbers.push_back(response.of(run.arms[a], arms[a]));
      const bool is_loss = &response == &responses().back();
      row.push_back({escaped(spread(numbers, is_loss))});
    }
  }
  return fmt::format(
      "<section class=\"figure\" id=\"dose\">\n<h2>Dose and response: {0}</h2>\n"
      "<p class=\"lead\">What does the model do as {0} changes?</p>\n"
      "<div class=\"panels\"></div>\n<div class=\"scroll\">{1}</div>\n"
      "<div class=\"definition\"><p>A mark is one of the {2} arms at the chosen step; a line is "
      "the mean over the arms of one value. Values of {0} stand at equal distances. The table is "
      "of the last measured step: the mean over the arms of a "
      "value, and in brackets the least and the largest; its columns are defined under the "
      "summary, but <b>norm ratio, entering</b>: the same of the residual stream before a layer, "
      "median over layers.</p></div>\n</section>",
      escaped(dose.key), number_table(header, rows), run.arms.size());
}

}  // namespace weir
