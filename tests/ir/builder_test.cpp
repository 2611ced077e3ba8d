#include "ir/builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ir/print.h"
#include "support/error.h"
#include "testing/error_of.h"

namespace weir {
namespace {

TEST(Builder, PrintsAsTheDesignShows) {
  Builder b("block");
  Tensor x = b.input("x", f32({4, 128, 256}));
  Tensor gamma = b.input("gamma", f32({256}));
  Tensor w = b.state("w", f32({256, 256}));
  Tensor n = rms_norm(x, gamma, 1e-5).named("blocks.0.ln1.hook_normalized");
  b.output("y", linear(n, w) * 2.0);
  GraphPtr graph = b.finish();
  EXPECT_EQ(print_graph(*graph, {.names = false}),
            "graph block (x: f32[4,128,256], gamma: f32[256], w: f32[256,256] state) stage=built\n"
            "  A = rms_norm x, gamma {eps=1e-05} : f32[4,128,256]\n"
            "  B = matmul A, w {transpose_b=true} : f32[4,128,256]\n"
            "  C = constant {value=2} : f32[]\n"
            "  D = mul B, C : f32[4,128,256]\n"
            "  return y = D\n");
  EXPECT_EQ(graph->node(*graph->find("blocks.0.ln1.hook_normalized")).op, Op::rms_norm);
}

TEST(Builder, EqualPureNodesAreOne) {
  Builder b("g");
  Tensor x = b.input("x", f32({4}));
  EXPECT_EQ(exp(x).value(), exp(x).value());
  EXPECT_NE(exp(x).value(), neg(x).value());
}

TEST(Builder, MismatchedMatmulNamesBothShapesAndTheLine) {
  Builder b("g");
  Tensor x = b.input("x", f32({32, 784})), w = b.input("w", f32({10, 784}));
  try {
    matmul(x, w);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    std::string text = error.what();
    EXPECT_NE(text.find("[matmul] lhs f32[32,784] and rhs f32[10,784]: inner sizes 784 and 10 "
                        "differ. Transpose the rhs? Built at builder_test.cpp:"),
              std::string::npos)
        << text;
  }
}

using test::error_of;
using ::testing::HasSubstr;

// What belongs to nobody, comes too late, or does not fit together is said to the user.
TEST(Builder, NothingIsAddedToAFinishedGraph) {
  Builder b("m");
  Tensor x = b.input("x", f32({4}));
  b.output("y", exp(x));
  const GraphPtr graph = b.finish();
  const std::string wanted =
      "[builder] graph m is finished; nothing can be added to it. Call finish() last, or start "
      "another graph with a new Builder.";
  for (const std::string& text :
       {error_of([&] { log(x); }), error_of([&] { x + 1.0; }), error_of([&] { x.named("h"); }),
        error_of([&] { b.input("z", f32({4})); }), error_of([&] { b.state("z", f32({4})); }),
        error_of([&] { b.constant(1); }), error_of([&] { b.iota(0, i32({4})); }),
        error_of([&] { b.output("z", x); }), error_of([&] { b.finish(); })})
    EXPECT_THAT(text, HasSubstr(wanted));
  EXPECT_EQ(x.type(), f32({4})) << "what was made can still be asked for its type";
  EXPECT_EQ(graph->outputs().size(), 1);
}

TEST(Builder, AnEmptyTensorIsAUserError) {
  const std::string wanted = "[builder] a tensor is empty: it is no result of a builder's call.";
  Tensor none;
  Builder b("m");
  Tensor x = b.input("x", f32({4}));
  for (const std::string& text :
       {error_of([&] { exp(none); }), error_of([&] { none.type(); }),
        error_of([&] { none.shape(); }), error_of([&] { none.named("h"); }),
        error_of([&] { none + 1.0; }), error_of([&] { reduce_sum(none, {-1}); }),
        error_of([&] { b.output("y", none); })})
    EXPECT_THAT(text, HasSubstr(wanted));
  EXPECT_THAT(error_of([&] { x + none; }), HasSubstr("is empty or belongs to another builder"));
}

TEST(Builder, InputsComeFirst) {
  Builder b("m");
  exp(b.input("x", f32({4})));
  EXPECT_EQ(error_of([&] { b.input("z", f32({4})); }),
            "[builder] input z comes after other nodes of graph m. Declare all inputs and states "
            "before the first constant or operation.");
  EXPECT_THAT(error_of([&] { b.state("w", f32({4})); }),
              HasSubstr("[builder] state w comes after"));
}

TEST(Builder, TensorsOfAnotherBuilderAreRefused) {
  Builder a("a"), b("b");
  Tensor x = a.input("x", f32({4})), y = b.input("y", f32({4}));
  EXPECT_THAT(error_of([&] { x + y; }), HasSubstr("belongs to another builder"));
  EXPECT_EQ(error_of([&] { a.output("y", y); }),
            "[builder] output y of graph a is a tensor of another builder.");
}

TEST(Builder, ANewStateHasTheTypeOfTheOld) {
  Builder b("m");
  Tensor x = b.state("x", f32({4})), y = b.state("y", f32({2}));
  b.output("x", reduce_sum(x, {0}));
  b.output("y", reshape(y, {2, 1}));
  const std::string text = error_of([&] { b.finish(); });
  EXPECT_THAT(text, HasSubstr("[builder] 2 problems:"));
  EXPECT_THAT(text, HasSubstr("output x is f32[1], but it is the new value of the state of that "
                              "name, which is f32[4]. Give it that type, or another name."));
  EXPECT_THAT(text, HasSubstr("output y is f32[2,1]"));
}

}  // namespace
}  // namespace weir
