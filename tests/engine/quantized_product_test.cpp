// A compiled quantised product against its definition (passes/quantize.h) written in f32: every
// bit. Whole models cannot be compared so, since a last bit before the product takes a number near
// the middle of two levels to the other one, and what follows from that is as large as rounding
// itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/run.h"
#include "ir/builder.h"
#include "passes/quantize.h"
#include "testing/random_tensor.h"
#include "testing/runnable_targets.h"

namespace weir {
namespace {

constexpr int64_t kBatch = 2, kTokens = 3;
constexpr float kLimit = 127;

struct Sizes {
  int64_t features, outputs;
};

struct Setting {
  ActivationScale kind;
  bool bytes;
  int64_t sink;
};

GraphPtr product(const Sizes& sizes, const Setting& setting) {
  Builder b("quantized");
  b.input("tokens", i32({kBatch, kTokens}));
  const Tensor x = b.input("x", f32({kBatch, kTokens, sizes.features}));
  const Tensor w = b.state("l.0.w.weight", f32({sizes.outputs, sizes.features}));
  b.output("y", matmul(x, w, {.transpose_b = true}));
  return apply_quantize(b.finish(), {{setting.kind, 0, setting.bytes}});
}

// Random numbers, but a token of zeros, and one whose numbers lie in the middle of two levels of
// its own scale, which is a power of two.
Tensors inputs_of(const GraphPtr& graph, const Sizes& sizes, const Setting& setting) {
  Tensors inputs = test::random_inputs(*graph, 5, -2, 2);
  inputs["tokens"] = zeros(i32({kBatch, kTokens}));
  const auto K = static_cast<size_t>(sizes.features);
  std::vector<double>& x = inputs.at("x").data;
  for (size_t j = 0; j < K; ++j) {
    x[K + j] = 0;
    x[2 * K + j] = j == 0 ? kLimit / 64 : (static_cast<double>(j % 100) - 49.5) / 64;
  }
  HostTensor& smooth = inputs.at(smooth_input(0));
  for (size_t j = 0; j < K; ++j) smooth.data[j] = j % 3 == 0 ? 1 : 0.5 + static_cast<double>(j % 7);
  inputs[kQuantizeLimit] = filled(f32({}), kLimit);
  inputs[kQuantizeSink] = filled(i32({}), static_cast<double>(setting.sink));
  if (setting.kind == ActivationScale::given)
    inputs[scale_input(0)] = filled(f32({}), 0.013F);  // clamps some of them
  return inputs;
}

std::vector<float> floats(const HostTensor& tensor) {
  return {tensor.data.begin(), tensor.data.end()};
}

float largest(const float* values, size_t count) {
  float most = 0;
  for (size_t j = 0; j < count; ++j) most = std::max(most, std::abs(values[j]));
  return most;
}

int64_t level(float value, float scale) {
  return static_cast<int64_t>(
      std::clamp(std::nearbyint(value / (scale > 0 ? scale : 1)), -kLimit - 1, kLimit));
}

// The definition; rows of the exact token in f64.
class Definition {
 public:
  Definition(const Tensors& inputs, const Sizes& sizes, const Setting& setting)
      : K_(static_cast<size_t>(sizes.features)),
        setting_(setting),
        x_(floats(inputs.at("x"))),
        w_(floats(inputs.at("l.0.w.weight"))) {
    const std::vector<float> s = floats(inputs.at(smooth_input(0)));
    for (size_t i = 0; i < x_.size(); ++i) x_[i] /= s[i % K_];
    for (size_t i = 0; i < w_.size(); ++i) w_[i] *= s[i % K_];
    if (setting.kind == ActivationScale::given)
      tensor_scale_ = static_cast<float>(inputs.at(scale_input(0)).data[0]);
    if (setting.kind == ActivationScale::tensor) {
      for (size_t row = 0; row < x_.size() / K_; ++row)
        if (!is_exact(row)) tensor_scale_ = std::max(tensor_scale_, largest(&x_[row * K_], K_));
      tensor_scale_ /= kLimit;
    }
  }

  bool is_exact(size_t row) const { return static_cast<int64_t>(row) % kTokens == setting_.sink; }

  double value(size_t row, size_t output) const {
    const float *x = &x_[row * K_], *w = &w_[output * K_];
    const float scale_of_w = largest(w, K_) / kLimit;
    const float scale_of_x =
        setting_.kind == ActivationScale::token ? largest(x, K_) / kLimit : tensor_scale_;
    int64_t sum = 0;
    double exact = 0;
    for (size_t k = 0; k < K_; ++k) {
      const int64_t q = level(w[k], scale_of_w);
      sum += level(x[k], scale_of_x) * q;
      exact += static_cast<double>(x[k]) * static_cast<double>(static_cast<float>(q) * scale_of_w);
    }
    if (is_exact(row)) return exact;
    const float scaled = static_cast<float>(sum) * scale_of_x;
    return scaled * scale_of_w;
  }

 private:
  size_t K_;
  Setting setting_;
  std::vector<float> x_, w_;  ///< smoothed
  float tensor_scale_ = 0;
};

void expect_definition(const Target& target, const Sizes& sizes, Setting setting) {
  const GraphPtr graph = product(sizes, setting);
  const Executables programs = compile(graph, {.target = target}, {.target = target});
  Session session(programs, 1);
  for (const int64_t sink : {-1, 0}) {
    setting.sink = sink;
    const Tensors inputs = inputs_of(graph, sizes, setting);
    const HostTensor got = run(session, inputs).outputs.at("y");
    const Definition definition(inputs, sizes, setting);
    for (size_t i = 0; i < got.data.size(); ++i) {
      const auto N = static_cast<size_t>(sizes.outputs);
      const double want = definition.value(i / N, i % N);
      const double tolerance = definition.is_exact(i / N) ? 1e-3 : 0;
      ASSERT_NEAR(got.data[i], want, tolerance)
          << print(target) << ", " << sizes.features << " x " << sizes.outputs << ", scale "
          << static_cast<int>(setting.kind) << ", bytes " << setting.bytes << ", exact token "
          << sink << ", element " << i;
    }
  }
}

TEST(QuantizedProducts, HaveTheBitsOfTheirDefinition) {
  std::vector<Target> targets = runnable_targets();
  targets.push_back(host_target());
  for (const Target& target : targets)
    for (const Sizes& sizes : {Sizes{8, 5}, Sizes{1540, 33}})
      for (const auto kind :
           {ActivationScale::token, ActivationScale::tensor, ActivationScale::given})
        for (const bool bytes : {false, true}) expect_definition(target, sizes, {kind, bytes, -1});
}

}  // namespace
}  // namespace weir
