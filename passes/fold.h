#pragma once
// The value of an elementwise op on numbers, for constant folding.
#include <optional>
#include <vector>

#include "ir/op.h"
#include "ir/type.h"

namespace weir {

/// The result of an elementwise op on constants, in f64: constants are exact until they are
/// emitted. Nothing for other ops, for a result that is NaN or does not fit into the integer type
/// `result`, and for a conversion that would round (its rounding is the program's wish).
std::optional<double> fold_elementwise(Op op, const std::vector<double>& operands, DType result);

}  // namespace weir
