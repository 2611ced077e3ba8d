#pragma once
// The standard files of the process: output that does not reach its reader is a failure.
#include <string>

namespace weir {

/// To be called first. Takes the place of a closed standard input, output or error, so that no file
/// that is opened later is mistaken for it, and lets a write to a closed pipe or beyond the limit
/// of a file's size fail instead of ending the process.
void prepare_standard_files();

/// To be called last: hands on what was printed. `status`, or 1 and a message on stderr that names
/// the command if something could not be written to standard output.
int finish_standard_output(int status, const std::string& command);

/// "error: message" to stderr; never throws.
void print_error(const std::string& message);

}  // namespace weir
