#include "ir/builder.h"

#include <gtest/gtest.h>

#include "ir/print.h"
#include "support/error.h"

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

}  // namespace
}  // namespace weir
