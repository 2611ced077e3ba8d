#include "lab/report/check_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/report/check_report.h"
#include "lab/report/terminal_table.h"
#include "support/text.h"

namespace weir {
namespace {

using nlohmann::json;

// Numbers of a record that are not finite are texts there.
double recorded_number(const json& value) {
  if (value.is_number()) return value.get<double>();
  return std::strtod(value.get<std::string>().c_str(), nullptr);
}

// By layer, in the order of the program; sites outside of layers, such as the last norm, come last.
struct LayerSites {
  std::string name;
  std::vector<const json*> sites;
};

std::vector<LayerSites> by_layer(const json& record) {
  std::map<int64_t, LayerSites> layers;
  LayerSites others{"other", {}};
  for (const json& site : record.at("sites")) {
    if (site.at("layer").is_null()) {
      others.sites.push_back(&site);
      continue;
    }
    const auto layer = site.at("layer").get<int64_t>();
    layers[layer].name = fmt::format("{}", layer);
    layers[layer].sites.push_back(&site);
  }
  std::vector<LayerSites> result;
  for (auto& [layer, sites] : layers) result.push_back(std::move(sites));
  if (!others.sites.empty()) result.push_back(std::move(others));
  return result;
}

// The results of an identity in a layer: several where it has several norms.
std::vector<const json*> results(const LayerSites& layer, const std::string& identity) {
  std::vector<const json*> found;
  for (const json* site : layer.sites)
    if (const auto result = site->at("identities").find(identity);
        result != site->at("identities").end())
      found.push_back(&*result);
  return found;
}

std::string short_ratio(double value) {
  if (value == 0) return "0";
  if (value >= 0.001 && value < 10) return fmt::format("{:.3f}", value);
  return fmt::format("{:.1e}", value);
}

std::string exact_cell(const std::vector<const json*>& results) {
  double worst = -1;
  for (const json* result : results)
    if (result->contains("error"))
      for (const json& head : result->at("error")) worst = std::max(worst, recorded_number(head));
  if (worst < 0) return "-";
  return worst == 0 ? "0" : fmt::format("{:.1e}", worst);
}

// The median over heads of their medians, and the largest.
std::string bound_cell(const std::vector<const json*>& results) {
  std::vector<double> medians;
  double largest = -1;
  for (const json* result : results) {
    if (!result->contains("largest")) continue;
    for (const json& head : result->at("median")) medians.push_back(recorded_number(head));
    for (const json& head : result->at("largest"))
      largest = std::max(largest, recorded_number(head));
  }
  if (largest < 0) return "-";
  std::sort(medians.begin(), medians.end());
  return short_ratio(medians[medians.size() / 2]) + " " + short_ratio(largest);
}

// How many heads of a layer lie between the two bounds from mean and noise.
std::string between_cell(const LayerSites& layer) {
  int64_t inside = 0, heads = 0;
  for (const json* site : layer.sites) {
    if (!site->contains("mean_and_noise")) continue;
    const json& all = site->at("mean_and_noise");
    for (size_t h = 0; h < all.at("energy").size(); ++h, ++heads)
      inside += recorded_number(all["lower"][h]) <= recorded_number(all["energy"][h]) &&
                recorded_number(all["energy"][h]) <= recorded_number(all["upper"][h]);
  }
  return heads ? fmt::format("{}/{}", inside, heads) : "-";
}

}  // namespace

CheckSummary check_summary(const json& record) {
  CheckSummary summary;
  summary.exact = summary.bounds = {{"layer"}};
  std::set<std::string> there;
  std::map<std::string, std::set<std::string>> reasons;
  for (const json& site : record.at("sites"))
    for (const auto& [key, result] : site.at("identities").items()) {
      there.insert(key);
      if (result.contains("not_applicable"))
        reasons[result["not_applicable"].get<std::string>()].insert(key);
    }
  for (const auto& [reason, keys] : reasons)
    summary.not_applicable.push_back(
        fmt::format("{}: {}", join({keys.begin(), keys.end()}, ", "), reason));
  for (const json& identity : record.at("identities")) {
    const std::string key = identity.at("id").get<std::string>();
    if (!there.contains(key)) continue;
    (identity.at("kind") == "bound" ? summary.bounds : summary.exact)[0].push_back(key);
  }
  const std::vector<std::string> exact = summary.exact[0], bounds = summary.bounds[0];
  summary.bounds[0].emplace_back("mean_noise");
  for (const LayerSites& layer : by_layer(record)) {
    std::vector<std::string> errors = {layer.name}, tightness = {layer.name};
    for (size_t i = 1; i < exact.size(); ++i)
      errors.push_back(exact_cell(results(layer, exact[i])));
    for (size_t i = 1; i < bounds.size(); ++i)
      tightness.push_back(bound_cell(results(layer, bounds[i])));
    tightness.push_back(between_cell(layer));
    summary.exact.push_back(std::move(errors));
    summary.bounds.push_back(std::move(tightness));
  }
  const size_t failures = record.at("failures").size();
  summary.verdict = failures == 0
                        ? "Every identity and every bound holds."
                        : fmt::format("{} {} not hold.", failures, failures == 1 ? "does" : "do");
  return summary;
}

std::string check_table(const std::string& record) {
  const json whole = json::parse(record);
  const CheckSummary summary = check_summary(whole);
  const json& settings = whole.at("settings");
  std::string text = fmt::format(
      "Exact identities ({}): largest error over its scale; {:.0e} is allowed, and 0 of "
      "first_query.\n\n{}\n",
      settings.at("precision").get<std::string>(), settings.at("tolerance").get<double>(),
      terminal_table(summary.exact));
  text += fmt::format(
      "Bounds: left over right side, median over tokens and heads, then the largest; at most 1. "
      "mean_noise: heads between\nthe bounds from mean and noise, which are estimates.\n\n{}",
      terminal_table(summary.bounds));
  for (const std::string& sentence : summary.not_applicable)
    text += fmt::format("\nNot applicable: {}.", sentence);
  if (!summary.not_applicable.empty()) text += "\n";
  return text + "\n" + summary.verdict + "\n";
}

}  // namespace weir
