// Norms and losses on numbers of every size that f32 holds, compiled, against the interpreter in
// f64. The bound is four times the error of torch in f32, which is 0.3 to 1.7e-7 of the largest
// element wherever its formula does not leave the range of f32 (its rms_norm does in the gradient
// from 1e14 on).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/run.h"
#include "ir/builder.h"
#include "passes/autodiff.h"
#include "passes/pipeline.h"
#include "testing/runnable_targets.h"

namespace weir {
namespace {

constexpr double kBound = 4 * 1.5e-7;

// loss = sum(y weights): every element of y has a gradient of its own.
void add_loss(Builder& b, const Tensor& y, const Tensor& weights) {
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < y.type().rank(); ++i) axes.push_back(i);
  b.output("y", y);
  b.output("loss", reshape(reduce_sum(y * weights, axes), {}));
}

void expect_as_in_f64(const GraphPtr& built, const std::vector<std::string>& wrt,
                      const Tensors& inputs, const std::string& what,
                      const std::string& ignored = "") {
  const GraphPtr graph = differentiate(built, {.wrt = wrt});
  const Tensors want = interpret(*graph, inputs);
  for (const Target& target : runnable_targets()) {
    CompileOptions options;
    options.target = target;
    const Executables programs = compile(graph, options, {.target = target, .threads = 1});
    Session session(programs, 1);
    for (const auto& [name, got] : run(session, inputs).outputs) {
      if (name == ignored) continue;
      EXPECT_LE(relative_difference(got, want.at(name)), kBound)
          << what << " " << name << " on " << target.name;
    }
  }
}

enum class Norm : uint8_t { rms, rms_by_hand, layer };

GraphPtr norm_graph(Norm norm, const Type& type) {
  Builder b("norm");
  Tensor x = b.input("x", type), gamma = b.input("gamma", f32({type.shape.back()}));
  Tensor weights = b.input("weights", type), beta;
  if (norm == Norm::layer) beta = b.input("beta", gamma.type());
  switch (norm) {
    case Norm::rms:
      add_loss(b, rms_norm(x, gamma, 1e-5), weights);
      break;
    case Norm::rms_by_hand:
      add_loss(b, x * rsqrt(reduce_mean(x * x, {-1}) + 1e-5) * gamma, weights);
      break;
    case Norm::layer:
      add_loss(b, layer_norm(x, gamma, beta, 1e-5), weights);
      break;
  }
  return b.finish();
}

TEST(Range, NormsAndTheirGradients) {
  for (const auto& [norm, width, largest] : {std::tuple{Norm::rms, 16, 18},
                                             {Norm::rms, 1000, 18},
                                             {Norm::rms, 8192, 18},
                                             {Norm::layer, 16, 18},
                                             {Norm::layer, 1000, 18},
                                             {Norm::rms_by_hand, 16, 12}}) {
    const Type type = f32({3, width});
    const GraphPtr graph = norm_graph(norm, type);
    for (int exponent : {-18, -10, 0, 6, 12, 13, 14, 15, 17, 18}) {
      if (exponent > largest) continue;
      Tensors inputs = {{"x", random_normal(type, std::pow(10.0, exponent), 1)},
                        {"gamma", random_normal(f32({width}), 1, 2)},
                        {"weights", random_normal(type, 1, 3)}};
      std::vector<std::string> wrt = {"x", "gamma"};
      if (norm == Norm::layer) {
        inputs["beta"] = random_normal(f32({width}), 1, 4);
        wrt.push_back("beta");
      }
      expect_as_in_f64(
          graph, wrt, inputs,
          fmt::format("norm {} of {} at 1e{}", static_cast<int>(norm), width, exponent), "loss");
    }
  }
}

// The loss of logits up to 1e6, and its gradient: computed from given logits, and by the loss head,
// whose logits are exact here.
TEST(Range, CrossEntropy) {
  constexpr int64_t rows = 9, vocabulary = 21;
  for (const bool head : {false, true}) {
    Builder b("loss");
    Tensor x = b.input("x", f32({rows, vocabulary})), targets = b.input("targets", i32({rows}));
    Tensor w;
    if (head) w = b.input("w", f32({vocabulary, vocabulary}));
    Tensor scale = b.constant(0.125);
    std::vector<std::string> wrt = {"x"};
    Tensor logits = x;
    if (head) logits = linear(x, w);
    b.output("loss", cross_entropy(logits, targets, scale));
    const GraphPtr graph = b.finish();
    for (double size : {1e-20, 1.0, 30.0, 1e3, 1e6}) {
      Tensors inputs = {{"x", random_normal(f32({rows, vocabulary}), size, 1)},
                        {"targets", zeros(i32({rows}))}};
      for (int64_t i = 0; i < rows; ++i) inputs["targets"].data[i] = static_cast<double>(2 * i);
      if (head) {
        inputs["w"] = zeros(f32({vocabulary, vocabulary}));
        for (int64_t i = 0; i < vocabulary; ++i) inputs["w"].data[i * vocabulary + i] = 1;
      }
      expect_as_in_f64(graph, wrt, inputs, fmt::format("{} at {}", head ? "head" : "plain", size));
    }
  }
}

// A negative sum below the smallest normal number is flushed to -0, which 0 added to it makes +0:
// no rewrite may leave that addition out.
TEST(Range, ZeroAddedToAFlushedSumIsPositiveZero) {
  const Type type = f32({16});
  Builder b("flushed");
  Tensor sum = abs(b.input("a", type)) + b.input("c", type);
  b.output("sum", sum);
  b.output("plus_zero", sum + 0.0);
  const Tensors inputs = {{"a", {type, std::vector<double>(16, 1.2e-38)}},
                          {"c", {type, std::vector<double>(16, -1.3e-38)}}};
  const GraphPtr graph = b.finish();
  for (const Target& target : runnable_targets()) {
    CompileOptions options;
    options.target = target;
    const Executables programs = compile(graph, options, {.target = target, .threads = 1});
    Session session(programs, 1);
    const Tensors outputs = run(session, inputs).outputs;
    for (const double element : outputs.at("sum").data)
      EXPECT_TRUE(element == 0 && std::signbit(element)) << target.name << ": " << element;
    for (const double element : outputs.at("plus_zero").data)
      EXPECT_TRUE(element == 0 && !std::signbit(element)) << target.name << ": " << element;
  }
}

}  // namespace
}  // namespace weir
