#include "lab/report/report.h"

#include "io/file.h"
#include "lab/report/report_page.h"

namespace weir {

void write_report(const std::filesystem::path& run_directory, const std::filesystem::path& html,
                  const OnsetSettings& onset) {
  write_file(html.string(), report_page(read_run(run_directory), onset));
}

}  // namespace weir
