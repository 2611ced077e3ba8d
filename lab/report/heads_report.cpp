#include "lab/report/heads_report.h"

#include <fmt/format.h>

#include <map>

#include "io/file.h"
#include "lab/report/heads_summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"

namespace weir {

using nlohmann::json;

std::string heads_page(const std::string& text, const std::string& command) {
  const json record = json::parse(text);
  const json& settings = record.at("settings");
  std::string findings;
  for (const std::string& finding : heads_findings(record))
    findings += "<li>" + escaped(finding) + ".</li>";
  const std::map<std::string, std::string> texts = {
      {"findings", "<ul>" + findings + "</ul>"},
      {"table", text_table(head_layer_rows(record))},
      {"legend", escaped(heads_legend(record))},
      {"heads", text_table(head_rows(record))},
      {"curve", record.at("curve").empty() ? "<p>No head was removed for good (--prune).</p>"
                                           : text_table(pruning_rows(record))},
      {"command", escaped(command)},
      {"settings", key_table(settings)},
      {"versions", versions_html(record)},
      {"origin", origin_html(record)}};
  const json data = for_figures({{"settings", settings},
                                 {"loss", record.at("loss")},
                                 {"summary", record.at("summary")},
                                 {"layers", record.at("layers")},
                                 {"curve", record.at("curve")}});
  return framed({.kind = "Weir heads",
                 .kicker = "Weir heads",
                 .title = escaped(record.at("model").at("name").get<std::string>()),
                 .meta = escaped(fmt::format(
                     "{} layers · {} heads · {} × {} tokens · V-scale {} · attention {} · {}",
                     plain(record.at("model").at("layers")), plain(record.at("model").at("heads")),
                     plain(record.at("tokens").at("batch")),
                     plain(record.at("tokens").at("length")), plain(settings.at("v_scale")),
                     plain(settings.at("attention")), plain(settings.at("arithmetic")))),
                 .script = heads_script(),
                 .data = data},
                heads_template(), texts);
}

void write_heads_report(const std::string& html, const std::string& record,
                        const std::string& command) {
  write_file(html, heads_page(record, command));
}

}  // namespace weir
