#include "lab/report/dial_report.h"

#include "io/file.h"

namespace weir {
std::string dial_page(const std::string& record, const std::string&) { return record; }
void write_dial_report(const std::string& html, const std::string& record,
                       const std::string& command) {
  write_file(html, dial_page(record, command));
}
}  // namespace weir
