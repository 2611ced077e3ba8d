#pragma once
// Texts of HTML pages: escaping, tables of keys, the filling of a template.
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

/// Text that may stand anywhere in HTML.
std::string escaped(std::string_view text);
/// JSON that may stand inside a script element: no "<" can end it or open a comment.
std::string script_json(const nlohmann::json& value);
/// Where the numbers of a record come from, as a block that opens; "" where it does not say. Its
/// command and versions stand elsewhere on a page.
std::string origin_html(const nlohmann::json& record);
/// The model of a record, and the versions that make its page.
std::string versions_html(const nlohmann::json& record);

/// What all pages have around their own part, page/frame.html.
struct PageFrame {
  std::string kind;         ///< "Weir check", behind the title of the browser's window
  std::string kicker;       ///< above the heading, HTML
  std::string title;        ///< the heading, HTML
  std::string meta;         ///< under it, HTML
  std::string_view script;  ///< behind page/plots.js
  nlohmann::json data;      ///< what the script draws
};
/// The whole page, `content` being its part with texts in place of {{name}}. Internal error if it
/// asks for a text that is not there.
std::string framed(const PageFrame& frame, std::string_view content,
                   const std::map<std::string, std::string>& texts);

/// Numbers with the six digits that a figure shows; null where there is none, or what a record has
/// instead of a number that is not finite.
nlohmann::json for_figures(const nlohmann::json& value);
/// A string as it is, anything else as JSON.
std::string plain(const nlohmann::ordered_json& value);
/// Calls use("a.b[0].c", leaf) for every leaf of nested objects and arrays of objects, in order.
void for_each_leaf(
    const nlohmann::ordered_json& value, const std::string& path,
    const std::function<void(const std::string&, const nlohmann::ordered_json&)>& use);
/// A cell of a table of numbers; `words` are aligned to the left.
struct Cell {
  std::string html;
  bool words = false;
};
/// A table with a heading for each column and one for each row, its first cell. On a narrow screen
/// a row becomes a card, in which each cell stands behind its column's heading (report.css).
std::string number_table(const std::vector<Cell>& header,
                         const std::vector<std::vector<Cell>>& rows);
/// The same of texts, the first row being the headings; "" without rows.
std::string text_table(const std::vector<std::vector<std::string>>& rows);
/// A table of all leaves.
std::string key_table(const nlohmann::ordered_json& value);
/// What figures leave out, and where the complete numbers are.
std::string notes_html(const std::vector<std::string>& notes, const std::string& complete);
/// The template with every {{name}} replaced by its text; internal error if one is missing.
std::string filled(std::string_view page, const std::map<std::string, std::string>& texts);

}  // namespace weir
