#include "engine/run.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/builder.h"
#include "support/error.h"
#include "testing/error_of.h"

namespace weir {
namespace {

TEST(Run, GivesOutputsProbesAndStatesAsTheInterpreterDoes) {
  Builder b("g");
  Tensor x = b.input("x", f32({3, 4}));
  Tensor w = b.state("w", f32({4}));
  Tensor y = (exp(x) * w).named("y");
  b.output("loss", reshape(reduce_sum(y, {0, 1}), {}));
  b.output("w", w * 2.0);
  GraphPtr graph = b.finish();
  CompileOptions options{.gradients = {"*"}, .probes = {"y : sum(axis0)", "y.grad"}};

  Executables programs = compile(graph, options);
  Session session(programs, 1);
  Tensors inputs = {{"x", random_normal(f32({3, 4}), 1, 5)}, {"w", random_normal(f32({4}), 1, 6)}};
  Interpretation got = run(session, inputs);
  Interpretation want = interpret_all(*programs[0].graph, inputs);

  ASSERT_EQ(got.outputs.size(), 3);
  for (const auto& [name, value] : want.outputs)
    EXPECT_LT(relative_difference(got.outputs.at(name), value), 1e-6) << name;
  ASSERT_EQ(got.probes.size(), 2);
  for (const auto& [name, value] : want.probes)
    EXPECT_LT(relative_difference(got.probes.at(name), value), 1e-6) << name;
  EXPECT_EQ(read(session, "w"), got.outputs.at("w"));
}

TEST(Run, EveryStorageTypeIsWrittenRoundedAndReadBack) {
  for (DType dtype :
       {DType::f32, DType::bf16, DType::f16, DType::i32, DType::i8, DType::u8, DType::boolean}) {
    Type type{dtype, {5}};
    Builder b("g");
    b.output("y", b.input("x", type));
    Executables programs = compile(b.finish());
    Session session(programs, 1);
    HostTensor given{type, {0, 1, -2.3, 1.0 / 3, 100000}};
    write(session, "x", given);
    HostTensor stored = read(session, "x");
    for (size_t i = 0; i < given.data.size(); ++i)
      EXPECT_EQ(stored.data[i], round_to(dtype, given.data[i])) << dtype_name(dtype);
  }
}

TEST(Run, AnotherTypeThanTheInputsIsAnError) {
  Builder b("g");
  b.output("y", exp(b.input("x", f32({3}))));
  Executables programs = compile(b.finish());
  Session session(programs, 1);
  try {
    write(session, "x", zeros(f32({4})));
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[session] input x is f32[3], but the given tensor is f32[4]");
  }
}

TEST(Run, WhatCannotBeComputedIsAUserError) {
  using test::error_of;
  Builder b("g"), nothing("empty");
  b.output("y", exp(b.input("x", f32({3}))));
  nothing.input("x", f32({3}));
  EXPECT_EQ(error_of([] { compile(nullptr); }),
            "[compile] the graph is null. Make one with Builder::finish().");
  EXPECT_EQ(error_of([&] { compile(nothing.finish()); }),
            "[compile] graph empty returns nothing, so that there is nothing to compute. Name a "
            "result with Builder::output, or ask for a probe.");
  Executables programs = compile(b.finish());
  Session session(programs, 1);
  EXPECT_EQ(error_of([&] { write(session, "x", HostTensor{f32({3}), {1, 2}}); }),
            "[session] input x is f32[3] of 3 elements, but the given tensor has 2 in its data");
  EXPECT_EQ(error_of([&] { run(session, {}, 1); }),
            "[session] there is no program 1; the only one is 0.");
  HostTensor tensor = zeros(f32({2, 3}));
  EXPECT_EQ(error_of([&] { tensor.at({1, 3}); }),
            "[tensor] index 3 lies outside of axis 1 of f32[2,3].");
  EXPECT_EQ(error_of([&] { tensor.at({1}); }),
            "[tensor] 1 indices are given for an element of f32[2,3], but 2 are needed.");
  tensor.data.pop_back();
  EXPECT_EQ(error_of([&] { tensor.at({1, 2}); }),
            "[tensor] a tensor f32[2,3] has 5 elements in its data, but 6 are needed.");
  EXPECT_EQ(relative_difference(tensor, zeros(f32({2, 3}))), INFINITY);
  EXPECT_EQ(error_of([] { zeros(f32({-1, 4})); }).substr(0, 36),
            "[tensor] there is no tensor f32[-1,4");
}

TEST(Run, RandomNumbersAreFloatsOfTheirStream) {
  HostTensor a = random_normal(f32({1000}), 2, 7, 1);
  EXPECT_EQ(a, random_normal(f32({1000}), 2, 7, 1));
  EXPECT_NE(a, random_normal(f32({1000}), 2, 7, 2));
  double sum = 0, squares = 0;
  for (double x : a.data) {
    EXPECT_EQ(x, round_to(DType::f32, x));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 1000, 0, 0.2);
  EXPECT_NEAR(std::sqrt(squares / 1000), 2, 0.15);
}

TEST(Run, RelativeDifferenceIsOfTheLargestValue) {
  HostTensor b{f32({3}), {1, -4, 0}};
  EXPECT_EQ(relative_difference(b, b), 0);
  EXPECT_EQ(relative_difference({f32({3}), {1, -4, 1}}, b), 0.25);
  EXPECT_EQ(relative_difference({f32({3}), {1, -4, NAN}}, b), INFINITY);
  EXPECT_EQ(relative_difference({f32({1, 3}), {1, -4, 0}}, b), INFINITY);
  EXPECT_EQ(relative_difference(filled(f32({2}), 1), zeros(f32({2}))), INFINITY);
}

}  // namespace
}  // namespace weir
