#include "lab/report.h"

#include <fstream>

#include "lab/report_page.h"
#include "support/error.h"

namespace weir {

void write_report(const std::filesystem::path& run_directory, const std::filesystem::path& html) {
  const std::string page = report_page(read_run(run_directory));
  std::filesystem::path part = html;
  part += ".part";
  std::ofstream stream(part, std::ios::binary);
  stream.write(page.data(), static_cast<std::streamsize>(page.size()));
  stream.close();
  if (!stream)
    user_error("report",
               "cannot write {}; is the folder there and writable, and the disk not full?",
               html.string());
  std::filesystem::rename(part, html);
}

}  // namespace weir
