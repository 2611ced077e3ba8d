#pragma once
// Whether the files of a command line can be read and written, asked before any work is done.
#include <deque>
#include <string>

#include "support/usage_error.h"

namespace weir {

struct Option;
struct ValueRule;

/// Adds what is wrong with the inputs and outputs among the options: an input that is not there, an
/// output that cannot be written, two outputs of one name, an output that is an input, goes with
/// one or is a file in an input's folder, one that is a file of any model or run, and one that
/// would replace a file of another kind, unless --overwrite is given.
void check_paths(const std::deque<Option>& options, UsageProblems& problems);

/// The sentence about an output file (or folder) that cannot be written or made; "" if it can be.
/// A file is tried beside its place, and nothing of it stays.
std::string output_problem(const std::string& path, bool folder);
/// The sentence about a file that is none that `rule` describes, and would be replaced; else "".
std::string replacing_problem(const std::string& path, const ValueRule& rule);

}  // namespace weir
