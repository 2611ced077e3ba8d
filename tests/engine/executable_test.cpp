#include "engine/executable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "interpret/interpret.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "support/error.h"
#include "testing/error_of.h"
#include "testing/random_tensor.h"

namespace weir {
namespace {

GraphPtr planned(const GraphPtr& graph, const std::vector<std::string>& gradients = {},
                 const std::vector<std::string>& probes = {}) {
  CompileOptions options;
  options.gradients = gradients;
  options.probes = probes;
  return run_pipeline(graph, options).graph;
}

void set(Session& session, const std::string& name, const HostTensor& tensor) {
  for (size_t i = 0; i < tensor.data.size(); ++i) {
    if (tensor.type.dtype == DType::f32)
      static_cast<float*>(session.data(name))[i] = static_cast<float>(tensor.data[i]);
    else
      static_cast<int32_t*>(session.data(name))[i] = static_cast<int32_t>(tensor.data[i]);
  }
}

void expect_close(const float* got, const HostTensor& want, const std::string& what) {
  double largest = 0;
  for (double x : want.data) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < want.data.size(); ++i)
    ASSERT_LE(std::abs(got[i] - want.data[i]),
              1e-4 * std::max(std::abs(want.data[i]), 1e-2 * largest))
        << what << " element " << i << ": " << got[i] << " and " << want.data[i];
}

Model small_llama() {
  return build_llama({.name = "small",
                      .layers = 2,
                      .d_model = 24,
                      .heads = 4,
                      .kv_heads = 2,
                      .d_head = 6,
                      .d_ff = 40,
                      .vocabulary = 37},
                     3, 13);
}

void expect_model_matches(const GraphPtr& graph, const Model& model) {
  Tensors inputs = test::random_inputs(*graph, 3);
  // Weights are those of f32, so that both compute the same thing.
  for (const Parameter& p : model.parameters)
    for (double& x : inputs[p.name].data)
      x = static_cast<float>(p.initial == Initial::ones ? 1 + 0.1 * x : 0.2 * x);
  inputs["loss_scale"] = scalar(1.0 / 39);
  Tensors want = interpret(*graph, inputs);
  for (const char* name : {"x86-64-v3", "x86-64-v4"}) {
    Target target = parse_target(name);
    if (!runs_here(target)) continue;
    Executables programs({graph}, {.target = target});
    EXPECT_LT(programs.report().distinct, programs.report().kernels);
    Session session(programs, 2);
    for (const auto& [input, tensor] : inputs) set(session, input, tensor);
    session.run(0);
    for (const auto& [output, tensor] : want)
      expect_close(static_cast<const float*>(session.output(0, output)), tensor, output);
  }
}

TEST(Executable, ModelAndGradientsMatchTheInterpreter) {
  Model model = small_llama();
  expect_model_matches(planned(model.graph, {"*"}), model);
}

TEST(Executable, ModelWithLogitsInMemoryMatchesTheInterpreter) {
  Model model = small_llama();
  std::vector<Pass> passes = pipeline();
  std::erase_if(passes, [](const Pass& pass) { return pass.name == "loss_head"; });
  CompileOptions options;
  options.gradients = {"*"};
  expect_model_matches(run_pipeline(model.graph, options, passes, {}).graph, model);
}

TEST(Executable, StatesAreUpdatedAndProbesDelivered) {
  Builder b("g");
  Tensor x = b.input("x", f32({3, 5}));
  Tensor w = b.state("w", f32({3, 5}));
  b.state("u", f32({3, 5}));
  Tensor y = (x + w).named("y");
  b.output("w", y * 0.5);
  b.output("u", w);
  GraphPtr graph = planned(b.finish(), {}, {"y : sum(axis1)"});
  Executables programs({graph}, {});
  Session session(programs, 1);
  for (int i = 0; i < 15; ++i) {
    static_cast<float*>(session.data("x"))[i] = 1;
    static_cast<float*>(session.data("w"))[i] = static_cast<float>(i);
  }
  std::vector<float> sums;
  session.run(0, [&](int32_t probe, const void* data) {
    EXPECT_EQ(programs[0].probes[probe].type, f32({3, 1}));
    sums.assign(static_cast<const float*>(data), static_cast<const float*>(data) + 3);
  });
  EXPECT_EQ(sums, (std::vector<float>{15, 40, 65}));
  EXPECT_EQ(static_cast<float*>(session.data("w"))[3], 2);
  EXPECT_EQ(static_cast<float*>(session.data("u"))[3], 3);
}

// A product whose epilogue updates a state in place must not keep unfinished sums there.
TEST(Executable, ProductsWithLongChainsUpdateStatesInPlace) {
  Builder b("decay");
  Tensor w = b.state("w", f32({19, 23}));
  Tensor product = matmul(b.input("x", f32({19, 1500})), b.input("y", f32({1500, 23})));
  b.output("w", w * 0.9 - product * 0.1);
  const GraphPtr graph = planned(b.finish());
  ASSERT_THAT(print_graph(*graph), testing::HasSubstr("offset=[-1]")) << "not in place";
  Tensors inputs = test::random_inputs(*graph, 4);
  const Tensors want = interpret(*graph, inputs);
  Executables programs({graph}, {});
  Session session(programs, 1);
  for (const auto& [input, tensor] : inputs) set(session, input, tensor);
  session.run(0);
  expect_close(static_cast<const float*>(session.data("w")), want.at("w"), "w");
}

TEST(Executable, MisuseOfASessionIsAUserError) {
  using test::error_of;
  Builder b("g"), c("h");
  Tensor x = b.input("x", f32({3}));
  b.output("y", exp(x));
  b.output("sum", reshape(reduce_sum(x, {0}), {}));
  c.output("z", c.input("x", f32({3})) * 2.0);
  Executables programs({planned(b.finish()), planned(c.finish())}, {});
  Session session(programs, 1);
  const std::string none = "[session] there is no program 3; they are 0 to 1.";
  EXPECT_EQ(error_of([&] { session.run(3); }), none);
  EXPECT_EQ(error_of([&] { session.output(3, "y"); }), none);
  EXPECT_EQ(error_of([&] { static_cast<void>(programs[3]); }), none);
  EXPECT_EQ(error_of([&] { session.scalar_output(0, "sum"); }),
            "[session] program 0 is not the one that ran last; none ran, so that its outputs are "
            "not in memory. Run it first.");
  session.run(1);
  EXPECT_THAT(error_of([&] { session.scalar_output(0, "sum"); }), testing::HasSubstr("(1 is)"));
  session.run(0);
  EXPECT_EQ(session.scalar_output(0, "sum"), 0);
  EXPECT_EQ(error_of([&] { session.scalar_output(0, "y"); }),
            "[session] output y is f32[3], but one number is asked for. Read it with "
            "Session::output.");
  EXPECT_EQ(error_of([&] { session.scalar_output(0, "summ"); }),
            "[session] the program has no output named summ. Did you mean sum?");
}

TEST(Executable, OnlyPlannedGraphsAreCompiled) {
  using test::error_of;
  Builder b("g");
  b.output("y", exp(b.input("x", f32({3}))));
  const GraphPtr built = b.finish();
  const std::string text = error_of([&] { Executables({built, nullptr}, {}); });
  EXPECT_THAT(text, testing::HasSubstr("graph g is built, but planned ones are compiled."));
  EXPECT_THAT(text, testing::HasSubstr("a graph is null."));
  EXPECT_EQ(error_of([] { Executables({}, {}); }), "[compile] no graph is given.");
}

TEST(Executable, UnknownInputNamesTheNearest) {
  Builder b("g");
  b.output("y", exp(b.input("tokens", f32({3}))));
  Executables programs({planned(b.finish())}, {});
  Session session(programs, 1);
  try {
    session.data("tokenz");
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[session] no input is named tokenz. Did you mean tokens?");
  }
}

}  // namespace
}  // namespace weir
