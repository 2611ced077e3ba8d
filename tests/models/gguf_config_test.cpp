// Configurations from the metadata of GGUF files, right and wrong.
#include "models/gguf_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "io/gguf_test_util.h"
#include "models/architecture.h"
#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

GgufBuilder llama() {
  GgufBuilder b;
  b.text("general.architecture", "llama").text("general.name", "any");
  b.value("llama.block_count", kU32, raw<uint32_t>(2));
  b.value("llama.embedding_length", kU32, raw<uint32_t>(16));
  b.value("llama.feed_forward_length", kU32, raw<uint32_t>(24));
  b.value("llama.attention.head_count", kU32, raw<uint32_t>(2));
  b.value("llama.context_length", kU32, raw<uint32_t>(64));
  b.value("llama.attention.layer_norm_rms_epsilon", kF32, raw(1e-5F));
  b.stored("token_embd.weight", {16, 5}, 0, std::string(16 * 5 * 4, '\0'));
  return b;
}

ModelConfig config_of(const GgufBuilder& builder) {
  const std::string bytes = builder.build();
  return gguf_model_config(
      GgufFile(MappedFile::from_memory("m.gguf", std::as_bytes(std::span(bytes)))));
}

std::string error_of(const GgufBuilder& builder) {
  try {
    config_of(builder);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

std::string floats(const std::vector<float>& values) {
  std::string bytes;
  for (float value : values) bytes += raw(value);
  return bytes;
}

TEST(GgufConfig, FollowsFromMetadataAndTensors) {
  GgufBuilder b = llama();
  b.list<uint32_t>("llama.attention.head_count_kv", kU32, {1, 1});
  b.value("llama.rope.freq_base", kF32, raw(1e5F)).text("llama.rope.scaling.type", "none");
  const ModelConfig c = config_of(b);
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.vocabulary, 5);
  EXPECT_EQ(c.kv_heads, 1);
  EXPECT_EQ(c.d_head, 8);
  EXPECT_EQ(c.rms_eps, 1e-5);
  EXPECT_EQ(c.rope_base, 1e5);
  EXPECT_EQ(c.rope_scaling, RopeScaling());
  EXPECT_TRUE(c.tied);
  b.stored("output.weight", {16, 5}, 0, std::string(16 * 5 * 4, '\0'));
  EXPECT_FALSE(config_of(b).tied);
}

TEST(GgufConfig, RefusesRotaryFactorsOfHeadsWithoutPairs) {
  GgufBuilder b = llama();
  b.values.erase(b.values.begin() + 5);  // the heads: now as many as features
  b.value("llama.attention.head_count", kU32, raw<uint32_t>(16));
  b.stored("rope_freqs.weight", {0}, 0, "");
  EXPECT_NE(
      error_of(b).find("heads of 1 feature have no pairs that rope_freqs.weight could rotate."),
      std::string::npos)
      << error_of(b);
}

TEST(GgufConfig, ListsAllThatIsNotImplemented) {
  GgufBuilder b = llama();
  b.value("llama.expert_count", kU32, raw<uint32_t>(8));
  b.list<uint32_t>("llama.attention.head_count_kv", kU32, {1, 2});
  b.values.erase(b.values.begin() + 6, b.values.begin() + 8);  // context_length, epsilon
  b.values.erase(b.values.begin() + 2);                        // block_count
  EXPECT_EQ(error_of(b),
            "[gguf] 5 problems:\n"
            "  - m.gguf: llama.attention.head_count_kv differs from layer to layer, which is not "
            "implemented.\n"
            "  - m.gguf: unknown keys, which might change the model: llama.expert_count.\n"
            "  - m.gguf: llama.block_count is missing; llama.cpp requires it.\n"
            "  - m.gguf: llama.context_length is missing; llama.cpp requires it.\n"
            "  - m.gguf: llama.attention.layer_norm_rms_epsilon is missing; llama.cpp requires "
            "it.");
}

TEST(GgufConfig, RefusesSizesThatNoModelHas) {
  GgufBuilder b = llama();
  b.value("llama.attention.key_length", kU64, raw<uint64_t>(1ULL << 40));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: llama.attention.key_length: integers from 1 to 65536 are needed.");
}

TEST(GgufConfig, RefusesPartialRotationAndOtherModels) {
  GgufBuilder b = llama();
  b.value("llama.rope.dimension_count", kU32, raw<uint32_t>(4));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: 4 of 8 features a head are rotated; all or none is implemented.");
  b = llama();
  b.values[0] = GgufBuilder().text("general.architecture", "mamba").values[0];
  std::vector<std::string> names;
  for (const Architecture& each : architectures()) names.emplace_back(each.name);
  EXPECT_EQ(error_of(b), "[gguf] m.gguf: general.architecture is mamba; implemented are " +
                             join(names, ", ") + ".");
}

TEST(GgufConfig, Gemma2HasTheDefaultsOfLlamaCpp) {
  const auto gemma = [](uint32_t layers) {
    GgufBuilder b;
    b.text("general.architecture", "gemma2");
    b.value("gemma2.block_count", kU32, raw(layers));
    for (const auto& [key, size] : {std::pair("embedding_length", 36U),
                                    {"feed_forward_length", 24U},
                                    {"context_length", 64U},
                                    {"attention.head_count", 2U},
                                    {"attention.key_length", 8U},
                                    {"attention.value_length", 8U}})
      b.value(std::string("gemma2.") + key, kU32, raw(size));
    b.value("gemma2.attention.layer_norm_rms_epsilon", kF32, raw(1e-6F));
    b.stored("token_embd.weight", {36, 5}, 0, std::string(36 * 5 * 4, '\0'));
    return b;
  };
  const ModelConfig c = config_of(gemma(2));
  EXPECT_EQ(c.score_cap, 50);
  EXPECT_EQ(c.logit_cap, 30);
  EXPECT_EQ(c.window, 4096);
  EXPECT_EQ(c.score_width, 8);
  EXPECT_EQ(config_of(gemma(46)).score_width, 18) << "d_model / heads in the 27B";
  GgufBuilder b = gemma(2);
  b.value("gemma2.attn_logit_softcapping", kF32, raw(20.0F));
  b.value("gemma2.attention.sliding_window", kU32, raw(16U));
  EXPECT_EQ(config_of(b).score_cap, 20);
  GgufBuilder huge = gemma(2);
  huge.value("gemma2.final_logit_softcapping", kF32, raw(1e38F));
  EXPECT_EQ(error_of(huge),
            "[gguf] m.gguf: gemma2.final_logit_softcapping is 1e+38; a number from 0.0001 to "
            "1000000 is needed.");
  EXPECT_EQ(config_of(b).window, 16);
  b = llama();
  b.value("llama.attn_logit_softcapping", kF32, raw(20.0F));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: unknown keys, which might change the model: "
            "llama.attn_logit_softcapping.");
}

TEST(GgufConfig, ReadsTheScalingOfItsKeys) {
  const auto scaled = [](const std::string& type, float factor) {
    GgufBuilder b = llama();
    if (!type.empty()) b.text("llama.rope.scaling.type", type);
    b.value("llama.rope.scaling.factor", kF32, raw(factor));
    return b;
  };
  EXPECT_EQ(config_of(scaled("none", 4)).rope_scaling, RopeScaling());
  EXPECT_EQ(config_of(scaled("linear", 1)).rope_scaling, RopeScaling());
  EXPECT_EQ(config_of(scaled("", 4)).rope_scaling, (RopeScaling{RopeKind::linear, 4}));
  RopeScaling yarn{.kind = RopeKind::yarn, .factor = 4, .context = 64};
  yarn.amplitude = 0.1 * std::log(4.0) + 1;
  EXPECT_EQ(config_of(scaled("yarn", 4)).rope_scaling, yarn);
  GgufBuilder b = scaled("yarn", 4);
  b.value("llama.rope.scaling.original_context_length", kU32, raw<uint32_t>(32));
  b.value("llama.rope.scaling.attn_factor", kF32, raw(1.5F));
  b.value("llama.rope.scaling.yarn_beta_fast", kF32, raw(8.0F));
  yarn.context = 32, yarn.fast = 8, yarn.amplitude *= 1.5;
  EXPECT_EQ(config_of(b).rope_scaling, yarn);
  EXPECT_EQ(error_of(scaled("longrope", 4)),
            "[gguf] m.gguf: llama.rope.scaling.type is longrope, which is not implemented; none, "
            "linear and yarn are.");
  b = scaled("yarn", 4);
  b.stored("rope_freqs.weight", {4}, 0, floats({1, 1, 1, 1}));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: rope_freqs.weight and rope.scaling.type yarn together are not "
            "implemented.");
}

TEST(GgufConfig, HasTheBiasesOfItsTensors) {
  GgufBuilder b = llama();
  b.stored("blk.0.attn_q.bias", {16}, 0, std::string(64, '\0'));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: blk.0 has biases on the inputs of attention, but none on the output, "
            "which is not implemented for llama.");
  b.stored("blk.0.attn_output.bias", {16}, 0, std::string(64, '\0'));
  EXPECT_TRUE(config_of(b).attention_bias);
  EXPECT_FALSE(config_of(b).mlp_bias);
  b.stored("blk.0.ffn_down.bias", {16}, 0, std::string(64, '\0'));
  EXPECT_TRUE(config_of(b).mlp_bias);
}

TEST(GgufConfig, KnowsTheScalingOfLlama3ByItsDivisors) {
  GgufBuilder b = llama();  // base 10000, 8 features: wavelengths 6.3, 63, 628 and 6283
  // The third feature turns 1.63 times in 1024 tokens, a fifth of the way from 1 to 4.
  const double turns = 1024 * 0.01 / (2 * 3.14159265358979), share = (turns - 1) / 3;
  const auto third = static_cast<float>(1 / ((1 - share) / 8 + share));
  b.stored("rope_freqs.weight", {4}, 0, floats({1, 1, third, 8}));
  EXPECT_EQ(config_of(b).rope_scaling, (RopeScaling{RopeKind::llama3, 8, 1024, 1, 4}));
  b = llama();
  b.stored("rope_freqs.weight", {4}, 0, floats({1, 1, 1, 1}));
  EXPECT_EQ(config_of(b).rope_scaling.factor, 1);
  b = llama();
  b.stored("rope_freqs.weight", {4}, 0, floats({1, 3, 2, 8}));
  EXPECT_EQ(error_of(b),
            "[gguf] m.gguf: rope_freqs.weight is no frequency scaling of Llama 3 (low factor 1, "
            "high factor 4), the only one that is implemented.");
}

}  // namespace
}  // namespace weir
