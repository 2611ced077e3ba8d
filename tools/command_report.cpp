// weir report: the report of a run once more, from its folder alone.
#include <fmt/format.h>

#include <filesystem>

#include "lab/report/report.h"
#include "lab/train/check_run.h"
#include "lab/train/run_folder.h"
#include "lab/train/run_place.h"
#include "support/text.h"
#include "tools/command.h"
#include "tools/onset_options.h"
#include "tools/outputs.h"

namespace weir {
namespace {

struct ReportArguments {
  std::string run, out;
  OnsetSettings onset;
  bool overwrite = false;
};

std::string report_path(const ReportArguments& options) {
  return options.out.empty() ? (std::filesystem::path(options.run) / "report.html").string()
                             : options.out;
}

int run_report(const ReportArguments& options) {
  if (is_run(options.run)) check_run(options.run);
  const std::filesystem::path html = report_path(options);
  write_report(options.run, html, options.onset);
  fmt::print("{}\nReport: {}\n", summary_table(options.run),
             printable(std::filesystem::absolute(html).lexically_normal().string()));
  return 0;
}

}  // namespace

void add_report(Commands& commands) {
  auto options = std::make_shared<ReportArguments>();
  OptionTable& table =
      add_command(commands, "report", "write the report of a training run from its folder");
  table.add("run", &options->run, input_path(), "the run's folder").needed();
  Option& out = table.add("--out", &options->out, report_file(),
                          "the HTML file; RUN/report.html if not given");
  add_onset_options(table, options->onset);
  table.flag("--overwrite", options->overwrite, kOverwriteMeaning);
  table.check([options, &out](UsageProblems&) {
    if (options->out.empty() && std::filesystem::is_directory(options->run))
      out.imply("the report", report_path(*options));
  });
  table.footer(
      "An unfinished run is reported as far as it has got.\n\nExamples:\n"
      "  weir report runs/first\n  weir report runs/first --out first.html");
  table.action([options] { return run_report(*options); });
}

}  // namespace weir
