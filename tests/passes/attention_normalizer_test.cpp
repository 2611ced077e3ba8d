#include "passes/attention_normalizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "ir/parse.h"
#include "ir/verify.h"
#include "models/llama.h"
#include "passes/pass_test_util.h"
#include "passes/pipeline.h"
#include "testing/small_model.h"

namespace weir {
namespace {

using enum AttentionNormalizer;

GraphPtr small_llama() {
  ModelConfig config = test::small_model();
  config.d_head = 6;  // the heads together are wider than the model
  return build_llama(config, 2, 5).graph;
}

TEST(AttentionNormalizer, ReplacesItInEveryAttentionAndPattern) {
  GraphPtr before = small_llama(), after = apply_attention_normalizer(before, softmax_1);
  int64_t replaced = 0;
  for (const Node& node : after->nodes())
    if (info(node.op).find_attribute(kNormalizer)) {
      EXPECT_EQ(normalizer_of(node.attrs), softmax_1) << op_name(node.op);
      ++replaced;
    }
  EXPECT_EQ(replaced, 6);  // attention, hook_lse and hook_pattern of two layers
  for (const auto& [name, value] : before->names()) EXPECT_TRUE(after->find(name)) << name;
  EXPECT_EQ(apply_attention_normalizer(after, softmax_1), after);
  EXPECT_EQ(*apply_attention_normalizer(after, softmax), *before);
}

// The same weights as a key of score zero with no value would leave.
TEST(AttentionNormalizer, Softmax1IsSoftmaxWithOneMoreKey) {
  Builder b("one_more_key");
  Tensor q = b.input("q", f32({2, 3, 2, 4})), k = b.input("k", f32({2, 5, 1, 4})),
         v = b.input("v", f32({2, 5, 1, 4}));
  b.output("out", attention(q, k, v, false, 0.5, softmax_1).out);
  GraphPtr graph = b.finish();
  Builder c("padded");
  q = c.input("q", f32({2, 3, 2, 4}));
  k = c.input("k", f32({2, 5, 1, 4}));
  v = c.input("v", f32({2, 5, 1, 4}));
  Tensor zero = c.constant(0, f32({2, 1, 1, 4}));
  c.output("out", attention(q, concat({k, zero}, 1), concat({v, zero}, 1), false, 0.5).out);
  expect_same_results(*c.finish(), *graph, 1e-13, -3, 3);
}

TEST(AttentionNormalizer, PrintsAndParses) {
  GraphPtr graph = apply_attention_normalizer(small_llama(), softmax_1);
  std::string text = print_graph(*graph);
  EXPECT_THAT(text, testing::HasSubstr("normalizer=\"softmax-1\""));
  EXPECT_EQ(*parse_graph(text, "text"), *graph);
  EXPECT_THAT(print_graph(*small_llama()), testing::Not(testing::HasSubstr("normalizer")));
  // The default has one form, and the other spelling is understood.
  const std::string form =
      "graph g (q: f32[1,2,1,4])\n"
      "A, B = attention q, q, q {{causal=true, normalizer=\"{}\", scale=0.5}}\nreturn A\n";
  EXPECT_THAT(print_graph(*parse_graph(fmt::format(fmt::runtime(form), "softmax"), "text")),
              testing::Not(testing::HasSubstr("normalizer")));
  EXPECT_THAT(print_graph(*parse_graph(fmt::format(fmt::runtime(form), "softmax_1"), "text")),
              testing::HasSubstr("softmax-1"));
}

// Through autodiff, fusion and planning, with statistics in the backward kernel.
TEST(AttentionNormalizer, IsAnOptionOfTheCompiler) {
  GraphPtr model = small_llama();
  CompileOptions options{.gradients = {"*"},
                         .probes = {"blocks.*.attn.hook_pattern : row_sum",
                                    "blocks.*.attn.hook_pattern : sink_column(0)",
                                    "blocks.0.attn.hook_pattern : sum(key)"},
                         .rewrites = {.attention = softmax_1},
                         .stop = Stage::differentiated};
  options.stop = Stage::instrumented;
  GraphPtr instrumented = run_pipeline(model, options).graph;
  options.stop = Stage::planned;
  GraphPtr planned = run_pipeline(model, options).graph;
  Tensors inputs = test::random_inputs(*model, 5, -1, 1);
  Interpretation expected = interpret_all(*instrumented, inputs),
                 got = interpret_all(*planned, inputs);
  EXPECT_TRUE(test::close(got.outputs, expected.outputs, {1e-9, 1e-13}));
  EXPECT_TRUE(test::close(got.probes, expected.probes, {1e-9, 1e-13}));
  HostTensor row_sum = expected.probes.at("blocks.0.attn.hook_pattern:row_sum"),
             direct = expected.probes.at("blocks.0.attn.hook_pattern:sum(key)");
  direct.type = row_sum.type;
  EXPECT_TRUE(test::close(row_sum, direct, {1e-13, 0}));
  for (double r : row_sum.data) EXPECT_TRUE(r > 0.1 && r < 0.99) << r;
  // The first query's weight is all on the first key, of what it gives at all.
  const HostTensor& sink = expected.probes.at("blocks.0.attn.hook_pattern:sink_column(0)");
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t h = 0; h < 4; ++h) EXPECT_NEAR(sink.at({b, h, 0}), 1, 1e-12);
}

TEST(AttentionNormalizer, Errors) {
  Builder b("mlp");
  b.output("y", exp(b.input("x", f32({2}))));
  GraphPtr mlp = b.finish(), model = small_llama();
  EXPECT_EQ(user_error_of([&] { apply_attention_normalizer(mlp, softmax_1); }),
            "[attention] graph mlp has no attention node, so it has no normaliser to replace by "
            "softmax-1. Use it on a model with attention, or leave attention at softmax.");
  EXPECT_THAT(user_error_of([&] {
                apply_attention_normalizer(with_stage(model, Stage::lowered), softmax_1);
              }),
              testing::HasSubstr("graph llama is lowered already"));
  EXPECT_EQ(
      user_error_of([] { parse_normalizer("softmx-1"); }),
      "[attention] unknown normaliser 'softmx-1'. Did you mean softmax-1, softmax or "
      "softpick? The normalisers are softmax, softmax-1, softpick, relu, sigmoid, sink-logit, "
      "kv-bias, bayes-softmax.");
  EXPECT_EQ(parse_normalizer("softmax_1"), softmax_1);
  const std::string text =
      "graph g (q: f32[1,2,1,4])\n"
      "A, B = attention q, q, q {causal=true, normalizer=\"softmax-1\", scale=0.5}\n"
      "C = attention_pattern q, q, B {causal=true, scale=0.5}\nreturn C\n";
  EXPECT_THAT(user_error_of([&] { verify_user(*parse_graph(text, "text"), "text"); }),
              testing::HasSubstr("attention_pattern has the normalizer softmax-1 of the attention "
                                 "whose rows it takes, not softmax"));
}

}  // namespace
}  // namespace weir
