#include "ir/dot.h"

#include <gtest/gtest.h>

#include "ir/parse.h"

namespace weir {
namespace {

TEST(Dot, NodesEdgesAndRegionsAreDrawn) {
  GraphPtr graph = parse_graph(
      "graph \"a \\\"b\\\"\" (x: f32[4,8], s: f32[4,8] state) stage=fused\n"
      "A, B = kernel x {schedule=\"row\"} as 1:h.sum region (a: f32[4,8])\n"
      "  A = reduce_sum a {axes=[1], lanes=8}\n"
      "  return a, A\n"
      "probe B {id=\"h.sum\"}\n"
      "return s = A, B\n");
  EXPECT_EQ(to_dot(*graph), R"(digraph "a \"b\"" {
  label="a \"b\", stage fused";
  node [shape=box, style=filled, fontname="Helvetica"];
  n0 [label="x\nf32[4,8]", fillcolor="#d9d9d9", shape=ellipse];
  n1 [label="s (state)\nf32[4,8]", fillcolor="#d9d9d9", shape=ellipse];
  subgraph cluster_n2 {
    label="kernel row";
    n2 [label="kernel\nschedule=\"row\"\nf32[4,8]\nf32[4,1]\nh.sum", fillcolor="#ffffff"];
    n2_n0 [label="a\nf32[4,8]", fillcolor="#d9d9d9", shape=ellipse];
    n2_n1 [label="reduce_sum\naxes=[1]\nlanes=8\nf32[4,1]", fillcolor="#fdd0a2"];
    n2_n0 -> n2_n1;
    n2_out0 [shape=plaintext, label="result 0"];
    n2_n0 -> n2_out0;
    n2_out1 [shape=plaintext, label="result 1"];
    n2_n1 -> n2_out1;
  }
  n3 [label="probe\nid=\"h.sum\"", fillcolor="#fc9272"];
  n0 -> n2;
  n2 -> n3 [label="1"];
  out0 [shape=plaintext, label="s"];
  n2 -> out0 [label="0"];
  out1 [shape=plaintext, label="result 1"];
  n2 -> out1 [label="1"];
}
)");
}

}  // namespace
}  // namespace weir
