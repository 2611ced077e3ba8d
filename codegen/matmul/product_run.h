#pragma once
// One matrix product with operands in memory and its compiled kernels, ready to be timed: what a
// program does for it, packing included.
#include <string>
#include <vector>

#include "codegen/llvm/jit.h"
#include "codegen/matmul/plan.h"
#include "runtime/buffer.h"
#include "runtime/threads.h"

namespace weir {

/// Operands of one product, small whole numbers, for any tiles.
class ProductOperands {
 public:
  explicit ProductOperands(const MatmulSpec& spec);
  void* a() const { return a_.data(); }
  void* b() const { return b_.data(); }
  void* c() const { return c_.data(); }

 private:
  Buffer a_, b_, c_;
};

class ProductRun {
 public:
  /// `workers` is the most that run() may be given; `operands` outlive this.
  ProductRun(const MatmulPlan& plan, const ProductOperands& operands, int workers);
  /// The recipes of its kernels, named after `name`; `link` finds them once compiled.
  std::vector<KernelSource> sources(const std::string& name) const;
  void link(const Jit& jit, const std::string& name);
  void run(const Workers& workers) const;

  const MatmulPlan& plan() const { return plan_; }

 private:
  MatmulPlan plan_;
  const ProductOperands& operands_;
  Buffer packed_;
  std::vector<Buffer> scratch_;
  weir_kernel product_ = nullptr, pack_ = nullptr;
};

}  // namespace weir
