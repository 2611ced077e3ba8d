// Checkpoints of Qwen 3 whose gates are packed in the projection to q (qiuzh20/gated_attention),
// against PyTorch in f64 (tests/reference/attention_reference.py).
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "interpret/interpret.h"
#include "io/safetensors.h"
#include "models/checkpoint.h"
#include "models/hugging_face_config.h"
#include "passes/autodiff.h"
#include "support/error.h"
#include "testing/expect_close.h"
#include "testing/reference_data.h"
#include "testing/temporary_folder.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

class GatedCheckpoint : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    name_ = GetParam();
    config_ = test::read_reference_metadata(name_).at("config");
    std::ofstream(folder_ / "config.json") << config_.dump();
    const SafetensorsFile source(std::string(WEIR_TEST_DATA) + "/reference/" + name_ +
                                 ".safetensors");
    std::vector<SafetensorsItem> items;
    for (const SafetensorsEntry& entry : source.entries())
      if (entry.name.starts_with("model.") || entry.name.starts_with("lm_head."))
        items.push_back({entry.name, entry.dtype, entry.shape, source.bytes(entry)});
    write_safetensors((folder_ / "model.safetensors").string(), items);
  }

  std::string name_;
  const test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  nlohmann::json config_;
};

TEST_P(GatedCheckpoint, GivesLossAndGradientsOfTheReference) {
  const Checkpoint checkpoint = Checkpoint::open(folder_.string());
  const Tensors reference = test::read_reference(name_);
  const HostTensor& ids = reference.at("tokens");
  const int64_t B = ids.shape()[0], T = ids.shape()[1] - 1;
  const Model model = checkpoint.build(B, T);
  HostTensor input = zeros(i32({B, T})), target = input;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t) {
      input.data[b * T + t] = ids.at({b, t});
      target.data[b * T + t] = ids.at({b, t + 1});
    }
  Tensors inputs = {{"tokens", input},
                    {"targets", target},
                    {"loss_scale", scalar(1.0 / static_cast<double>(B * T))}};
  std::vector<std::string> weights;
  for (const Parameter& parameter : model.parameters) {
    std::vector<float> values(static_cast<size_t>(parameter.type.elements()));
    checkpoint.read(parameter, values.data());
    inputs[parameter.name] = {parameter.type, {values.begin(), values.end()}};
    weights.push_back(parameter.name);
  }
  const Tensors got = interpret(*differentiate(model.graph, {.wrt = weights}), inputs);
  HostTensor loss = reference.at("expected.loss");
  loss.type.shape = {};
  EXPECT_TRUE(test::close(got.at("loss"), loss));
  for (const std::string& weight : weights)
    EXPECT_TRUE(test::close(got.at(gradient_output(weight)), reference.at("grad." + weight),
                            {.relative = 1e-9, .absolute = 1e-15}))
        << weight;
  const int64_t width = name_.ends_with("head") ? 1 : 4;
  EXPECT_EQ(model.graph->type(*model.graph->find("blocks.1.attn.hook_gate")),
            f32({B, T, 4, width}));
}

TEST_P(GatedCheckpoint, KeepsItsGateWhenItIsWritten) {
  const ModelConfig config = parse_hugging_face_config(config_.dump(), "c");
  const auto written = nlohmann::json::parse(hugging_face_config(config, "float32"));
  const bool head = name_.ends_with("head");
  EXPECT_EQ(written.contains("headwise_attn_output_gate"), head);
  EXPECT_EQ(written.contains("elementwise_attn_output_gate"), !head);
  EXPECT_EQ(parse_hugging_face_config(written.dump(), "c").output_gate, config.output_gate);
}

INSTANTIATE_TEST_SUITE_P(Gates, GatedCheckpoint,
                         ::testing::Values("qwen3_gate_head", "qwen3_gate_element"),
                         [](const auto& p) { return std::string(p.param); });

std::string message_of(const std::string& config) {
  try {
    parse_hugging_face_config(config, "c");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(GatedConfig, Errors) {
  ModelConfig gpt2{.heads = 2, .output_gate = OutputGate::head, .architecture = "gpt2"};
  try {
    check_config(gpt2);
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("output_gate is chosen, but GPT-2 has no "
                                                 "projection to q of its own"));
  }
  EXPECT_THAT(message_of(R"({"model_type": "qwen3", "headwise_attn_output_gate": true,
                             "elementwise_attn_output_gate": true})"),
              testing::HasSubstr("elementwise_attn_output_gate is true beside another gate"));
  EXPECT_THAT(message_of(R"({"model_type": "qwen3", "use_qk_norm": false})"),
              testing::HasSubstr("use_qk_norm is false, which is not implemented; true is."));
  EXPECT_THAT(message_of(R"({"model_type": "llama", "headwise_attn_output_gate": true})"),
              testing::HasSubstr("unknown keys"));
  EXPECT_THAT(message_of(R"({"model_type": "gpt_oss"})"),
              testing::HasSubstr("gpt_oss is a mixture of experts, which is not implemented. Its "
                                 "sinks are: a model of an implemented type whose checkpoint has "
                                 "self_attn.sinks"));
}

}  // namespace
}  // namespace weir
