// The interpreter as a whole: inputs and their errors, probes, named values, kernels, storage.
#include "interpret/interpret.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ir/builder.h"
#include "support/error.h"

namespace weir {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const Graph& graph, const Tensors& inputs,
                     const std::vector<std::string>& values = {}) {
  try {
    interpret_all(graph, inputs, values);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Interpret, RunsAGraphByName) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 3})), y = b.input("y", f32({3}));
  b.output("sum", x + y);
  b.output("scaled", x * 2.0);
  Tensors out = interpret(
      *b.finish(), {{"x", {f32({2, 3}), {1, 2, 3, 4, 5, 6}}}, {"y", {f32({3}), {10, 20, 30}}}});
  ASSERT_EQ(out.size(), 2u);
  EXPECT_THAT(out.at("sum").data, ElementsAre(11, 22, 33, 14, 25, 36));
  EXPECT_EQ(out.at("scaled").at({1, 2}), 12);
}

TEST(Interpret, ListsEverythingWrongWithTheInputs) {
  Builder b("g");
  Tensor x = b.input("x", f32({2})), y = b.input("y", f32({3})), ids = b.input("ids", i32({2}));
  b.output("out", reduce_sum(x, {0}) + reduce_sum(y, {0}) + convert(ids, DType::f32));
  GraphPtr graph = b.finish();
  std::string text = error_of(
      *graph,
      {{"x", {f32({4}), {1, 2, 3, 4}}}, {"idz", {i32({2}), {0, 0}}}, {"y", {f32({3}), {1, 2}}}});
  EXPECT_THAT(text, HasSubstr("input x is f32[4], but f32[2] is needed."));
  EXPECT_THAT(text, HasSubstr("input y has 2 elements, but f32[3] has 3."));
  EXPECT_THAT(text, HasSubstr("input ids is missing; it is i32[2]."));
  EXPECT_THAT(text, HasSubstr("idz is no input of graph g; inputs: x, y, ids."));
  EXPECT_THAT(error_of(*graph, {{"x", {f32({2}), {1, 2}}},
                                {"y", {f32({3}), {1, 2, 3}}},
                                {"ids", {i32({2}), {0, 1.5}}}}),
              HasSubstr("input ids: element 1 is 1.5, but i32 holds the integers"));
}

TEST(Interpret, GivesProbesAndNamedValuesAlsoDeadOnes) {
  Builder b("g");
  Tensor x = b.input("x", f32({2}));
  Tensor doubled = (x * 2.0).named("blocks.0.hook_resid_pre");
  exp(x).named("dead");
  b.editor().add_node(Op::probe, {doubled.value()}, {{"id", "p0"}});
  b.output("y", doubled + 1.0);
  GraphPtr graph = b.finish();
  Tensors inputs{{"x", {f32({2}), {0, 3}}}};
  Interpretation run = interpret_all(*graph, inputs, {"blocks.0.hook_resid_pre", "dead"});
  EXPECT_THAT(run.outputs.at("y").data, ElementsAre(1, 7));
  EXPECT_THAT(run.probes.at("p0").data, ElementsAre(0, 6));
  EXPECT_THAT(run.values.at("blocks.0.hook_resid_pre").data, ElementsAre(0, 6));
  EXPECT_THAT(run.values.at("dead").data, ElementsAre(1, std::exp(3.0)));
  EXPECT_THAT(error_of(*graph, inputs, {"blocks.0.hook_resid_prf"}),
              HasSubstr("graph g has no value named blocks.0.hook_resid_prf."));
}

TEST(Interpret, AnOutputMayBeAnInput) {
  Builder b("g");
  Tensor w = b.state("w", f32({2}));
  b.output("same", w);
  b.output("w", w * 0.5);
  Tensors out = interpret(*b.finish(), {{"w", {f32({2}), {2, 4}}}});
  EXPECT_THAT(out.at("same").data, ElementsAre(2, 4));
  EXPECT_THAT(out.at("w").data, ElementsAre(1, 2));
}

TEST(Interpret, AKernelIsItsRegion) {
  GraphEditor region("region", Stage::fused);
  Value a = region.input("a", f32({2, 2})), s = region.input("s", f32({}));
  Value scaled = region.add(Op::mul, {a, s});
  region.add_node(Op::probe, {scaled}, {{"id", "inside"}});
  region.output("", scaled);
  region.output("", region.add(Op::reduce_sum, {scaled}, {{"axes", std::vector<int64_t>{1}}}));
  GraphPtr body = region.finish();
  GraphEditor editor("g", Stage::fused);
  Value x = editor.input("x", f32({2, 2})), k = editor.input("k", f32({}));
  std::vector<Value> results = editor.add_kernel({x, k}, {{"schedule", "row"}}, body);
  editor.output("all", results[0]);
  editor.output("rows", results[1]);
  Interpretation run =
      interpret_all(*editor.finish(), {{"x", {f32({2, 2}), {1, 2, 3, 4}}}, {"k", scalar(10)}});
  EXPECT_THAT(run.outputs.at("all").data, ElementsAre(10, 20, 30, 40));
  EXPECT_THAT(run.outputs.at("rows").data, ElementsAre(30, 70));
  EXPECT_THAT(run.probes.at("inside").data, ElementsAre(10, 20, 30, 40));
}

TEST(Interpret, NarrowFloatsAreRoundedWhereTheyAreStored) {
  Builder b("g");
  Tensor x = b.input("x", f32({3}));
  Tensor half = convert(x, DType::bf16);
  b.output("bf16", half);
  b.output("f16", convert(x, DType::f16));
  b.output("sum", half + half);
  b.output("f32", convert(x, DType::f32));
  // bf16 has steps of 2^-7 and f16 of 2^-10 between 1 and 2; 70000 is beyond f16.
  Tensors out = interpret(*b.finish(), {{"x", {f32({3}), {1 + 1.0 / 256, 1 + 3.0 / 2048, 70000}}}});
  EXPECT_THAT(out.at("bf16").data, ElementsAre(1, 1, 70144));
  EXPECT_THAT(out.at("f16").data, ElementsAre(1 + 4.0 / 1024, 1 + 2.0 / 1024, INFINITY));
  EXPECT_THAT(out.at("sum").data, ElementsAre(2, 2, 140288));
  EXPECT_THAT(out.at("f32").data, ElementsAre(1 + 1.0 / 256, 1 + 3.0 / 2048, 70000));
}

TEST(RoundTo, MeetsTheEdgesOfEveryDtype) {
  EXPECT_EQ(round_to(DType::f16, std::ldexp(1, -24)), std::ldexp(1, -24));  // smallest subnormal
  EXPECT_EQ(round_to(DType::f16, std::ldexp(1, -25)), 0);                   // tie to even
  EXPECT_EQ(round_to(DType::f16, std::ldexp(1.5, -25)), std::ldexp(1, -24));
  EXPECT_EQ(round_to(DType::f16, 65519), 65504);
  EXPECT_EQ(round_to(DType::f16, 65520), INFINITY);
  EXPECT_EQ(round_to(DType::bf16, -3e38), -std::ldexp(226, 120));
  EXPECT_EQ(round_to(DType::bf16, std::ldexp(1, -133)), std::ldexp(1, -133));
  EXPECT_TRUE(std::isnan(round_to(DType::bf16, NAN)));
  EXPECT_EQ(round_to(DType::f32, 0.1), 0.1f);
  EXPECT_EQ(round_to(DType::i8, -1000), -128);
  EXPECT_EQ(round_to(DType::u8, -0.5), 0);
  EXPECT_EQ(round_to(DType::i32, NAN), 0);
  EXPECT_EQ(round_to(DType::i32, -2.9), -2);
  EXPECT_EQ(round_to(DType::boolean, 0.25), 1);
}

TEST(Interpret, IdsOutsideTheVocabularyAreNamed) {
  Builder b("g");
  Tensor table = b.input("table", f32({4, 2})), ids = b.input("ids", i32({2, 3}));
  b.output("y", embedding(table, ids));
  Tensors inputs{{"table", zeros(f32({4, 2}))}, {"ids", {i32({2, 3}), {0, 1, 2, 3, 7, 0}}}};
  EXPECT_EQ(error_of(*b.finish(), inputs),
            "[embedding] id 7 at position [1,1] is outside the vocabulary of 4. Use ids from 0 to "
            "3, or a larger vocabulary.");
}

}  // namespace
}  // namespace weir
