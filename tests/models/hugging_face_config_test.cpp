#include "models/hugging_face_config.h"

#include <gtest/gtest.h>

#include "support/error.h"

namespace weir {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_hugging_face_config(text, "c.json");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

// The keys that a Llama needs, and what is added.
std::string llama(const std::string& more) {
  return R"({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 11,
             "num_attention_heads": 4, "intermediate_size": 24)" +
         more + "}";
}

TEST(HuggingFaceConfig, HasTheDefaultsOfTheLibrary) {
  const ModelConfig c = parse_hugging_face_config(llama(""), "c.json");
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.d_head, 4);
  EXPECT_EQ(c.rms_eps, 1e-6);
  EXPECT_EQ(c.rope_base, 10000);
  EXPECT_FALSE(c.tied);
  const ModelConfig g = parse_hugging_face_config(
      R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 12, "n_head": 3, "vocab_size": 7})", "g");
  EXPECT_EQ(g.architecture, Architecture::gpt2);
  EXPECT_EQ(g.d_ff, 48);
  EXPECT_EQ(g.context, 1024);
  EXPECT_TRUE(g.tied);
}

TEST(HuggingFaceConfig, ReadsRotaryScalingInBothForms) {
  const RopeScaling expected{.factor = 8, .low = 1, .high = 4, .context = 64};
  const std::string numbers = R"("factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                 "original_max_position_embeddings": 64)";
  ModelConfig c = parse_hugging_face_config(
      llama(R"(, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", )" + numbers + "}"),
      "c.json");
  EXPECT_EQ(c.rope_base, 5e5);
  EXPECT_EQ(c.rope_scaling, expected);
  c = parse_hugging_face_config(
      llama(R"(, "rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", )" + numbers + "}"),
      "c.json");
  EXPECT_EQ(c.rope_base, 5e5);
  EXPECT_EQ(c.rope_scaling, expected);
}

TEST(HuggingFaceConfig, ListsAllThatIsNotImplemented) {
  EXPECT_EQ(
      error_of(llama(R"(, "hidden_act": "gelu", "attention_bias": true, "mlp_bias": false,
                 "rope_scaling": {"type": "yarn", "factor": 4, "beta": 1}, "num_experts": 8,
                 "logit_scale": 2, "use_cache": false, "head_dim": 0,
                 "layer_types": ["full_attention", "linear_attention"])")),
      "[config.json] 7 problems:\n"
      "  - c.json: hidden_act is \"gelu\", which is not implemented; \"silu\" or \"swish\" "
      "is.\n"
      "  - c.json: attention_bias is true, which is not implemented; false is.\n"
      "  - c.json: rope_scaling.beta is not known.\n"
      "  - c.json: rope_scaling is of type yarn, which is not implemented; default and llama3 "
      "are.\n"
      "  - c.json: head_dim is 0; an integer from 1 to 65536 is needed.\n"
      "  - c.json: layer_types has \"linear_attention\"; full_attention and sliding_attention "
      "are implemented.\n"
      "  - c.json: unknown keys, which might change the model: num_experts, logit_scale. "
      "Remove those that do not concern the computation.");
}

TEST(HuggingFaceConfig, NamesWhatIsMissing) {
  EXPECT_EQ(error_of(R"({"model_type": "llama", "hidden_size": 16, "vocab_size": 3,
                         "num_attention_heads": 4})"),
            "[config.json] 2 problems:\n"
            "  - c.json: num_hidden_layers is missing.\n"
            "  - c.json: intermediate_size is missing.");
  EXPECT_EQ(error_of(R"({"model_type": "mamba"})"),
            "[config.json] c.json: model_type is \"mamba\"; implemented are llama, mistral, qwen2, "
            "qwen3, gpt2.");
  EXPECT_EQ(error_of("{"), "[config.json] c.json is no JSON object.");
}

TEST(HuggingFaceConfig, RefusesSizesThatNoModelHas) {
  EXPECT_EQ(error_of(R"({"model_type": "llama", "num_hidden_layers": 1000000000, "hidden_size": -3,
                         "vocab_size": 9223372036854775807, "num_attention_heads": 4.5,
                         "intermediate_size": "8"})"),
            "[config.json] 5 problems:\n"
            "  - c.json: num_hidden_layers is 1000000000; an integer from 1 to 4096 is needed.\n"
            "  - c.json: hidden_size is -3; an integer from 1 to 16777216 is needed.\n"
            "  - c.json: vocab_size is 9223372036854775807; an integer from 1 to 16777216 is "
            "needed.\n"
            "  - c.json: num_attention_heads is 4.5; an integer from 1 to 65536 is needed.\n"
            "  - c.json: intermediate_size is \"8\"; an integer from 1 to 16777216 is needed.");
}

TEST(HuggingFaceConfig, IgnoresASlidingWindowThatIsSwitchedOff) {
  const std::string qwen = R"({"model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 16,
      "vocab_size": 11, "num_attention_heads": 4, "num_key_value_heads": 2,
      "intermediate_size": 24, "sliding_window": 8, "max_window_layers": 1,
      "use_sliding_window": )";
  EXPECT_EQ(parse_hugging_face_config(qwen + "false}", "c").window, 0);
  EXPECT_EQ(parse_hugging_face_config(qwen + "true}", "c").window, 8);
}

TEST(HuggingFaceConfig, IsReadBackAsItWasWritten) {
  for (Architecture architecture :
       {Architecture::llama, Architecture::qwen2, Architecture::qwen3, Architecture::gpt2}) {
    ModelConfig c{.layers = 3, .d_model = 24, .heads = 4, .d_ff = 17, .vocabulary = 91};
    c.architecture = architecture;
    c.context = 77;
    c.rms_eps = 3e-6;
    c.tied = true;
    if (architecture != Architecture::gpt2) {
      c.kv_heads = 2;
      c.d_head = 10;
      c.rope_base = 777;
      c.rope_scaling = {.factor = 3, .low = 2, .high = 5, .context = 32};
      c.window = 9;
    }
    const ModelConfig r = parse_hugging_face_config(hugging_face_config(c, "float32"), "c");
    c = resolved(c);
    EXPECT_EQ(r.architecture, c.architecture);
    EXPECT_EQ(r.layers, c.layers);
    EXPECT_EQ(r.d_model, c.d_model);
    EXPECT_EQ(r.heads, c.heads);
    EXPECT_EQ(r.kv_heads, c.kv_heads);
    EXPECT_EQ(r.d_head, c.d_head);
    EXPECT_EQ(r.d_ff, c.d_ff);
    EXPECT_EQ(r.vocabulary, c.vocabulary);
    EXPECT_EQ(r.context, c.context);
    EXPECT_EQ(r.rms_eps, c.rms_eps);
    EXPECT_EQ(r.rope_base, c.rope_base);
    EXPECT_EQ(r.rope_scaling, c.rope_scaling);
    EXPECT_EQ(r.window, c.window);
    EXPECT_EQ(r.tied, c.tied);
  }
}

}  // namespace
}  // namespace weir
