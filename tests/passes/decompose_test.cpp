// Every composite's formula against the composite's own definition in the interpreter.
#include "passes/decompose.h"

#include <functional>

#include "passes/pass_test_util.h"

namespace weir {
namespace {

struct Case {
  Op op;
  Attrs attrs;
  std::vector<Type> operands;
  double low = -2, high = 2;
};

std::vector<Case> attention_cases() {
  std::vector<Case> cases;
  struct Heads {
    int64_t queries, keys, heads, groups;
    bool causal;
  };
  for (Heads h : {Heads{5, 5, 4, 2, true},
                  {5, 5, 2, 2, false},
                  {3, 7, 6, 2, false},
                  {1, 1, 1, 1, true},
                  {4, 4, 3, 1, true}}) {
    Type q = f32({2, h.queries, h.heads, 6}), k = f32({2, h.keys, h.groups, 6});
    for (double cap : {0.0, 0.8}) {
      Attrs attrs{{"causal", h.causal}, {"scale", 0.4}}, stats = attrs, lse{{"scale", 0.4}};
      stats.set("sink", h.keys - 1);
      if (cap != 0)
        for (Attrs* each : {&attrs, &stats, &lse}) each->set("cap", cap);
      cases.push_back({Op::attention_scores, attrs, {q, k}});
      const Type of_lse = f32({2, h.heads, h.queries}),
                 softmax_rows = f32({2, h.heads, 2, h.queries});
      cases.push_back({Op::attention_head_gate, lse, {softmax_rows, f32({h.heads})}, 0.1, 2});
      cases.push_back({Op::attention_grad, attrs, {q, k, k, q, softmax_rows, q, of_lse}, 0.1, 2});
      cases.push_back(
          {Op::attention_score_grad, attrs, {q, k, k, q, softmax_rows, q, of_lse}, 0.1, 2});
      cases.push_back({Op::attention_identities, attrs, {q, k, k, q, q, of_lse}});
      for (AttentionNormalizer normalizer : all_normalizers()) {
        // Sums are positive.
        Type rows = f32({2, h.heads, info(normalizer).row_numbers(), h.queries});
        set_normalizer(attrs, normalizer);
        set_normalizer(stats, normalizer);
        set_normalizer(lse, normalizer);
        std::vector<Type> operands = {q, k, k};
        if (takes_other_score(normalizer)) operands.push_back(f32({2, h.heads, h.queries}));
        const bool across = is_across_heads(normalizer);
        if (!across) {
          cases.push_back({Op::attention, attrs, operands});
          cases.push_back({Op::attention_grad, attrs, {q, k, k, q, rows, q}, 0.1, 2});
          cases.push_back({Op::attention_score_grad, attrs, {q, k, k, q, rows, q}, 0.1, 2});
        }
        cases.push_back({Op::attention_stats, stats, {q, k, rows}, 0.1, 2});
        cases.push_back({Op::attention_lse, lse, {rows}, 0.1, 2});
        for (int64_t side : {1, 2, 4, 7}) {
          Attrs map = attrs;
          map.set("side", side);
          cases.push_back({Op::attention_map, map, {q, k, rows}, 0.1, 2});
        }
        std::vector<Type> of_identities = {q, k, k, q, q};
        if (takes_other_score(normalizer)) of_identities.push_back(f32({2, h.heads, h.queries}));
        if (!across) cases.push_back({Op::attention_identities, attrs, of_identities});
        cases.push_back({Op::attention_pattern, attrs, {q, k, rows}, 0.1, 2});
      }
    }
  }
  return cases;
}

std::vector<Case> cases() {
  Type x = f32({2, 3, 7}), row = f32({7}), heads = f32({2, 3, 4, 6}), scalar = f32({});
  std::vector<Case> all = {
      {Op::reduce_mean, {{"axes", std::vector<int64_t>{0, 2}}}, {x}},
      {Op::relu, {}, {x}},
      {Op::silu, {}, {x}},
      {Op::gelu, {}, {x}},
      {Op::gelu, {{"exact", true}}, {x}},
      {Op::swiglu, {}, {x, row}},
      {Op::softmax, {}, {x}, -30, 30},
      {Op::rms_norm, {{"eps", 1e-5}}, {x, row}},
      {Op::layer_norm, {{"eps", 1e-5}}, {x, row}},
      {Op::layer_norm, {{"eps", 1e-5}}, {x, row, row}},
      {Op::rope, {{"base", 10000.0}}, {heads}},
      {Op::rope, {{"base", 500.0}, {"inverse", true}}, {heads}},
      {Op::rope, {{"base", 500.0}, {"factor", 4.0}}, {heads}},
      {Op::rope,
       {{"base", 500.0}, {"factor", 4.0}, {"begin", 0.5}, {"end", 2.0}, {"amplitude", 1.125}},
       {heads}},
      {Op::cross_entropy, {}, {f32({9, 3}), i32({9}), scalar}, -30, 30},
      {Op::cross_entropy, {{"cap", 5.0}}, {f32({9, 3}), i32({9}), scalar}, -30, 30},
      {Op::linear_cross_entropy, {{"cap", 1.5}}, {f32({9, 5}), f32({3, 5}), i32({9}), scalar}},
      {Op::linear_cross_entropy_grad, {{"cap", 1.5}}, {f32({9, 5}), f32({3, 5}), i32({9}), scalar}},
      {Op::linear_cross_entropy, {}, {f32({9, 5}), f32({3, 5}), i32({9}), scalar}},
      {Op::linear_cross_entropy_grad, {}, {f32({9, 5}), f32({3, 5}), i32({9}), scalar}},
  };
  for (const char* variant : {"full", "backward", "forward"}) {
    Attrs attrs{{"c", 1.5}, {"variant", std::string(variant)}};
    all.push_back({Op::v_scale, attrs, {heads}});
    if (std::string(variant) != "backward") all.push_back({Op::v_scale, attrs, {heads, f32({4})}});
  }
  for (double decay : {0.0, 0.1}) {
    Attrs adamw{{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"weight_decay", decay}};
    all.push_back({Op::adamw, adamw, {x, x, x, x, scalar, scalar, scalar, scalar}, 0.1, 2});
    Attrs sgd{{"momentum", 0.9}, {"weight_decay", decay}};
    all.push_back({Op::sgd, sgd, {x, x, x, scalar, scalar}});
    Attrs muon{{"momentum", 0.9}, {"weight_decay", decay}, {"scale", 0.2}};
    for (const Type& matrix : {f32({3, 7}), f32({8, 5}), f32({1, 4})})
      all.push_back({Op::muon, muon, {matrix, matrix, matrix, scalar, scalar}});
  }
  for (Case& c : attention_cases()) all.push_back(c);
  return all;
}

GraphPtr graph_of(const Case& c, Stage stage) {
  GraphEditor editor("composite", stage);
  std::vector<Value> inputs;
  for (size_t i = 0; i < c.operands.size(); ++i)
    inputs.push_back(editor.input("x" + std::to_string(i), c.operands[i]));
  std::vector<Value> results = editor.add_node(c.op, inputs, c.attrs);
  for (size_t i = 0; i < results.size(); ++i) editor.output("y" + std::to_string(i), results[i]);
  return editor.finish();
}

TEST(Decompose, EveryCompositeKeepsItsMeaning) {
  for (const Case& c : cases())
    for (Stage stage : {Stage::built, Stage::instrumented}) {
      SCOPED_TRACE(std::string(op_name(c.op)) + " " + to_string(c.attrs) + " " + stage_name(stage));
      GraphPtr before = graph_of(c, stage), after = decompose(before, DecomposeMode::all);
      for (const Node& node : after->nodes()) {
        EXPECT_NE(info(node.op).op_class, OpClass::Composite) << op_name(node.op);
        if (stage != Stage::built) {
          EXPECT_NE(node.op, Op::stop_gradient);
          EXPECT_NE(node.op, Op::straight_through);
        }
      }
      expect_same_results(*before, *after, 1e-12, c.low, c.high);
      EXPECT_EQ(decompose(after, DecomposeMode::all), after);
    }
}

TEST(Decompose, EveryCompositeIsCovered) {
  std::set<Op> covered;
  for (const Case& c : cases()) covered.insert(c.op);
  for (Op op : all_ops())
    EXPECT_EQ(covered.contains(op), info(op).op_class == OpClass::Composite) << op_name(op);
}

TEST(Decompose, LowerKeepsWhatHasAKernel) {
  for (const Case& c : cases()) {
    GraphPtr before = graph_of(c, Stage::instrumented);
    GraphPtr after = decompose(before, DecomposeMode::lower);
    EXPECT_EQ(after == before, has_own_kernel(c.op)) << op_name(c.op);
    EXPECT_EQ(count_ops(*after, c.op), has_own_kernel(c.op) ? 1 : 0);
  }
}

TEST(Decompose, IgnoredTargetsCountNothing) {
  Builder b("g");
  Tensor x = b.input("x", f32({3, 2})), w = b.input("w", f32({2, 2}));
  Tensor targets = b.input("targets", i32({3})), scale = b.input("scale", f32({}));
  b.output("loss", cross_entropy(linear(x, w), targets, scale));
  std::vector<Tensor> head =
      b.add(Op::linear_cross_entropy_grad, {x, w, targets, scale}, {}, Where::current());
  b.output("dx", head[1]);
  b.output("dw", head[2]);
  GraphPtr after = decompose(b.finish(), DecomposeMode::all);
  // Logits (0, log 3), (NaN, NaN) and (0, 0); the second row is ignored, NaN or not.
  Tensors out = interpret(*after, {{"x", {f32({3, 2}), {0, std::log(3.0), NAN, 1, 0, 0}}},
                                   {"w", {f32({2, 2}), {1, 0, 0, 1}}},
                                   {"targets", {i32({3}), {0, -1, 1}}},
                                   {"scale", scalar(0.5)}});
  EXPECT_NEAR(out.at("loss").data[0], 0.5 * (std::log(4.0) + std::log(2.0)), 1e-15);
  EXPECT_NEAR(out.at("dx").at({0, 0}), 0.5 * (0.25 - 1), 1e-15);
  EXPECT_NEAR(out.at("dx").at({2, 1}), 0.5 * (0.5 - 1), 1e-15);
  EXPECT_EQ(out.at("dx").at({1, 0}), 0);
  EXPECT_EQ(out.at("dx").at({1, 1}), 0);
}

TEST(Decompose, RmsNormReadsAsItsFormula) {
  Builder b("g");
  Tensor x = b.input("x", f32({2, 8})), gamma = b.input("gamma", f32({8}));
  b.output("y", rms_norm(x, gamma, 1e-5));
  EXPECT_EQ(body_of(*decompose(b.finish(), DecomposeMode::lower)),
            "  A = mul x, x : f32[2,8]\n"
            "  B = reduce_sum A {axes=[1]} : f32[2,1]\n"
            "  C = constant {value=8} : f32[]\n"
            "  D = div B, C : f32[2,1]\n"
            "  E = constant {value=1e-05} : f32[]\n"
            "  F = add D, E : f32[2,1]\n"
            "  G = rsqrt F : f32[2,1]\n"
            "  H = mul x, G : f32[2,8]\n"
            "  I = mul H, gamma : f32[2,8]\n"
            "  return y = I\n");
}

TEST(Decompose, BackwardOnlyVScaleIsTheValueItself) {
  Builder b("g");
  Tensor v = b.input("v", f32({2, 3, 4, 6}));
  b.output("y", v_scale(v, 1.0, "backward"));
  GraphPtr built = b.finish();
  GraphPtr before_gradients = decompose(built, DecomposeMode::all);
  EXPECT_EQ(before_gradients->node(*before_gradients->find_output("y")).op, Op::straight_through);
  GraphPtr after = decompose(with_stage(built, Stage::differentiated), DecomposeMode::all);
  EXPECT_EQ(body_of(*after), "  return y = v\n");
}

TEST(Decompose, ReluLetsNaNThrough) {
  Builder b("g");
  b.output("y", relu(b.input("x", f32({3}))));
  GraphPtr after = decompose(b.finish(), DecomposeMode::all);
  HostTensor y = interpret(*after, {{"x", {f32({3}), {NAN, -1, 2}}}}).at("y");
  EXPECT_TRUE(std::isnan(y.data[0]));
  EXPECT_EQ(y.data[1], 0);
  EXPECT_EQ(y.data[2], 2);
}

TEST(Decompose, RotaryTablesAreSharedBetweenLayers) {
  Builder b("g");
  Tensor q = b.input("q", f32({2, 5, 4, 6})), k = b.input("k", f32({2, 5, 2, 6}));
  b.output("q", rope(q, 10000));
  b.output("k", rope(k, 10000));
  GraphPtr after = decompose(b.finish(), DecomposeMode::all);
  EXPECT_EQ(count_ops(*after, Op::sin), 1);
  EXPECT_EQ(count_ops(*after, Op::pow), 1);
}

TEST(Decompose, PrimitivesAreRefused) {
  GraphEditor editor("g");
  Value x = editor.input("x", f32({2}));
  EXPECT_THROW(decompose_node(editor, Op::exp, {}, {x}), InternalError);
}

}  // namespace
}  // namespace weir
