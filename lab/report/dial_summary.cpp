#include "lab/report/dial_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "lab/report/dial_report.h"
#include "lab/report/report_summary.h"
#include "lab/report/terminal_table.h"
#include "support/text.h"

namespace weir {
namespace {

using nlohmann::json;

double record_number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string range(std::vector<double> values, const char* between = " to ") {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return "-";
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const std::string low = short_number(*least), high = short_number(*most);
  return low == high ? low : low + between + high;
}

double mean_number(const json& values) {
  double sum = 0;
  for (const json& value : values) sum += record_number(value);
  return sum / static_cast<double>(values.size());
}

// "1.73 [1.70, 1.77]".
std::string fit_text(const json& fit) {
  const double slope = record_number(fit.at("exponent"));
  if (std::isnan(slope)) return "-";
  const double low = record_number(fit.at("low")), high = record_number(fit.at("high"));
  // As many decimals as the interval deserves.
  const double width = high - low;
  const int decimals =
      width > 0 ? std::clamp(static_cast<int>(std::ceil(-std::log10(width))) + 1, 2, 6) : 4;
  if (std::isnan(low)) return fmt::format("{:.{}f}", slope, decimals);
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", slope, decimals, low, decimals, high, decimals);
}

const std::vector<std::string>& upstreams() {
  static const std::vector<std::string> names = {"frozen", "recomputed"};
  return names;
}

// Those that the record has.
std::vector<std::string> upstreams_of(const json& record) {
  std::vector<std::string> there;
  for (const std::string& name : upstreams())
    if (record.at("layers").at(0).contains(name)) there.push_back(name);
  return there;
}

std::string loss_range(const json& sweep) {
  std::vector<double> losses;
  for (const json& loss : sweep.at("loss")) losses.push_back(record_number(loss));
  return range(losses);
}

// The mass of one head, or the mean over heads, at every setting.
std::vector<double> masses(const json& sweep, int64_t head) {
  std::vector<double> result;
  for (const json& heads : sweep.at("mass"))
    result.push_back(head < 0 ? mean_number(heads)
                              : record_number(heads.at(static_cast<size_t>(head))));
  return result;
}

DialRows mass_rows(const json& record) {
  const std::vector<std::string> there = upstreams_of(record);
  const bool by_head = record.at("layers").size() == 1;
  DialRows rows = {{by_head ? "layer, head" : "layer", "mass"}};
  for (const std::string& name : there) {
    rows[0].push_back("exponent, g " + name);
    if (!by_head) rows[0].push_back("of heads");
    if (name == "recomputed") rows[0].emplace_back("loss");
  }
  for (const json& layer : record.at("layers")) {
    const json& first = layer.at(there.front());
    const auto add = [&](std::string label, int64_t head) {
      std::vector<std::string>& row = rows.emplace_back();
      row = {std::move(label), range(masses(first, head))};
      for (const std::string& name : there) {
        const json& sweep = layer.at(name);
        const auto h = static_cast<size_t>(head);
        row.push_back(fit_text(head < 0 ? sweep.at("fit") : sweep.at("head_fits").at(h)));
        std::vector<double> slopes;
        for (const json& fit : sweep.at("head_fits"))
          slopes.push_back(record_number(fit.at("exponent")));
        if (!by_head) row.push_back(range(slopes));
        if (name == "recomputed") row.push_back(head < 0 ? loss_range(sweep) : "");
      }
    };
    const auto number_of_layer = layer.at("layer").get<int64_t>();
    add(fmt::format("{}", number_of_layer), -1);
    if (!by_head) continue;
    const json& heads = record.at("settings").at("heads");
    for (size_t h = 0; h < heads.size(); ++h)
      add(fmt::format("{}.{}", number_of_layer, heads[h].get<int64_t>()), static_cast<int64_t>(h));
  }
  return rows;
}

DialRows norm_rows(const json& record) {
  const std::vector<std::string> there = upstreams_of(record);
  DialRows rows = {{"layer", "norm"}};
  for (const std::string& name : there) {
    rows[0].push_back("slope, g " + name);
    rows[0].emplace_back("settings");
    if (name == "recomputed") rows[0].emplace_back("loss");
  }
  for (const json& layer : record.at("layers")) {
    std::vector<double> norms;
    for (const json& norm : layer.at(there.front()).at("norm"))
      norms.push_back(record_number(norm));
    std::vector<std::string>& row = rows.emplace_back();
    row = {fmt::format("{}", layer.at("layer").get<int64_t>()), range(norms)};
    for (const std::string& name : there) {
      const json& sweep = layer.at(name);
      row.push_back(fit_text(sweep.at("fit")));
      row.push_back(fmt::format("{} of {}", sweep.at("fit").at("points").get<int64_t>(),
                                sweep.at("norm").size()));
      if (name == "recomputed") row.push_back(loss_range(sweep));
    }
  }
  return rows;
}

// A column a setting: the change of the loss, and of masked keys the mass that was on them.
DialRows loss_rows(const json& record, bool with_mass) {
  DialRows rows = {{"layer"}};
  for (const json& value : record.at("settings").at("values"))
    rows[0].push_back(value.is_string() ? value.get<std::string>()
                                        : short_number(value.get<double>()));
  const double plain = record_number(record.at("loss"));
  for (const json& layer : record.at("layers")) {
    const json& sweep = layer.at("recomputed");
    std::vector<std::string>& row = rows.emplace_back();
    row = {fmt::format("{}", layer.at("layer").get<int64_t>())};
    for (size_t v = 0; v < sweep.at("loss").size(); ++v) {
      const std::string change = fmt::format("{:+.4f}", record_number(sweep["loss"][v]) - plain);
      row.push_back(with_mass
                        ? fmt::format("{}, {}", short_number(mean_number(sweep["mass"][v])), change)
                        : change);
    }
  }
  return rows;
}

std::string dial_of(const json& record) { return record.at("settings").at("dial"); }

}  // namespace

DialRows dial_rows(const json& record) {
  const std::string dial = dial_of(record);
  if (dial == "mass") return mass_rows(record);
  if (dial == "norm") return norm_rows(record);
  const bool loss = record.at("layers").at(0).contains("recomputed");
  return loss ? loss_rows(record, dial != "value") : mass_rows(record);
}

std::string dial_legend(const json& record) {
  const std::string dial = dial_of(record);
  const json& settings = record.at("settings");
  const std::string key = fmt::format("{}", settings.at("sink_token").get<int64_t>());
  const std::string interval =
      fmt::format("{:.4g} % interval", 100 * record_number(settings.at("confidence")));
  if (dial == "mass")
    return fmt::format(
        "Mass of token {} from later queries, range over settings; exponent of E, the energy of "
        "the gradient at its value, against the mass, with its {}.",
        key, interval);
  if (dial == "norm")
    return fmt::format(
        "Norm of the input of token {}, range over settings; slope of log compress against log "
        "norm, with its {}, of the settings where mean x^2 > {} eps.",
        key, interval, short_number(record_number(settings.at("fit_above_eps_times"))));
  if (dial == "value")
    return fmt::format(
        "Change of the loss where the value vector of token {} is multiplied by a factor.", key);
  if (dial == "position")
    return fmt::format(
        "Mass of the token that is offered as sink in the place of token {}, and change of the "
        "loss.",
        key);
  return "Mass that was on the blocked keys, mean over heads, and change of the loss.";
}

std::vector<std::string> dial_claims(const json& record) {
  std::vector<std::string> claims;
  for (const json& check : record.at("checks")) {
    const std::string where = check.at("where");
    claims.push_back(fmt::format(
        "{}: {}; worst {}, at most {} is allowed{}", check.at("name").get<std::string>(),
        check.at("holds").get<bool>() ? "holds" : "FAILS",
        short_number(record_number(check.at("worst"))), shortest(record_number(check.at("limit"))),
        where.empty() ? "" : " (" + where + ")"));
  }
  return claims;
}

std::string dial_table(const std::string& text) {
  const json record = json::parse(text);
  std::string result = terminal_table(dial_rows(record));
  result += fmt::format("\nloss {:.4f} nats of the unchanged model. {}\n",
                        record_number(record.at("loss")), dial_legend(record));
  for (const std::string& claim : dial_claims(record)) result += claim + "\n";
  return result;
}

}  // namespace weir
