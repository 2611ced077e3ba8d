#include "ir/builder.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "ir/edit.h"
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

TEST(Builder, NodesCarryThePlaceOfTheCall) {
  Builder b("g");
  Tensor x = b.input("x", f32({4}));
  const Where here = Where::current();
  Tensor called = exp(x);
  const auto place = [&](const Tensor& tensor) { return b.graph().node(tensor.value()).where; };
  EXPECT_EQ(place(called), fmt::format("builder_test.cpp:{}", here.line + 1));
  EXPECT_EQ(place(maximum(x, 2.0)), fmt::format("builder_test.cpp:{}", here.line + 4));
  EXPECT_EQ(place(x * 3.0), "") << "operators cannot take a place";
  // Another front end names lines of its own.
  EXPECT_EQ(place(tanh(x, {"models/gated.py", 7})), "gated.py:7");
  EXPECT_EQ(place(sin(x, Where{})), "");
}

TEST(Builder, EqualPureNodesAreOne) {
  Builder b("g");
  Tensor x = b.input("x", f32({4}));
  EXPECT_EQ(exp(x).value(), exp(x).value());
  EXPECT_NE(exp(x).value(), neg(x).value());
}

// As many as there are in a deep model: the table of nodes grows, and finds all of them again.
TEST(Editor, EachOfManyNodesIsFoundAgain) {
  GraphEditor editor("g");
  const Value x = editor.input("x", f32({4}));
  std::vector<Value> made;
  std::set<Value> distinct;
  const auto node = [&](int i) {
    const Value number = editor.constant(i, f32({4}));
    return editor.add(i % 2 ? Op::add : Op::sub, {x, number});
  };
  for (int i = 0; i < 5000; ++i) {
    made.push_back(node(i));
    distinct.insert(made.back());
  }
  EXPECT_EQ(distinct.size(), made.size());
  const int32_t size = editor.graph().size();
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(node(i), made[i]) << i;
  EXPECT_EQ(editor.graph().size(), size);
}

TEST(Editor, NodesThatDifferInOnePartAreTwo) {
  GraphEditor editor("g");
  const Value x = editor.input("x", f32({4, 4})), y = editor.input("y", f32({4, 4}));
  EXPECT_NE(editor.add(Op::sub, {x, y}), editor.add(Op::sub, {y, x}));
  EXPECT_NE(editor.constant(0, f32({})), editor.constant(-0.0, f32({})));
  EXPECT_NE(editor.constant(0, f32({})), editor.constant(0, f32({1})));
  EXPECT_NE(editor.constant(0, f32({})), editor.constant(0, i32({})));
  EXPECT_EQ(editor.constant(std::nan("1"), f32({})), editor.constant(-std::nan("2"), f32({})));
  EXPECT_NE(editor.add(Op::matmul, {x, y}, {{"transpose_a", true}}),
            editor.add(Op::matmul, {x, y}, {{"transpose_b", true}}));
  EXPECT_NE(editor.add(Op::identity, {x}), editor.add(Op::identity, {x}));
}

// A node is copied with its types as long as operands have theirs; others are inferred and checked.
TEST(Editor, ANodeLikeAnotherHasTheTypesOfItsOperands) {
  GraphEditor from("from");
  const Value x = from.input("x", f32({4, 8})), w = from.input("w", f32({8, 2}));
  const Value product = from.add(Op::matmul, {x, w}, {}, "a.cpp:1");
  GraphEditor to("to");
  const Value same = to.input("same", f32({4, 8})), longer = to.input("longer", f32({16, 8}));
  const Value wrong = to.input("wrong", f32({4, 9})), v = to.input("v", f32({8, 2}));
  const Value copy = to.add_like(from.graph(), product.node, {same, v})[0];
  EXPECT_EQ(to.type(copy), f32({4, 2}));
  EXPECT_EQ(to.graph().node(copy).where, "a.cpp:1");
  EXPECT_EQ(to.add_like(from.graph(), product.node, {same, v})[0], copy);
  EXPECT_EQ(to.type(to.add_like(from.graph(), product.node, {longer, v})[0]), f32({16, 2}));
  EXPECT_THROW(to.add_like(from.graph(), product.node, {wrong, v}), UserError);
  EXPECT_THROW(to.add_like(from.graph(), product.node, {same}), UserError);
}

// Nodes are copied by every pass: attributes, types and place share their memory until they change.
TEST(Editor, ACopiedNodeSharesWhatDoesNotChange) {
  GraphEditor from("from"), to("to");
  const Value x = from.input("x", f32({4, 8})), y = to.input("y", f32({4, 8}));
  const Value sum = from.add(Op::reduce_sum, {x}, {{"axes", std::vector<int64_t>{1}}}, "a.cpp:1");
  const Value copy = to.add_like(from.graph(), sum.node, {y})[0];
  const Node &old = from.graph().node(sum), &now = to.graph().node(copy);
  EXPECT_EQ(&old.types[0], &now.types[0]);
  EXPECT_EQ(&old.attrs.get_ints("axes"), &now.attrs.get_ints("axes"));
  EXPECT_EQ(&old.where.text(), &now.where.text());
  to.annotate(copy.node, "lanes", int64_t{8});
  EXPECT_EQ(now.attrs.get_int("lanes"), 8);
  EXPECT_FALSE(old.attrs.has("lanes"));
}

TEST(Editor, AnotherStageChangesNothingElse) {
  Builder b("g");
  Tensor x = b.input("x", f32({4}));
  b.output("y", exp(x).named("hook"));
  const GraphPtr built = b.finish();
  EXPECT_EQ(with_stage(built, Stage::built), built);
  const GraphPtr later = with_stage(built, Stage::differentiated);
  EXPECT_EQ(built->stage(), Stage::built);
  EXPECT_EQ(later->stage(), Stage::differentiated);
  EXPECT_EQ(later->find_input("x"), built->find_input("x"));
  EXPECT_EQ(*with_stage(later, Stage::built), *built);
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
