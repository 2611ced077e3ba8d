#pragma once
// What this program was made of, for run.json and `weir info`.
#include <string>
#include <utility>
#include <vector>

namespace weir {

/// Name and version: weir, its git revision ("" outside a clone), LLVM, the C++ compiler.
std::vector<std::pair<std::string, std::string>> build_versions();

}  // namespace weir
