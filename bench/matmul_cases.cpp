#include "bench/matmul_cases.h"

namespace weir::bench {

MatmulSpec spec_of(const ProductShape& s) {
  MatmulSpec spec;
  spec.m = s.m, spec.n = s.n, spec.k = s.k, spec.batch = s.batch;
  const auto matrix = [](int64_t rows, int64_t columns, bool transposed) {
    const int64_t stride = ((transposed ? rows : columns) + 15) / 16 * 16;
    return MatmulOperand{stride, stride * (transposed ? columns : rows), transposed};
  };
  spec.a = matrix(s.m, s.k, s.layout == Layout::weight_gradient);
  spec.b = matrix(s.k, s.n, s.layout == Layout::forward);
  spec.c = matrix(s.m, s.n, false);
  return spec;
}

const char* layout_name(Layout layout) {
  switch (layout) {
    case Layout::forward:
      return "forward";
    case Layout::input_gradient:
      return "input_gradient";
    case Layout::weight_gradient:
      return "weight_gradient";
    case Layout::plain:
      return "plain";
  }
  return "";
}

double ProductShape::operations() const {
  return 2.0 * static_cast<double>(m * n) * static_cast<double>(k * batch);
}

const std::vector<ProductShape>& product_shapes() {
  static const std::vector<ProductShape> shapes = {
      {"projection", 4096, 512, 512, 1, Layout::forward, true},
      {"gate, up", 4096, 1408, 512, 1, Layout::forward, true},
      {"down", 4096, 512, 1408, 1, Layout::forward, true},
      {"logits", 512, 50257, 512, 1, Layout::forward, true},
      {"projection dx", 4096, 512, 512, 1, Layout::input_gradient, true},
      {"gate, up dx", 4096, 512, 1408, 1, Layout::input_gradient, true},
      {"down dx", 4096, 1408, 512, 1, Layout::input_gradient, true},
      {"logits dx", 512, 512, 50257, 1, Layout::input_gradient, true},
      {"projection dw", 512, 512, 4096, 1, Layout::weight_gradient, true},
      {"gate, up dw", 1408, 512, 4096, 1, Layout::weight_gradient, true},
      {"down dw", 512, 1408, 4096, 1, Layout::weight_gradient, true},
      {"logits dw", 50257, 512, 512, 1, Layout::weight_gradient, true},
      {"narrow", 4096, 256, 256, 1, Layout::forward},
      {"narrow up", 4096, 704, 256, 1, Layout::forward},
      {"narrow dw", 256, 256, 4096, 1, Layout::weight_gradient},
      {"attention scores", 128, 128, 64, 128, Layout::forward},
      {"attention values", 256, 64, 256, 64, Layout::plain},
      {"primes", 1021, 509, 257, 1, Layout::forward},
      {"few rows", 16, 512, 512, 1, Layout::forward},
      {"one row", 1, 4096, 512, 1, Layout::forward},
      {"one column", 4096, 1, 512, 1, Layout::plain},
  };
  return shapes;
}

}  // namespace weir::bench
