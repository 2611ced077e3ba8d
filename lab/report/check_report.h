#pragma once
// What a record `weir.check/1` says, for a person: a table for the terminal, and a self-contained
// HTML file.
#include <string>

namespace weir {

/// By layer the largest error of each exact identity over its scale, and the tightness of each
/// bound, left over right side, as median and largest.
std::string check_table(const std::string& record);

/// The report, which shows the tightness of bounds by layer and head as well.
std::string check_page(const std::string& record, const std::string& command);
/// Writes it, whole or not at all. User error if the file cannot be written.
void write_check_report(const std::string& html, const std::string& record,
                        const std::string& command);

}  // namespace weir
