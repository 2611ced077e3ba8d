#include "models/llama.h"

#include <gtest/gtest.h>

#include "support/error.h"
#include "testing/small_model.h"

namespace weir {
namespace {

TEST(Llama, NamedConfigurationsHaveTheirSizes) {
  // Parameter counts of the study: about 101M, 291M and 1.04B.
  EXPECT_NEAR(build_llama(llama_config("llama-0.1b"), 1, 8).parameter_count() / 1e6, 102.8, 0.1);
  EXPECT_NEAR(build_llama(llama_config("llama-0.3b"), 1, 8).parameter_count() / 1e6, 291.6, 0.5);
  EXPECT_NEAR(build_llama(llama_config("llama-1b"), 1, 8).parameter_count() / 1e9, 1.04, 0.01);
}

TEST(Llama, NamesEveryHookOfEveryLayer) {
  Model model = build_llama(test::small_model(), 3, 5);
  const Graph& graph = *model.graph;
  EXPECT_EQ(graph.type(*graph.find("blocks.1.attn.hook_rot_q")), f32({3, 5, 4, 4}));
  EXPECT_EQ(graph.type(*graph.find("blocks.1.attn.hook_v")), f32({3, 5, 2, 4}));
  EXPECT_EQ(graph.type(*graph.find("blocks.0.attn.hook_pattern")), f32({3, 4, 5, 5}));
  EXPECT_EQ(graph.type(*graph.find("blocks.0.attn.hook_result")), f32({3, 5, 4, 16}));
  EXPECT_EQ(graph.type(*graph.find("blocks.1.ln2.hook_scale")), f32({3, 5, 1}));
  EXPECT_EQ(*graph.find("blocks.0.hook_resid_post"), *graph.find("blocks.1.hook_resid_pre"));
  EXPECT_EQ(*graph.find("hook_embed"), *graph.find("blocks.0.hook_resid_pre"));
}

TEST(Llama, HeadsDivideTheModelUnlessTheirWidthIsGiven) {
  ModelConfig config;
  config.d_model = 96;
  config.heads = 4;
  EXPECT_EQ(resolved(config).d_head, 24);
  EXPECT_EQ(resolved(config).kv_heads, 4);
  config.heads = 5;
  try {
    check_config(config);
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[model] d_model 96 is no multiple of heads 5. Change one of them, or set d_head.");
  }
}

TEST(Llama, ListsAllThatIsWrongAtOnce) {
  try {
    check_config({.heads = 6, .kv_heads = 4, .d_head = 7});
    FAIL() << "expected a UserError";
  } catch (const UserError& error) {
    EXPECT_STREQ(
        error.what(),
        "[model] 2 problems:\n"
        "  - heads 6 is no multiple of kv_heads 4. Each key head serves the same number of "
        "query heads.\n"
        "  - d_head is 7, but rotary embedding pairs features, so an even number is "
        "needed.");
  }
}

}  // namespace
}  // namespace weir
