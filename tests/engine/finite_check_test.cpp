// Infinities and overflows planted at places of a training step, forward and backward: each is
// found where it arises, whatever becomes of it later; without any, nothing is found and no bit
// changes.
#include "engine/finite_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "ir/edit.h"
#include "models/llama.h"
#include "passes/pipeline.h"
#include "runtime/random.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kBatch = 2, kLength = 12;

ModelConfig small_model() {
  ModelConfig config = llama_config("demo");
  config.layers = 2;
  config.d_model = 16;
  config.heads = 2;
  config.kv_heads = 1;
  config.d_head = 8;
  config.d_ff = 24;
  config.vocabulary = 11;
  return config;
}

// Multiplies a named value of a differentiated graph by a factor that f32 cannot hold the product
// of, for its uses behind it.
GraphPtr overflow_at(const GraphPtr& graph, const std::string& name) {
  const Value planted = graph->names().find(name)->second;
  return rewrite(graph, [&](Rewriter& to, int32_t id) -> std::optional<std::vector<Value>> {
    if (id != planted.node || graph->node(id).op == Op::input) return std::nullopt;
    const Node& node = graph->node(id);
    std::vector<Value> results = to.add_node(node.op, to[node.inputs], node.attrs, node.where);
    Value& value = results[static_cast<size_t>(planted.result)];
    for (int i = 0; i < 2; ++i)
      value = to.add(Op::mul, {value, to.constant(1e38, {to.type(value).dtype, {}})});
    return results;
  });
}

struct Step {
  explicit Step(const std::string& planted = "") {
    const Model model = build_llama(small_model(), kBatch, kLength);
    CompileOptions options;
    options.compose = {.purpose = Purpose::train};
    options.stop = Stage::differentiated;
    // Gradients of hooks exist under their names.
    GraphPtr graph = run_pipeline(model.graph, options).graph;
    if (!planted.empty()) graph = overflow_at(graph, planted);
    options.stop = Stage::planned;
    programs =
        std::make_unique<Executables>(run_pipeline(graph, options).programs, CompileSettings{});
    session = std::make_unique<Session>(*programs, 2);
    Random random(5, 1);
    for (const Parameter& parameter : model.parameters) {
      auto* data = static_cast<float*>(session->data(parameter.name));
      for (int64_t i = 0; i < parameter.type.elements(); ++i)
        data[i] =
            static_cast<float>(parameter.initial == Initial::ones ? 1 : 0.2 * random.normal());
    }
    auto* tokens = static_cast<int32_t*>(session->data("tokens"));
    auto* targets = static_cast<int32_t*>(session->data("targets"));
    for (int64_t i = 0; i < kBatch * kLength; ++i) {
      tokens[i] = static_cast<int32_t>((7 * i + i * i) % 11);
      targets[i] = static_cast<int32_t>((5 * i + 3) % 11);
    }
    for (const auto& [name, value] :
         {std::pair("loss_scale", 1.0f / (kBatch * kLength)), std::pair("rate", 1e-3f),
          std::pair("bias1", 10.0f), std::pair("bias2", 20.0f)})
      *static_cast<float*>(session->data(name)) = value;
  }

  std::unique_ptr<Executables> programs;
  std::unique_ptr<Session> session;
};

struct Plant {
  const char* name;
  int64_t layer;
  const char* found;  ///< in the sentence
};

class Planted : public ::testing::TestWithParam<Plant> {};

TEST_P(Planted, IsFound) {
  Step step(GetParam().name);
  FiniteCheck check(*step.programs);
  step.session->set_kernel_sink(check.sink());
  step.session->run(0);
  ASSERT_TRUE(check.first()) << GetParam().name;
  const NotFinite& found = *check.first();
  EXPECT_EQ(GetParam().layer, found.layer) << to_string(found);
  EXPECT_THAT(to_string(found), HasSubstr(GetParam().found));
  EXPECT_GT(found.count, 0);
  EXPECT_FALSE(found.kernel.empty());
}

INSTANTIATE_TEST_SUITE_P(
    Places, Planted,
    ::testing::Values(Plant{"hook_embed", 0, "token"}, Plant{"blocks.0.ln1.hook_normalized", 0, ""},
                      Plant{"blocks.0.attn.hook_v", 0, ""}, Plant{"blocks.1.attn.hook_q", 1, ""},
                      Plant{"blocks.1.attn.hook_z", 1, ""}, Plant{"blocks.0.hook_attn_out", 0, ""},
                      Plant{"blocks.0.mlp.hook_pre", 0, ""}, Plant{"blocks.1.mlp.hook_post", 1, ""},
                      Plant{"blocks.1.hook_resid_post", 1, ""},
                      Plant{"blocks.1.hook_mlp_out.grad", 1, ""},
                      Plant{"blocks.0.attn.hook_z.grad", 0, ""},
                      Plant{"blocks.0.hook_resid_pre.grad", 0, ""}));

TEST(FiniteCheck, FindsNothingInASoundStepAndChangesNoBit) {
  Step plain, watched;
  FiniteCheck check(*watched.programs);
  watched.session->set_kernel_sink(check.sink());
  for (int i = 0; i < 2; ++i) {
    plain.session->run(0);
    watched.session->run(0);
  }
  EXPECT_FALSE(check.first()) << to_string(*check.first());
  for (const std::string& name : plain.session->names())
    EXPECT_EQ(0, std::memcmp(plain.session->data(name), watched.session->data(name),
                             static_cast<size_t>(plain.session->type(name).bytes())))
        << name;
}

// A weight that is no number is named, and so is what is made from it.
TEST(FiniteCheck, NamesInputsThatAreNotFinite) {
  Step step;
  const std::string weight = "model.layers.1.mlp.up_proj.weight";
  static_cast<float*>(step.session->data(weight))[3] = std::numeric_limits<float>::quiet_NaN();
  FiniteCheck check(*step.programs);
  step.session->set_kernel_sink(check.sink());
  step.session->run(0);
  ASSERT_TRUE(check.first());
  EXPECT_THAT(to_string(*check.first()), HasSubstr("not finite itself is " + weight));
}

}  // namespace
}  // namespace weir
