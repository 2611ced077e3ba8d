#pragma once
// The matrix products that are measured.
#include <string>
#include <vector>

#include "codegen/matmul/plan.h"

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

/// A product of the table as a matrix product.
MatmulSpec spec_of(const ProductShape& shape);

}  // namespace weir::bench
