#pragma once
// The epilogue of a region: its elementwise nodes, evaluated on finished elements of its product
// while they are in registers.
#include <map>
#include <vector>

#include "codegen/matmul/matmul.h"
#include "ir/graph.h"

namespace weir {

struct RegionEpilogue {
  GraphPtr region;
  int32_t product;                      ///< the matmul node
  Shape shape;                          ///< of the product
  int64_t rows;                         ///< of one matrix of the batch, as the kernel counts them
  std::map<int32_t, int> buffers = {};  ///< position in the kernel's frame of each region input
  std::vector<int> outputs = {};        ///< the same for the region's outputs
};

/// Evaluates the epilogue for a run of elements of C and stores the outputs.
void emit_region_epilogue(Emitter& e, const KernelFrame& frame, const RegionEpilogue& epilogue,
                          const MatrixRun& run, llvm::Value* product);

}  // namespace weir
