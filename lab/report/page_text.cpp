#include "lab/report/page_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "lab/report/report_assets.h"
#include "support/error.h"
#include "support/versions.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

std::string escaped(std::string_view text) {
  std::string result;
  for (char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string script_json(const json& value) {
  std::string result;
  for (char c : value.dump(-1, ' ', false, json::error_handler_t::replace)) {
    if (c == '<')
      result += "\\u003c";
    else
      result += c;
  }
  return result;
}

json for_figures(const json& value) {
  if (value.is_number_float())
    return std::strtod(fmt::format("{:.6g}", value.get<double>()).c_str(), nullptr);
  if (value.is_string() && (value == "NaN" || value == "Infinity" || value == "-Infinity"))
    return nullptr;
  if (!value.is_structured()) return value;
  json result = value;
  for (auto& element : result) element = for_figures(element);
  return result;
}

std::string plain(const ordered_json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void for_each_leaf(const ordered_json& value, const std::string& path,
                   const std::function<void(const std::string&, const ordered_json&)>& use) {
  const bool objects = value.is_array() && !value.empty() &&
                       std::all_of(value.begin(), value.end(),
                                   [](const ordered_json& element) { return element.is_object(); });
  if (objects) {
    for (size_t i = 0; i < value.size(); ++i)
      for_each_leaf(value[i], fmt::format("{}[{}]", path, i), use);
    return;
  }
  if (!value.is_object()) return use(path, value);
  for (const auto& [key, child] : value.items())
    for_each_leaf(child, path.empty() ? key : fmt::format("{}.{}", path, key), use);
}

std::string number_table(const std::vector<Cell>& header,
                         const std::vector<std::vector<Cell>>& rows) {
  const auto class_of = [](const Cell& cell) { return cell.words ? " class=\"words\"" : ""; };
  std::string text = "<table class=\"summary cards\"><thead><tr>";
  for (const Cell& cell : header)
    text += fmt::format("<th scope=\"col\"{}>{}</th>", class_of(cell), cell.html);
  text += "</tr></thead><tbody>";
  for (const std::vector<Cell>& row : rows) {
    text += "<tr>";
    for (size_t c = 0; c < row.size(); ++c)
      text +=
          fmt::format("<{0} data-label=\"{1}\"{2}>{3}</{4}>", c == 0 ? "th scope=\"row\"" : "td",
                      header.at(c).html, class_of(row[c]), row[c].html, c == 0 ? "th" : "td");
    text += "</tr>";
  }
  return text + "</tbody></table>";
}

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "";
  std::vector<Cell> header;
  for (const std::string& cell : rows.front()) header.push_back({escaped(cell)});
  std::vector<std::vector<Cell>> cells;
  for (size_t r = 1; r < rows.size(); ++r) {
    std::vector<Cell>& row = cells.emplace_back();
    for (const std::string& cell : rows[r]) row.push_back({escaped(cell)});
  }
  return number_table(header, cells);
}

std::string key_table(const ordered_json& value) {
  std::string rows;
  for_each_leaf(value, "", [&](const std::string& key, const ordered_json& leaf) {
    rows += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(key),
                        escaped(plain(leaf)));
  });
  return "<table class=\"keys\">" + rows + "</table>";
}

std::string notes_html(const std::vector<std::string>& notes, const std::string& complete) {
  if (notes.empty()) return "<p>Nothing: every measured number is in the figures.</p>";
  std::string text = "<ul>";
  for (const std::string& note : notes) text += "<li>" + escaped(note) + "</li>";
  return text + "</ul><p>The complete numbers are in " + complete + ".</p>";
}

std::string filled(std::string_view page, const std::map<std::string, std::string>& texts) {
  std::string result;
  for (size_t at = 0;;) {
    const size_t open = page.find("{{", at);
    result += page.substr(at, open - at);
    if (open == std::string_view::npos) return result;
    const size_t close = page.find("}}", open);
    WEIR_CHECK(close != std::string_view::npos, "the page template has an unclosed {{{{");
    const std::string name(page.substr(open + 2, close - open - 2));
    const auto text = texts.find(name);
    WEIR_CHECK(text != texts.end(), "the page template asks for {}, which is not filled in", name);
    result += text->second;
    at = close + 2;
  }
}

std::string origin_html(const json& record) {
  ordered_json origin = record.value("provenance", json::object());
  origin.erase("command");
  origin.erase("versions");
  if (origin.empty()) return "";
  return "<details open><summary>Where the numbers come from</summary>" + key_table(origin) +
         "</details>";
}

std::string versions_html(const json& record) {
  ordered_json versions = record.at("model");
  for (const auto& [name, version] : build_versions()) versions[name] = version;
  return key_table(versions);
}

std::string framed(const PageFrame& frame, std::string_view content,
                   const std::map<std::string, std::string>& texts) {
  return filled(frame_template(),
                {{"kind", frame.kind},
                 {"kicker", frame.kicker},
                 {"title", frame.title},
                 {"meta", frame.meta},
                 {"style", std::string(page_style())},
                 {"script", std::string(plots_script()) + std::string(frame.script)},
                 {"plotly", std::string(plotly_gz_base64())},
                 {"data", script_json(frame.data)},
                 {"content", filled(content, texts)}});
}

}  // namespace weir
