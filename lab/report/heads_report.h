#pragma once
// What a record `weir.heads/1` says, for a person: a table for the terminal, and a self-contained
// HTML file.
#include <string>

namespace weir {

/// A row a layer (of up to 4 layers a row a head), the pruning curve at some of its steps, and the
/// definitions.
std::string heads_table(const std::string& record);

/// The report. `command` is shown as how to run it again.
std::string heads_page(const std::string& record, const std::string& command);
/// Writes it, whole or not at all. User error if the file cannot be written.
void write_heads_report(const std::string& html, const std::string& record,
                        const std::string& command);

}  // namespace weir
