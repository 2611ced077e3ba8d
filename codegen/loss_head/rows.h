#pragma once
// The parts of the loss head between its products: what becomes of a chunk's logits row by row, and
// the sum of the rows' losses. Numerics: loss_head.h.
#include "codegen/kernel_code.h"

namespace weir {

struct LossHeadTypes {
  DType logits, losses, scale;
  DType targets = DType::i32;
};

struct LossHeadRows {
  LossHeadTypes types;
  int64_t rows = 1;        ///< of the chunk
  int64_t vocabulary = 1;  ///< columns
  int64_t row_stride = 1;  ///< of the logits, in elements
  bool gradient = false;   ///< turn the logits into g
  double cap = 0;          ///< of the logits; 0 for none
};

/// Buffers: logits [rows, row_stride], targets [rows], scale, losses [rows]. Writes each row's loss
/// without scale, 0 where it is not counted, and with `gradient` g over the logits.
KernelCode loss_head_rows_kernel(const LossHeadRows& shape);

/// Buffers: losses [rows], scale, the loss, which has the type of the rows' losses.
KernelCode loss_head_sum_kernel(const LossHeadTypes& types, int64_t rows);

}  // namespace weir
