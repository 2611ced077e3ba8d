#pragma once
// A guard for JSON from outside, asked before it is parsed.
#include <string_view>

namespace weir {

/// Whether arrays and objects nest at most 64 deep, so that what handles the value recursively
/// (printing, copying) stays within the stack. No file that is read needs more than ten.
bool json_is_shallow(std::string_view text);

}  // namespace weir
