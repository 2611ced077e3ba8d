// Text to graph: what is accepted, and what is said about mistakes.
#include "ir/parse.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ir/builder.h"
#include "ir/edit.h"
#include "ir/ir_test_util.h"
#include "ir/print.h"

namespace weir {
namespace {

std::string reprinted(const std::string& text) { return print_graph(*parse_graph(text)); }
std::string mistakes(const std::string& text) {
  return error_of<UserError>([&] { parse_graph(text, "g.weir"); });
}
/// The mistakes in one line between a head with x: f32[2,4], n: i32[2] and a return.
std::string mistakes_in(const std::string& line) {
  return mistakes("graph g (x: f32[2,4], n: i32[2])\n" + line + "\nreturn\n");
}

constexpr const char* kPlanned =
    R"(graph "a name" (x: f32[4,64] {offset=[128]} as in.x at m.cpp:3, w: f32[64,64] state) stage=planned arena=4096
  A, B = kernel x, w {offset=[0,-2], schedule="matmul"} : f32[4,64], f32[64,64] as h.0 h.1 1:h.w at m.cpp:7 region (x0: f32[4,64], x1: f32[64,64])
    A = matmul x0, x1 : f32[4,64]
    B = constant {value=0.1} : f32[64,64]
    C = mul x1, B : f32[64,64]
    return A, C
  probe A {id="h.0 : l2 \"quoted\" \\ done"}
  C = kernel {offset=[1024], schedule="elementwise"} : f32[2] region inner () stage=fused
    A = constant {value=inf} : f32[2]
    return A
  D = reshape A {shape=[256]} : f32[256]
  return "loss of all" = A, w = B, C, D
)";

TEST(Parse, EveryPartOfTheGrammarComesBack) {
  GraphPtr graph = parse_graph(kPlanned);
  EXPECT_EQ(print_graph(*graph), kPlanned);
  EXPECT_EQ(graph->name(), "a name");
  EXPECT_EQ(graph->stage(), Stage::planned);
  EXPECT_EQ(graph->attrs().get_int("arena"), 4096);
  EXPECT_TRUE(graph->node(1).attrs.get_bool("state"));
  EXPECT_EQ(graph->node(0).attrs.get_ints(kOffset), std::vector<int64_t>{128});
  EXPECT_EQ(graph->node(0).where, "m.cpp:3");
  EXPECT_EQ(graph->find("h.w"), (Value{2, 1}));
  EXPECT_EQ(graph->find("h.1"), (Value{2, 0}));
  EXPECT_EQ(graph->node(2).region->name(), "region");
  EXPECT_EQ(graph->node(2).region->stage(), Stage::lowered);
  EXPECT_EQ(graph->node(3).attrs.get_string("id"), "h.0 : l2 \"quoted\" \\ done");
  EXPECT_EQ(graph->outputs()[0].name, "loss of all");
  EXPECT_EQ(graph->outputs()[2].name, "");
  EXPECT_EQ(*graph, *parse_graph(print_graph(*graph)));
}

TEST(Parse, TextByHandMayLeaveOutTypesAndUseAnyLabels) {
  EXPECT_EQ(reprinted("# a comment\n\n"
                      "graph g\t(x: f32[2,4]  ,\n\tgain:f32[4]) # inputs\n"
                      "  normal=rms_norm x,gain{eps=1e-5}\r\n\n"
                      "  \"2 * normal\" = add normal,\n     normal # : no type\n"
                      "A = tanh \"2 * normal\" : f32[2,4]\n"
                      "return y =\n A, normal"),
            "graph g (x: f32[2,4], gain: f32[4]) stage=built\n"
            "  A = rms_norm x, gain {eps=1e-05} : f32[2,4]\n"
            "  B = add A, A : f32[2,4]\n"
            "  C = tanh B : f32[2,4]\n"
            "  return y = C, A\n");
  EXPECT_EQ(reprinted("graph (x: f32[])\nreturn"), "graph \"\" (x: f32[]) stage=built\n  return\n");
}

TEST(Parse, EqualPureNodesBecomeOneAndEffectsNever) {
  EXPECT_EQ(reprinted("graph g (x: f32[2]) stage=instrumented\n"
                      "a = exp x as one\n"
                      "b = exp x as two\n"
                      "probe a {id=\"p\"}\n"
                      "probe b {id=\"p\"}\n"
                      "return add = b\n"),
            "graph g (x: f32[2]) stage=instrumented\n"
            "  A = exp x : f32[2] as one two\n"
            "  probe A {id=\"p\"}\n"
            "  probe A {id=\"p\"}\n"
            "  return add = A\n");
}

TEST(Parse, NumbersAreExact) {
  using Limits = std::numeric_limits<double>;
  for (double value :
       {0.0, -0.0, 0.1, -1e-300, 1e300, 4.9e-324, Limits::max(), Limits::infinity(),
        -Limits::infinity(), Limits::quiet_NaN(), 1.0 / 3, 3.0, 123456789012345678.0}) {
    GraphEditor editor("g");
    editor.set_attribute("measured", value);
    editor.set_attribute("counted here", int64_t{3});
    editor.output("", editor.constant(value, f32({})));
    GraphPtr graph = editor.finish(), parsed = parse_graph(print_graph(*graph));
    EXPECT_EQ(*parsed, *graph) << print_graph(*graph);
    double read = parsed->node(0).attrs.get_float("value");
    EXPECT_EQ(std::signbit(read), std::signbit(value));
    EXPECT_TRUE(read == value || std::isnan(value)) << value;
  }
}

TEST(Parse, AnyNameComesBack) {
  const std::vector<std::string> names = {
      "",    "A",    "B",  "at",    "as", "return",   "region", "12",  "1:name", "state",
      "a b", "\n\"", "\\", "graph", "#",  "\xC3\xA9", "stage",  "exp", "1.5",    "x\r\ty"};
  GraphEditor editor("graph");
  std::vector<Value> inputs;
  for (const std::string& name : names) inputs.push_back(editor.input(name, f32({2})));
  for (size_t i = 0; i < names.size(); ++i) {
    Attrs attrs{{"to", DType::f64}};
    Value value = editor.add(Op::convert, {inputs[i]}, attrs, names[i]);
    editor.name(value, names[i]);
    editor.name(value, "again " + names[i]);
    editor.name(inputs[i], "input " + names[i]);
    editor.output(names[i], value);
  }
  GraphPtr graph = editor.finish();
  EXPECT_EQ(*parse_graph(print_graph(*graph)), *graph) << print_graph(*graph);
}

TEST(Parse, MistakesOfGrammarShowThePlace) {
  EXPECT_EQ(mistakes_in("A = exp x : f32[2,4"),
            "[parse] g.weir:3:1: found 'return', but need ',' and a further extent, or ']'.\n"
            "  return\n"
            "  ^");
  EXPECT_EQ(mistakes_in("\tA = exp x y"),
            "[parse] g.weir:2:12: found 'y', but need the end of the line or, in this order, "
            "operands, {attributes}, ': types', 'as names', 'at file:line', 'region'.\n"
            "   A = exp x y\n"
            "             ^");
  EXPECT_EQ(mistakes("graph g (x: f32[2])\n  A = exp x\n"),
            "[parse] g.weir:3:1: found the end of the text, but need 'return' and the outputs, or "
            "'return' alone.\n"
            "  \n"
            "  ^");
  EXPECT_EQ(mistakes("gruph"),
            "[parse] g.weir:1:1: found 'gruph', but need 'graph', as in: graph name (x: f32[4]) "
            "stage=built.\n"
            "  gruph\n"
            "  ^");
  EXPECT_EQ(mistakes_in("A = exp x; "),
            "[parse] g.weir:2:10: unexpected ';'. Put names with other characters than letters, "
            "digits and _ . - + / $ in quotes.\n"
            "  A = exp x;\n"
            "           ^");
  EXPECT_EQ(mistakes_in("probe x {id=\"open}"),
            "[parse] g.weir:2:13: this quoted text has no end on its line.\n"
            "  probe x {id=\"open}\n"
            "              ^");
  EXPECT_EQ(mistakes("graph g () return\nreturn\nreturn\n"),
            "[parse] g.weir:1:12: found 'return', but need stage=... or another attribute of the "
            "graph.\n"
            "  graph g () return\n"
            "             ^");
  EXPECT_EQ(mistakes("graph g ()\nreturn\nreturn\n"),
            "[parse] g.weir:3:1: found 'return', but need the end of the text: a graph ends with "
            "its return.\n"
            "  return\n"
            "  ^");
}

TEST(Parse, LongLinesAreCutAroundThePlace) {
  std::string line = "A = add x, " + std::string(200, 'y') + ", " + std::string(300, 'z');
  std::string text = mistakes("graph g (x: f32[2])\n" + line + " ?\nreturn");
  EXPECT_NE(text.find("[parse] g.weir:2:515: unexpected '?'."), std::string::npos) << text;
  EXPECT_NE(text.find("\n  ..." + std::string(79, 'z') + " ?\n  " + std::string(83, ' ') + "^"),
            std::string::npos)
      << text;
}

TEST(Parse, MistakesOfMeaningAreListedTogether) {
  EXPECT_EQ(mistakes("graph g (x: f32[2,4], w: f32[4,3]) stage=bilt\n"
                     "  A = matmull x, w\n"
                     "  B = matmul x, v\n"
                     "  C = rms_norm D, w {epz=1e-5}\n"
                     "  D = matmul x, x\n"
                     "  E, F = exp x\n"
                     "  G = exp x : f32[2,5]\n"
                     "  G = tanh x\n"
                     "  return G, loss = y\n"),
            "[parse] 10 or more problems:\n"
            "g.weir:1:42: unknown stage bilt; known: built, differentiated, instrumented, lowered, "
            "fused, planned. Did you mean built?\n"
            "  graph g (x: f32[2,4], w: f32[4,3]) stage=bilt\n"
            "                                           ^\n"
            "g.weir:2:7: unknown op matmull. Did you mean matmul?\n"
            "    A = matmull x, w\n"
            "        ^\n"
            "g.weir:3:17: unknown value v.\n"
            "    B = matmul x, v\n"
            "                  ^\n"
            "g.weir:4:16: D is used before its definition in line 5.\n"
            "    C = rms_norm D, w {epz=1e-5}\n"
            "                 ^\n"
            "g.weir:4:22: rms_norm has no attribute epz; known: eps. Did you mean eps?\n"
            "    C = rms_norm D, w {epz=1e-5}\n"
            "                       ^\n"
            "g.weir:5:7: [matmul] lhs f32[2,4] and rhs f32[2,4]: inner sizes 4 and 2 differ. "
            "Transpose the rhs?\n"
            "    D = matmul x, x\n"
            "        ^\n"
            "g.weir:6:3: exp has 1 result, but 2 labels are given.\n"
            "    E, F = exp x\n"
            "    ^\n"
            "g.weir:7:15: type f32[2,5] is written, but the result is f32[2,4].\n"
            "    G = exp x : f32[2,5]\n"
            "                ^\n"
            "g.weir:8:3: G is defined in line 7 already. Give each value a label of its own.\n"
            "    G = tanh x\n"
            "    ^\n"
            "g.weir:9:20: unknown value y.\n"
            "    return G, loss = y\n"
            "                     ^");
}

TEST(Parse, AMistakeIsReportedOnceAndStopsNothing) {
  std::string text = mistakes(
      "graph g (x: f32[2,4])\n"
      "A = expp x : f32[2,4]\n"
      "B = tanhh x\n"
      "C = add A, B\n"
      "D = matmul A, A\n"
      "return C\n");
  EXPECT_NE(text.find("[parse] 3 problems:"), std::string::npos) << text;
  EXPECT_NE(text.find("g.weir:5:5: [matmul] lhs f32[2,4]"), std::string::npos) << text;
}

TEST(Parse, AtMostTenMistakesAreShown) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "expp x\n";
  std::string text = mistakes_in(lines);
  EXPECT_NE(text.find("[parse] 10 or more problems:"), std::string::npos) << text;
  EXPECT_EQ(text.find("g.weir:12:"), std::string::npos) << text;
}

struct LineCase {
  const char* line;
  const char* message;
};

TEST(Parse, EveryMistakeOfALineHasItsMessage) {
  const LineCase cases[] = {
      {"A = exp", "2:5: [exp] 0 operands given, but 1 needed."},
      {"A = exp n",
       "2:5: [exp] operand 0 is i32[2], but a floating-point type is needed. Convert it first."},
      {"A = exp x {to=f32}", "2:12: exp has no attribute to; known: none."},
      {"A = rope x {base=1e4, base=2}", "2:23: attribute base is given twice."},
      {"A = rope x {base=fast}", "2:18: attribute base needs a number."},
      {"A = rope x {base=1e999}", "2:18: attribute base needs a number."},
      {"A = rope x", "2:5: [rope] attribute base is missing; it is a number."},
      {"A = convert x {to=f31}", "2:19: attribute to needs a dtype, as in f32."},
      {"A = reduce_sum x {axes=1}", "2:24: attribute axes needs a list of integers, as in [0,2]."},
      {"A = reduce_sum x {axes=[1.5]}",
       "2:24: attribute axes needs a list of integers, as in [0,2]."},
      {"A = v_scale x {c=1, place=[0], variant=\"full\"}",
       "2:21: v_scale has no attribute place; known: c, variant."},
      {"A = reduce_sum x {axes=[1], lanes=7}",
       "2:5: [reduce_sum] lanes are 7, but a power of two from 1 to 1024 is needed."},
      {"A = reduce_sum x {axes=[1], lanes=2147483648}",
       "2:5: [reduce_sum] lanes are 2147483648, but a power of two from 1 to 1024 is needed."},
      {"Q = reshape x {shape=[1,2,1,4]}\nA, B = attention Q, Q, Q {causal=true, scale=1, "
       "key_block=9223372036854775807}",
       "3:8: [attention] key_block is 9223372036854775807, but 1 to 65536 keys at a time are "
       "possible."},
      {"Q = reshape x {shape=[1,2,1,4]}\nA, B = attention Q, Q, Q {causal=true, scale=1, cap=1e39}",
       "3:8: [attention] cap is 1e+39, but a number from 0.0001 to 1000000 is needed; without one, "
       "leave the attribute out."},
      {"Q = reshape x {shape=[1,2,1,4]}\nA, B = attention Q, Q, Q {causal=true, scale=inf}",
       "3:8: [attention] scale is inf, but a finite number is needed."},
      {"A = reduce_sum x {axes=[1], lanes=[4]}", "2:35: attribute lanes needs an integer."},
      {"A = gelu x {exact=1}", "2:19: attribute exact needs true or false."},
      {"probe x {id=h}", "2:13: attribute id needs a quoted text, as in \"row\"."},
      {"A = probe x {id=\"h\"}", "2:1: probe has 0 results, but 1 label is given."},
      {"exp x", "2:1: exp has 1 result, but 0 labels are given."},
      {"A = exp x : f32[2,4], f32[2,4]", "2:13: exp has 1 result, but 2 types are given."},
      {"A = exp x : f33[2,4]",
       "2:13: unknown dtype f33; known: f64, f32, bf16, f16, i32, i8, u8, bool. Did you mean f32?"},
      {"A = exp x : f32[2,0]", "2:19: 0 is no extent; a positive integer is needed."},
      {"A = exp x : f32[2,4.0]", "2:19: 4.0 is no extent; a positive integer is needed."},
      {"A = constant {value=1} : f32[9999999,9999999,9999999]",
       "2:26: this shape has more than 281474976710656 elements."},
      {"A = broadcast x {shape=[999999999,999999999,2,4]}",
       "2:5: [broadcast] the result would be f32[999999999,999999999,2,4]. Every extent must be "
       "positive, and at most 281474976710656 elements fit."},
      {"A = broadcast x {shape=[0,2,4]}",
       "2:5: [broadcast] the result would be f32[0,2,4]. Every extent must be positive, and at "
       "most 281474976710656 elements fit."},
      {"A = constant {value=1}", "2:5: constant needs its type, as in: constant {...} : f32[4]."},
      {"A = constant x {value=1} : f32[4]", "2:14: constant takes no operands."},
      {"A = constant {value=300} : u8[4]", "2:5: [constant] 300 does not fit into u8."},
      {"A = iota {axis=1} : i32[4]", "2:5: [iota] axis 1 is none of i32[4]."},
      {"A = input {name=\"y\"} : f32[4]",
       "2:5: inputs stand in the head of the graph, as in (x: f32[4])."},
      {"A = kernel x {schedule=\"row\"}",
       "2:5: kernel needs a region, as in: region (a: f32[4]), lines, return."},
      {"A = exp x as 1:name", "2:14: name name is given to result 1, but there are 1 results."},
      {"A = exp x as a\nB = tanh x as a",
       "3:15: [name] a names another value already. Names of values are unique."},
      {"x = exp x", "2:1: x is defined in line 1 already. Give each value a label of its own."},
      {"A = add x, xx", "2:12: unknown value xx."},
  };
  for (const LineCase& c : cases) {
    std::string text = mistakes_in(c.line);
    EXPECT_EQ(text.substr(0, text.find("\n  ")), std::string("[parse] g.weir:") + c.message);
  }
}

TEST(Parse, NearestNamesAreOffered) {
  std::string text = mistakes("graph g (embedding: f32[2])\nA = exp embeding\nreturn\n");
  EXPECT_NE(text.find("unknown value embeding. Did you mean embedding?"), std::string::npos)
      << text;
}

TEST(Parse, MistakesInRegions) {
  auto kernel = [](const std::string& body) {
    return mistakes(
        "graph g (x: f32[2,4]) stage=fused\n"
        "  A = kernel x {schedule=\"row\"} : f32[2,4] region " +
        body + "\n  return A\n");
  };
  EXPECT_EQ(kernel("(a: f32[2,4])\n    B = exp x\n    return B"),
            "[parse] g.weir:3:13: x lies outside this region. A region sees its inputs alone: make "
            "it an operand of the kernel.\n"
            "      B = exp x\n"
            "              ^");
  EXPECT_EQ(kernel("(a: f32[2,5])\n    B = exp a\n    return B"),
            "[parse] g.weir:2:7: [kernel] operand 0 is f32[2,4], but the region's input a is "
            "f32[2,5].\n"
            "    A = kernel x {schedule=\"row\"} : f32[2,4] region (a: f32[2,5])\n"
            "        ^");
  EXPECT_EQ(kernel("()\n    return"),
            "[parse] g.weir:2:7: [kernel] the region has 0 inputs, but 1 operands are given.\n"
            "    A = kernel x {schedule=\"row\"} : f32[2,4] region ()\n"
            "        ^");
  std::string nested;
  for (int i = 0; i < 6; ++i) nested += "(a: f32[2,4])\nB = kernel a {schedule=\"row\"} region ";
  EXPECT_NE(kernel(nested).find("regions nest at most 4 deep"), std::string::npos);
}

// Texts of earlier versions call the op `surrogate` and the attribute `place`.
TEST(Parse, FormerNamesAreRead) {
  const GraphPtr graph = parse_graph(
      "graph g (x: f32[4] {place=[128]}, y: f32[4])\n  A = surrogate x, y\n  return A", "old.weir");
  EXPECT_EQ(graph->node(0).attrs.get_ints(kOffset), std::vector<int64_t>{128});
  EXPECT_EQ(graph->node(2).op, Op::straight_through);
  const std::string now = print_graph(*graph);
  EXPECT_NE(now.find("x: f32[4] {offset=[128]}"), std::string::npos) << now;
  EXPECT_NE(now.find("A = straight_through x, y"), std::string::npos) << now;
}

}  // namespace
}  // namespace weir
