#include "lab/train/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>

#include "lab/train/config_keys.h"
#include "support/text.h"
#include "support/usage_error.h"

namespace weir {
namespace {

std::string error_of(const std::string& json, const std::vector<std::string>& words) {
  try {
    parse_config(json, words);
  } catch (const UsageError& error) {
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
  EXPECT_EQ(with_arm(config, config.arms[1]).rewrites.v_scale.variant, VScaleVariant::full);
  EXPECT_EQ(config_json(parse_config(config_json(config), {})), config_json(config));
}

TEST(Config, NormaliserOfAttention) {
  for (const char* spelling : {"backward", "backward-only", "backward_only"}) {
    const RunConfig scaled = parse_config("", {std::string("v_scale.variant=") + spelling});
    EXPECT_EQ(scaled.rewrites.v_scale.variant, VScaleVariant::backward);
    EXPECT_THAT(config_json(scaled), ::testing::HasSubstr(R"("variant": "backward-only")"));
  }
  RunConfig config = parse_config("", {"arms=base; off: attention=softmax_1"});
  EXPECT_EQ(config.rewrites.attention, AttentionNormalizer::softmax);
  RunConfig arm = with_arm(config, config.arms[1]);
  EXPECT_EQ(arm.rewrites.attention, AttentionNormalizer::softmax_1);
  EXPECT_NE(config_json(arm).find("\"attention\": \"softmax-1\""), std::string::npos);
  EXPECT_EQ(parse_config(config_json(arm), {}).rewrites.attention, AttentionNormalizer::softmax_1);
  EXPECT_EQ(error_of("", {"attention=sofmax"}),
            "[config] attention is 'sofmax'. Use softmax, softmax-1, softpick, relu, sigmoid, "
            "sink-logit, kv-bias or bayes-softmax. Did you mean softmax or softmax-1?");
  EXPECT_EQ(
      error_of("", {"attention=softmax-1-learned"}),
      "[config] attention is 'softmax-1-learned'. Softmax-1 with a learned b a head, exp(s - b) "
      "/ (1 + sum exp(s - b)), is exp(s) / (exp(b) + sum exp(s)): that is sink-logit, whose z "
      "is b and starts at 0.");
}

TEST(Config, InterventionsRoundTripAndAreStated) {
  const RunConfig config = parse_config(
      "", {"model.layers=2", "value_gate.variant=head", "value_gate.layers=1",
           "sink_gradient.gain=0.5", "sink_gradient.token=3", "norm_jacobian.variant=without_rms",
           "model.norm_place=sandwich", "model.norm_gate=16", "optimizer.kind=muon",
           "data.begin_token=none", "v_scale.lambda=2", "sink_gradient.layers=0,1"});
  EXPECT_EQ(config.rewrites.sink_gradient.gain, 0.5);
  EXPECT_EQ(config.rewrites.sink_gradient.token, 3);
  EXPECT_EQ(config.rewrites.norm_jacobian.variant, NormJacobian::without_rms);
  EXPECT_EQ(config.rewrites.value_gate.layers, std::vector<int64_t>{1});
  EXPECT_EQ(config.model.norm_place, "sandwich");
  EXPECT_EQ(config_json(parse_config(config_json(config), {})), config_json(config));
  // What a checkpoint keeps; a constant of V-scale without V-scale is nothing.
  EXPECT_EQ(rewrite_settings(config),
            (std::map<std::string, std::string>{{"value_gate.variant", "head"},
                                                {"value_gate.layers", "1"},
                                                {"sink_gradient.gain", "0.5"},
                                                {"sink_gradient.token", "3"},
                                                {"sink_gradient.layers", "0,1"},
                                                {"norm_jacobian.variant", "without-rms"}}));
  const Rewrites read = parse_rewrites(rewrite_settings(config), 2, "test");
  EXPECT_EQ(read.sink_gradient.layers, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(read.norm_jacobian.variant, NormJacobian::without_rms);
  const RunConfig arms = parse_config("", {"arms=one; four: sink_gradient.gain=4"});
  EXPECT_EQ(with_arm(arms, arms.arms[1]).rewrites.sink_gradient.gain, 4);
}

TEST(Config, TheExampleOfADoseIsAConfiguration) {
  std::ifstream file(std::string(WEIR_TEST_DATA) + "/../../examples/dose_response.json");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const RunConfig config = parse_config(text, {});
  ASSERT_EQ(config.arms.size(), 15u);
  EXPECT_EQ(config.steps, 1000);
  EXPECT_EQ(with_arm(config, config.arms[14]).rewrites.sink_gradient.gain, 4);
  EXPECT_EQ(with_arm(config, config.arms[14]).seed, 3u);
}

TEST(Config, WrongInterventions) {
  EXPECT_EQ(error_of("", {"value_gate.variant=heads"}),
            "[config] value_gate.variant is 'heads'. Use none or head. Did you mean head?");
  EXPECT_EQ(error_of("", {"norm_jacobian.variant=unscaled"}),
            "[config] norm_jacobian.variant is 'unscaled'. Use exact or without-rms.");
  EXPECT_EQ(error_of("", {"sink_gradient.gain=-1"}),
            "[config] sink_gradient.gain is '-1', but a number from 0 to 1000000 is needed.");
  EXPECT_EQ(error_of("", {"sink_gradient.gain=2", "sink_gradient.token=128"}),
            "[config] sink_gradient.token is 128, but length is 128: 0 to 127 are there.");
  EXPECT_EQ(error_of("", {"sink_gradient.token=128"}), "") << "without a gain it is not used";
  EXPECT_EQ(
      error_of("", {"sink_gradient.gain=2", "sink_gradient.token=auto"}),
      "[config] sink_gradient.token is 'auto', but a whole number from 0 to 1048576 is needed. "
      "The heaviest key cannot be looked for: it may differ from layer to layer and from step "
      "to step, and at the start of a training attention is nearly uniform, under which token "
      "0 has the largest mean mass in every causal model. `weir measure --sink-token auto` "
      "finds it in a trained model.");
  EXPECT_EQ(error_of("", {"norm_jacobian.layers=1"}),
            "[config] norm_jacobian.layers is 1, but model.layers is 1: 0 to 0 are there.");
  EXPECT_EQ(error_of("", {"model.norm_place=peri"}),
            "[config] model.norm_place is 'peri'. Use pre, post, sandwich or none.");
  EXPECT_EQ(error_of("", {"data.begin_token=[BOS]"}),
            "[config] data.begin_token is '[BOS]', but sequences of backcopy begin with its own "
            "<s> (auto or tokenizer) or without it (none).");
  EXPECT_EQ(error_of("", {"data.kind=recall", "data.begin_token=[BOS]"}),
            "[config] data.begin_token is '[BOS]', but sequences of recall begin with its own "
            "<s> (auto or tokenizer) or without it (none).");
  EXPECT_EQ(
      error_of("", {"data.kind=recall", "data.keys=4", "length=20", "data.validation=0.1",
                    "data.queries=6"}),
      "[config] 3 problems:\n"
      "  - data.pairs is 8, but the keys of a sequence differ and data.keys is 4: 1 to 4 are "
      "there.\n"
      "  - length is 20, but 8 pairs of two tokens, 6 queries and the begin token need 23. "
      "Make length larger, or data.pairs or data.queries smaller.\n"
      "  - data.validation needs data.kind=text: of recall sequences are held out in any case, "
      "measure.validation_batches (of batch) as many.");
  EXPECT_EQ(error_of("", {"data.kind=backcopy", "data.keys=4"}), "") << "of recall alone";
  EXPECT_EQ(error_of("", {"kappa=2"}),
            "[config] unknown key 'kappa'. Did you mean sink_gradient.gain? `weir train --help` "
            "lists all keys.");
}

TEST(Config, AllMistakesComeInOneMessage) {
  EXPECT_EQ(
      error_of("", {"model.layer=2", "steps=ten", "model.heads=8", "model.kv_heads=3",
                    "optimizer.kind=adam"}),
      "[config] 4 problems:\n"
      "  - unknown key 'model.layer'. Did you mean model.layers, model.name or model.tied? "
      "`weir train --help` lists all keys.\n"
      "  - steps is 'ten', but a whole number from 0 to 1000000000 is needed.\n"
      "  - optimizer.kind is 'adam'. Use adamw, sgd or muon. Did you mean adamw?\n"
      "  - [model] heads 8 is no multiple of kv_heads 3. Each key head serves the same number "
      "of query heads.");
}

// Every key has a range or choices, unless it is a text, a truth or a seed.
TEST(Config, EveryKeyHasItsRangeInTheTable) {
  RunConfig config;
  for (const ConfigKey& key : config_keys()) {
    const KeySlot slot = key.slot(config);
    const auto* plain = std::get_if<ValueSlot>(&slot);
    const bool number = plain && (std::holds_alternative<int64_t*>(*plain) ||
                                  std::holds_alternative<double*>(*plain) ||
                                  std::holds_alternative<std::vector<int64_t>*>(*plain));
    EXPECT_TRUE(plain || !key.rule.choices.empty()) << key.name;
    if (!number) continue;
    EXPECT_TRUE(std::isfinite(key.rule.low) && std::isfinite(key.rule.high)) << key.name;
    const std::string below = shortest(key.rule.low - 1), above = shortest(key.rule.high * 2 + 1);
    for (const std::string& wrong : {below, above, std::string("nan"), std::string("1e400")})
      EXPECT_NE(error_of("", {std::string(key.name) + "=" + wrong}).find(key.name),
                std::string::npos)
          << key.name << "=" << wrong;
  }
}

TEST(Config, NamesOfOtherProgramsAreKnown) {
  for (const auto& [given, meant] : std::vector<std::pair<std::string, std::string>>{
           {"stpes", "steps"},
           {"optimizer.lr", "optimizer.rate"},
           {"lr", "optimizer.rate"},
           {"learning_rate", "optimizer.rate"},
           {"rate", "optimizer.rate"},
           {"weight_decay", "optimizer.decay"},
           {"batch_size", "batch"},
           {"seq_len", "length"},
           {"max_steps", "steps"},
           {"n_layer", "model.layers"},
           {"model.hidden_size", "model.d_model"},
           {"num_heads", "model.heads"},
           {"betas", "optimizer.beta1 and optimizer.beta2"}})
    EXPECT_EQ(error_of("", {given + "=1"}), "[config] unknown key '" + given + "'. Did you mean " +
                                                meant + "? `weir train --help` lists all keys.");
}

TEST(Config, JsonErrorsHaveTheirPlace) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      UsageProblems problems("config");
      parse_config({text, "c.json"}, {}, {}, problems);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("{\"steps\": 3, // comment\n}"),
            "[config] c.json: line 1, column 14: JSON has no comments; remove this one.");
  EXPECT_EQ(
      message("{\"steps\": 3,\n \"batch\":2,}"),
      "[config] c.json is not valid JSON: parse error at line 2, column 12: syntax error while "
      "parsing object key - unexpected '}'; expected string literal.");
  EXPECT_EQ(
      message("{\"steps\": 3, \"steps\": 4}"),
      "[config] c.json: line 1, column 14: the key \"steps\" is given twice in one object. Remove "
      "one of them.");
  EXPECT_EQ(message("[1]"), "[config] c.json is no JSON object. Give {\"steps\": 100, ...}.");
  EXPECT_NE(message("{\"steps\": 1e999}").find("c.json is not valid JSON: number overflow"),
            std::string::npos);
  EXPECT_NE(message("").find("parse error at line 1, column 1: "), std::string::npos);
}

TEST(Config, ANamedModelSetsSizesAndSingleKeysOverride) {
  for (const RunConfig& config : {parse_config("", {"model=llama-0.1b", "model.layers=2"}),
                                  parse_config("", {"model.layers=2", "model=llama-0.1b"}),
                                  parse_config(R"({"model.layers": 2, "model": "llama-0.1b"})", {}),
                                  parse_config(R"({"model": {"layers": 7, "heads": 3}})",
                                               {"model.layers=2", "model=llama-0.1b"})}) {
    EXPECT_EQ(config.model.layers, 2);
    EXPECT_EQ(config.model.d_model, 512);
    EXPECT_EQ(config.model.heads, 8);
    EXPECT_EQ(config.model.vocabulary, 50257);
    EXPECT_EQ(config.model.name, "llama-0.1b");
    EXPECT_EQ(config_json(parse_config(config_json(config), {})), config_json(config));
  }
  const RunConfig arms =
      parse_config("", {"model.layers=2", "arms=small; large: model.heads=4 model=llama-0.3b"});
  EXPECT_EQ(with_arm(arms, arms.arms[0]).model.d_model, 128);
  EXPECT_EQ(with_arm(arms, arms.arms[1]).model.d_model, 1024);
  EXPECT_EQ(with_arm(arms, arms.arms[1]).model.layers, 16);
  EXPECT_EQ(with_arm(arms, arms.arms[1]).model.heads, 4);
  EXPECT_EQ(error_of("", {"model=llama-1"}),
            "[config] model is 'llama-1'. Use demo, llama-0.1b, llama-0.3b or llama-1b. Did you "
            "mean llama-1b, llama-0.1b or llama-0.3b?");
  EXPECT_EQ(error_of("", {"model.name=llama-0.1b"}),
            "[config] model.name is only a label. The sizes of llama-0.1b are set by "
            "model=llama-0.1b.");
}

// What the parts of a run would refuse is refused as a value.
TEST(Config, RangesAreTrue) {
  EXPECT_EQ(error_of("", {"optimizer.kind=sgd", "optimizer.momentum=1"}),
            "[config] optimizer.momentum is '1', but a number from 0 to 0.999999999 is needed.");
  EXPECT_EQ(error_of("", {"optimizer.eps=0"}),
            "[config] optimizer.eps is '0', but a number from 1e-30 to 1 is needed.");
  for (const char* key : {"v_scale.lambda", "v_scale.sigma"})
    EXPECT_NE(error_of("", {std::string(key) + "=0"}).find(" is '0', but a number from 1e-09 to "),
              std::string::npos)
        << key;
  EXPECT_EQ(error_of("", {"data.triggers=63"}),
            "[config] data.triggers is 63, but of data.symbols 64 two at least are ordinary ones: "
            "0 to 62 are there.");
  EXPECT_EQ(error_of("", {"data.triggers=62"}), "");
  EXPECT_EQ(error_of("", {"data.triggers=63", "data.bigrams=file"}), "");
  EXPECT_NE(error_of("", {"measure.probes=x : nrm"}).find("unknown reduction 'nrm'."),
            std::string::npos);
}

TEST(Config, AKeyIsGivenOnceInOnePlace) {
  EXPECT_EQ(error_of("", {"steps=3", "batch=2", "steps=4"}),
            "[config] steps is given as 3 and as 4; give it once.");
  EXPECT_EQ(error_of("", {"steps=3", "steps=3"}),
            "[config] steps is given as 3 and as 3; give it once.");
  EXPECT_EQ(error_of("", {"arms=a", "arms=b"}),
            "[config] arms is given as a and as b; give it once.");
  EXPECT_EQ(error_of("", {"model=llama-0.1b", "model=llama-1b"}),
            "[config] model is given as llama-0.1b and as llama-1b; give it once.");
  EXPECT_EQ(error_of("", {"arms=a: steps=3 steps=4"}),
            "[config] steps is given as 3 and as 4; give it once.");
  EXPECT_EQ(error_of(R"({"optimizer": {"rate": 1}, "optimizer.rate": 2})", {}),
            "[config] optimizer.rate is given as 1 and as 2; give it once.");
  // Words go before a file, an arm before both.
  const RunConfig config =
      parse_config(R"({"steps": 2, "batch": 2})", {"steps=3", "arms=a; b: steps=4"});
  EXPECT_EQ(config.steps, 3);
  EXPECT_EQ(config.batch, 2);
  EXPECT_EQ(with_arm(config, config.arms[1]).steps, 4);
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
