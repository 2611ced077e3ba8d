#pragma once
// What a record `weir.dial/1` says, for a person: a table for the terminal, and a self-contained
// HTML file.
#include <string>

namespace weir {

/// By layer the range of what was turned, fitted exponents with their intervals, and losses; of a
/// record of one layer by head as well. Then the claims that hold exactly, with how near they were
/// to failing.
std::string dial_table(const std::string& record);

/// The report. `command` is shown as how to run it again.
std::string dial_page(const std::string& record, const std::string& command);
/// Writes it, whole or not at all. User error if the file cannot be written.
void write_dial_report(const std::string& html, const std::string& record,
                       const std::string& command);

}  // namespace weir
