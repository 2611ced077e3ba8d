#include "lab/report/check_report.h"

#include <fmt/format.h>

#include <map>

#include "io/file.h"
#include "lab/report/check_summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

// The identities that the record has, with both sides.
std::string identities_html(const json& record, const CheckRows& exact, const CheckRows& bounds) {
  std::vector<std::vector<Cell>> rows;
  for (const CheckRows* table : {&exact, &bounds})
    for (const std::string& key : table->front())
      for (const json& identity : record.at("identities")) {
        if (identity.at("id") != key) continue;
        const std::string kind = identity.at("kind").get<std::string>();
        const auto text = [&](const char* name) {
          return escaped(identity.at(name).get<std::string>());
        };
        rows.push_back({{"<code>" + escaped(key) + "</code>", true},
                        {fmt::format("{}", identity.at("number").get<int>())},
                        {text("left"), true},
                        {kind == "bound" ? "&le;" : "=", true},
                        {text("right"), true}});
      }
  return number_table(
      {{"identity", true}, {"theorem"}, {"left", true}, {"", true}, {"right", true}}, rows);
}

std::string failures_html(const json& record) {
  std::string text;
  for (const json& failure : record.at("failures")) {
    const json& worst = failure.at("worst");
    text += fmt::format(
        "<p class=\"warning\"><b>{}</b> of {} fails at {} places; worst in sequence {}, head {}, "
        "token {}: left {}, right {}.</p>",
        escaped(failure.at("identity").get<std::string>()),
        escaped(failure.at("label").get<std::string>()), failure.at("places").get<int64_t>(),
        worst.at("sequence").get<int64_t>(), worst.at("head").get<int64_t>(),
        worst.at("token").get<int64_t>(), escaped(plain(worst.at("left"))),
        escaped(plain(worst.at("right"))));
  }
  return text;
}

// Of each bound of attention and V-scale, by layer and head.
json tightness(const json& record) {
  json figures = json::array();
  for (const json& identity : record.at("identities")) {
    // Norms have no heads; their bounds stand in the table.
    if (identity.at("kind") != "bound" || identity.at("site") == "norm") continue;
    const std::string key = identity.at("id").get<std::string>();
    json median = json::array(), largest = json::array(), labels = json::array();
    for (const json& site : record.at("sites")) {
      const auto result = site.at("identities").find(key);
      if (result == site.at("identities").end() || !result->contains("largest")) continue;
      labels.push_back(site.at("label"));
      const auto numbers = [](const json& values) {
        json clean = json::array();
        for (const json& value : values) clean.push_back(value.is_number() ? value : json(nullptr));
        return clean;
      };
      median.push_back(numbers(result->at("median")));
      largest.push_back(numbers(result->at("largest")));
    }
    if (!labels.empty())
      figures.push_back({{"key", key},
                         {"name", identity.at("name")},
                         {"left", identity.at("left")},
                         {"right", identity.at("right")},
                         {"labels", labels},
                         {"median", median},
                         {"largest", largest}});
  }
  return figures;
}

}  // namespace

std::string check_page(const std::string& text, const std::string& command) {
  const json record = json::parse(text);
  const CheckSummary summary = check_summary(record);
  std::string not_applicable;
  for (const std::string& sentence : summary.not_applicable)
    not_applicable += "<p>Not applicable: " + escaped(sentence) + ".</p>";
  const json& settings = record.at("settings");
  const std::map<std::string, std::string> texts = {
      {"verdict", escaped(summary.verdict)},
      {"failures", failures_html(record)},
      {"exact", text_table(summary.exact)},
      {"bounds", text_table(summary.bounds)},
      {"not_applicable", not_applicable},
      {"identities", identities_html(record, summary.exact, summary.bounds)},
      {"tolerance", escaped(plain(settings.at("tolerance")))},
      {"sink_token", escaped(plain(settings.at("sink_token")))},
      {"command", escaped(command)},
      {"settings", key_table(settings)},
      {"versions", versions_html(record)}};
  return framed(
      {.kind = "Weir check",
       .kicker = "Weir check",
       .title = escaped(record.at("model").at("name").get<std::string>()),
       .meta = escaped(fmt::format(
           "{} \u00d7 {} tokens \u00b7 {} \u00b7 attention {} \u00b7 "
           "V-scale {}",
           plain(record.at("tokens").at("batch")), plain(record.at("tokens").at("length")),
           settings.at("precision").get<std::string>(), settings.at("attention").get<std::string>(),
           settings.at("v_scale").get<std::string>())),
       .script = check_script(),
       .data = {{"figures", tightness(record)}}},
      check_template(), texts);
}

void write_check_report(const std::string& html, const std::string& record,
                        const std::string& command) {
  write_file(html, check_page(record, command));
}

}  // namespace weir
