#pragma once
// The matrix products that are measured, with their operands in memory and their compiled kernels.
#include <string>
#include <vector>

#include "codegen/emitter.h"
#include "codegen/jit.h"
#include "codegen/matmul.h"
#include "runtime/buffer.h"
#include "runtime/threads.h"

namespace weir::bench {

enum class Layout {
  forward,          ///< x w^T
  input_gradient,   ///< dy w
  weight_gradient,  ///< dy^T x
  plain,
};
const char* layout_name(Layout layout);

struct ProductShape {
  const char* what;
  int64_t m, n, k, batch;
  Layout layout;
  bool llama = false;  ///< one of those of llama-0.1b

  double operations() const;
};

/// llama-0.1b (width 512, feed forward 1408, vocabulary 50257) on 4096 tokens, of which the output
/// projection takes 512 at a time; then others.
const std::vector<ProductShape>& product_shapes();

/// One product ready to run: what a training step does for it, packing included.
class Product {
 public:
  Product(const Target& target, const ProductShape& shape, int workers);
  /// The recipes of its kernels, named after `name`; `link` finds them once compiled.
  std::vector<KernelSource> sources(const std::string& name) const;
  void link(const Jit& jit, const std::string& name);
  void run(const Workers& workers) const;

  const ProductShape& shape() const { return shape_; }
  const MatmulPlan& plan() const { return plan_; }

 private:
  ProductShape shape_;
  MatmulPlan plan_;
  Buffer a_, b_, c_, packed_;
  std::vector<Buffer> scratch_;
  weir_kernel product_ = nullptr, pack_ = nullptr;
};

}  // namespace weir::bench
