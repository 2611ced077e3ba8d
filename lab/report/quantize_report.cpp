#include "lab/report/quantize_report.h"

#include <fmt/format.h>

#include <map>

#include "io/file.h"
#include "lab/report/page_text.h"
#include "lab/report/quantize_summary.h"
#include "lab/report/report_assets.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

std::string arms_html(const json& record) {
  std::string text;
  for (const json& arm : record.at("arms"))
    text += fmt::format("<li><b>{}</b>: {}</li>", escaped(arm.at("name").get<std::string>()),
                        escaped(arm.at("meaning").get<std::string>()));
  return "<ul>" + text + "</ul>";
}

std::string findings_html(const json& record) {
  std::string text;
  for (const std::string& finding : quantize_findings(record))
    text += "<li>" + escaped(finding) + ".</li>";
  return text.empty() ? "" : "<ul>" + text + "</ul>";
}

// What figures are drawn from: without the losses of every sequence.
json figure_data(const json& record) {
  json arms = json::array();
  for (const json& arm : record.at("arms")) {
    json corpora = json::array();
    for (json outcome : arm.at("corpora")) {
      outcome.erase("sequence_loss");
      outcome.erase("sequence_recalled");
      outcome.erase("sequence_loss_sink_exact");
      corpora.push_back(std::move(outcome));
    }
    arms.push_back({{"name", arm.at("name")},
                    {"activations", arm.at("activations")},
                    {"corpora", std::move(corpora)},
                    {"sites", arm.at("sites")},
                    {"weights", arm.at("weights")}});
  }
  json corpora = json::array();
  for (const json& corpus : record.at("corpora"))
    corpora.push_back({{"name", corpus.at("name")},
                       {"loss", corpus.at("loss")},
                       {"perplexity", corpus.at("perplexity")},
                       {"recalled", corpus.value("recalled", json())}});
  return for_figures({{"settings", record.at("settings")},
                      {"corpora", corpora},
                      {"sites", record.at("sites")},
                      {"weights", record.at("weights")},
                      {"arms", arms}});
}

}  // namespace

std::string quantize_page(const std::string& text, const std::string& command) {
  const json record = json::parse(text);
  const json& settings = record.at("settings");
  const std::map<std::string, std::string> texts = {
      {"findings", findings_html(record)},
      {"table", text_table(quantize_rows(record))},
      {"legend", escaped(quantize_legend(record))},
      {"arms", arms_html(record)},
      {"sites", text_table(quantize_site_rows(record))},
      {"sink_token", escaped(plain(settings.at("sink_token")))},
      {"command", escaped(command)},
      {"settings", key_table(settings)},
      {"versions", versions_html(record)},
      {"origin", origin_html(record)}};
  return framed(
      {.kind = "Weir quantize",
       .kicker = "Weir quantize",
       .title = escaped(record.at("model").at("name").get<std::string>()),
       .meta = escaped(fmt::format(
           "{} layers · {} × {} tokens{} · V-scale {} · attention {} · {}",
           plain(record.at("model").at("layers")), plain(record.at("tokens").at("batch")),
           plain(record.at("tokens").at("length")),
           quantize_tells_recalled(record) ? "" : " of each text", plain(settings.at("v_scale")),
           plain(settings.at("attention")), plain(settings.at("arithmetic")))),
       .script = quantize_script(),
       .data = figure_data(record)},
      quantize_template(), texts);
}

void write_quantize_report(const std::string& html, const std::string& record,
                           const std::string& command) {
  write_file(html, quantize_page(record, command));
}

}  // namespace weir
