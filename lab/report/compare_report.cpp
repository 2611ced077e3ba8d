#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "io/file.h"
#include "lab/report/compare.h"
#include "lab/report/compare_summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"
#include "support/text.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr const char* kGridSection =
    "<section class=\"figure\" id=\"grid\">\n<h2>Over the grid</h2>\n<p class=\"lead\">How does "
    "each arm "
    "change with the keys of the grid?</p>\n<div class=\"panels\"></div>\n<div "
    "class=\"definition\"><p>Lines "
    "join the medians over seeds of one arm; a point is a seed. Grid points stand at equal "
    "distances, in "
    "the order of the sweep. Each is compared at its own equal tokens, or equal "
    "loss.</p></div>\n</section>";

std::string table_html(const CompareRows& rows, const std::vector<size_t>& words = {}) {
  const auto is_word = [&](size_t c) {
    return std::find(words.begin(), words.end(), c) != words.end();
  };
  std::vector<Cell> header;
  for (size_t c = 0; c < rows[0].size(); ++c) header.push_back({escaped(rows[0][c]), is_word(c)});
  std::vector<std::vector<Cell>> cells;
  for (size_t r = 1; r < rows.size(); ++r) {
    std::vector<Cell>& row = cells.emplace_back();
    for (size_t c = 0; c < rows[r].size(); ++c) row.push_back({escaped(rows[r][c]), is_word(c)});
  }
  return "<div class=\"scroll\">" + number_table(header, cells) + "</div>";
}

std::string list_html(const std::vector<std::string>& sentences) {
  std::string text;
  for (const std::string& sentence : sentences) text += "<li>" + escaped(sentence) + "</li>";
  return text.empty() ? "" : "<ul>" + text + "</ul>";
}

/// What `of_point` says of every grid point, folded away where there are several.
template <typename OfPoint>
std::string by_point(const json& record, const char* what, bool folded, OfPoint of_point) {
  std::string text;
  for (const json& point : record.at("points")) {
    const std::string grid = grid_text(point.at("grid"));
    const std::string title = grid.empty() ? what : fmt::format("{}: {}", what, grid);
    text += fmt::format("<details{}><summary>{}</summary>{}</details>\n", folded ? "" : " open",
                        escaped(title), of_point(point));
  }
  return text;
}

std::string arms_html(const json& record) {
  std::string rows;
  for (size_t a = 0; a < record.at("arms").size(); ++a) {
    const std::string name = record.at("arms")[a];
    ordered_json overrides;
    std::set<uint64_t> seeds;
    for (const json& point : record.at("points"))
      for (const json& arm : point.at("arms"))
        if (arm.at("arm") == name) {
          if (overrides.is_null()) overrides = ordered_json(arm.at("overrides"));
          for (const json& seed : arm.at("seeds")) seeds.insert(seed.get<uint64_t>());
        }
    std::vector<std::string> parts;
    for (const auto& [key, value] : overrides.items()) parts.push_back(key + "=" + plain(value));
    rows += fmt::format(
        "<li><span class=\"swatch arm{}\"></span><b>{}</b> seeds {} <code>{}</code></li>\n", a % 8,
        escaped(name), fmt::join(seeds, ", "), escaped(join(parts, " ")));
  }
  return "<ul class=\"arms\">" + rows + "</ul>";
}

std::string warnings_html(const json& record) {
  std::string text;
  for (const std::string& sentence : left_out_sentences(record))
    text += "<p class=\"warning\">" + escaped(sentence) + "</p>\n";
  return text;
}

std::string quantities_html(const json& record) {
  std::string text;
  for (const json& one : record.at("quantities"))
    if (!is_said_already(record, one))
      text += fmt::format("{}<b>{}</b>: {}", text.empty() ? "" : "; ",
                          escaped(one.at("title").get<std::string>()),
                          escaped(one.at("meaning").get<std::string>()));
  return text + ".";
}

// What figures draw: the points without what only tables and the record have.
json figure_data(const json& record) {
  json points = json::array();
  for (const json& point : record.at("points")) {
    json arms = json::array();
    for (const json& arm : point.at("arms")) {
      json replicates = json::array();
      for (const json& one : arm.at("replicates"))
        replicates.push_back({{"seed", one.at("seed")},
                              {"steps", one.at("steps")},
                              {"tokens", one.at("tokens")},
                              {"values", one.at("values")}});
      arms.push_back({{"arm", arm.at("arm")},
                      {"seeds", arm.at("seeds")},
                      {"equal_tokens", arm.at("equal_tokens")},
                      {"equal_loss", arm.at("equal_loss")},
                      {"curve", arm.at("curve")},
                      {"onsets", arm.at("onsets")},
                      {"difference", arm.at("difference")},
                      {"replicates", std::move(replicates)}});
    }
    points.push_back({{"name", grid_text(point.at("grid"))},
                      {"equal_tokens", place_of_comparison(point, "equal_tokens")},
                      {"equal_loss", place_of_comparison(point, "equal_loss")},
                      {"arms", std::move(arms)}});
  }
  json quantities = json::array();
  for (const json& one : record.at("quantities"))
    if (!is_said_already(record, one)) quantities.push_back(one);
  return for_figures({{"arms", record.at("arms")},
                      {"quantities", std::move(quantities)},
                      {"onset", record.at("settings").at("onset")},
                      {"confidence", record.at("settings").at("bootstrap").at("confidence")},
                      {"points", std::move(points)}});
}

}  // namespace

std::string compare_page(const std::string& text) {
  const json record = json::parse(text);
  const json& model = record.at("model");
  std::vector<std::string> names;
  for (const json& name : record.at("arms")) names.push_back(name.get<std::string>());
  const std::string title = names.size() > 3
                                ? fmt::format("{} and {} more arms", names[0], names.size() - 1)
                                : join(names, ", ");
  const bool several = record.at("points").size() > 1;
  const auto value = [](const json& object, const char* key) {
    return object.contains(key) ? plain(ordered_json(object.at(key))) : std::string("?");
  };
  const auto counted = [&](const json& object, const std::string& key) {
    const std::string count = value(object, key.c_str());
    return count + " " + (count == "1" ? key.substr(0, key.size() - 1) : key);
  };
  const std::map<std::string, std::string> texts = {
      {"arms", arms_html(record)},
      {"warnings", warnings_html(record)},
      {"intervals", escaped(join(interval_sentences(record), " "))},
      {"tokens_tables", by_point(record, "The numbers at equal tokens", several,
                                 [&](const json& point) {
                                   return table_html(spread_rows(record, point, "equal_tokens"),
                                                     {1});
                                 })},
      {"loss_tables", by_point(record, "The numbers at equal loss", true,
                               [&](const json& point) {
                                 return "<p>" + escaped(place_of_comparison(point, "equal_loss")) +
                                        "</p>" +
                                        table_html(spread_rows(record, point, "equal_loss"), {1});
                               })},
      {"changes", by_point(record, "What arms do to the first one's onsets", several,
                           [&](const json& point) { return list_html(change_sentences(point)); })},
      {"onset_tables",
       by_point(record, "Onsets over seeds", several,
                [&](const json& point) { return table_html(onset_rows(record, point), {1, 8}); })},
      {"growth_tables",
       by_point(record, "Parameters by layer, medians over seeds", true,
                [&](const json& point) { return table_html(growth_rows(point)); })},
      {"onset_definition", escaped(onset_sentence(record.at("settings")))},
      {"quantities", quantities_html(record)},
      {"grid_link", several ? "<a href=\"#grid\">Over the grid</a>" : ""},
      {"grid_section", several ? kGridSection : ""},
      {"command", escaped(record.at("provenance").at("command").get<std::string>())},
      {"settings", key_table(ordered_json(record.at("settings")))},
      {"versions", key_table(ordered_json(record.at("provenance").at("versions")))}};
  return framed({.kind = "Weir compare",
                 .kicker = "Weir compare",
                 .title = escaped(title),
                 .meta = escaped(fmt::format(
                     "{} · {} · {} · d_model {} · {} × {} tokens a step{}", value(model, "name"),
                     counted(model, "layers"), counted(model, "heads"), value(model, "d_model"),
                     value(record.at("tokens"), "batch"), value(record.at("tokens"), "length"),
                     several ? fmt::format(" · {} grid points", record.at("points").size()) : "")),
                 .script = compare_script(),
                 .data = figure_data(record)},
                compare_template(), texts);
}

void write_compare_report(const std::string& html, const std::string& record) {
  write_file(html, compare_page(record));
}

}  // namespace weir
