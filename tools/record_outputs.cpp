#include "tools/record_outputs.h"

#include <fmt/format.h>

#include <filesystem>

#include "io/file.h"
#include "support/text.h"
#include "tools/outputs.h"
#include "tools/paths.h"

namespace weir {

void RecordOutputs::add_json(OptionTable& table, const std::string& format,
                             const std::string& when) {
  table.add("--json", &json, record_file(format),
            fmt::format("write the record {}/1 here{}", format, when));
}

void RecordOutputs::add_report(OptionTable& table) {
  Option& row = table.add("--report", &report, report_file(),
                          "write the report here; beside --json, as .html, if not given");
  table.flag("--no-report", no_report, "write no report beside --json");
  table.flag("--overwrite", overwrite, kOverwriteMeaning);
  table.exclude("--no-report", "--report");
  table.check([this, &table, &row](UsageProblems& problems) {
    const std::string path = report_path();
    const bool beside = !path.empty() && !table.given("--report");
    if (beside && path == json)
      problems.add(
          fmt::format("the report beside --json would be {} itself. Give --report FILE.", path));
    else if (beside && output_problem(json, false).empty())
      row.imply("the report", path);
  });
}

std::string RecordOutputs::report_path() const {
  if (!report.empty()) return report;
  if (json.empty() || no_report) return "";
  return std::filesystem::path(json).replace_extension(".html").string();
}

void RecordOutputs::write_record(const std::string& record, bool tells) const {
  if (json.empty()) return;
  write_file(json, record + "\n");
  if (tells) fmt::print("Record: {}\n", printable(json));
}

void RecordOutputs::write_report(const std::function<void(const std::string&)>& write) const {
  const std::string path = report_path();
  if (path.empty()) return;
  write(path);
  fmt::print("Report: {}\n",
             printable(std::filesystem::absolute(path).lexically_normal().string()));
}

}  // namespace weir
