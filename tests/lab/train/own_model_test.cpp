// A model that is defined with the builder has the whole laboratory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ir/builder.h"
#include "lab/lab_test_util.h"
#include "lab/measure/measure.h"
#include "lab/report/measure_report.h"
#include "lab/report/measure_summary.h"
#include "lab/report/report.h"
#include "lab/train/train.h"

namespace weir {
namespace {

using test::error_of;
using test::read_all;
using test::tiny_run;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kVocabulary = 10, kWidth = 8;

// One head whose weights are s^2 / (sum of s^2 + 1), with the hooks that `named` says.
Model build_own(int64_t B, int64_t T, bool named) {
  Builder b("own");
  Tensor tokens = b.input("tokens", i32({B, T})), targets = b.input("targets", i32({B, T}));
  Tensor scale = b.input("loss_scale", f32({}));
  std::vector<Parameter> parameters;
  const auto weight = [&](const std::string& name, int64_t rows) {
    parameters.push_back({name, f32({rows, kWidth}), Initial::normal, 0.3, true});
    return b.state(name, parameters.back().type);
  };
  const auto hook = [&](const Tensor& x, const char* name) {
    return named ? x.named(std::string("blocks.0.") + name) : x;
  };
  Tensor table = weight("table", kVocabulary), q = weight("q", kWidth), v = weight("v", kWidth);
  Tensor x = hook(embedding(table, tokens), "hook_resid_pre");
  const auto head = [&](const Tensor& w) { return reshape(linear(x, w), {B, T, 1, kWidth}); };
  const auto by_head = [](const Tensor& y) { return transpose(y, {0, 2, 1, 3}); };
  Tensor scores = matmul(by_head(head(q)), by_head(head(q)), {.transpose_b = true});
  Tensor causal = le(b.iota(1, i32({T, T})), b.iota(0, i32({T, T})));
  Tensor square = select(causal, scores * scores, b.constant(0.0));
  Tensor pattern = hook(square / (reduce_sum(square, {-1}) + 1.0), "attn.hook_pattern");
  Tensor z = matmul(pattern, by_head(hook(head(v), "attn.hook_v")));
  Tensor out = hook(x + reshape(by_head(z), {B, T, kWidth}), "hook_resid_post");
  b.output("loss", cross_entropy(linear(reshape(out, {B * T, kWidth}), table),
                                 reshape(targets, {B * T}), scale));
  return {b.finish(), parameters};
}

ModelDefinition own_model(bool named = true) {
  return {{.name = "own",
           .layers = 1,
           .d_model = kWidth,
           .heads = 1,
           .kv_heads = 1,
           .d_head = kWidth,
           .d_ff = 0,
           .vocabulary = kVocabulary,
           .parameters = 0},
          [named](int64_t B, int64_t T) { return build_own(B, T, named); }};
}

std::string without_speed(const std::string& file) {
  std::string text;
  std::istringstream lines(read_all(file));
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json json = nlohmann::json::parse(line);
    json.erase("tokens_per_second");
    text += json.dump() + "\n";
  }
  return text;
}

TEST(OwnModel, IsTrainedLikeOneOfTheKeys) {
  test::TestCache cache;
  test::TemporaryFolder folder;
  RunConfig named = tiny_run(folder / "keys", {"model.vocabulary=10", "micro_batches=2"});
  RunConfig own = tiny_run(folder / "own", {"micro_batches=2"});
  set_model(own, model_of(named));
  train(named, {.quiet = true});
  train(own, {.quiet = true});
  for (const char* file : {"/run/loss.jsonl", "/run/metrics.jsonl"}) {
    const std::string keys = without_speed(folder / "keys" + file);
    EXPECT_FALSE(keys.empty());
    EXPECT_EQ(without_speed(folder / "own" + file), keys);
  }
}

TEST(OwnModel, IsTrainedResumedReportedAndMeasured) {
  test::TestCache cache;
  test::TemporaryFolder folder;
  const auto config = [&](const std::string& out, int64_t steps) {
    RunConfig run = tiny_run(folder / out, {"optimizer.schedule=constant", "checkpoint_every=3",
                                            "steps=" + std::to_string(steps)});
    run.measure.probes = {"blocks.*.attn.hook_v.grad : batch_sum, norm(feature)"};
    set_model(run, own_model());
    return run;
  };
  train(config("whole", 6), {.quiet = true});
  train(config("parts", 3), {.quiet = true});
  train(config("parts", 6), {.resume = true, .quiet = true});
  const std::string whole = folder / "whole/run", parts = folder / "parts/run";
  EXPECT_EQ(without_speed(parts + "/loss.jsonl"), without_speed(whole + "/loss.jsonl"));
  EXPECT_EQ(read_all(parts + "/checkpoints/step000006/model.safetensors"),
            read_all(whole + "/checkpoints/step000006/model.safetensors"));

  // A command has no such model.
  RunConfig further = config_of_run(folder / "whole");
  further.steps = 9;
  EXPECT_THAT(error_of([&] { train(further, {.resume = true, .quiet = true}); }),
              HasSubstr("the model own is of one's own: only the program that defines it"));

  const std::string records = read_all(whole + "/metrics.jsonl");
  const auto record = nlohmann::json::parse(records.substr(0, records.find('\n')));
  const auto& layer = record["layers"][0];
  EXPECT_THAT(record["left_out"].dump(), HasSubstr(R"("blocks.*.hook_mlp_out")"));
  EXPECT_THAT(record["left_out"].dump(), HasSubstr("the attention map"));
  EXPECT_THAT(record["left_out"].dump(), Not(HasSubstr("hook_pattern")));
  for (const char* key : {"sink_score", "sink_mass", "attention_entropy", "resid_post_kurtosis"})
    EXPECT_TRUE(layer.contains(key)) << key;
  for (const char* key : {"gradient_sink_ratio", "bloat_mlp", "compress_attn"})
    EXPECT_FALSE(layer.contains(key)) << key;
  // The rows of these weights sum to less than one; statistics are of shares.
  EXPECT_GT(layer["sink_mass"][0].get<double>(), 1);
  write_report(folder / "whole", folder / "report.html");
  EXPECT_THAT(read_all(folder / "report.html"), HasSubstr("which the model does not name"));
  EXPECT_THAT(summary_table(folder / "whole"), HasSubstr("run"));

  const ModelSource source = stored_source(own_model(), whole + "/checkpoints/step000006");
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 3 * 13; ++i) ids.push_back(i * i % kVocabulary);
  const TokenBatch batch = token_batch(3, 12, ids);
  MeasureTask task;
  const std::string compiled = Measurer(source, batch, task).measure().record;
  EXPECT_THAT(measure_table(compiled), HasSubstr("left out, since the model does not name it"));
  write_measure_report(folder / "measure.html", {.record = compiled,
                                                 .command = "",
                                                 .token_texts = std::vector<std::string>(36, "a"),
                                                 .maps = {}});
  task.run.interpret = true;
  const auto by_definition = nlohmann::json::parse(Measurer(source, batch, task).measure().record);
  EXPECT_NEAR(nlohmann::json::parse(compiled)["loss"].get<double>(),
              by_definition["loss"].get<double>(), 1e-5);
}

TEST(OwnModel, WithoutHooksHasItsLossAlone) {
  test::TestCache cache;
  test::TemporaryFolder folder;
  RunConfig config = tiny_run(folder / "bare");
  set_model(config, own_model(false));
  train(config, {.quiet = true});
  write_report(folder / "bare", folder / "report.html");
  EXPECT_THAT(read_all(folder / "report.html"), HasSubstr("blocks.*.attn.hook_pattern"));
}

TEST(OwnModel, WhatItLacksIsListed) {
  Builder b("lacking");
  b.input("tokens", i32({2, 5}));
  Tensor w = b.state("w", f32({3}));
  b.output("result", reduce_sum(w, {0}));
  const Model model{b.finish(), {{"u", f32({3}), Initial::ones, 0, false}}};
  const std::string text = error_of([&] { check_model(model, 2, 4); });
  for (const char* problem :
       {"input tokens is i32[2,5], but i32[2,4] is needed.", "there is no input targets i32[2,4].",
        "there is no input loss_scale f32[].", "there is no output loss.",
        "parameter u is no state of the graph.", "state w has no parameter"})
    EXPECT_THAT(text, HasSubstr(problem));
}

}  // namespace
}  // namespace weir
