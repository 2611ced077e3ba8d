#pragma once
// A measurement for the terminal.
#include <string>

namespace weir {

/// A row a layer - sink rate, sink mass (mean over heads, largest head), gradient-sink ratio, norm
/// of the sink token over that of tokens 1..15 for the residual stream and the values, largest
/// activation and where it is - then the summary. `record` is one of `weir.measure/1`.
std::string measure_table(const std::string& record);

}  // namespace weir
