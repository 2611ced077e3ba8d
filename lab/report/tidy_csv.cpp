#include "lab/report/tidy_csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file.h"
#include "lab/measure/record_keys.h"
#include "lab/report/report_data.h"
#include "support/error.h"
#include "support/text.h"
#include "support/usage_error.h"
#include "support/value_rule.h"

namespace weir {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Row {
  std::optional<int64_t> step = {}, layer = {}, head = {}, token = {};
  std::string metric = {};
  double value = 0;

  // Which of the cells that may be empty are filled.
  size_t kind() const {
    return static_cast<size_t>(step.has_value()) | static_cast<size_t>(layer.has_value()) << 1 |
           static_cast<size_t>(head.has_value()) << 2 | static_cast<size_t>(token.has_value()) << 3;
  }
};
constexpr size_t kKinds = 16;

using Visit = std::function<void(const Row&)>;

double cell_number(const json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "Infinity") return INFINITY;
  return value == "-Infinity" ? -INFINITY : kNaN;
}

bool is_cell(const json& value) { return value.is_number() || value.is_string(); }

bool is_by_head(const std::string& key) {
  return std::any_of(kLayerKeys.begin(), kLayerKeys.end(), [&](const RecordKey& row) {
    return key == row.name && row.kind == RecordKind::heads;
  });
}

// The numbers below a value, with the name that leads there.
void visit_numbers(const json& value, Row row, const Visit& visit) {
  if (value.is_object()) {
    const std::string name = row.metric + ".";
    for (const auto& [key, part] : value.items()) {
      row.metric = name;
      row.metric += key;
      visit_numbers(part, row, visit);
    }
    return;
  }
  if (!value.is_array()) {
    if (!is_cell(value)) return;
    row.value = cell_number(value);
    return visit(row);
  }
  if (value.empty() || value[0].is_object()) {  // a list of places
    row.metric += ".count";
    row.value = static_cast<double>(value.size());
    return visit(row);
  }
  const bool heads = value[0].is_array() || is_by_head(row.metric);
  for (size_t i = 0; i < value.size(); ++i) {
    (heads ? row.head : row.token) = static_cast<int64_t>(i);
    visit_numbers(value[i], row, visit);
  }
}

void visit_record(const json& record, const Visit& visit) {
  Row row;
  if (record.contains("step")) row.step = record["step"].get<int64_t>();
  for (const json& layer : record["layers"]) {
    Row of_layer = row;
    of_layer.layer = layer["layer"].get<int64_t>();
    for (const auto& [key, value] : layer.items()) {
      if (key == "layer" || key == "outlier_tokens") continue;  // outlier_token_count is there
      of_layer.metric = key;
      visit_numbers(value, of_layer, visit);
    }
  }
  row.metric = "loss";
  visit_numbers(record["loss"], row, visit);
  if (!record.contains("summary")) return;
  for (const auto& [key, value] : record["summary"].items()) {
    row.metric = "summary." + key;
    if (!value.is_array()) {
      visit_numbers(value, row, visit);
      continue;
    }
    for (size_t i = 0; i < value.size(); ++i) {  // quartiles
      Row part = row;
      part.metric += i == 0 ? ".low" : ".high";
      visit_numbers(value[i], part, visit);
    }
  }
}

void check_record(const json& record, const std::string& where) {
  const bool is_object = record.is_object() && record.contains("format");
  const std::string format = is_object && record["format"].is_string()
                                 ? record["format"].get<std::string>()
                                 : std::string();
  if (format != "weir.measure/1")
    user_error("export",
               "{} is {}, but a record of the format weir.measure/1 is needed, as `weir measure` "
               "writes it, or the folder of a run.",
               where, format.empty() ? "no record" : "of the format " + format);
  arm_of_record(record, where);
}

void visit_records(const fs::path& file, size_t lines, const Visit& visit) {
  // A record that was laid out on several lines by another program.
  if (const json whole = json::parse(MappedFile(file.string()).text(), nullptr, false);
      whole.is_object()) {
    check_record(whole, file.string());
    return visit_record(whole, visit);
  }
  for_each_line(
      file,
      [&](const json& record, const std::string& where) {
        check_record(record, where);
        visit_record(record, visit);
      },
      lines);
}

void visit_curve(const fs::path& file, const std::string& prefix,
                 const std::vector<const char*>& keys, size_t lines, const Visit& visit) {
  if (file.empty() || !fs::exists(file)) return;
  for_each_line(
      file,
      [&](const json& line, const std::string& where) {
        if (!line.is_object() || !line.contains("step") || !line["step"].is_number_integer())
          user_error("export", "{}: the field \"step\" is missing.", where);
        Row row{.step = line["step"].get<int64_t>()};
        for (const char* key : keys) {
          if (!line.contains(key)) continue;
          row.metric = prefix + key;
          visit_numbers(line[key], row, visit);
        }
      },
      lines);
}

// One file of an arm.
struct CsvPart {
  std::string arm;
  // Shows the rows of at most so many lines.
  std::function<void(size_t lines, const Visit& visit)> visit;
};

std::vector<CsvPart> parts_of(const std::vector<TidySource>& sources) {
  std::vector<CsvPart> parts;
  for (const TidySource& source : sources) {
    parts.push_back({source.arm, [&source](size_t lines, const Visit& visit) {
                       if (!source.records.empty() && fs::exists(source.records))
                         visit_records(source.records, lines, visit);
                     }});
    parts.push_back({source.arm, [&source](size_t lines, const Visit& visit) {
                       visit_curve(source.losses, "train.",
                                   {"loss", "lr", "grad_norm", "tokens_per_second"}, lines, visit);
                     }});
    parts.push_back({source.arm, [&source](size_t lines, const Visit& visit) {
                       visit_curve(source.validations, "validation.", {"loss", "recalled"}, lines,
                                   visit);
                     }});
  }
  return parts;
}

// A text that no reader takes for more than one cell.
std::string csv_quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result = "\"";
  for (char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + "\"";
}

// Never the text of a whole number, by which a reader would take the column for one of those.
std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string line_of(const Row& row, const std::string& arm) {
  const auto cell = [](const std::optional<int64_t>& value) {
    return value ? fmt::format("{}", *value) : std::string();
  };
  return fmt::format("{},{},{},{},{},{},{}\n", cell(row.step), csv_quoted(arm), cell(row.layer),
                     cell(row.head), cell(row.token), csv_quoted(row.metric),
                     number_text(row.value));
}

// Which metrics are wanted, and whether each glob has found one.
class Wanted {
 public:
  explicit Wanted(const std::vector<std::string>& globs)
      : globs_(globs), found_(globs.size(), false) {}

  bool operator()(const std::string& metric) {
    if (globs_.empty()) return true;
    if (const auto known = known_.find(metric); known != known_.end()) return known->second;
    bool wanted = false;
    for (size_t i = 0; i < globs_.size(); ++i)
      if (glob_match(globs_[i], metric)) wanted = found_[i] = true;
    return known_[metric] = wanted;
  }
  void check() const {
    UsageProblems problems("export");
    std::vector<std::string> names;
    for (const auto& [name, wanted] : known_) names.push_back(name);
    for (size_t i = 0; i < globs_.size(); ++i)
      if (!found_[i])
        problems.add(fmt::format("no metric matches '{}'.{}", short_text(globs_[i]),
                                 did_you_mean(globs_[i], names)));
    problems.raise();
  }

 private:
  const std::vector<std::string>& globs_;
  std::vector<bool> found_;
  std::map<std::string, bool> known_;
};

// The first row of each kind, which stand at the begin of the file and nowhere else.
struct FirstRows {
  std::array<std::optional<std::pair<size_t, size_t>>, kKinds> at = {};  ///< part, and row of it
  std::string text;
};

}  // namespace

int64_t write_tidy_csv(const std::string& file, const std::vector<TidySource>& sources,
                       const std::vector<std::string>& metrics) {
  Wanted wanted(metrics);
  const std::vector<CsvPart> parts = parts_of(sources);
  using Use = std::function<void(const std::pair<size_t, size_t>& at, const Row&)>;
  const auto for_each_row = [&](size_t lines, const Use& use) {
    int64_t all = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
      size_t count = 0;
      parts[p].visit(lines, [&](const Row& row) {
        if (wanted(row.metric)) use({p, count++}, row);
      });
      all += static_cast<int64_t>(count);
    }
    return all;
  };
  // Rows of the first line of every file show all kinds that there are.
  FirstRows first;
  for_each_row(1, [&](const auto& at, const Row& row) {
    auto& of_kind = first.at[row.kind()];
    if (of_kind) return;
    of_kind = at;
    first.text += line_of(row, parts[at.first].arm);
  });
  AtomicFile out(file);
  out.write(std::string(kTidyHeader) + "\n" + first.text);
  const int64_t rows =
      for_each_row(std::numeric_limits<size_t>::max(), [&](const auto& at, const Row& row) {
        if (first.at[row.kind()] != at) out.write(line_of(row, parts[at.first].arm));
      });
  wanted.check();
  out.commit();
  return rows;
}

}  // namespace weir
