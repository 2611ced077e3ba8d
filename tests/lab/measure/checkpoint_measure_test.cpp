// Checkpoints of every architecture measured as `weir measure` does it, with every rewrite that
// `transformers` was asked for, against its records in f64 (tests/reference/transformers_trace.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "io/safetensors.h"
#include "lab/lab_test_util.h"
#include "lab/measure/measure.h"
#include "lab/measure/token_input.h"
#include "lab/reference_case.h"
#include "support/error.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::vector<std::string> record_files() {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(WEIR_TEST_DATA) / "models")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("record") && name.ends_with(".json"))
      files.push_back(fs::relative(entry.path(), WEIR_TEST_DATA).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class MeasuredCheckpoint : public ::testing::TestWithParam<std::string> {
 protected:
  void check(bool interpret, double tolerance) const {
    const fs::path file = fs::path(WEIR_TEST_DATA) / GetParam();
    const Json expected = Json::parse(std::ifstream(file));
    const auto checkpoint =
        std::make_shared<const Checkpoint>(Checkpoint::open(file.parent_path().string()));
    const ModelSource source = checkpoint_source(checkpoint);
    SafetensorsFile reference((file.parent_path() / "reference.safetensors").string());
    const std::vector<float> ids = reference.to_f32("tokens");
    const std::vector<int32_t> list(ids.begin(), ids.end());
    const TokenBatch batch =
        token_batch(expected["tokens"]["batch"], expected["tokens"]["length"], list);
    MeasureTask task;
    std::string variant = expected["settings"]["v_scale"];
    if (variant.ends_with("-only")) variant.resize(variant.size() - 5);
    task.options.rewrites.v_scale.variant = parse_v_scale_variant(variant);
    task.options.rewrites.attention = parse_normalizer(expected["settings"]["attention"]);
    task.run = {.threads = 2, .cache = WEIR_TEST_CACHE "/objects", .interpret = interpret};
    int compared = 0;
    test::expect_agree(Json::parse(Measurer(source, batch, task).measure().record), expected,
                       tolerance, "record", compared);
    EXPECT_GT(compared, 60);
  }
};

TEST_P(MeasuredCheckpoint, CompiledAgreesWithTransformers) { check(false, 1e-4); }
TEST_P(MeasuredCheckpoint, InterpretedAgreesWithTransformers) { check(true, 1e-9); }

TEST(MeasuredWeights, AreCheckedOnceTheyAreRead) {
  const auto checkpoint =
      std::make_shared<const Checkpoint>(Checkpoint::open(WEIR_TEST_DATA "/models/llama"));
  ModelSource source = checkpoint_source(checkpoint);
  std::atomic<int> read = 0;
  source.read = [&](const Parameter& parameter, float* out) {
    ++read;
    checkpoint->read(parameter, out);
  };
  const auto parameters = static_cast<int>(source.build(1, 4).parameters.size());
  source.check_weights = [&] { user_error("test", "{} of {} were read", read.load(), parameters); };
  for (bool interpret : {false, true}) {
    read = 0;
    MeasureTask task;
    task.run = {.threads = 2, .cache = WEIR_TEST_CACHE "/objects", .interpret = interpret};
    const TokenBatch batch = token_batch(1, 4, std::vector<int32_t>{1, 2, 3, 4, 5});
    try {
      Measurer(source, batch, task).measure();
      ADD_FAILURE() << "nothing was refused";
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()), fmt::format("[test] {0} of {0} were read", parameters));
    }
  }
}

// A model with learned sinks, as gpt-oss names them, is measured with them: with sinks of zero it
// is softmax-1, and others make another model.
TEST(MeasuredSinks, AreUsedWithoutBeingNamedInTheConfiguration) {
  const fs::path llama = fs::path(WEIR_TEST_DATA) / "models/llama";
  const auto record_with = [&](const std::vector<float>& sinks, AttentionNormalizer normalizer) {
    const test::TemporaryFolder folder;
    fs::copy_file(llama / "config.json", folder / "config.json");
    const SafetensorsFile weights((llama / "model.safetensors").string());
    std::vector<SafetensorsItem> items;
    for (const SafetensorsEntry& entry : weights.entries())
      items.push_back({entry.name, entry.dtype, entry.shape, weights.bytes(entry)});
    for (const char* layer : {"0", "1"})
      if (!sinks.empty())
        items.push_back({fmt::format("model.layers.{}.self_attn.sinks", layer),
                         FileDtype::f32,
                         {std::ssize(sinks)},
                         std::as_bytes(std::span(sinks))});
    write_safetensors(folder / "model.safetensors", items);
    const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder.path()));
    MeasureTask task;
    task.options.rewrites = trained_rewrites(*checkpoint);
    EXPECT_EQ(task.options.rewrites.attention,
              sinks.empty() ? AttentionNormalizer::softmax : AttentionNormalizer::sink_logit);
    if (sinks.empty()) task.options.rewrites.attention = normalizer;
    task.run = {.threads = 2, .cache = WEIR_TEST_CACHE "/objects", .interpret = true};
    const TokenBatch batch = token_batch(1, 4, std::vector<int32_t>{1, 2, 3, 4, 5});
    const ModelSource source = checkpoint_source(checkpoint);
    return Json::parse(Measurer(source, batch, task).measure().record);
  };
  const Json zero = record_with({0, 0, 0, 0}, {});
  const Json without = record_with({}, AttentionNormalizer::softmax_1);
  EXPECT_NEAR(zero["loss"].get<double>(), without["loss"].get<double>(), 1e-12);
  const Json learned = record_with({0.5F, -1, 2, 0}, {});
  EXPECT_GT(std::abs(learned["loss"].get<double>() - zero["loss"].get<double>()), 1e-4);
  EXPECT_LT(learned["layers"][0]["row_sum"][2].get<double>(),
            zero["layers"][0]["row_sum"][2].get<double>());
}

INSTANTIATE_TEST_SUITE_P(Records, MeasuredCheckpoint, ::testing::ValuesIn(record_files()),
                         [](const auto& info) {
                           std::string name = info.param.substr(7, info.param.size() - 12);
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace weir
