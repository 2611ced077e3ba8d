#include <fmt/format.h>

#include "bench/summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"

extern "C" const char weir_asset_bench_page[], weir_asset_bench_page_end[];
extern "C" const char weir_asset_bench_script[], weir_asset_bench_script_end[];

namespace weir::bench {
namespace {

std::string figure_rows(const std::vector<Figure>& figures) {
  std::string rows;
  for (const Figure& f : figures) {
    const auto goal = [](double value) { return value == 0 ? "" : fmt::format("{:.2f}", value); };
    rows += fmt::format(
        "<tr><th scope=\"row\"><code>{}</code></th><td class=\"words\">{}</td><td>{}</td><td>{}"
        "</td><td>{}</td><td>{}</td><td>{}</td><td class=\"words\">{}</td></tr>\n",
        f.name, escaped(f.what), f.value ? fmt::format("{:.3f}", *f.value) : "",
        f.value && f.rounds > 1 ? fmt::format("{:.3f} &hellip; {:.3f}", f.low, f.high) : "",
        f.best ? fmt::format("{:.3f}", *f.best) : "", goal(f.target), goal(f.stretch),
        f.value ? (f.target == 0 ? ""
                   : f.reached() ? "reached"
                                 : "missed")
                : escaped(f.why_absent));
  }
  return rows;
}

}  // namespace

std::string bench_page(const nlohmann::json& results, const std::vector<Figure>& figures) {
  nlohmann::json data = nlohmann::json::object();
  for (const char* key : {"profiles", "peaks"}) data[key] = results.value(key, nlohmann::json());
  const nlohmann::json machine = results.value("machine", nlohmann::json::object());
  return framed({.kind = "Weir benchmark",
                 .kicker = "Weir benchmark",
                 .title = "Speed",
                 .meta = escaped(machine.value("target", std::string("unknown machine"))) + "<br>" +
                         escaped(results.value("started", std::string())),
                 .script = {weir_asset_bench_script, weir_asset_bench_script_end},
                 .data = data},
                {weir_asset_bench_page, weir_asset_bench_page_end},
                {{"figures", figure_rows(figures)},
                 {"details", escaped(detail_table(results))},
                 {"facts", key_table(nlohmann::ordered_json(machine))}});
}

}  // namespace weir::bench
