#include "codegen/matmul/product_run.h"

#include <algorithm>

#include "codegen/llvm/emitter.h"
#include "codegen/matmul/matmul.h"
#include "support/error.h"

namespace weir {
namespace {

// Rows and columns are those of the matrix that is multiplied.
Buffer operand(const MatmulOperand& matrix, int64_t batch, int64_t rows, int64_t columns) {
  const int64_t count =
      (matrix.transposed ? columns : rows) * matrix.row_stride + (batch - 1) * matrix.batch_stride;
  Buffer buffer(static_cast<size_t>(matrix.bytes(count)));
  if (matrix.dtype == DType::i32) {  // four bytes each
    const std::span<int8_t> bytes = buffer.as<int8_t>();
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<int8_t>(i % 17);
    return buffer;
  }
  WEIR_CHECK(matrix.dtype == DType::f32, "operands of {} are not filled", dtype_name(matrix.dtype));
  const std::span<float> values = buffer.as<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) - 8;
  return buffer;
}

}  // namespace

ProductOperands::ProductOperands(const MatmulSpec& s)
    : a_(operand(s.a, s.batch, s.m, s.k)),
      b_(operand(s.b, s.batch, s.k, s.n)),
      c_(operand(s.c, s.batch, s.m, s.n)) {}

ProductRun::ProductRun(const MatmulPlan& plan, const ProductOperands& operands, int workers)
    : plan_(plan), operands_(operands), packed_(static_cast<size_t>(plan.packed_bytes)) {
  for (int i = 0; i < workers; ++i)
    scratch_.push_back(Buffer(static_cast<size_t>(plan_.scratch_bytes)));
}

std::vector<KernelSource> ProductRun::sources(const std::string& name) const {
  std::vector<KernelSource> sources = {
      {name, "", [this, name](Emitter& e) { emit_matmul(e, name, plan_); }}};
  if (plan_.pack_grid)
    sources.push_back({name + "_pack", "",
                       [this, name](Emitter& e) { emit_matmul_pack(e, name + "_pack", plan_); }});
  return sources;
}

void ProductRun::link(const Jit& jit, const std::string& name) {
  product_ = jit.kernel(name);
  if (plan_.pack_grid) pack_ = jit.kernel(name + "_pack");
}

void ProductRun::run(const Workers& workers) const {
  void* pack_buffers[] = {operands_.b(), packed_.data()};
  workers.parallel_tiles(plan_.pack_grid, [&](int64_t first, int64_t last, int) {
    pack_(pack_buffers, first, last, nullptr);
  });
  // Accumulators may start from an operand of its own; C serves.
  void* buffers[] = {operands_.a(), plan_.pack_grid ? packed_.data() : operands_.b(), operands_.c(),
                     operands_.c()};
  workers.parallel_tiles(plan_.grid, [&](int64_t first, int64_t last, int worker) {
    product_(buffers, first, last, scratch_[worker].data());
  });
}

}  // namespace weir
