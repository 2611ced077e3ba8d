#include "bench/matmul_cases.h"

namespace weir::bench {
namespace {

MatmulSpec spec_of(const ProductShape& s) {
  MatmulSpec spec;
  spec.m = s.m, spec.n = s.n, spec.k = s.k, spec.batch = {s.batch, 1};
  const auto matrix = [](int64_t rows, int64_t columns, bool transposed) {
    const int64_t stride = ((transposed ? rows : columns) + 15) / 16 * 16;
    return MatmulOperand{stride, {stride * (transposed ? columns : rows), 0}, transposed};
  };
  spec.a = matrix(s.m, s.k, s.layout == Layout::weight_gradient);
  spec.b = matrix(s.k, s.n, s.layout == Layout::forward);
  spec.c = matrix(s.m, s.n, false);
  return spec;
}

Buffer floats(const MatmulOperand& matrix, int64_t batch) {
  Buffer buffer(static_cast<size_t>(4 * batch * matrix.batch_stride[0]));
  const std::span<float> values = buffer.as<float>();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 17) - 8;
  return buffer;
}

}  // namespace

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

Product::Product(const Target& target, const ProductShape& shape, int workers)
    : shape_(shape),
      plan_(plan_matmul(target, spec_of(shape))),
      a_(floats(plan_.spec.a, shape.batch)),
      b_(floats(plan_.spec.b, shape.batch)),
      c_(floats(plan_.spec.c, shape.batch)),
      packed_(static_cast<size_t>(plan_.packed_bytes)) {
  for (int i = 0; i < workers; ++i)
    scratch_.push_back(Buffer(static_cast<size_t>(plan_.scratch_bytes)));
}

std::vector<KernelSource> Product::sources(const std::string& name) const {
  std::vector<KernelSource> sources = {
      {name, "", [this, name](Emitter& e) { emit_matmul(e, name, plan_); }}};
  if (plan_.pack_grid)
    sources.push_back({name + "_pack", "",
                       [this, name](Emitter& e) { emit_matmul_pack(e, name + "_pack", plan_); }});
  return sources;
}

void Product::link(const Jit& jit, const std::string& name) {
  product_ = jit.kernel(name);
  if (plan_.pack_grid) pack_ = jit.kernel(name + "_pack");
}

void Product::run(const Workers& workers) const {
  void* pack_buffers[] = {b_.data(), packed_.data()};
  workers.parallel_tiles(plan_.pack_grid, [&](int64_t first, int64_t last, int) {
    pack_(pack_buffers, first, last, nullptr);
  });
  void* buffers[] = {a_.data(), plan_.pack_grid ? packed_.data() : b_.data(), c_.data()};
  workers.parallel_tiles(
      plan_.grid,
      [&](int64_t first, int64_t last, int worker) {
        product_(buffers, first, last, scratch_[worker].data());
      },
      1);
}

}  // namespace weir::bench
