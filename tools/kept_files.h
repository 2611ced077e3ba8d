#pragma once
// The files of models and runs, over which no command writes its outputs.
#include <string>
#include <vector>

namespace weir {

/// The sentence about an output file that is, or would become, one of those that a model in its
/// folder consists of: weights, config.json, the files of a tokenizer. They are read without being
/// named. `of_another_kind`: what is there is none of the command's own outputs, and may be all
/// that the model has. "" if it is none.
std::string model_file_problem(const std::string& path, bool of_another_kind);

/// The sentence about an output file that a run has listed in its manifest, or that a damaged
/// manifest may have listed; "" if it is none. `inputs` are the files and folders that the command
/// reads: a run among them may get a new report in the place of its own.
std::string run_file_problem(const std::string& path, const std::vector<std::string>& inputs);

}  // namespace weir
