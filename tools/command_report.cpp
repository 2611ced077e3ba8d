// weir report: the report of a run once more, from its folder alone.
#include <fmt/format.h>

#include <filesystem>

#include "lab/report.h"
#include "lab/run_folder.h"
#include "lab/run_place.h"
#include "tools/command.h"

namespace weir {
namespace {

struct ReportArguments {
  std::string run, out;
};

int run_report(const ReportArguments& options) {
  if (is_run(options.run)) check_lines(options.run);
  std::filesystem::path html = options.out;
  if (html.empty()) html = std::filesystem::path(options.run) / "report.html";
  write_report(options.run, html);
  fmt::print("{}\nReport: {}\n", summary_table(options.run),
             std::filesystem::absolute(html).lexically_normal().string());
  return 0;
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto options = std::make_shared<ReportArguments>();
  CLI::App* command =
      app.add_subcommand("report", "write the report of a training run from its folder");
  command->add_option("run", options->run, "the run's folder")->required();
  command->add_option("--out", options->out, "the HTML file; RUN/report.html if not given");
  command->footer(
      "An unfinished run is reported as far as it has got.\n\nExamples:\n"
      "  weir report runs/first\n  weir report runs/first --out first.html");
  command->callback([options, &action] { action = [options] { return run_report(*options); }; });
}

}  // namespace weir
