#include <fmt/format.h>

#include "codegen/loop/loop_test_util.h"
#include "ir/builder.h"
#include "ir/print.h"
#include "testing/random_graph.h"

namespace weir::test {
namespace {

constexpr Tolerance kExact = {.relative = 0};

TEST(LoopMovement, TransposesOfAllKinds) {
  struct Case {
    Shape shape;
    std::vector<int64_t> permutation;
  };
  for (const Case& c : std::vector<Case>{{{5, 7}, {1, 0}},
                                         {{67, 131}, {1, 0}},
                                         {{300, 257}, {1, 0}},
                                         {{3, 40, 50}, {0, 2, 1}},
                                         {{3, 40, 50}, {2, 1, 0}},
                                         {{2, 9, 4, 33}, {0, 2, 1, 3}},
                                         {{2, 9, 4, 33}, {3, 1, 0, 2}}}) {
    Builder b("transpose");
    Shape shape;
    for (int64_t axis : c.permutation) shape.push_back(c.shape[axis]);
    Tensor x = b.input("x", f32(c.shape)), z = b.input("z", f32(shape));
    Tensor y = transpose(x, c.permutation);
    b.output("y", y);
    b.output("sum", add(y, z));
    check_region(b.finish(), "elementwise", {.relative = 1e-7});
  }
}

// Some loads of a square block are transposed in registers, others stay within their choice; an
// output that overwrites an operand must not disturb the rows of the block that follow.
TEST(LoopMovement, TransposesBesideChoicesAndInPlace) {
  Builder b("blocks");
  Tensor x = b.input("x", f32({100, 90})), y = b.input("y", f32({90, 100}));
  Tensor turned = transpose(x, {1, 0});
  Tensor part = pad(slice(turned, {3, 40}, {80, 95}), {5, 30}, {8, 15});
  b.output("y", add(mul(turned, y), part));
  b.output("rows", add(turned, b.iota(0, f32({90, 100}))));
  GraphPtr region = b.finish();
  check_region(region, "elementwise", {.relative = 1e-6, .absolute = 1e-6});
  const Tensors inputs = random_inputs(*region, 7);
  for (const Target& target : loop_targets())
    EXPECT_EQ(LoopRunner(region, "elementwise", target)(inputs),
              LoopRunner(region, "elementwise", target, {.in_place = {{1, 0}}})(inputs));
}

TEST(LoopMovement, TransposeOfNarrowTypes) {
  for (DType dtype : {DType::bf16, DType::i8, DType::boolean}) {
    Builder b("transpose");
    b.output("y", transpose(b.input("x", {dtype, {37, 70}}), {1, 0}));
    check_region(b.finish(), "elementwise", kExact);
  }
}

TEST(LoopMovement, SlicesAndPadsAlongEveryAxis) {
  for (int64_t axis : {0, 1, 2})
    for (int64_t extent : {6, 45, 150}) {
      Shape shape = {3, 4, 5};
      shape[axis] = extent;
      std::vector<int64_t> starts(3), limits = shape, low(3), high(3);
      starts[axis] = 2;
      limits[axis] = extent - 1;
      low[axis] = 3;
      high[axis] = 20;
      Builder b("cut");
      Tensor x = b.input("x", f32(shape));
      b.output("slice", slice(x, starts, limits));
      b.output("pad", pad(x, low, high));
      b.output("both", slice(pad(x, low, high), starts, limits));
      b.output("after", pad(mul(slice(x, starts, limits), 2.0), low, high));
      check_region(b.finish(), "elementwise", kExact);
    }
}

TEST(LoopMovement, ConcatAlongEveryAxis) {
  for (int64_t axis : {0, 1, 2})
    for (std::vector<int64_t> extents :
         {std::vector<int64_t>{1, 1}, {3, 8, 1}, {16, 16}, {64, 32, 96}, {1, 100}}) {
      Builder b("concat");
      std::vector<Tensor> parts;
      for (size_t i = 0; i < extents.size(); ++i) {
        Shape shape = {3, 4, 5};
        shape[axis] = extents[i];
        parts.push_back(b.input(fmt::format("x{}", i), f32(shape)));
      }
      Tensor y = concat(parts, axis);
      b.output("y", y);
      b.output("twice", add(y, y));
      check_region(b.finish(), "elementwise", kExact);
    }
}

TEST(LoopMovement, ManyPartsUseMasks) {
  Builder b("many");
  std::vector<Tensor> along, across;
  for (int i = 0; i < 20; ++i) {
    along.push_back(b.input(fmt::format("x{}", i), f32({4, 1 + i % 3})));
    across.push_back(b.input(fmt::format("y{}", i), f32({1 + i % 3, 50})));
  }
  b.output("along", concat(along, 1));
  b.output("across", concat(across, 0));
  check_region(b.finish(), "elementwise", kExact);
}

TEST(LoopMovement, RopeAndItsInverse) {
  for (Shape shape : {Shape{2, 5, 3, 6}, Shape{1, 4, 2, 64}, Shape{2, 3, 1, 256}})
    for (bool inverse : {false, true}) {
      Builder b("rope");
      auto y = b.add(Op::rope, {b.input("x", f32(shape))}, {{"base", 1e4}, {"inverse", inverse}},
                     Where::current());
      b.output("y", y[0]);
      // The angle's rounding to f32 is the error: up to 5 rad here.
      check_region(lowered(b.finish()), "elementwise", {.relative = 1e-5, .absolute = 1e-6});
    }
}

/// Values of a graph without composites, each as the elementwise region above it: from inputs,
/// reductions, contractions and reshapes down to the value.
std::vector<GraphPtr> elementwise_regions(const Graph& graph) {
  std::vector<GraphPtr> regions;
  auto inside = [&](const Node& node) {
    const OpClass op_class = info(node.op).op_class;
    return op_class == OpClass::Elementwise || node.op == Op::constant || node.op == Op::iota ||
           (op_class == OpClass::Movement && node.op != Op::reshape);
  };
  for (const Output& output : graph.outputs()) {
    if (!inside(graph.node(output.value))) continue;
    GraphEditor editor("region");
    std::map<Value, Value> made;
    // Inputs first, as graphs have them.
    std::vector<bool> reached(graph.size());
    reached[output.value.node] = true;
    for (int32_t id = output.value.node; id >= 0; --id)
      if (reached[id] && inside(graph.node(id)))
        for (Value operand : graph.node(id).inputs) reached[operand.node] = true;
    bool wide = false;
    for (int32_t id = 0; id < graph.size(); ++id)
      for (size_t r = 0; reached[id] && r < graph.node(id).types.size(); ++r) {
        const Value value{id, static_cast<int32_t>(r)};
        wide = wide || graph.type(value).dtype == DType::f64;
        if (!inside(graph.node(id)))
          made[value] = editor.input(fmt::format("v{}_{}", id, r), graph.type(value));
      }
    if (wide) continue;
    for (int32_t id = 0; id < graph.size(); ++id) {
      const Node& node = graph.node(id);
      if (!reached[id] || !inside(node)) continue;
      std::vector<Value> operands;
      for (Value operand : node.inputs) operands.push_back(made.at(operand));
      made[{id, 0}] = info(node.op).op_class == OpClass::Source
                          ? editor.add_source(node.op, node.types[0], node.attrs)
                          : editor.add(node.op, operands, node.attrs);
    }
    editor.output("y", made.at(output.value));
    regions.push_back(editor.finish());
  }
  return regions;
}

TEST(LoopMovement, RandomRegions) {
  const std::vector<Target> targets = loop_targets();
  int count = 0;
  check_random_graphs(
      [&](const GraphPtr& graph, const Tensors&) -> std::string {
        for (const GraphPtr& region : elementwise_regions(*lowered(graph))) {
          const Target& target = targets[++count % targets.size()];
          const Tensors inputs = random_inputs(*region, count, 0.1, 2);
          const std::string wrong =
              difference(LoopRunner(region, "elementwise", target)(inputs),
                         interpret(*region, inputs), {.relative = 1e-4, .absolute = 1e-5});
          if (!wrong.empty())
            return fmt::format("on {}: {}\n{}", target.name, wrong, print_graph(*region));
        }
        return "";
      },
      {.graphs = 60, .nodes = 14});
  EXPECT_GT(count, 60);
}

}  // namespace
}  // namespace weir::test
