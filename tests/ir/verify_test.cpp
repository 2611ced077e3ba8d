// Every rule of every stage, broken once.
#include "ir/verify.h"

#include <gtest/gtest.h>

#include "ir/builder.h"
#include "ir/edit.h"
#include "ir/ir_test_util.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/schedule.h"
#include "support/text.h"

namespace weir {
namespace {

GraphPtr graph_of(const std::string& text) { return parse_graph(text); }

std::string broken(const GraphPtr& graph) {
  std::string text = error_of<InternalError>([&] { verify(*graph); });
  return text.substr(0, text.find("\n (ir/verify.cpp"));
}

/// The text of the one broken rule after its head, or everything.
std::string rule(const std::string& graph_text) {
  std::string text = error_of<UserError>([&] { verify_user(*graph_of(graph_text), "g.weir"); });
  size_t from = text.find("\n  - "), to = text.find("\nCorrect the text");
  return from == std::string::npos ? text : text.substr(from + 5, to - from - 5);
}

/// A graph at `stage` whose only line is given, over x: f32[4,8] and more.
std::string rule_at(const std::string& stage, const std::string& line) {
  return rule("graph g (x: f32[4,8], q: f32[1,4,2,8], k: f32[1,4,1,8], s: f32[4,8] state) stage=" +
              stage + (stage == "planned" ? " arena=256\n" : "\n") + line + "\nreturn\n");
}

/// The same for a fused graph of one kernel of x with this schedule and region body.
std::string rule_of_kernel(const std::string& schedule, const std::string& body,
                           const std::string& operands = "x",
                           const std::string& inputs = "a: f32[4,8]") {
  std::string results = body.substr(body.rfind("return") + 6), labels;
  for (size_t i = 0; i < split(results, ',').size() && !results.empty(); ++i)
    labels += (i ? ", R" : "R") + std::to_string(i);
  return rule_at("fused", labels + (labels.empty() ? "" : " = ") + "kernel " + operands +
                              " {schedule=\"" + schedule + "\"} region (" + inputs + ")\n" + body +
                              "\n");
}

Node& node_of(const GraphPtr& graph, int32_t id) { return const_cast<Node&>(graph->node(id)); }

GraphPtr two_nodes() {
  return graph_of(
      "graph g (x: f32[4,8])\nA = exp x as h\nB = reduce_sum A {axes=[1]}\nreturn y = B\n");
}

TEST(Verify, ASoundGraphPasses) {
  EXPECT_EQ(broken(two_nodes()), "no error");
  EXPECT_EQ(rule_at("built", "A = relu x"), "no error");
}

TEST(Verify, TheMessageNamesGraphStageRuleNodeAndLine) {
  GraphPtr graph = two_nodes();
  node_of(graph, 1).types = {f32({4, 9})};
  EXPECT_EQ(broken(graph),
            "internal error: graph g breaks a rule of stage built:\n"
            "  - types are as inferred: f32[4,8], unlike node 1:\n"
            "      A = exp x : f32[4,9] as h");
  node_of(graph, 2).attrs.set("axis", int64_t{1});
  std::string text = broken(graph);
  EXPECT_NE(text.find("graph g breaks 2 rules of stage built:"), std::string::npos) << text;
  EXPECT_NE(text.find("\n  - attributes are those of the op's row: [reduce_sum] unknown attribute "
                      "axis; known: axes, lanes. Did you mean axes?, unlike node 2:\n"
                      "      B = reduce_sum A {axes=[1], axis=1} : f32[4,1]"),
            std::string::npos)
      << text;
}

TEST(Verify, ForParsedTextTheErrorIsTheUsers) {
  EXPECT_EQ(error_of<UserError>([] {
              verify_user(*graph_of("graph g (x: f32[2]) stage=lowered\nA = relu x\nreturn A\n"),
                          "g.weir");
            }),
            "[verify] g.weir: graph g breaks a rule of stage lowered:\n"
            "  - composites without a kernel of their own are decomposed once lowered, unlike node "
            "1:\n"
            "      A = relu x : f32[2]\n"
            "Correct the text, or give an earlier stage and let the passes do the rest.");
}

TEST(Verify, AtMostTenAreShown) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "probe x {id=\"\"}\n";
  std::string text = rule_at("instrumented", lines);
  EXPECT_EQ(text.substr(text.size() - 8), "\n  - ...");
}

TEST(Verify, Structure) {
  struct Case {
    void (*damage)(const GraphPtr&);
    const char* rule;
  };
  const Case cases[] = {
      {[](const GraphPtr& g) { node_of(g, 1).inputs[0] = {2, 0}; },
       "operand 2.0 of node 1 (exp) comes before it"},
      {[](const GraphPtr& g) { node_of(g, 2).inputs[0] = {1, 1}; },
       "operand 1.1 of node 2 (reduce_sum) comes before it"},
      {[](const GraphPtr& g) { node_of(g, 1).region = two_nodes(); },
       "a kernel and nothing else has a region, unlike node 1 (exp)"},
      {[](const GraphPtr& g) { node_of(g, 1) = node_of(g, 0); },
       "inputs come first, unlike node 1 (input)"},
      {[](const GraphPtr& g) { node_of(g, 0).attrs = {}; }, "input 0 has a name"},
      {[](const GraphPtr& g) { node_of(g, 0).types = {}; },
       "a source has one type, unlike node 0 (input)"},
      {[](const GraphPtr& g) { const_cast<Output&>(g->outputs()[0]).value = {7, 0}; },
       "output \"y\" refers to a value that exists"},
      {[](const GraphPtr& g) { const_cast<Value&>(g->names().at("h")) = {-1, 0}; },
       "name \"h\" refers to a value that exists"},
      {[](const GraphPtr& g) { node_of(g, 0).types = {f32({0})}; }, "operands fit the op: [input]"},
      {[](const GraphPtr& g) { node_of(g, 1).op = Op::matmul; },
       "operands fit the op: [matmul] 1 operands given, but 2 to 3 needed."},
      {[](const GraphPtr& g) { node_of(g, 1).attrs.set("offset", std::vector<int64_t>{0}); },
       "only kernels and inputs of planned graphs have an offset"},
  };
  for (const Case& c : cases) {
    GraphPtr graph = two_nodes();
    c.damage(graph);
    EXPECT_NE(broken(graph).find(std::string("\n  - ") + c.rule), std::string::npos)
        << broken(graph);
  }
  GraphPtr twice = graph_of("graph g (x: f32[4], z: f32[4])\nA = exp x\nreturn y = A, w = A\n");
  node_of(twice, 1).attrs.set("name", std::string("x"));
  const_cast<Output&>(twice->outputs()[1]).name = "y";
  EXPECT_NE(broken(twice).find("every input has a name of its own"), std::string::npos);
  EXPECT_NE(broken(twice).find("every named output has a name of its own, unlike y"),
            std::string::npos);
}

TEST(Verify, StateKeepsItsType) {
  EXPECT_EQ(rule("graph g (s: f32[4,8] state)\nA = reshape s {shape=[32]}\nreturn s = A\n"),
            "output s has the type of the state that it updates, f32[4,8], unlike node 1:\n"
            "      A = reshape s {shape=[32]} : f32[32]");
  EXPECT_EQ(rule("graph g (s: f32[4,8])\nA = reshape s {shape=[32]}\nreturn s = A\n"), "no error");
}

struct LineCase {
  const char* stage;
  const char* line;
  const char* rule;  ///< up to ", unlike node"
};

TEST(Verify, RulesOfStages) {
  const LineCase cases[] = {
      {"built", "probe x {id=\"p\"}", "probes exist from instrumented on"},
      {"differentiated", "probe x {id=\"p\"}", "probes exist from instrumented on"},
      {"instrumented", "probe x {id=\"p\"}", "no error"},
      {"instrumented", "probe x {id=\"\"}", "a probe has an id"},
      {"instrumented", "A = kernel x {schedule=\"row\"} region (a: f32[4,8])\nreturn a",
       "kernels exist from fused on"},
      {"lowered", "A = kernel x {schedule=\"row\"} region (a: f32[4,8])\nreturn a",
       "kernels exist from fused on"},
      {"lowered", "A = identity x",
       "identity, straight_through and stop_gradient are gone once lowered"},
      {"lowered", "A = stop_gradient x",
       "identity, straight_through and stop_gradient are gone once lowered"},
      {"lowered", "A = straight_through x, s",
       "identity, straight_through and stop_gradient are gone once lowered"},
      {"lowered", "A = softmax x",
       "composites without a kernel of their own are decomposed once lowered"},
      {"lowered", "A = reduce_sum x {axes=[1]}",
       "a reduction has lanes exactly if it is over the last axis, once lowered"},
      {"lowered", "A = reduce_sum x {axes=[0,1]}",
       "a reduction over the last and other axes is split once lowered"},
      {"lowered", "A = reduce_sum x {axes=[1], lanes=8}\nB = reduce_max x {axes=[0]}", "no error"},
      {"lowered", "A, B = attention q, k, k {causal=true, scale=1}",
       "attention carries a positive key_block once lowered"},
      {"lowered", "A, B = attention q, k, k {causal=true, key_block=8, scale=1}", "no error"},
      {"fused", "A = exp x", "only inputs, kernels, reshapes and probes are left"},
      {"fused", "A = reshape x {shape=[32]}\nprobe A {id=\"p\"}", "no error"},
      {"planned", "A = exp x", "only inputs, kernels, reshapes and probes are left"},
  };
  for (const LineCase& c : cases) {
    std::string text = rule_at(c.stage, c.line);
    EXPECT_EQ(text.substr(0, text.find(", unlike node")), c.rule) << c.stage << ": " << c.line;
  }
}

TEST(Verify, RulesOfPlaces) {
  auto kernel = [](const std::string& offset) {
    std::string text = rule_at(
        "planned", "A = kernel x {" + offset +
                       "schedule=\"elementwise\"} region (a: f32[4,8])\nB = exp a\nreturn B");
    return text.substr(0, text.find(", unlike node"));
  };
  EXPECT_EQ(kernel("offset=[128], "), "no error");
  EXPECT_EQ(kernel("offset=[-4], "), "no error");
  EXPECT_EQ(kernel(""), "a planned kernel has one offset a result, 1");
  EXPECT_EQ(kernel("offset=[0,64], "), "a planned kernel has one offset a result, 1");
  EXPECT_EQ(kernel("offset=[32], "), "offset 32 is a multiple of 64");
  EXPECT_EQ(kernel("offset=[192], "), "offset 192 and 128 bytes end inside the arena of 256");
  EXPECT_EQ(kernel("offset=[9223372036854775744], "),
            "offset 9223372036854775744 and 128 bytes end inside the arena of 256");
  EXPECT_EQ(kernel("offset=[-1], "), "offset -1 is the state input 0 of 128 bytes");
  EXPECT_EQ(kernel("offset=[-9], "), "offset -9 is the state input 8 of 128 bytes");
  EXPECT_EQ(kernel("offset=[-9223372036854775808], "),
            "offset -9223372036854775808 is the state input 9223372036854775807 of 128 bytes");
  EXPECT_EQ(rule("graph g () stage=planned\nreturn\n"), "a graph has an arena from planned on");
  EXPECT_EQ(rule("graph g () stage=planned arena=-64\nreturn\n"),
            "an arena is a number of bytes, unlike -64");
  EXPECT_EQ(rule("graph g () stage=planned arena=[64]\nreturn\n"),
            "an arena is a number of bytes, unlike [64]");
  EXPECT_EQ(rule("graph g () stage=fused arena=64\nreturn\n"),
            "a graph has an arena from planned on");
}

TEST(Verify, RegionsObeyTheRulesOfLowered) {
  EXPECT_EQ(
      rule_of_kernel("elementwise", "B = relu a\nreturn B"),
      "composites without a kernel of their own are decomposed once lowered, unlike node 1 of "
      "the region: A = relu a : f32[4,8], unlike node 4:\n"
      "      A = kernel x {schedule=\"elementwise\"} : f32[4,8] region ...");
  auto first = [](const std::string& body, const std::string& inputs = "a: f32[4,8]") {
    std::string text = rule_of_kernel("elementwise", body, "x", inputs);
    return text.substr(0, text.find(", unlike node"));
  };
  EXPECT_EQ(first("B = reshape a {shape=[32]}\nreturn B"), "a region has no reshape");
  EXPECT_EQ(first("probe a {id=\"p\"}\nB = exp a\nreturn B"), "a region has no probe");
  EXPECT_EQ(first("B = exp a\nreturn B", "a: f32[4,8] state"), "a region has no state");
  EXPECT_EQ(first("return"), "a kernel has a result");
  EXPECT_EQ(first("B = kernel a {schedule=\"copy\"} region (c: f32[4,8])\nreturn c\nreturn B"),
            "kernels exist from fused on");
}

TEST(Verify, RegionsFitTheirKernels) {
  GraphPtr graph = graph_of(
      "graph g (x: f32[4,8]) stage=fused\n"
      "A = kernel x {schedule=\"elementwise\"} region (a: f32[4,8])\nB = exp a\nreturn B\nreturn "
      "A\n");
  node_of(graph, 1).inputs.push_back({0, 0});
  EXPECT_NE(broken(graph).find("the region's inputs have the types of the operands"),
            std::string::npos);
  node_of(graph, 1).types = {f32({4})};
  EXPECT_NE(broken(graph).find("the region's outputs have the types of the results"),
            std::string::npos);
  node_of(graph, 1).region = with_stage(node_of(graph, 1).region, Stage::built);
  EXPECT_NE(broken(graph).find("a region is of stage lowered"), std::string::npos);
}

struct RegionCase {
  const char* schedule;
  const char* body;
  const char* rule;
};

TEST(Schedule, EveryKernelOfItsOwnHasOne) {
  for (Op op : all_ops()) {
    const bool has_kernel =
        info(op).op_class == OpClass::Contraction ||
        (info(op).op_class == OpClass::Composite && info(op).has(op_trait::OwnKernel));
    EXPECT_EQ(schedule_of_anchor(op).has_value(), has_kernel) << op_name(op);
  }
  for (const std::string& name : schedule_names()) {
    ASSERT_TRUE(parse_schedule(name)) << name;
    EXPECT_EQ(schedule_name(*parse_schedule(name)), name);
  }
  EXPECT_FALSE(parse_schedule("rows"));
}

TEST(Verify, RulesOfSchedules) {
  const RegionCase cases[] = {
      {"elementwize", "B = exp a\nreturn B",
       "the schedule is one of elementwise, row, column, matmul, attention, attention_grad, "
       "attention_stats, attention_map, attention_identities, embedding, embedding_grad, "
       "loss_head, "
       "not elementwize. Did you mean elementwise?"},
      {"elementwise", "B = transpose a {permutation=[1,0]}\nC = exp B\nreturn C", "no error"},
      {"elementwise", "B = reduce_sum a {axes=[0]}\nreturn B",
       "reduce_sum does not belong into a kernel of schedule elementwise"},
      {"elementwise", "B = exp a\nC = slice a {starts=[0,0], limits=[2,8]}\nreturn B, C",
       "every output of a kernel of schedule elementwise has one shape, here [4,8]"},
      {"row",
       "B = reduce_max a {axes=[1], lanes=8}\nC = sub a, B\nD = reduce_sum C {axes=[1], lanes=8}\n"
       "return C, D",
       "no error"},
      {"row", "B = exp a\nreturn B", "a row kernel has a reduction"},
      {"row", "B = reduce_sum a {axes=[0]}\nreturn B", "a row kernel reduces the last axis alone"},
      {"row",
       "B = reduce_sum a {axes=[1], lanes=8}\nC = slice a {starts=[0,0], limits=[4,4]}\n"
       "D = reduce_sum C {axes=[1], lanes=8}\nreturn B, D",
       "every reduction of a row kernel has operands of one shape, here [4,8]"},
      {"row", "B = reduce_sum a {axes=[1], lanes=8}\nC = broadcast B {shape=[4,8]}\nreturn C",
       "movement stands before every reduction"},
      {"row",
       "B = reduce_sum a {axes=[1], lanes=8}\nC = slice a {starts=[0,0], limits=[2,8]}\nreturn B, "
       "C",
       "an output of this row kernel is [4,8] or [4,1]"},
      {"column", "B = exp a\nC = reduce_sum B {axes=[0]}\nD = neg C\nreturn C, D", "no error"},
      {"column", "B = exp a\nreturn B", "a column kernel has a reduction"},
      {"column", "B = reduce_sum a {axes=[1], lanes=8}\nreturn B",
       "a column kernel does not reduce the last axis"},
      {"column",
       "B = reduce_sum a {axes=[0]}\nC = slice a {starts=[0,0], limits=[2,8]}\n"
       "D = reduce_sum C {axes=[0]}\nreturn B, D",
       "every reduction of a column kernel has the same axes and operand shape"},
      {"column", "B = reduce_sum a {axes=[0]}\nC = sub a, B\nD = reduce_sum C {axes=[0]}\nreturn D",
       "a column kernel does not reduce what is reduced already"},
      {"column", "B = reduce_sum a {axes=[0]}\nC = broadcast B {shape=[4,8]}\nreturn C",
       "movement stands before every reduction"},
      {"column", "B = reduce_sum a {axes=[0]}\nC = add a, B\nreturn C",
       "after its reductions a column kernel works on the reduced shape [1,8]"},
      {"column", "B = reduce_sum a {axes=[0]}\nC = exp a\nreturn B, C",
       "every output of a kernel of schedule column has one shape, here [1,8]"},
      {"matmul", "B = matmul a, a {transpose_b=true}\nC = exp B\nreturn B, C", "no error"},
      {"matmul",
       "B = matmul a, a {transpose_b=true}\nC = constant {value=2} : f32[]\nD = exp C\n"
       "E = mul B, D\nreturn E",
       "no error"},
      {"matmul", "B = exp a\nreturn B", "a kernel of schedule matmul holds one matmul"},
      {"matmul", "B = matmul a, a {transpose_b=true}\nC = matmul B, a\nreturn C",
       "a kernel of schedule matmul holds one matmul"},
      {"matmul", "B = exp a\nC = matmul B, a {transpose_b=true}\nreturn C",
       "matmul works on inputs of its region"},
      {"matmul", "B = matmul a, a {transpose_b=true}\nC = exp a\nreturn B",
       "an epilogue works on the shape of the product, [4,4], or on one that broadcasts to it"},
      {"matmul", "B = matmul a, a {transpose_b=true}\nreturn B, a",
       "every output of a kernel of schedule matmul has one shape, here [4,4]"},
      {"matmul",
       "B = matmul a, a {transpose_b=true}\nC = transpose B {permutation=[1,0]}\nreturn C",
       "transpose does not belong into a kernel of schedule matmul"},
      {"embedding", "B = exp a\nreturn B", "a kernel of schedule embedding holds one embedding"},
      {"embedding_grad", "return a",
       "a kernel of schedule embedding_grad holds one embedding_grad"},
      {"attention", "return a", "a kernel of schedule attention holds one attention"},
      {"attention_stats", "return a",
       "a kernel of schedule attention_stats holds one attention_stats"},
      {"attention_grad", "return a",
       "a kernel of schedule attention_grad holds one attention_grad"},
      {"loss_head", "return a",
       "a kernel of schedule loss_head holds one linear_cross_entropy or "
       "linear_cross_entropy_grad"},
  };
  for (const RegionCase& c : cases) {
    std::string text = rule_of_kernel(c.schedule, c.body);
    EXPECT_EQ(text.substr(0, text.find(", unlike node")), c.rule) << c.schedule << ":\n" << c.body;
  }
}

TEST(Verify, StatisticsInTheBackwardKernelAreOfItsOwnAttention) {
  auto kernel = [](const std::string& operands, const std::string& more = "") {
    std::string text = rule_at(
        "fused",
        "Z, L = kernel q, k {schedule=\"attention\"} region (q: f32[1,4,2,8], k: f32[1,4,1,8])\n"
        "A, B = attention q, k, k {causal=true, key_block=8, scale=1}\nreturn A, B\n"
        "A, B, C, D = kernel q, k, Z, L {schedule=\"attention_grad\"} region (q: f32[1,4,2,8], "
        "k: f32[1,4,1,8], z: f32[1,4,2,8], l: f32[1,2,2,4])\n"
        "A, B, C = attention_grad q, k, k, z, l, z {causal=true, key_block=8, scale=1}\n"
        "D, E, F, G, H, I = attention_stats " +
            operands + " {causal=true, key_block=8, " + more +
            "scale=1, sink=0}\nreturn A, B, C, D\n");
    return text.substr(0, text.find(", unlike node"));
  };
  EXPECT_EQ(kernel("q, k, l"), "no error");
  EXPECT_EQ(kernel("z, k, l"), "statistics in the backward kernel are of its own q, k and rows");
  EXPECT_EQ(kernel("q, k, l", "normalizer=\"softmax-1\", "),
            "statistics in the backward kernel are of the same attention");
}

}  // namespace
}  // namespace weir
