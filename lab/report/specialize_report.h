#pragma once
// What a record `weir.specialize/1` says, for a person: a table for the terminal, and a
// self-contained HTML file.
#include <string>

namespace weir {

/// A row a case; of dynamics with several dimensions, a row a dimension. Then what the columns
/// mean.
std::string specialize_table(const std::string& record);

/// The report. `command` is shown as how to run it again.
std::string specialize_page(const std::string& record, const std::string& command);
/// Writes it, whole or not at all. User error if the file cannot be written.
void write_specialize_report(const std::string& html, const std::string& record,
                             const std::string& command);

}  // namespace weir
