#pragma once
// The schedules "embedding" and "embedding_grad": rows of a table chosen by ids, and the gradient
// of that table. Ids are checked on the host; these kernels stay inside their buffers whatever they
// are.
#include "codegen/kernel_code.h"
#include "ir/graph.h"
#include "support/target.h"

namespace weir {

/// Row i of the result is row ids[i] of the table, bit by bit (bf16, f16: a NaN is made quiet), or
/// NaN for an id outside the table. User error for a table of f64.
KernelCode make_embedding_kernel(const GraphPtr& region, const Target& target);

/// Row v of the result is the sum of the rows of dy whose id is v, one chain in ascending order of
/// position from zero. An id outside the vocabulary is left out: the forward pass has made its row
/// NaN. A tile owns a range of columns, so that threads never meet. User error unless dy is f32.
KernelPhases make_embedding_grad_kernel(const GraphPtr& region, const Target& target);

}  // namespace weir
