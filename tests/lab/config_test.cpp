#include "lab/config.h"

#include <gtest/gtest.h>

#include "support/error.h"

namespace weir {
namespace {

std::string error_of(const std::string& json, const std::vector<std::string>& words) {
  try {
    parse_config(json, words);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Config, WordsOverrideJsonAndRoundTrip) {
  RunConfig config =
      parse_config(R"({"steps": 10, "model": {"layers": 2}, "measure.steps": [0, 5]})",
                   {"model.layers=3", "arms=base; v: v_scale.variant=full"});
  EXPECT_EQ(config.steps, 10);
  EXPECT_EQ(config.model.layers, 3);
  EXPECT_EQ(config.measure.steps, (std::vector<int64_t>{0, 5}));
  ASSERT_EQ(config.arms.size(), 2u);
  EXPECT_EQ(with_arm(config, config.arms[1]).v_scale.variant, VScaleVariant::full);
  EXPECT_EQ(config_json(parse_config(config_json(config), {})), config_json(config));
}

TEST(Config, NormaliserOfAttention) {
  RunConfig config = parse_config("", {"arms=base; off: attention=softmax_1"});
  EXPECT_EQ(config.attention, AttentionNormalizer::softmax);
  RunConfig arm = with_arm(config, config.arms[1]);
  EXPECT_EQ(arm.attention, AttentionNormalizer::softmax_1);
  EXPECT_NE(config_json(arm).find("\"attention\": \"softmax-1\""), std::string::npos);
  EXPECT_EQ(parse_config(config_json(arm), {}).attention, AttentionNormalizer::softmax_1);
  EXPECT_EQ(error_of("", {"attention=sofmax"}),
            "[config] attention: [attention] unknown normaliser 'sofmax'. Did you mean softmax or "
            "softmax-1? The normalisers are softmax, softmax-1.");
}

TEST(Config, AllMistakesComeInOneMessage) {
  EXPECT_EQ(
      error_of("", {"model.layer=2", "steps=ten", "model.heads=8", "model.kv_heads=3",
                    "optimizer.kind=adam"}),
      "[config] 4 problems:\n"
      "  - unknown key 'model.layer'. Did you mean model.layers, model.name or model.tied? "
      "`weir train --help` lists all keys.\n"
      "  - steps is 'ten', but an integer is needed.\n"
      "  - optimizer.kind is 'adam'. Use adamw or sgd. Did you mean adamw?\n"
      "  - [model] heads 8 is no multiple of kv_heads 3. Each key head serves the same number "
      "of query heads.");
}

TEST(Config, MeasuredStepsAreKnownBeforeTheRun) {
  RunConfig config = parse_config("", {"steps=1200"});
  EXPECT_EQ(measured_steps(config),
            (std::vector<int64_t>{0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1200}));
}

TEST(Config, RateWarmsUpAndDecays) {
  OptimizerConfig optimizer;
  EXPECT_DOUBLE_EQ(learning_rate(optimizer, 0, 500), 1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(optimizer, 99, 500), 1e-2);
  // The last step, not the one after it, has the final rate exactly, whatever the numbers are.
  EXPECT_EQ(learning_rate(optimizer, 499, 500), 1e-2 * 0.1);
  EXPECT_GT(learning_rate(optimizer, 498, 500), 1e-2 * 0.1);
  EXPECT_EQ(learning_rate(optimizer, 500, 500), 1e-2 * 0.1);
  EXPECT_NEAR(learning_rate(optimizer, 100, 500), 1e-2, 1e-15);
  // A second cosine leaves the first one as it is.
  OptimizerConfig again = optimizer;
  again.restart = 500;
  again.restart_rate = 0.5;
  for (int64_t step : {0, 99, 100, 321, 499})
    EXPECT_EQ(learning_rate(again, step, 800), learning_rate(optimizer, step, 500));
  EXPECT_DOUBLE_EQ(learning_rate(again, 500, 800), 0.5 * 1e-2);
  EXPECT_EQ(learning_rate(again, 799, 800), 1e-2 * 0.1);
  optimizer.final_rate = 0.37;
  for (int64_t warmup : {0, 1, 6})
    for (int64_t steps : {7, 8, 1000}) {
      optimizer.warmup = warmup;
      EXPECT_EQ(learning_rate(optimizer, steps - 1, steps), optimizer.rate * optimizer.final_rate);
    }
}

}  // namespace
}  // namespace weir
