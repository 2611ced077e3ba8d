#pragma once
// Result types of every op from its operands' types: the only place that knows shape rules, and
// the only thrower of shape errors.
#include <vector>

#include "ir/attrs.h"
#include "ir/type.h"

namespace weir {

/// The types of the results. A user error names the op, what was given and what is needed.
/// Sources and kernels carry their types and are not inferred.
std::vector<Type> infer_types(Op op, const std::vector<const Type*>& inputs, const Attrs& attrs);

/// Checks the type that a source is given: positive extents, at most kMaxElements elements, an axis
/// of iota that exists, a constant that its integer type can hold.
void check_source(Op op, const Type& type, const Attrs& attrs);

}  // namespace weir
